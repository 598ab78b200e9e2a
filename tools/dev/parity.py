#!/usr/bin/env python3
"""Draws the same pictures with diffusers and with recap-sample, and prints how near they are (PSNR in dB).

    python3 -m venv VENV && VENV/bin/pip install torch diffusers transformers scipy torchsde
    VENV/bin/python tools/dev/parity.py [--model DIR] [--full] [--sizes 64x64,72x40] [--steps 10] [CASE...]

The model is a folder, or one that is written here with random weights: small, or of Stable Diffusion 1.4's size with
--full (4 GB of disk, minutes a picture). Both sides read it, get the same prompts and seeds, and draw their noise from
torch's CPU generator. Fails if a picture is further away than --least.

dpmpp_sde: diffusers asks a Brownian tree for noise, with a seed of its own; here it is given the same path as ours.
"""
import argparse
import fnmatch
import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("cases", nargs="*", default=["*"], metavar="CASE", help="patterns of names; none: make the model")
parser.add_argument("--model", help="diffusers folder; made if it is not there. Without: one for this run")
parser.add_argument("--theirs", metavar="DIR", help="keep diffusers' pictures here: a rerun draws ours alone")
parser.add_argument("--full", action="store_true", help="make one of Stable Diffusion 1.4's size")
parser.add_argument("--sizes", default="64x64,72x40", help="width x height in pixels, multiples of 8")
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--seed", type=int, default=7)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--least", type=float, default=50, help="dB that every picture must reach")
parser.add_argument("--sample", default="bin/recap-sample", help="our program")
parser.add_argument("--vocabulary", default="tests/golden/clip_bpe", help="vocab.json and merges.txt for a made model")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import diffusers  # noqa: E402  (after the number of threads is known)
import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

torch.set_num_threads(args.threads)
diffusers.logging.set_verbosity_error()
PROMPT, NEGATIVE, GUIDANCE = "a photo of a red cube on a blue sphere", "green", 5.0

# As it is published: what it does not name is the default of the class that reads it.
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
# name: class, its own settings, options of recap-sample
SAMPLERS = {
    "ddim": ("DDIMScheduler", {}, []),
    "ddim-eta": ("DDIMScheduler", {}, ["--eta", "0.6"]),
    "ddpm": ("DDPMScheduler", {}, []),
    "pndm": ("PNDMScheduler", {}, []),
    "euler": ("EulerDiscreteScheduler", {}, []),
    "euler-karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, ["--karras"]),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}, []),
    "heun": ("HeunDiscreteScheduler", {}, []),
    "lms": ("LMSDiscreteScheduler", {}, []),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}, []),
    "dpmpp_2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, ["--karras"]),
    "dpmpp_2m-trailing": ("DPMSolverMultistepScheduler", {"timestep_spacing": "trailing"}, ["--spacing", "trailing"]),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, []),
    "dpmpp_sde": ("DPMSolverSDEScheduler", {}, []),
    "unipc": ("UniPCMultistepScheduler", {}, []),
    "unipc-karras": ("UniPCMultistepScheduler", {"use_karras_sigmas": True}, ["--karras"]),
}
NEEDS = {"lms": "scipy", "dpmpp_sde": "torchsde"}  # of diffusers' classes
# Samplers that a picture is started from with, and their strengths. (diffusers' PNDM repeats its second step there.)
FROM_PICTURE = [("ddim", 0.6), ("euler_ancestral", 0.75), ("heun", 0.5), ("dpmpp_2m", 0.5), ("unipc", 0.9)]
FILLS = 9  # channels of UNets that were made to fill in pictures: latents, mask, latents of what stays
INPAINT = [("ddim", 0.7), ("euler_ancestral", 1.0), ("dpmpp_2m", 1.0), ("pndm", 1.0)]


