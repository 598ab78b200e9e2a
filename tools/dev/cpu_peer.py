#!/usr/bin/env python3
"""Compares recap-bench with PyTorch, and if asked with torch.compile and OpenVINO, on this machine: same shapes, same
number of threads, one after the other.

    python3 -m venv VENV && VENV/bin/pip install torch diffusers transformers openvino
    VENV/bin/python tools/dev/cpu_peer.py [--threads 1] [--runs 2] [--dtype f32] [--compile] [--openvino] \\
        [--json FILE] [--markdown FILE] [PATTERN...]

Without a PATTERN: the networks, each in f32 and bf16 where there is a goal for it, held against that goal. Patterns
choose among these and single ops.

Each case runs on each side in a process of its own, once to warm up, and reports the median CPU time of the runs after
that and the most memory it held (PyTorch's with the interpreter). PyTorch's networks are those of diffusers and
transformers with weights drawn at random; nothing is fetched.
"""
import argparse
import fnmatch
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("patterns", nargs="*", metavar="PATTERN")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--runs", type=int, default=2)
parser.add_argument("--dtype", choices=("f32", "bf16"), help="only this one; single ops: f32 if not given")
parser.add_argument("--compile", action="store_true", help="torch.compile the networks and the fused norms as well")
parser.add_argument("--openvino", action="store_true", help="OpenVINO too, where a case is one module")
parser.add_argument("--no-torch", action="store_true", help="leave out PyTorch eager")
parser.add_argument("--json", metavar="FILE", help="write every number")
parser.add_argument("--markdown", metavar="FILE", help="write the table")
parser.add_argument("--bench", default="bin/recap-bench", help="our program")
parser.add_argument("--config-dir", default="tools/demo", help="configurations of the demo's networks")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch  # noqa: E402  (after the number of threads is known)
import torch.nn.functional as F  # noqa: E402

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


# -- networks: a function of the dtype that gives a module and what it is called with


def unet_config(side):
    return dict(
        sample_size=side,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=8,
        cross_attention_dim=768,
    )


def lower(module, dtype):
    """bf16 images are fastest channels-last, f32 ones as they are."""
    module = module.eval().to(TYPES[dtype])
    return module.to(memory_format=torch.channels_last) if dtype == "bf16" else module


def unet(side):
    def make(dtype):
        from diffusers import UNet2DConditionModel

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.unet = UNet2DConditionModel(**unet_config(side))

            def forward(self, latent, t, context):
                return self.unet(latent, t, context, return_dict=False)[0]

        draw = lambda *dim: torch.randn(*dim).to(TYPES[dtype])
        return lower(Net(), dtype), (draw(1, 4, side, side), torch.tensor([500]), draw(1, 77, 768))

    return make


def vae_decode(side):
    def make(dtype):
        from diffusers import AutoencoderKL

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.vae = AutoencoderKL(
                    block_out_channels=(128, 256, 512, 512),
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4,
                    latent_channels=4,
                    layers_per_block=2,
                    sample_size=8 * side,
                )

            def forward(self, latent):
                return self.vae.decode(latent, return_dict=False)[0]

        return lower(Net(), dtype), (torch.randn(1, 4, side, side).to(TYPES[dtype]),)

    return make


def clip_config():
    from transformers import CLIPTextConfig

    return CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                          num_attention_heads=12, max_position_embeddings=77)


def clip_text(batch):
    def make(dtype):
        from transformers import CLIPTextModel

        return CLIPTextModel(clip_config()).eval().to(TYPES[dtype]), (torch.randint(1000, (batch, 77)),)

    return make


def blip_vision(batch):
    def make(dtype):
        from transformers import BlipVisionConfig, BlipVisionModel

        net = BlipVisionModel(BlipVisionConfig(image_size=384)).eval().to(TYPES[dtype])
        return net, (torch.randn(batch, 3, 384, 384).to(TYPES[dtype]),)

    return make


# -- work: a function of the dtype and of what wraps a module that gives a function to be timed


def forward(network):
    def make(dtype, wrap):
        net, inputs = network(dtype)
        net = wrap(net)

        def run():
            with torch.inference_mode():
                net(*inputs)

        return run

    return make


