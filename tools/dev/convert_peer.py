#!/usr/bin/env python3
"""Weights in and out, checked by the libraries that others use.

Writes small random pipelines (--full: Stable Diffusion 1.4 and BLIP base at full size) with
diffusers and transformers in every form that is met, converts them with recap-convert, and loads
the result again. A key that is missing or left over, a byte that differs or another output fails.

    VENV/bin/python tools/dev/convert_peer.py [--full] [--only sd|bytes|load|blip] [--keep DIR]
                                              [--model DIR]
    VENV/bin/python tools/dev/convert_peer.py --fixtures    writes tests/golden/torch

At full size the pipeline is DIR of --model, or written first; `bytes` compares files alone (no
memory, 30 GB of disk for a while), `load` runs the networks in the libraries (12 GB of memory).

VENV needs torch, diffusers, transformers and safetensors. Build recap-convert first (make).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parents[2]
CONVERT = Path(os.environ.get("RECAP_CONVERT", ROOT / "bin/recap-convert"))

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

checks = 0


def check(ok, what):
    global checks
    checks += 1
    if not ok:
        sys.exit(f"FAILED: {what}")


def convert(*words):
    done = subprocess.run([str(CONVERT), *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"recap-convert {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout + done.stderr


def same(a, b, what, dtype=None):
    """The same names, shapes and bytes; with a dtype: as torch converts them."""
    check(a.keys() == b.keys(), f"{what}: names differ: {sorted(a.keys() ^ b.keys())[:4]}")
    for name, x in a.items():
        x = x.to(dtype) if dtype and x.is_floating_point() else x
        ok = x.dtype == b[name].dtype and x.shape == b[name].shape
        raw = torch.int32 if x.element_size() == 4 else torch.int16
        check(ok and torch.equal(x.contiguous().view(raw), b[name].contiguous().view(raw)),
              f"{what}: {name} differs")


# -- Stable Diffusion


def make_pipeline(full):
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(1)
    text = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                num_attention_heads=12, projection_dim=768) if full else dict(
                    vocab_size=640, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                    num_attention_heads=1, projection_dim=64)
    # The small one has all names of Stable Diffusion 1.4: as many blocks and layers.
    unet = dict(block_out_channels=(320, 640, 1280, 1280), sample_size=64,
                cross_attention_dim=768) if full else dict(
                    block_out_channels=(32, 64, 64, 64), sample_size=16, cross_attention_dim=64)
    vae = (128, 256, 512, 512) if full else (32, 64, 64, 64)
    words = ROOT / "tests/golden/clip_bpe"
    return StableDiffusionPipeline(
        unet=UNet2DConditionModel(attention_head_dim=8, layers_per_block=2, **unet),
        vae=AutoencoderKL(block_out_channels=vae, layers_per_block=2, latent_channels=4,
                          sample_size=512 if full else 64,
                          down_block_types=("DownEncoderBlock2D",) * len(vae),
                          up_block_types=("UpDecoderBlock2D",) * len(vae)),
        text_encoder=CLIPTextModel(CLIPTextConfig(max_position_embeddings=77, **text)),
        tokenizer=CLIPTokenizer(vocab=str(words / "vocab.json"), merges=str(words / "merges.txt")),
        scheduler=PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                skip_prk_steps=True, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)


PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model",
         "text_encoder": "model"}


def tensors_of(folder):
    """All tensors of a folder that recap-convert wrote, by part."""
    return {p: load_file(folder / p / f"{file}.safetensors") for p, file in PARTS.items()}


def load_parts(folder):
    """Load each network and demand that the library has nothing to say about its keys."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    loaded = {}
    for part, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL),
                       ("text_encoder", CLIPTextModel)):
        model, info = kind.from_pretrained(folder / part, output_loading_info=True)
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
            check(not info.get(key), f"{folder.name}/{part}: {key} {list(info.get(key, []))[:3]}")
        loaded[part] = model.eval()
    return loaded


@torch.no_grad()
def outputs(parts, full):
    """What the three networks give for fixed inputs."""
    g = torch.Generator().manual_seed(3)
    side = 32 if full else 16
    ids = torch.arange(77)[None] % 500
    context = parts["text_encoder"](ids).last_hidden_state
    latent = torch.randn(1, 4, side, side, generator=g)
    noise = parts["unet"](latent, torch.tensor([500]), context).sample
    return context, noise, parts["vae"].decode(latent).sample


def same_outputs(a, b, what):
    """The same weights at other addresses may be summed in another order."""
    for x, y in zip(a, b):
        apart = (x - y).abs().max()
        check(apart <= 1e-5 * x.abs().max(), f"{what}: the output differs by {apart:.3g}")


