#!/usr/bin/env python3
"""Captions pictures with transformers and with recap-caption and compares the ids of every caption.

    python3 -m venv VENV && VENV/bin/pip install torch transformers pillow
    VENV/bin/python tools/dev/caption_peer.py PICTURES... [--model DIR | --full] [--count 50] [--cases CASE,...]

PICTURES are files and folders of them; each folder gives as many as the others, evenly spread over its names. The model
is a BLIP folder, or one that is written here by transformers with random weights: small, or of BLIP base's size with
--full, with BERT's words (tools/dev/vocab fetches them). Both sides read it. The log-probability of a greedy caption is
held against a second pass over the whole caption, that of a beam search against the score that transformers gives.
The rule of the length penalty is that of the installed transformers: --length-rule whole up to 4.35.
"""
import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("pictures", nargs="+", metavar="PICTURES")
parser.add_argument("--model", help="BLIP folder; otherwise one is made")
parser.add_argument("--full", action="store_true", help="make one of BLIP base's size")
parser.add_argument("--vocabulary", default="build/vocab/bert", help="folder of a made model's vocab.txt")
parser.add_argument("--range", type=float, default=0.05, help="standard deviation of a made model's weights")
parser.add_argument("--count", type=int, default=50)
parser.add_argument("--batch", type=int, default=10)
parser.add_argument("--cases", default="*", metavar="CASE,...")
parser.add_argument("--prompt", default="a picture of", help="of the cases that have one")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--least", type=float, default=1e-5,
                    help="relative difference of log-probabilities and scores that is allowed")