def blip_caption(batch, words):
    def make(dtype, _):
        from transformers import BlipConfig, BlipForConditionalGeneration

        config = BlipConfig(text_config=dict(num_attention_heads=12), vision_config=dict(image_size=384))
        net = BlipForConditionalGeneration(config).eval().to(TYPES[dtype])
        pixels = torch.randn(batch, 3, 384, 384).to(TYPES[dtype])

        def run():
            with torch.inference_mode():
                ids = net.generate(pixels, max_new_tokens=words, min_new_tokens=words, num_beams=1, do_sample=False)
            assert ids.shape[-1] >= words, ids.shape

        return run

    return make


def unet_clip_train(side):
    """UNet and text encoder under the loss of the noise; bf16: autocast, as trainers do it."""

    def make(dtype, wrap):
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel

        net, text = UNet2DConditionModel(**unet_config(side)).train(), CLIPTextModel(clip_config()).train()
        optimizer = torch.optim.AdamW([*net.parameters(), *text.parameters()], lr=1e-5, fused=True)
        compiled, ids = wrap(net), torch.randint(1000, (1, 77))
        x, noise = torch.randn(1, 4, side, side), torch.randn(1, 4, side, side)

        def run():
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                predicted = compiled(x, torch.tensor([500]), text(ids).last_hidden_state).sample
            F.mse_loss(predicted.float(), noise).backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    return make


def attention(batch, queries, keys, heads, size):
    def make(dtype, _):
        q = torch.randn(batch, heads, queries, size).to(TYPES[dtype])
        k, v = torch.randn(2, batch, heads, keys, size).to(TYPES[dtype])

        def run():
            with torch.inference_mode():
                F.scaled_dot_product_attention(q, k, v)

        return run

    return make


def single(module, *dim):
    """One module on channels-last images, or on rows."""

    def make(dtype, wrap):
        net, x = module().to(TYPES[dtype]), torch.randn(*dim).to(TYPES[dtype])
        if len(dim) == 4:
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        net = wrap(net)

        def run():
            with torch.inference_mode():
                net(x)

        return run

    return make


def conv(side, channels_in, channels_out, kernel, stride=1):
    return single(lambda: torch.nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2),
                  1, channels_in, side, side)


def linear(rows, columns_out, columns_in):
    return single(lambda: torch.nn.Linear(columns_in, columns_out), rows, columns_in)


def groupnorm_silu(side, channels):
    return single(lambda: torch.nn.Sequential(torch.nn.GroupNorm(32, channels), torch.nn.SiLU()),
                  1, channels, side, side)


def layernorm(rows, columns):
    return single(lambda: torch.nn.LayerNorm(columns), rows, columns)


def demo_unet_train(_, wrap):
    """The demo's step: text encoder and UNet, min-SNR weights, clipping, AdamW, a moving average."""
    from diffusers import UNet2DConditionModel
    from diffusers.training_utils import EMAModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = json.load(open(f"{args.config_dir}/diffusion/unet/config.json"))
    net = UNet2DConditionModel.from_config(config).train()
    config = json.load(open(f"{args.config_dir}/diffusion/text_encoder/config.json"))
    text = CLIPTextModel(CLIPTextConfig(**config)).train()
    parameters = list(net.parameters()) + list(text.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-2, fused=True)
    ema = EMAModel(parameters, decay=0.99)
    compiled, batch = wrap(net), 64
    side, channels = net.config.sample_size, net.config.in_channels
    ids = torch.randint(1000, (batch, text.config.max_position_embeddings))
    x0 = torch.randn(batch, channels, side, side)

    def run():
        noise = torch.randn_like(x0)
        alpha, t = torch.rand(batch, 1, 1, 1), torch.randint(1000, (batch,))
        x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        predicted = compiled(x, t, text(ids).last_hidden_state).sample
        loss = (((predicted - target) ** 2).mean((1, 2, 3)) * alpha.flatten()).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(parameters)

    return run


# -- the cases


class Case:
    """goals: CPU seconds that ours may take by dtype, or ("ratio", how many times less than PyTorch). The dtypes of
    the default table are those that have one, then those in `also`."""

    def __init__(self, make=None, network=None, goals=None, also=(), compiled=False, runs=None):
        self.network = network
        self.make = make or forward(network)
        self.goals, self.also, self.runs = goals or {}, also, runs
        self.compiled = compiled or network is not None