def old_vae_names(state, as_conv):
    """VAE attention as published: query, key, value, proj_attn."""
    out = {}
    for name, x in state.items():
        name, n = re.subn(r"(attentions\.0\.)to_(q|k|v|out\.0)\.", lambda m: m[1] + {
            "q": "query", "k": "key", "v": "value", "out.0": "proj_attn"}[m[2]] + ".", name)
        out[name] = x[:, :, None, None].contiguous() if n and as_conv and x.dim() == 2 else x
    return out


def check_single_file(path, folder, expected, full):
    """diffusers reads what we call LDM."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_single_file(str(path), config=str(folder),
                                                    safety_checker=None, local_files_only=True)
    parts = {"unet": pipe.unet, "vae": pipe.vae, "text_encoder": pipe.text_encoder}
    same_outputs(expected, outputs(parts, full), f"from_single_file {path.name}")


def forms_of(pipe, first, at):
    """The pipeline in the forms in which people have it: name and path."""
    base = at / "published"
    shutil.copytree(first, base)
    state = load_file(base / "vae/diffusion_pytorch_model.safetensors")
    save_file(old_vae_names(state, False), base / "vae/diffusion_pytorch_model.safetensors")
    state = load_file(base / "text_encoder/model.safetensors")
    state = {n if n.startswith("text_model.") else "text_model." + n: x for n, x in state.items()}
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(state, base / "text_encoder/model.safetensors", metadata={"format": "pt"})
    yield "published names", base
    conv = at / "conv"
    shutil.copytree(base, conv)
    state = load_file(first / "vae/diffusion_pytorch_model.safetensors")
    save_file(old_vae_names(state, True), conv / "vae/diffusion_pytorch_model.safetensors")
    yield "attention as 1x1 convolution", conv
    bins = at / "bins"
    shutil.copytree(first, bins)
    for part, file in PARTS.items():
        path = bins / part / f"{file}.safetensors"
        name = "pytorch_model" if part == "text_encoder" else file
        torch.save(load_file(path), bins / part / f"{name}.bin")
        path.unlink()
    yield ".bin", bins
    shards = at / "shards"
    pipe.save_pretrained(shards, max_shard_size="300KB")
    check(list(shards.glob("unet/*.index.json")), "nothing was cut into shards")
    yield "shards", shards


def check_other_parts(first, at):
    """What a pipeline has beside our networks is there after conversion, and diffusers loads it."""
    from diffusers import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    small = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    checker = StableDiffusionSafetyChecker(CLIPConfig(
        projection_dim=16, text_config=small, vision_config={**small, "image_size": 32}))
    pipe = StableDiffusionPipeline.from_pretrained(first, safety_checker=checker,
                                                   feature_extractor=CLIPImageProcessor())
    pipe.save_pretrained(at / "guarded")
    convert(at / "guarded", at / "guarded-out")
    again = StableDiffusionPipeline.from_pretrained(at / "guarded-out")
    check(type(again.safety_checker) is type(checker), "the safety checker is gone")
    check(again.feature_extractor.to_dict() == pipe.feature_extractor.to_dict(), "other pictures")
    same(checker.state_dict(), again.safety_checker.state_dict(), "safety checker")
    shutil.rmtree(at / "guarded/safety_checker")
    out = convert(at / "guarded", at / "bare")
    check("safety_checker" in out, "nothing is said of a safety checker that is not there")
    again = StableDiffusionPipeline.from_pretrained(at / "bare")
    check(again.safety_checker is None and again.feature_extractor is not None, "bare")


def check_pipeline(at):
    full, pipe = False, make_pipeline(False)
    first, again, ldm = at / "first", at / "again", at / "ldm.safetensors"
    pipe.save_pretrained(first)
    expected = outputs({"unet": pipe.unet.eval(), "vae": pipe.vae.eval(),
                        "text_encoder": pipe.text_encoder.eval()}, full)
    convert(first, at / "copy")
    original = tensors_of(at / "copy")
    same(load_file(first / "unet/diffusion_pytorch_model.safetensors"), original["unet"], "unet")
    same(load_file(first / "vae/diffusion_pytorch_model.safetensors"), original["vae"], "vae")
    same_outputs(expected, outputs(load_parts(at / "copy"), full), "a folder that we wrote")
    convert(first, ldm)
    check_single_file(ldm, first, expected, full)
    convert(ldm, again, "--like", first)
    for part, state in tensors_of(again).items():
        same(original[part], state, f"folder -> file -> folder, {part}")
    same_outputs(expected, outputs(load_parts(again), full), "folder -> file -> folder")
    for name, form in forms_of(pipe, first, at):
        convert(form, at / "form")
        for part, state in tensors_of(at / "form").items():
            same(original[part], state, f"{name}, {part}")
        shutil.rmtree(at / "form")
    check_checkpoint(at, ldm, first, original)
    check_other_parts(first, at)
    for dtype in ("f16", "bf16"):
        convert(first, at / dtype, "--dtype", dtype)
        torch_dtype = torch.float16 if dtype == "f16" else torch.bfloat16
        for part, state in tensors_of(at / dtype).items():
            same(original[part], state, f"{dtype}, {part}", torch_dtype)
        shutil.rmtree(at / dtype)


def check_checkpoint(at, ldm, like, original):
    """The same weights as Lightning saves them, with averages beside the UNet."""
    state = load_file(ldm)
    raw = {n: x + 1 if n.startswith("model.diffusion_model.") else x for n, x in state.items()}
    for name, x in state.items():
        if name.startswith("model."):
            raw["model_ema." + name[6:].replace(".", "")] = x
    raw["model_ema.decay"] = torch.tensor(0.9999)
    raw["betas"] = torch.linspace(0, 1, 1000, dtype=torch.float64)
    torch.save({"state_dict": raw, "global_step": 470000, "callbacks": {torch.nn.ReLU: {"x": 1}},
                "optimizer_states": [{"state": {}, "param_groups": []}]}, at / "sd.ckpt")
    out = convert(at / "sd.ckpt", at / "averaged", "--like", like, "--ema")
    for part, state in tensors_of(at / "averaged").items():
        same(original[part], state, f"averages of a .ckpt, {part}")
    out = convert("--inspect", at / "sd.ckpt")
    check("global_step = 470000" in out and "unet" in out and "betas" in out, out)
    shutil.rmtree(at / "averaged")


# -- the same at full size, where memory and disk count


def full_folder(at, model):
    if model:
        return Path(model)
    make_pipeline(True).save_pretrained(at / "first")
    return at / "first"


def same_parts(original, folder, what, dtype=None):
    for part, state in tensors_of(folder).items():
        same(original[part], state, f"{what}, {part}", dtype)
    shutil.rmtree(folder)
    print(f"  {what}: equal", flush=True)


def check_bytes(at, first):
    """Files alone: all tensors are mapped, none is kept."""
    ldm, out = at / "ldm.safetensors", at / "out"
    original = tensors_of(first)
    names = original["text_encoder"]
    if not any(n.startswith("text_model.") for n in names):
        original["text_encoder"] = {f"text_model.{n}": x for n, x in names.items()}
    convert(first, out)
    same_parts(original, out, "folder -> folder")
    convert(first, ldm)
    convert(ldm, out, "--like", first)
    same_parts(original, out, "folder -> file -> folder")
    convert(ldm, out)
    same_parts(original, out, "file -> folder without --like")
    torch.save({"state_dict": load_file(ldm), "global_step": 470000}, at / "sd.ckpt")
    ldm.unlink()
    convert(at / "sd.ckpt", out, "--like", first)
    (at / "sd.ckpt").unlink()
    same_parts(original, out, ".ckpt -> folder")
    for dtype, as_torch in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        convert(first, out, "--dtype", dtype)
        convert(out, ldm)
        same_parts(original, out, f"folder -> folder in {dtype}", as_torch)
        convert(ldm, out, "--like", first)
        same_parts(original, out, f"folder -> file -> folder in {dtype}", as_torch)
        ldm.unlink()


def check_load(at, first):
    """What we write loads in the libraries, and computes the same."""
    ldm, out = at / "ldm.safetensors", at / "out"
    expected = outputs(load_parts(first), True)
    convert(first, out)
    same_outputs(expected, outputs(load_parts(out), True), "a folder that we wrote")
    convert(first, ldm)
    check_single_file(ldm, out, expected, True)
    shutil.rmtree(out)
    ldm.unlink()


# -- BLIP


def make_blip(full, tied):
    from transformers import BlipConfig, BlipForConditionalGeneration

    torch.manual_seed(2)
    vision = {} if full else dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                                  num_attention_heads=1, image_size=32, patch_size=8)
    text = dict(num_attention_heads=12, encoder_hidden_size=768) if full else dict(
        vocab_size=200, hidden_size=64, encoder_hidden_size=64, intermediate_size=96,
        num_hidden_layers=2, num_attention_heads=1, max_position_embeddings=48)
    text.update(tie_word_embeddings=tied, bos_token_id=3, sep_token_id=2, pad_token_id=0)
    config = BlipConfig(text_config=text, vision_config=dict(vision), tie_word_embeddings=tied)
    return BlipForConditionalGeneration(config).eval()


@torch.no_grad()
def blip_output(model):
    size = model.config.vision_config.image_size
    g = torch.Generator().manual_seed(5)
    pixels = torch.randn(2, 3, size, size, generator=g)
    ids = torch.arange(14).reshape(2, 7) + 5
    return model(pixel_values=pixels, input_ids=ids).logits


def salesforce_names(state):
    out = OrderedDict()
    for name, x in state.items():
        name = re.sub(r"^vision_model\.embeddings\.class_embedding$", "visual_encoder.cls_token", name)
        name = re.sub(r"^vision_model\.embeddings\.position_embedding$", "visual_encoder.pos_embed",
                      name)
        name = name.replace("vision_model.embeddings.patch_embedding",
                            "visual_encoder.patch_embed.proj")
        name = name.replace("vision_model.post_layernorm", "visual_encoder.norm")
        name = name.replace("vision_model.encoder.layers", "visual_encoder.blocks")
        if name.startswith("visual_encoder."):
            name = name.replace("self_attn.projection", "attn.proj")
            name = name.replace("self_attn", "attn").replace("layer_norm", "norm")
        out[name] = x.clone()
    return out


def load_blip(folder):
    from transformers import BlipForConditionalGeneration

    model, info = BlipForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        check(not info.get(key), f"{folder.name}: {key} {list(info.get(key, []))[:3]}")
    return model.eval()


def check_blip(at, full):
    for tied in (True, False):
        model = make_blip(full, tied)
        expected, name = blip_output(model), "tied" if tied else "untied"
        first, out, pth = at / f"blip-{name}", at / f"blip-{name}-out", at / f"{name}.pth"
        model.save_pretrained(first)
        convert(first, out)
        same_outputs([expected], [blip_output(load_blip(out))], f"BLIP {name}")
        state = load_file(out / "model.safetensors")
        named = salesforce_names(model.state_dict())
        named["text_decoder.bert.embeddings.position_ids"] = torch.arange(48)[None]
        torch.save({"model": named, "optimizer": {"state": {}}, "epoch": 4}, pth)
        convert(pth, at / "sf", "--like", out)
        same(state, load_file(at / "sf/model.safetensors"), f"Salesforce, {name}")
        same_outputs([expected], [blip_output(load_blip(at / "sf"))], f"Salesforce, {name}")
        convert(pth, at / "shapes")
        same(state, load_file(at / "shapes/model.safetensors"), f"Salesforce by shapes, {name}")
        for folder in (at / "sf", at / "shapes"):
            shutil.rmtree(folder)


# -- fixtures


def write_fixtures():
    """Files of torch.save that the unit tests read."""
    at = ROOT / "tests/golden/torch"
    at.mkdir(exist_ok=True)
    x = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    module = torch.nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.5, -2.0]]))
        module.bias.copy_(torch.tensor([0.25]))
    torch.save(OrderedDict(plain=x, turned=x.t(), part=x[1:, 2:], row=x[2], half=x.half(),
                           brain=x.bfloat16(), double=x.double(), whole=x.long(),
                           truth=x > 5, scalar=torch.tensor(7.0), none=torch.zeros(0, 3),
                           image=torch.arange(16.).reshape(1, 2, 2, 4).to(
                               memory_format=torch.channels_last),
                           parameter=torch.nn.Parameter(x[0])), at / "tensors.pt")
    torch.save(module.state_dict(), at / "module.pt")
    import numpy
    torch.save({"state_dict": module.state_dict(), "epoch": 3, "global_step": 1000,
                "pytorch-lightning_version": "1.4.2", "best": numpy.float64(0.5),
                "callbacks": {torch.nn.ReLU: {"monitor": None, "mode": ("min", 1.5)}},
                "hyper": argparse.Namespace(lr=1e-4, sizes=[1, 2, 3]),
                "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}}]},
               at / "lightning.ckpt")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="full size")
    parser.add_argument("--only", choices=("sd", "bytes", "load", "blip"))
    parser.add_argument("--model", help="a folder of full size")
    parser.add_argument("--keep", help="a folder for the files; they stay")
    parser.add_argument("--fixtures", action="store_true", help="write tests/golden/torch")
    options = parser.parse_args()
    if options.fixtures:
        return write_fixtures()
    import transformers
    import diffusers
    for library in (transformers, diffusers):
        library.logging.set_verbosity_error()
    torch.set_num_threads(2)
    at = Path(options.keep or tempfile.mkdtemp(prefix="convert-peer-"))
    at.mkdir(parents=True, exist_ok=True)
    try:
        if options.only != "blip" and not options.full:
            check_pipeline(at)
        if options.only in (None, "sd", "bytes") and options.full:
            check_bytes(at, full_folder(at, options.model))
        if options.only in (None, "sd", "load") and options.full:
            check_load(at, full_folder(at, options.model))
        if options.only in (None, "blip"):
            check_blip(at, options.full)
    finally:
        if not options.keep:
            shutil.rmtree(at)
    print(f"{checks} checks passed with diffusers {diffusers.__version__}, "
          f"transformers {transformers.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
