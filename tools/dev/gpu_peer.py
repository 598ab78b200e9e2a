#!/usr/bin/env python3
"""Holds recap-bench against PyTorch on the same GPU: same shapes, same dtype, the device's clock on both sides.

    tools/dev/gpu_peer.py --ours gpu-check.json                  rows that are there already
    tools/dev/gpu_peer.py --bench PROGRAM [--batch 8] [PATTERN]  measures ours first
    --compile     torch.compile for the networks as well (minutes)
    --device cpu --tiny   no GPU: checks this program

Attention is scaled_dot_product_attention, convolutions are channels-last, the UNet is diffusers' where that is
installed, else the same network in plain torch modules; networks run as they are and as a CUDA graph. A ratio above 1
means that we are faster. Weights and data are random; nothing is fetched.
"""
import argparse
import fnmatch
import json
import re
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("patterns", nargs="*", metavar="PATTERN")
parser.add_argument("--ours", metavar="FILE", help="lines of recap-bench --json, or gpu-check.json")
parser.add_argument("--bench", metavar="PROGRAM", help="our program, where --ours is not given")
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--dtype", choices=("f32", "bf16"), default="bf16")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--compile", action="store_true")
parser.add_argument("--device", default="cuda")
parser.add_argument("--tiny", action="store_true", help="small sizes")
args = parser.parse_args()

import torch  # noqa: E402  (after the help)
import torch.nn.functional as F  # noqa: E402

import gpu_peer_nets as nets  # noqa: E402

GPU = args.device == "cuda"
WORKING_SET = 256e6  # bytes of inputs that runs take turns among: more than any cache
torch.manual_seed(1)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True


def rand(dtype, *shape):
    return torch.randn(*shape, device=args.device, dtype=dtype)


def size(n, most):
    return min(n, most) if args.tiny else n


# -- time


def seconds_of(run, n):
    """Seconds of run(0) ... run(n - 1) together."""
    if not GPU:
        start = time.perf_counter()
        for i in range(n):
            run(i)
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for i in range(n):
        run(i)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


LEAD = []


def median(run, batched):
    """Median seconds of one run. Batches are enqueued while the GPU is still busy with a copy."""
    once = [seconds_of(run, 1) for _ in range(3)][-1]
    n = max(1, min(int(4e-4 / once) + 1, 64)) if batched and GPU else 1
    took = []
    for _ in range(args.runs):
        if batched and GPU:
            if not LEAD:
                LEAD.append(torch.empty(1 << 28, device=args.device, dtype=torch.bfloat16))
            LEAD[0].clone()
        took.append(seconds_of(run, n) / n)
    return statistics.median(took)


def in_turns(make, bytes_each):
    """make() gives a function without arguments; enough of them that no cache holds all their data."""
    n = 1 if args.tiny or not GPU else max(1, min(int(WORKING_SET / bytes_each) + 1, 64))
    runs = [make() for _ in range(n)]
    return lambda i: runs[i % n]()


# -- single ops: what a name says, as a function of (dtype, batch, which part)


def grads(y, inputs):
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def part_of(part, forward, groups):
    """groups: op suffix -> tensors that the backward pass of that name gives the gradients of."""
    if part in (None, "forward"):

        def run():
            with torch.inference_mode():
                forward()

        return run
    inputs = groups[part]
    for t in inputs:
        t.requires_grad_()
    return grads(forward(), inputs)


def attention(match, dtype, batch, part):
    family, queries, keys, width, many = match.groups()
    family = family or ""
    queries, keys = size(int(queries), 64), size(int(keys or queries), 64)
    heads = {"clip_": 12, "blip_": 12, "blip_text_": 12, "vae_": 1}.get(family, 8)
    batch *= int(many) if many else 1
    heads = 2 if many else heads
    causal = family == "clip_" or (family == "blip_text_" and queries == keys)

    def make():
        q = rand(dtype, batch, queries, heads, int(width)).transpose(1, 2)
        k = rand(dtype, batch, keys, heads, int(width)).transpose(1, 2)
        v = rand(dtype, batch, keys, heads, int(width)).transpose(1, 2)
        return part_of(part, lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal), {"attention_bwd": [q, k, v]})

    return in_turns(make, dtype.itemsize * batch * heads * int(width) * 2 * (queries + keys))