CASES = {
    "unet_sd14_512": Case(network=unet(64), goals={"f32": 5.75, "bf16": 3.9}),
    "vae_decode_512": Case(network=vae_decode(64), goals={"f32": 17, "bf16": 11}),
    "clip_text_b2": Case(network=clip_text(2), goals={"f32": 0.30}, also=("bf16",)),
    "blip_vision_384_b4": Case(network=blip_vision(4), goals={"f32": 4.4, "bf16": 2.6}),
    "blip_caption": Case(blip_caption(1, 40), goals={"f32": 3.5}, also=("bf16",)),
    "blip_caption_b16": Case(blip_caption(16, 40), goals={"f32": ("ratio", 3)}, also=("bf16",), runs=1),
    "unet_clip_train_256": Case(unet_clip_train(32), goals={"f32": 8.5}, compiled=True),
    "unet_sd14_256": Case(network=unet(32)),
    "attention_4096_d40": Case(attention(1, 4096, 4096, 8, 40)),
    "attention_1024_d80": Case(attention(1, 1024, 1024, 8, 80)),
    "attention_256_d160": Case(attention(1, 256, 256, 8, 160)),
    "attention_4096x77_d40": Case(attention(1, 4096, 77, 8, 40)),
    "attention_64_d32_b64": Case(attention(64, 64, 64, 2, 32)),
    "conv3x3_320_64": Case(conv(64, 320, 320, 3)),
    "conv3x3_640_32": Case(conv(32, 640, 640, 3)),
    "conv3x3_1280_16": Case(conv(16, 1280, 1280, 3)),
    "conv3x3_1280_8": Case(conv(8, 1280, 1280, 3)),
    "conv3x3_960_320_64": Case(conv(64, 960, 320, 3)),
    "conv3x3_320_64_stride2": Case(conv(64, 320, 320, 3, 2)),
    "conv1x1_320_64": Case(conv(64, 320, 320, 1)),
    "linear_4096x320x320": Case(linear(4096, 320, 320)),
    "linear_4096x2560x320": Case(linear(4096, 2560, 320)),
    "linear_4096x320x1280": Case(linear(4096, 320, 1280)),
    "linear_256x1280x5120": Case(linear(256, 1280, 5120)),
    "groupnorm_silu_320_64": Case(groupnorm_silu(64, 320), compiled=True),
    "groupnorm_silu_960_64": Case(groupnorm_silu(64, 960), compiled=True),
    "layernorm_4096x320": Case(layernorm(4096, 320)),
    "demo_unet_train": Case(demo_unet_train, compiled=True),
}
PEERS = {"torch": "PyTorch", "compile": "torch.compile", "openvino": "OpenVINO"}


# -- one measurement


def openvino_run(case, dtype):
    """The network as it is in f32; OpenVINO lowers it itself."""
    import openvino

    net, inputs = case.network("f32")
    model = openvino.convert_model(net, example_input=inputs)
    del net
    settings = {"INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": args.threads}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    arrays = [x.numpy() for x in inputs]
    return lambda: request.infer(arrays)


def peer_run(case, dtype, peer):
    if peer == "openvino":
        return openvino_run(case, dtype)
    return case.make(dtype, torch.compile if peer == "compile" else lambda net: net)


def measure(case, dtype, peer, runs, pipe):
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    warnings.simplefilter("ignore")
    try:
        run = peer_run(case, dtype, peer)
        run()
        cpu, wall = [], []
        for _ in range(runs):
            starts = time.process_time(), time.perf_counter()
            run()
            cpu.append(time.process_time() - starts[0])
            wall.append(time.perf_counter() - starts[1])
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send({"cpu_seconds": statistics.median(cpu), "seconds": statistics.median(wall), "peak_rss_bytes": peak})
    except Exception as error:  # a peer that fails leaves the others
        pipe.send({"error": f"{type(error).__name__}: {error}"[:300]})