def make_model(folder, channels):
    """A random pipeline, written as published ones are; channels: of the UNet's input."""
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(1)
    small = not args.full
    unet = diffusers.UNet2DConditionModel(
        in_channels=channels,
        sample_size=8 if small else 64,
        block_out_channels=(32, 64) if small else (320, 640, 1280, 1280),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * (1 if small else 3) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (1 if small else 3),
        attention_head_dim=4 if small else 8,
        cross_attention_dim=32 if small else 768,
        norm_num_groups=8 if small else 32,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16, 16, 32) if small else (128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1 if small else 2,
        norm_num_groups=4 if small else 32,
        sample_size=64 if small else 512,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=32 if small else 768,
            intermediate_size=64 if small else 3072,
            num_hidden_layers=2 if small else 12,
            num_attention_heads=4 if small else 12,
            projection_dim=32 if small else 768,
            hidden_act="quick_gelu",
        )
    )
    if not small:  # as many values as a picture has; the small one has them
        with torch.no_grad():
            vae.decoder.conv_out.weight.mul_(2.5)
    unet.save_pretrained(f"{folder}/unet")
    vae.save_pretrained(f"{folder}/vae")
    text.save_pretrained(f"{folder}/text_encoder")
    weights = f"{folder}/text_encoder/model.safetensors"
    tensors = load_file(weights)
    if not any(name.startswith("text_model.") for name in tensors):  # transformers 5 leaves the published prefix out
        save_file({f"text_model.{name}": t for name, t in tensors.items()}, weights, {"format": "pt"})
    os.makedirs(f"{folder}/scheduler", exist_ok=True)
    with open(f"{folder}/scheduler/scheduler_config.json", "w") as f:
        json.dump(SCHEDULER, f)
    os.makedirs(f"{folder}/tokenizer", exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        with open(f"{args.vocabulary}/{name}") as f, open(f"{folder}/tokenizer/{name}", "w") as g:
            g.write(f.read())


@functools.cache
def load(folder):
    from transformers import CLIPTextModel, CLIPTokenizer

    return dict(
        unet=diffusers.UNet2DConditionModel.from_pretrained(f"{folder}/unet"),
        vae=diffusers.AutoencoderKL.from_pretrained(f"{folder}/vae"),
        text_encoder=CLIPTextModel.from_pretrained(f"{folder}/text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(f"{folder}/tokenizer", model_max_length=77),
    )


def pipeline(kind, folder, sampler):
    name, settings, options = SAMPLERS[sampler]
    base = diffusers.PNDMScheduler.from_pretrained(f"{folder}/scheduler")
    # Settings that the file does not have keep the default of the new class, as recap-sample has it.
    config = {k: v for k, v in base.config.items() if k not in base.config.get("_use_default_values", [])}
    scheduler = getattr(diffusers, name).from_config({**config, **settings})
    pipe = kind(
        **load(folder), scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, options


class Halves:
    """The noise of dpmpp_sde as recap-sample has it: drawn for the halves of a step, the whole step's made of them."""

    def __init__(self, like, generator):
        self.like, self.generator, self.start = like, generator, None

    def __call__(self, sigma, sigma_next):
        fresh = torch.randn(self.like.shape, generator=self.generator)
        sigma, sigma_next = float(sigma), float(sigma_next)
        if sigma != self.start:
            self.start, self.middle, self.half = sigma, sigma_next, fresh
            return fresh
        share = (sigma - self.middle) / (sigma - sigma_next)
        return share**0.5 * self.half + (1 - share) ** 0.5 * fresh


def theirs(pipe, options, **how):
    eta = float(options[options.index("--eta") + 1]) if "--eta" in options else 0.0
    generator = torch.Generator().manual_seed(args.seed)
    if type(pipe.scheduler).__name__ == "DPMSolverSDEScheduler":
        module = sys.modules[type(pipe.scheduler).__module__]
        module.BrownianTreeNoiseSampler = lambda like, *others: Halves(like, generator)
    with torch.inference_mode():
        image = pipe(PROMPT, negative_prompt=NEGATIVE, guidance_scale=GUIDANCE, num_inference_steps=args.steps, eta=eta,
                     generator=generator, output_type="pil", **how).images[0]
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def ours(folder, sampler, options, width, height, more=()):
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [args.sample, "--model", folder, "--prompt", PROMPT, "--negative-prompt", NEGATIVE, "--guidance-scale",
             str(GUIDANCE), "--steps", str(args.steps), "--seed", str(args.seed), "--scheduler",
             sampler.split("-")[0], "--width", str(width), "--height", str(height), "--threads", str(args.threads),
             "--output", f"{out}/a.png", "--quiet", *options, *more],
            check=True,
        )
        return np.asarray(Image.open(f"{out}/a.png").convert("RGB"), dtype=np.float64)


def kept(name, width, height, folder, draw):
    """diffusers' picture: drawn, or from --theirs, where one is of the same weights and settings."""
    if not args.theirs:
        return draw()
    weights = [os.stat(f"{folder}/{part}/diffusion_pytorch_model.safetensors") for part in ("unet", "vae")]
    what = (name, width, height, args.steps, args.seed, PROMPT, NEGATIVE, GUIDANCE, diffusers.__version__,
            os.path.abspath(folder), [(w.st_size, w.st_mtime_ns) for w in weights])
    path = f"{args.theirs}/{name}-{width}x{height}-{hashlib.sha256(repr(what).encode()).hexdigest()[:12]}.png"
    if not os.path.exists(path):
        os.makedirs(args.theirs, exist_ok=True)
        Image.fromarray(draw().astype(np.uint8)).save(path)
    return np.asarray(Image.open(path), dtype=np.float64)


def psnr(a, b):
    error = np.mean((a - b) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def pictures(folder, width, height):
    """A picture to start from and a mask, as files in the folder and as PIL images of the size."""
    y, x = np.mgrid[0:height, 0:width]
    start = np.stack([(3 * x + y) % 256, (x + 5 * y) % 256, 40 + 0 * x], -1).astype(np.uint8)
    mask = np.where((x > width // 3) & (y > height // 4), 255, 0).astype(np.uint8)
    Image.fromarray(start).save(f"{folder}/start-{width}x{height}.png")
    Image.fromarray(mask).convert("RGB").save(f"{folder}/mask-{width}x{height}.png")
    return Image.open(f"{folder}/start-{width}x{height}.png"), Image.open(f"{folder}/mask-{width}x{height}.png").convert("L")


def cases(folder, work, width, height):
    """(name, function that returns diffusers' picture, one that returns ours)"""
    with open(f"{folder}/unet/config.json") as f:
        fills = json.load(f)["in_channels"] == FILLS
    start, mask = pictures(work, width, height)
    size = dict(width=width, height=height)

    def draw(name, kind, sampler, how, more):
        def a():
            return kept(name, width, height, folder, lambda: theirs(*pipeline(kind, folder, sampler), **how))

        def b():
            return ours(folder, sampler, SAMPLERS[sampler][2], width, height, more)

        return name, a, b

    from_file = ["--init-image", f"{work}/start-{width}x{height}.png", "--strength"]
    for s in () if fills else SAMPLERS:
        yield draw(s, diffusers.StableDiffusionPipeline, s, size, [])
    for s, strength in () if fills else FROM_PICTURE:
        how = dict(image=start, strength=strength)
        yield draw(f"from-picture-{s}", diffusers.StableDiffusionImg2ImgPipeline, s, how, from_file + [str(strength)])
    for s, strength in INPAINT:
        how = dict(image=start, mask_image=mask, strength=strength, **size)
        more = from_file + [str(strength), "--mask-image", f"{work}/mask-{width}x{height}.png"]
        yield draw(f"{'fill' if fills else 'inpaint'}-{s}", diffusers.StableDiffusionInpaintPipeline, s, how, more)


def chosen(folder, work):
    """(size, name, diffusers' picture, function that returns ours)"""
    for size in args.sizes.split(","):
        width, height = (int(n) for n in size.split("x"))
        for name, a, b in cases(folder, work, width, height):
            if not any(fnmatch.fnmatch(name, pattern) for pattern in args.cases):
                continue
            if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
                print(f"{size:>9} {name:30} skipped: diffusers' class needs {NEEDS[name]}")
                continue
            yield size, name, a(), b


def run(folder, work):
    todo, failed = list(chosen(folder, work)), 0
    load.cache_clear()  # one model in memory at a time
    for size, name, a, draw in todo:
        b = draw()
        assert a.shape == b.shape, (a.shape, b.shape)
        inside = (a > 0) & (a < 255)  # elsewhere clipping may hide an error
        db = min(psnr(a, b), psnr(a[inside], b[inside]))
        far = inside.mean() < 0.1 or not db >= args.least
        failed += far
        print(f"{size:>9} {name:30} {db:6.1f} dB  most {np.abs(a - b).max():.0f}  contrast {a.std():.0f}"
              f"  clipped {1 - inside.mean():.0%}{'  TOO FAR' if far else ''}", flush=True)
    return len(todo), failed


def main():
    drawn = failed = 0
    with tempfile.TemporaryDirectory() as work:
        for channels in (4,) if args.model or args.full else (4, FILLS):
            model = args.model or f"{work}/model-{channels}"
            if not os.path.exists(model):
                made = model.rstrip("/") + ".part"
                make_model(made, channels)
                os.rename(made, model)  # whole or not at all
            if args.cases != ["none"]:
                counts = run(model, work)
                drawn, failed = drawn + counts[0], failed + counts[1]
    print(f"{drawn - failed} passed, {failed} failed")
    return 1 if failed or not (drawn or args.cases == ["none"]) else 0


sys.exit(main())