def conv(match, dtype, batch, part):
    _, k, channels_in, channels_out, side, stride = match.groups()
    k, side, stride = int(k), size(int(side), 8), int(stride or 1)
    channels_in, channels_out = size(int(channels_in), 32), size(int(channels_out or channels_in), 32)

    def make():
        x = rand(dtype, batch, channels_in, side, side).to(memory_format=torch.channels_last)
        w = rand(dtype, channels_out, channels_in, k, k).to(memory_format=torch.channels_last)
        b = rand(dtype, channels_out)
        return part_of(part, lambda: F.conv2d(x, w, b, stride, k // 2), {"conv2d_bwd_x": [x], "conv2d_bwd_w": [w]})

    return in_turns(make, dtype.itemsize * (batch * side * side * (channels_in + channels_out) + channels_in * channels_out * k * k))


def linear(match, dtype, batch, part):
    _, rows, channels_out, channels_in = match.groups()
    rows, channels_out, channels_in = (size(int(n), 64) for n in (rows, channels_out, channels_in))
    rows *= batch

    def make():
        x, w, b = rand(dtype, rows, channels_in), rand(dtype, channels_out, channels_in), rand(dtype, channels_out)
        return part_of(part, lambda: F.linear(x, w, b), {"linear_bwd_x": [x], "linear_bwd_w": [w]})

    return in_turns(make, dtype.itemsize * (rows * (channels_in + channels_out) + channels_in * channels_out))


def groupnorm(match, dtype, batch, part):
    _, channels, side = match.groups()
    channels, side = int(channels), size(int(side), 8)

    def make():
        x = rand(dtype, batch, channels, side, side).to(memory_format=torch.channels_last)
        g, b = rand(dtype, channels), rand(dtype, channels)
        return part_of(part, lambda: F.silu(F.group_norm(x, 32, g, b)), {"groupnorm_bwd": [x, g, b]})

    return in_turns(make, dtype.itemsize * 2 * batch * channels * side * side)


def layernorm(match, dtype, batch, part):
    _, rows, columns = match.groups()
    rows, columns = size(int(rows), 64) * batch, int(columns)

    def make():
        x, g, b = rand(dtype, rows, columns), rand(dtype, columns), rand(dtype, columns)
        return part_of(part, lambda: F.layer_norm(x, (columns,), g, b), {"layernorm_bwd": [x, g, b]})

    return in_turns(make, dtype.itemsize * 2 * rows * columns)


def geglu(match, dtype, batch, part):
    rows, columns = (int(n) for n in match.groups())
    rows = size(rows, 64) * batch

    def make():
        x = rand(dtype, rows, 2 * columns)

        def forward():
            a, gate = x.chunk(2, -1)
            return a * F.gelu(gate)

        return part_of(part, forward, {"geglu_bwd": [x]})

    return in_turns(make, dtype.itemsize * 3 * rows * columns)


def copy(match, dtype, batch, part):
    x = rand(torch.float32, size(1 << 28, 1 << 12))
    y = torch.empty_like(x)
    return lambda i: y.copy_(x)


def gemm(match, dtype, batch, part):
    n = size(8192 if dtype == torch.bfloat16 else 4096, 64)
    x, w = rand(dtype, n, n), rand(dtype, n, n)
    return lambda i: F.linear(x, w)


OPS = (
    (r"attention_(clip_|blip_text_|blip_|vae_)?(\d+)(?:x(\d+))?_d(\d+)(?:_b(\d+))?", attention),
    (r"(vae_)?conv(\d)x\d_(\d+)(?:_(\d+))?_(\d+)(?:_stride(\d))?", conv),
    (r"linear_(clip_|blip_)?(\d+)x(\d+)x(\d+)", linear),
    (r"groupnorm_silu_(vae_)?(\d+)_(\d+)", groupnorm),
    (r"layernorm_(clip_|blip_)?(\d+)x(\d+)", layernorm),
    (r"geglu_(\d+)x(\d+)", geglu),
    (r"copy_bandwidth", copy),
    (r"gemm_ceiling_\w+", gemm),
)


def op_seconds(row, dtype):
    name, _, part = row["name"].partition(".")
    name = name.removesuffix("_train")
    part = part if part.split("_bwd")[0] != part else "forward"
    for pattern, make in OPS:
        match = re.fullmatch(pattern, name)
        if match:
            return {"eager": median(make(match, dtype, row.get("batch", 1), part), True)}
    return None


# -- networks


def ways(step, capture=True):
    """Seconds of a step: as it is, and captured."""
    found = {"eager": median(lambda i: step(), False)}
    if GPU and capture:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        found["graph"] = median(lambda i: graph.replay(), False)
    return found


def unet_of(dtype):
    net = nets.unet(small=args.tiny).to(args.device, dtype)
    return net.to(memory_format=torch.channels_last)


def inference(dtype, batch, guided):
    net = unet_of(dtype)
    side, width = size(64, 16), net.context
    n = 2 * batch if guided else batch
    x = rand(dtype, batch, 4, side, side).to(memory_format=torch.channels_last)
    t, context = torch.full((n,), 500.0, device=args.device), rand(dtype, n, 77, width)

    def step_with(forward):
        def step():
            with torch.no_grad():
                if not guided:
                    return forward(x, t, context)
                without, with_text = forward(torch.cat((x, x)), t, context).chunk(2)
                return 1.04 * x - 0.06 * (without + 7.5 * (with_text - without))

        return step

    found = ways(step_with(net))
    if args.compile:
        found["compiled"] = min(ways(step_with(torch.compile(net))).values())
    return found


def training(dtype, batch):
    unet, text = unet_of(torch.float32), nets.clip_text(small=args.tiny).to(args.device)
    parameters = [*unet.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=GPU, capturable=GPU)
    side = size(64, 16)
    x, noise = rand(torch.float32, batch, 4, side, side), rand(torch.float32, batch, 4, side, side)
    x = x.to(memory_format=torch.channels_last)
    t = torch.full((batch,), 500.0, device=args.device)
    ids = torch.randint(100, (batch, 77), device=args.device)

    def step_with(forward):
        def step():
            with torch.autocast(args.device, torch.bfloat16, enabled=dtype == torch.bfloat16, cache_enabled=False):
                predicted = forward(x, t, text(ids))
            F.mse_loss(predicted.float(), noise).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

        return step

    found = ways(step_with(unet))
    if args.compile:
        found["compiled"] = min(ways(step_with(torch.compile(unet)), capture=False).values())
    return found


NETWORKS = {
    "unet_sd14_512": lambda dtype, batch: inference(dtype, batch, False),
    "unet_sd14_sampling_512": lambda dtype, batch: inference(dtype, batch, True),
    "unet_sd14_train_512": training,
}

# -- the table


def read_rows():
    if args.ours:
        text = open(args.ours).read()
    else:
        names = args.patterns or ["unet_sd14_512", "unet_sd14_sampling_512", "attention*", "conv3x3*"]
        command = [args.bench or "build/gpu-check/1/bin/recap-bench", "--device", "cuda", "--json", "--dtype", args.dtype]
        command += ["--batch", str(args.batch), *names]
        text = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
    try:
        rows = json.loads(text)["rows"]
    except (ValueError, KeyError):
        rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [r for r in rows if r.get("seconds", 0) > 0 and r["dtype"] in ("f32", "bf16")]


def main():
    card = torch.cuda.get_device_name() if GPU else "cpu"
    print(f"{card}, torch {torch.__version__}, {nets.WHOSE}; milliseconds; ratio: best of theirs / ours")
    print(f"{'case':44} {'dtype':5} {'batch':>5} {'ours':>10} {'torch':>10} {'captured':>10} {'compiled':>10} {'ratio':>6}")
    seen = set()
    for row in read_rows():
        name, dtype = row["name"], {"f32": torch.float32, "bf16": torch.bfloat16}[row["dtype"]]
        key = (name, row["dtype"], row.get("batch", 1), row.get("shape"))
        if key in seen or (args.patterns and not any(fnmatch.fnmatch(name, p) for p in args.patterns)):
            continue
        seen.add(key)
        try:
            theirs = NETWORKS[name](dtype, row.get("batch", 1)) if name in NETWORKS else op_seconds(row, dtype)
        except (RuntimeError, ValueError) as error:
            print(f"{name:44} {row['dtype']:5} torch cannot: {str(error).splitlines()[0][:90]}", flush=True)
            continue
        if not theirs:
            continue
        ms = [f"{1e3 * theirs[k]:10.4f}" if k in theirs else f"{'':10}" for k in ("eager", "graph", "compiled")]
        ratio = min(theirs.values()) / row["seconds"]
        print(f"{name:44} {row['dtype']:5} {row.get('batch', 1):5} {1e3 * row['seconds']:10.4f} {' '.join(ms)} {ratio:6.2f}", flush=True)
        if GPU:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
