#!/usr/bin/env python3
"""Fine-tunes BLIP with recap-train and holds the gradients of the first update against PyTorch's.

    python3 -m venv VENV && VENV/bin/pip install torch transformers pillow
    VENV/bin/python tools/dev/caption_train_peer.py [--full] [--model DIR] [--batch 4] [--threads 1]

The model is a BLIP folder, or one that transformers writes here with random weights (small, or of BLIP base's size with
--full), tied and untied; the pictures are generated scenes, one batch of them. The image encoder is trained, then
frozen. A gradient of ours is the first moment of AdamW after one update, over 1 - beta1. For each tensor the difference
is measured by its norm, relative to the norm of PyTorch's. What recap-train leaves must load in transformers without a
missing or unexpected key, and a frozen encoder must be in it bit for bit.
"""
import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", help="BLIP folder; otherwise some are made")
parser.add_argument("--full", action="store_true", help="make one of BLIP base's size")
parser.add_argument("--vocabulary", default="build/vocab/bert", help="folder of a made model's vocab.txt")
parser.add_argument("--range", type=float, default=0.05, help="standard deviation of a made model's weights")
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--most", type=float, default=1e-3, help="relative difference of a tensor that is allowed")
parser.add_argument("--bin", default="bin", help="folder of our programs")
args = parser.parse_args()
os.environ.update(OMP_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch  # noqa: E402  (after the number of threads is known)
from caption_model import make_model, processor, words_of  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import BlipForConditionalGeneration  # noqa: E402

torch.set_num_threads(args.threads)
PREFIX, COLUMN, ROOM, BETA1 = "a picture of", "true_short", 40, 0.9
# Attention does not depend on what is added to all its keys: their bias has no gradient but rounding.
NOISE = 1e-6


def call(program, *words):
    subprocess.run([f"{args.bin}/{program}", *map(str, words), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def scenes(shard):
    """Pictures and captions of a shard."""
    with tarfile.open(shard) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    keys = sorted(n[:-4] for n in files if n.endswith(".png"))
    return ([Image.open(io.BytesIO(files[k + ".png"])).convert("RGB") for k in keys],
            [json.loads(files[k + ".json"])["captions"][COLUMN] for k in keys])


def batch_of(model, folder, shard):
    """As the original's training has it: the prefix and the padding are no targets."""
    text, words = model.config.text_config, words_of(folder)
    pictures, captions = scenes(shard)
    prefix = [text.bos_token_id, *words(PREFIX)]
    rows = [prefix + words(c) + [text.sep_token_id] for c in captions]
    longest = max(map(len, rows))
    ids = torch.tensor([r + [text.pad_token_id] * (longest - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :len(prefix)] = -100
    pixels = processor(model.config.vision_config.image_size)(images=pictures, return_tensors="pt")["pixel_values"]
    return dict(pixel_values=pixels, input_ids=ids, attention_mask=mask, labels=labels)


def theirs(folder, shard, frozen):
    """The gradient of each parameter, and the loss."""
    model = BlipForConditionalGeneration.from_pretrained(folder).train()
    model.vision_model.requires_grad_(not frozen)
    loss = model(**batch_of(model, folder, shard)).loss
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    head = "text_decoder.cls.predictions."
    if head + "decoder.bias" in gradients:  # untied, transformers 5 has two and computes with this one
        gradients[head + "bias"] = gradients.pop(head + "decoder.bias")
    return gradients, loss.item()


def ours(folder, shard, frozen, out):
    call("recap-train", "captioner", "--model", folder, "--train-data", shard, "--columns", f"{COLUMN}=1", "--prefixes",
         f"{COLUMN}={PREFIX}", "--max-caption-tokens", ROOM, "--train-batch-size", args.batch, "--max-train-steps", 2,
         "--checkpointing-steps", 1, "--checkpoints-total-limit", 9, "--learning-rate", 1e-4, "--adam-beta1", BETA1,
         "--max-grad-norm", 0, "--dropout", 0, "--threads", args.threads, "--log", f"{out}.log", "--output-dir", out,
         *["--freeze-vision"] * frozen)
    moments = load_file(f"{out}/checkpoints/step-00000001.safetensors")
    gradients = {n[len("adamw.m."):]: x / (1 - BETA1) for n, x in moments.items() if n.startswith("adamw.m.")}
    with open(f"{out}.log") as log:
        return gradients, next(r["loss"] for r in map(json.loads, log) if "loss" in r)


def exported(folder, out, frozen):
    """What is wrong with the folder that training left."""
    model, info = BlipForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    wrong = [f"{k}: {sorted(info[k])[:3]}" for k in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[k]]
    before, after = load_file(f"{folder}/model.safetensors"), load_file(f"{out}/model.safetensors")
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    vision = {n for n in before if n.startswith("vision_model.")}
    if moved & vision if frozen else not vision <= moved:
        wrong.append("the encoder moved" if frozen else f"did not move: {sorted(vision - moved)[:3]}")
    if model.config.text_config.tie_word_embeddings != ("text_decoder.cls.predictions.decoder.weight" not in after):
        wrong.append("tied or not: file and configuration differ")
    return wrong


def compare(what, folder, frozen, at):
    shard, out = f"{at}/scenes", f"{at}/{what}"
    a, loss = theirs(folder, f"{shard}-000000.tar", frozen)
    b, our_loss = ours(folder, f"{shard}-000000.tar", frozen, out)
    wrong = exported(folder, out, frozen)
    if a.keys() != b.keys():
        wrong.append(f"other tensors have gradients: {sorted(a.keys() ^ b.keys())[:3]}")
    whole = torch.stack([x.norm() for x in a.values()]).norm().item()
    apart, silent = {}, {}
    for name in a.keys() & b.keys():
        norm, difference = a[name].norm().item(), (a[name] - b[name]).norm().item()
        (silent if norm < NOISE * whole else apart)[name] = difference / max(norm, NOISE * whole)
    worst = max(apart, key=apart.get)
    too_far = [n for n, x in {**apart, **silent}.items() if not x <= args.most]
    if too_far:
        wrong.append(f"too far: {', '.join(too_far[:5])}; {len(too_far)} in all")
    if not abs(loss - our_loss) <= 1e-5 * loss:
        wrong.append("other loss")
    print(f"{what:15} loss {loss:.6f}, ours {our_loss:.6f}; {len(apart)} tensors within {apart[worst]:.1e} ({worst}), "
          f"{len(silent)} without a gradient", *[f"  FAILED: {w}" for w in wrong], sep="\n  ", flush=True)
    return not wrong


def run(at):
    call("recap-data", "scenes", "--output", f"{at}/scenes", "--count", args.batch, "--seed", 3)
    models = {"given": args.model} if args.model else {}
    if not args.model:
        for name in ["untied"] if args.full else ["untied", "tied"]:
            models[name] = f"{at}/{name}-model"
            make_model(models[name], args.vocabulary, args.full, args.range, name == "tied", label_smoothing=0.1)
    results = [compare(f"{name}-{'frozen' if frozen else 'trained'}", folder, frozen, at)
               for name, folder in models.items() for frozen in (False, True)]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


with tempfile.TemporaryDirectory() as made:
    sys.exit(run(made))
