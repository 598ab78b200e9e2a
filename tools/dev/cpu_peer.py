#!/usr/bin/env python3
"""Compares recap-bench with PyTorch on this machine: same shapes, same number of threads, one after the other.

    python3 -m venv VENV && VENV/bin/pip install torch diffusers transformers
    VENV/bin/python tools/dev/cpu_peer.py [--threads 1] [--runs 3] [--compile] [PATTERN...]

Both sides run a case once to warm up and report the median CPU time of the runs after that. PyTorch's networks are
those of diffusers with weights drawn at random; nothing is fetched.
"""
import argparse
import fnmatch
import gc
import json
import os
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--compile", action="store_true", help="torch.compile the networks and the fused norms as well")
parser.add_argument("--bench", default="bin/recap-bench", help="our program")
parser.add_argument("--config-dir", default="tools/demo", help="configurations of the demo's networks")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch  # noqa: E402  (after the number of threads is known)
import torch.nn.functional as F  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(1)


def unet_sd14():
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=8,
        cross_attention_dim=768,
    ).eval()


def unet_forward(side):
    def make(wrap):
        net = wrap(unet_sd14())
        latent, context = torch.randn(1, 4, side, side), torch.randn(1, 77, 768)

        def run():
            with torch.inference_mode():
                net(latent, torch.tensor([500]), context)

        return run

    return make


def attention(batch, queries, keys, heads, size):
    def make(_):
        q = torch.randn(batch, heads, queries, size)
        k, v = torch.randn(batch, heads, keys, size), torch.randn(batch, heads, keys, size)

        def run():
            with torch.inference_mode():
                F.scaled_dot_product_attention(q, k, v)

        return run

    return make


def conv(side, channels_in, channels_out, kernel, stride=1):
    def make(_):
        net = torch.nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2)
        net = net.to(memory_format=torch.channels_last)
        x = torch.randn(1, channels_in, side, side).to(memory_format=torch.channels_last)

        def run():
            with torch.inference_mode():
                net(x)

        return run

    return make


def linear(rows, columns_out, columns_in):
    def make(_):
        net, x = torch.nn.Linear(columns_in, columns_out), torch.randn(rows, columns_in)

        def run():
            with torch.inference_mode():
                net(x)

        return run

    return make


def groupnorm_silu(side, channels):
    def make(wrap):
        net = torch.nn.Sequential(torch.nn.GroupNorm(32, channels), torch.nn.SiLU())
        net = wrap(net.to(memory_format=torch.channels_last))
        x = torch.randn(1, channels, side, side).to(memory_format=torch.channels_last)

        def run():
            with torch.inference_mode():
                net(x)

        return run

    return make


def layernorm(rows, columns):
    def make(_):
        net, x = torch.nn.LayerNorm(columns), torch.randn(rows, columns)

        def run():
            with torch.inference_mode():
                net(x)

        return run

    return make


def demo_unet_train(wrap):
    """The demo's step: text encoder and UNet, min-SNR weights, clipping, AdamW, a moving average."""
    from diffusers import UNet2DConditionModel
    from diffusers.training_utils import EMAModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = json.load(open(f"{args.config_dir}/diffusion/unet/config.json"))
    unet = UNet2DConditionModel.from_config(config).train()
    config = json.load(open(f"{args.config_dir}/diffusion/text_encoder/config.json"))
    text = CLIPTextModel(CLIPTextConfig(**config)).train()
    parameters = list(unet.parameters()) + list(text.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2, fused=True)
    ema = EMAModel(parameters, decay=0.99)
    forward, batch = wrap(unet), 64
    side, channels = unet.config.sample_size, unet.config.in_channels
    ids = torch.randint(1000, (batch, text.config.max_position_embeddings))
    x0 = torch.randn(batch, channels, side, side)

    def run():
        noise = torch.randn_like(x0)
        alpha, t = torch.rand(batch, 1, 1, 1), torch.randint(1000, (batch,))
        x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        predicted = forward(x, t, text(ids).last_hidden_state).sample
        loss = (((predicted - target) ** 2).mean((1, 2, 3)) * alpha.flatten()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(parameters)

    return run


CASES = {
    "unet_sd14_512": unet_forward(64),
    "unet_sd14_256": unet_forward(32),
    "attention_4096_d40": attention(1, 4096, 4096, 8, 40),
    "attention_1024_d80": attention(1, 1024, 1024, 8, 80),
    "attention_256_d160": attention(1, 256, 256, 8, 160),
    "attention_4096x77_d40": attention(1, 4096, 77, 8, 40),
    "attention_64_d32_b64": attention(64, 64, 64, 2, 32),
    "conv3x3_320_64": conv(64, 320, 320, 3),
    "conv3x3_640_32": conv(32, 640, 640, 3),
    "conv3x3_1280_16": conv(16, 1280, 1280, 3),
    "conv3x3_1280_8": conv(8, 1280, 1280, 3),
    "conv3x3_960_320_64": conv(64, 960, 320, 3),
    "conv3x3_320_64_stride2": conv(64, 320, 320, 3, 2),
    "conv1x1_320_64": conv(64, 320, 320, 1),
    "linear_4096x320x320": linear(4096, 320, 320),
    "linear_4096x2560x320": linear(4096, 2560, 320),
    "linear_4096x320x1280": linear(4096, 320, 1280),
    "linear_256x1280x5120": linear(256, 1280, 5120),
    "groupnorm_silu_320_64": groupnorm_silu(64, 320),
    "groupnorm_silu_960_64": groupnorm_silu(64, 960),
    "layernorm_4096x320": layernorm(4096, 320),
    "demo_unet_train": demo_unet_train,
}
COMPILED = ("unet", "demo", "groupnorm")


def theirs(make, wrap):
    run = make(wrap)
    run()
    took = []
    for _ in range(args.runs):
        start = time.process_time()
        run()
        took.append(time.process_time() - start)
    del run
    gc.collect()
    return statistics.median(took)


def ours(name):
    command = [args.bench, name, "--json", "--threads", str(args.threads), "--runs", str(args.runs)]
    command += ["--config-dir", args.config_dir]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
    return json.loads(out.stdout)


def main():
    names = [n for n in CASES if any(fnmatch.fnmatch(n, p) for p in args.patterns)]
    if not names:
        sys.exit("no case matches; there are: " + " ".join(CASES))
    print(f"torch {torch.__version__}, {args.threads} thread(s), CPU seconds, median of {args.runs}")
    print(f"{'case':28} {'ours':>10} {'GFLOP/s':>9} {'torch':>10} {'ratio':>7}" + ("   compiled   ratio" * args.compile))
    for name in names:
        mine = ours(name)
        cpu, eager = mine["cpu_seconds"], theirs(CASES[name], lambda net: net)
        line = f"{name:28} {cpu:10.5f} {mine['gflops_per_core']:9.1f} {eager:10.5f} {eager / cpu:7.2f}"
        if args.compile and name.startswith(COMPILED):
            compiled = theirs(CASES[name], torch.compile)
            line += f" {compiled:10.5f} {compiled / cpu:7.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