def theirs(case, dtype, peer):
    """A fork: the libraries are loaded once, and have not started a thread yet."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=measure, args=(case, dtype, peer, case.runs or args.runs, sender))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        result = {"error": "the process ended"}
    process.join()
    return result


def ours(name, case, dtype):
    command = [args.bench, name, "--json", "--threads", str(args.threads), "--runs", str(case.runs or args.runs)]
    command += ["--config-dir", args.config_dir, "--dtype", dtype]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        return json.loads(out.stdout)
    except ValueError:
        return {"error": (out.stderr.strip().splitlines() or ["no result"])[-1]}


# -- the table


def goal_of(case, dtype):
    goal = case.goals.get(dtype)
    if goal is None:
        return ""
    return f"{goal[1]}x PyTorch" if isinstance(goal, tuple) else f"{goal:g}"


def is_met(case, dtype, row):
    goal, mine = case.goals.get(dtype), row["ours"].get("cpu_seconds")
    if goal is None or mine is None:
        return ""
    if not isinstance(goal, tuple):
        return "yes" if mine <= goal else "no"
    peer = row.get("torch", {}).get("cpu_seconds")
    return "" if peer is None else "yes" if peer / mine >= goal[1] else "no"


def number(result, key="cpu_seconds", scale=1.0, form="{:.4g}"):
    return form.format(result[key] * scale) if key in result else "failed"


def cells(name, case, dtype, row, peers):
    mine = row["ours"]
    line = [name, dtype, number(mine), number(mine, "gflops_per_core", 1, "{:.0f}")]
    line += [goal_of(case, dtype), is_met(case, dtype, row), number(mine, "peak_rss_bytes", 1e-6, "{:.0f}")]
    for peer in peers:
        if peer not in row:
            line += ["", "", ""]
            continue
        took, both = row[peer], "cpu_seconds" in row[peer] and "cpu_seconds" in mine
        line += [number(took), f"{took['cpu_seconds'] / mine['cpu_seconds']:.2f}" if both else ""]
        line += [number(took, "peak_rss_bytes", 1e-6, "{:.0f}")]
    return line


def head(peers):
    line = ["case", "dtype", "ours, CPU s", "GFLOP/s per core", "goal", "met", "MB"]
    for peer in peers:
        line += [f"{PEERS[peer]}, CPU s", "/ ours", "MB"]
    return line


def about():
    model = [x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True).stdout.strip()
    return {"processor": model[0] if model else platform.machine(), "processors": os.cpu_count(), "commit": commit,
            "date": time.strftime("%Y-%m-%d %H:%M"), "torch": torch.__version__, "threads": args.threads,
            "runs": args.runs, "load_before": os.getloadavg()[0]}


def chosen():
    for name, case in CASES.items():
        if not args.patterns and not case.goals:
            continue
        if args.patterns and not any(fnmatch.fnmatch(name, p) for p in args.patterns):
            continue
        for dtype in [args.dtype] if args.dtype else [*case.goals, *case.also] or ["f32"]:
            yield name, case, dtype


def applies(case, peer):
    return peer == "torch" or (case.compiled if peer == "compile" else case.network is not None)


def write(path, text):
    if path:
        with open(path, "w") as file:
            file.write(text)


def main():
    wanted = {"torch": not args.no_torch, "compile": args.compile, "openvino": args.openvino}
    peers, rows, lines = [p for p in PEERS if wanted[p]], [], []
    work, start = list(chosen()), time.time()
    if not work:
        sys.exit("no case matches; there are: " + " ".join(CASES))
    import diffusers  # noqa: F401  (before the forks)
    import transformers

    transformers.logging.set_verbosity_error()
    where = about()
    print(", ".join(f"{k} {v}" for k, v in where.items()))
    for name, case, dtype in work:
        row = {"name": name, "dtype": dtype, "goal": goal_of(case, dtype), "ours": ours(name, case, dtype)}
        row.update({p: theirs(case, dtype, p) for p in peers if applies(case, p)})
        row["met"] = is_met(case, dtype, row)
        rows.append(row)
        lines.append(cells(name, case, dtype, row, peers))
        print("  ".join(f"{h} {x}" if i > 1 else f"{x:20}" if i == 0 else f"{x:4}"
                        for i, (h, x) in enumerate(zip(head(peers), lines[-1])) if x), flush=True)
        for side in ("ours", *peers):
            if "error" in row.get(side, {}):
                print(f"    {side}: {row[side]['error']}", flush=True)
        where["load_after"], where["seconds"] = os.getloadavg()[0], round(time.time() - start)
        table = [head(peers), ["---"] * len(head(peers)), *lines]
        write(args.json, json.dumps({"about": where, "rows": rows}, indent=1) + "\n")
        write(args.markdown, "".join("| " + " | ".join(line) + " |\n" for line in table))


if __name__ == "__main__":
    main()