parser.add_argument("--show", type=int, default=0, help="captions to print for each case")
parser.add_argument("--caption", default="bin/recap-caption", help="our program")
args = parser.parse_args()
os.environ.update(OMP_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch  # noqa: E402  (after the number of threads is known)
import transformers  # noqa: E402
from caption_model import OLD, make_model, processor, words_of  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402

torch.set_num_threads(args.threads)
TOKENS = 20

# name: does it have the prompt, options of recap-caption, arguments of generate()
CASES = {
    "greedy": (False, [], {}),
    "greedy-prompt": (True, [], {}),
    "greedy-min": (True, ["--min-new-tokens", "9"], dict(min_new_tokens=9)),
    "greedy-max": (False, ["--max-new-tokens", "5"], dict(max_new_tokens=5)),
    "greedy-repetition": (False, ["--repetition-penalty", "1.5"], dict(repetition_penalty=1.5)),
    "beam3": (False, [], dict(num_beams=3)),
    # as the published captions are made: 5 to 20 ids, of which the prompt is 4
    "beam3-published": (True, ["--min-new-tokens", "1", "--max-new-tokens", "16"],
                        dict(num_beams=3, min_new_tokens=1, max_new_tokens=16)),
    "beam4-long": (False, ["--length-penalty", "2"], dict(num_beams=4, length_penalty=2.0)),
    "beam4-short": (False, ["--length-penalty", "-1"], dict(num_beams=4, length_penalty=-1.0)),
    "beam3-repetition": (True, ["--repetition-penalty", "1.3", "--min-new-tokens", "6"],
                         dict(num_beams=3, repetition_penalty=1.3, min_new_tokens=6)),
    "beam5-all": (False, ["--num-captions", "5"], dict(num_beams=5, num_return_sequences=5)),
}


# -- pictures


def can_be_read(path):
    """By PIL, and with 8 bits a sample."""
    try:
        with Image.open(path) as im:
            im.load()
            return im.mode in ("RGB", "L", "P", "RGBA", "LA") and min(im.size) >= 16
    except OSError:
        return False


def find_pictures(folder):
    """Evenly many files of each source, spread over its names."""
    chosen = []
    for k, source in enumerate(args.pictures):
        left = (args.count - len(chosen)) // (len(args.pictures) - k)
        source = Path(source)
        files = [source] if source.is_file() else sorted(
            p for p in source.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
        starts = range(0, len(files), max(len(files) // max(left, 1), 1))
        for start, stop in zip(starts, [*starts[1:], len(files)]):
            chosen += [p for p in files[start:stop] if len(chosen) < args.count and can_be_read(p)][:1]
    return [in_rgb(p, folder) for p in chosen[:args.count]]


def in_rgb(path, folder):
    """The file itself, or where it has transparency, which PIL would drop, a copy on white."""
    with Image.open(path) as im:
        if not (im.mode in ("RGBA", "LA") or "transparency" in im.info):
            return str(path)
        over = im.convert("RGBA")
        flat = Image.new("RGBA", over.size, "white")
        flat.alpha_composite(over)
        copy = Path(folder) / f"{len(os.listdir(folder))}-{path.stem}.png"
        flat.convert("RGB").save(copy)
        return str(copy)


def pixels_of(paths, side):
    pictures = [ImageOps.exif_transpose(Image.open(p)).convert("RGB") for p in paths]
    return processor(side)(images=pictures, return_tensors="pt")["pixel_values"]


# -- the two sides: for each caption its ids and its score


class Theirs:
    def __init__(self, folder):
        self.model = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval()
        self.text = self.model.config.text_config
        decoder = self.model.text_decoder
        if self.text.tie_word_embeddings:  # 4.35 draws a matrix that the file does not have a second time
            decoder.cls.predictions.decoder.weight = decoder.bert.embeddings.word_embeddings.weight
        self.side = self.model.config.vision_config.image_size
        self.prompt = words_of(folder)(args.prompt)
        self.see, self.seen, self.saw = self.model.vision_model.forward, None, None
        self.model.vision_model.forward = self.look

    def look(self, pixel_values, **how):
        """The encoder, once for all cases of a batch."""
        if self.seen is not pixel_values:
            self.seen, self.saw = pixel_values, self.see(pixel_values=pixel_values, **how)
        return self.saw

    @torch.no_grad()
    def caption(self, pixels, has_prompt, how):
        start = [self.text.bos_token_id, *(self.prompt if has_prompt else [])]
        prompt = torch.tensor([[*start, self.text.sep_token_id]]).repeat(len(pixels), 1)
        how = dict(dict(max_new_tokens=TOKENS, num_beams=1, do_sample=False), **how)
        out = self.model.generate(pixel_values=pixels, input_ids=prompt, return_dict_in_generate=True,
                                  output_scores=True, attention_mask=torch.ones_like(prompt), **how)
        found = []
        for i, row in enumerate(out.sequences.tolist()):
            ids = row[len(start):]
            if self.text.sep_token_id in ids:
                ids = ids[:ids.index(self.text.sep_token_id) + 1]
            if how["num_beams"] > 1:
                score = out.sequences_scores[i].item()
            else:
                score = self.log_probability(i, start, ids)
            found.append((ids, score))
        return found

    def log_probability(self, i, start, ids):
        """Of the whole caption at once, as in training."""
        whole = torch.tensor([start + ids])
        logits = self.model.text_decoder(input_ids=whole, encoder_hidden_states=self.saw[0][i:i + 1]).logits[0]
        log_p = logits.double().log_softmax(-1)
        return sum(log_p[len(start) - 1 + k, token].item() for k, token in enumerate(ids))


def ours(folder, paths, has_prompt, options, beams):
    method = ["--method", "beam", "--num-beams", str(beams)] if beams > 1 else ["--method", "greedy"]
    if "--max-new-tokens" not in options:
        options = [*options, "--max-new-tokens", str(TOKENS)]
    done = subprocess.run(
        [args.caption, "--model", folder, "--format", "jsonl", "--batch-size", str(args.batch), "--threads",
         str(args.threads), "--prompt", args.prompt if has_prompt else "", "--length-rule",
         "whole" if OLD else "generated", "--quiet", *method, *options, *paths], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"recap-caption ended with {done.returncode}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [(r["ids"], r["score"] if beams > 1 else r["logprob"], r["caption"]) for r in rows]


def run(folder, paths):
    wanted = {n: c for n, c in CASES.items() if any(fnmatch.fnmatch(n, p) for p in args.cases.split(","))}
    theirs, found, failed = Theirs(folder), {name: [] for name in wanted}, 0
    for at in range(0, len(paths), args.batch):
        pixels = pixels_of(paths[at:at + args.batch], theirs.side)
        for name, (has_prompt, _, how) in wanted.items():
            found[name] += theirs.caption(pixels, has_prompt, how)
    del theirs  # of full size, there is room for one side at a time
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {len(paths)} pictures")
    for name, (has_prompt, options, how) in wanted.items():
        got = ours(folder, paths, has_prompt, options, how.get("num_beams", 1))
        equal, far, each = 0, 0.0, how.get("num_return_sequences", 1)
        for i, ((ids, score), (our_ids, our_score, _)) in enumerate(zip(found[name], got, strict=True)):
            if ids != our_ids:
                print(f"  {paths[i // each]}: {ids} {score:.6f}, ours {our_ids} {our_score:.6f}")
                continue
            equal += 1
            far = max(far, abs(score - our_score) / max(1, abs(score)))
        ok = equal == len(got) and far <= args.least
        failed += not ok
        distinct, length = len({tuple(g[0]) for g in got}), sum(len(g[0]) for g in got) / len(got)
        print(f"{name:18} {equal:3} of {len(got)} captions equal, {distinct:3} distinct, {length:4.1f} ids each"
              f"  {'score' if 'num_beams' in how else 'log p'} within {far:.1e}{'' if ok else '  FAILED'}", flush=True)
        for row in got[:args.show]:
            print(f"    {row[2]}")
    print(f"{len(wanted) - failed} passed, {failed} failed")
    return 1 if failed or not wanted else 0


with tempfile.TemporaryDirectory() as made:
    os.mkdir(f"{made}/pictures")
    if not args.model:
        make_model(f"{made}/model", args.vocabulary, args.full, args.range)
    sys.exit(run(args.model or f"{made}/model", find_pictures(f"{made}/pictures")))
