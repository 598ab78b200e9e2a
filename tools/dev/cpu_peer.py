#!/usr/bin/env python3
"""Compares recap-bench and recap-sample with PyTorch, and if asked with torch.compile, OpenVINO and stable-diffusion.cpp,
on this machine: same shapes, same number of threads, one after the other.

    python3 -m venv VENV && VENV/bin/pip install torch diffusers transformers accelerate openvino stable-diffusion-cpp-python
    VENV/bin/python tools/dev/cpu_peer.py [--threads 1] [--runs 2] [--dtype f32] [--compile] [--openvino] [--sdcpp] \\
        [--model DIR] [--steps 20] [--json FILE] [--markdown FILE] [PATTERN...]

Without a PATTERN: the networks, each in f32 and bf16 where there is a goal for it, held against that goal. Patterns
choose among these and single ops.

Each case runs on each side in a process of its own, once to warm up, and reports the median CPU time of the runs after
that and the most memory it held (PyTorch's with the interpreter). PyTorch's networks are those of diffusers and
transformers with weights drawn at random; nothing is fetched.

sample_sd14_512 is a whole picture. Ours is the whole program, from its start to the written file; the others have their
networks in memory and warm. start_sd14_512 is wall time: ours from the start of the program until the first step could
begin, weights packed; PyTorch's from loading the networks to the encoded prompts, without starting Python. Both want
--model, a diffusers folder of that size (parity.py --full --model DIR writes one).

With --json FILE results accumulate: a run replaces what it measures again and keeps the rest, so that a table can be
filled row by row and side by side (--no-ours, --no-torch). The table is of all of the file.
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
import tempfile
import time
import warnings

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("patterns", nargs="*", metavar="PATTERN")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--runs", type=int, default=2)
parser.add_argument("--dtype", choices=("f32", "bf16"), help="only this one; single ops: f32 if not given")
parser.add_argument("--compile", action="store_true", help="torch.compile as well, where a case has a module")
parser.add_argument("--openvino", action="store_true", help="OpenVINO too, where a case is modules and nothing else")
parser.add_argument("--sdcpp", action="store_true", help="stable-diffusion.cpp too, for whole pictures")
parser.add_argument("--no-torch", action="store_true", help="leave out PyTorch eager")
parser.add_argument("--no-ours", action="store_true", help="leave out our side")
parser.add_argument("--model", metavar="DIR", help="diffusers folder, for the cases that read one")
parser.add_argument("--steps", type=int, default=20, help="of a whole picture")
parser.add_argument("--json", metavar="FILE", help="keep every number here")
parser.add_argument("--markdown", metavar="FILE", help="write the table")
parser.add_argument("--bin", default="bin", help="folder of our programs")
parser.add_argument("--config-dir", default="tools/demo", help="configurations of the demo's networks")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch  # noqa: E402  (after the number of threads is known)

import cpu_peer_nets as nets  # noqa: E402

# -- the cases


class Case:
    """goals: CPU seconds that ours may take by dtype, or ("torch", how many times less than PyTorch), or ("best", ...
    than the best of the others). The dtypes of the default table are those that have one, then those in `also`.
    peers: which others can run it, beside PyTorch. key: what is compared."""

    def __init__(self, make=None, network=None, goals=None, also=(), peers=(), runs=None, ours=None, key="cpu_seconds"):
        self.make = make or nets.forward(network)
        self.goals, self.also, self.runs, self.ours, self.key = goals or {}, also, runs, ours, key
        self.peers = ("torch", *(("compile", "openvino") if network else peers))


def single(make):
    return Case(make, peers=("compile", "openvino"))


CASES = {
    "unet_sd14_512": Case(network=nets.unet(64), goals={"f32": 5.75, "bf16": 3.9}),
    "sample_sd14_512": Case(nets.picture(64, args.steps), goals={"f32": ("best", 1.4), "bf16": ("best", 1.05)}, runs=1,
                            peers=("compile", "openvino", "sdcpp"), ours="sample"),
    "vae_decode_512": Case(network=nets.vae_decode(64), goals={"f32": 17, "bf16": 11}),
    "clip_text_b2": Case(network=nets.clip_text(2), goals={"f32": 0.30}, also=("bf16",)),
    "blip_vision_384_b4": Case(network=nets.blip_vision(4), goals={"f32": 4.4, "bf16": 2.6}),
    "blip_caption": Case(nets.blip_caption(1, 40), goals={"f32": 3.5}, also=("bf16",), peers=("compile",)),
    "blip_caption_b16": Case(nets.blip_caption(16, 40), goals={"f32": ("torch", 3)}, also=("bf16",), runs=1,
                             peers=("compile",)),
    "unet_clip_train_256": Case(nets.unet_clip_train(32), goals={"f32": 8.5}, peers=("compile",)),
    "start_sd14_512": Case(nets.start(args.model), goals={"f32": 2, "bf16": 2}, ours="start", key="seconds"),
    "unet_sd14_256": Case(network=nets.unet(32)),
    "attention_4096_d40": Case(nets.attention(1, 4096, 4096, 8, 40)),
    "attention_1024_d80": Case(nets.attention(1, 1024, 1024, 8, 80)),
    "attention_256_d160": Case(nets.attention(1, 256, 256, 8, 160)),
    "attention_4096x77_d40": Case(nets.attention(1, 4096, 77, 8, 40)),
    "attention_64_d32_b64": Case(nets.attention(64, 64, 64, 2, 32)),
    "conv3x3_320_64": single(nets.conv(64, 320, 320, 3)),
    "conv3x3_640_32": single(nets.conv(32, 640, 640, 3)),
    "conv3x3_1280_16": single(nets.conv(16, 1280, 1280, 3)),
    "conv3x3_1280_8": single(nets.conv(8, 1280, 1280, 3)),
    "conv3x3_960_320_64": single(nets.conv(64, 960, 320, 3)),
    "conv3x3_320_64_stride2": single(nets.conv(64, 320, 320, 3, 2)),
    "conv1x1_320_64": single(nets.conv(64, 320, 320, 1)),
    "linear_4096x320x320": single(nets.linear(4096, 320, 320)),
    "linear_4096x2560x320": single(nets.linear(4096, 2560, 320)),
    "linear_4096x320x1280": single(nets.linear(4096, 320, 1280)),
    "linear_256x1280x5120": single(nets.linear(256, 1280, 5120)),
    "groupnorm_silu_320_64": single(nets.groupnorm_silu(64, 320)),
    "groupnorm_silu_960_64": single(nets.groupnorm_silu(64, 960)),
    "layernorm_4096x320": single(nets.layernorm(4096, 320)),
    "demo_unet_train": Case(lambda *how: nets.demo_unet_train(args.config_dir, *how), peers=("compile",)),
}
PEERS = {"torch": "PyTorch", "compile": "torch.compile", "openvino": "OpenVINO", "sdcpp": "stable-diffusion.cpp"}
READS = ("sample_sd14_512", "start_sd14_512")  # a model


# -- one measurement of another


def openvino_of(dtype):
    """What makes a module one of OpenVINO's, which takes and gives tensors of f32 and lowers the arithmetic itself."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": args.threads}

    def wrap(net, inputs):
        model = openvino.convert_model(net, example_input=inputs)
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        return lambda *tensors: torch.from_numpy(request.infer([x.numpy() for x in tensors])[0])

    return wrap


def sdcpp_run(dtype):
    from stable_diffusion_cpp import StableDiffusion

    model = StableDiffusion(model_path=args.model, wtype=dtype, n_threads=args.threads, verbose=False)

    def draw(steps):
        model.generate_image(prompt="a cat", negative_prompt="a dog", width=512, height=512, sample_steps=steps,
                             cfg_scale=7.5, seed=1, sample_method="euler")

    def run():
        draw(args.steps)

    run.warm = lambda: draw(1)
    return run


def peer_run(case, dtype, peer):
    if peer == "sdcpp":
        return sdcpp_run(dtype)
    if peer == "openvino":
        return case.make("f32", openvino_of(dtype))
    return case.make(dtype, lambda net, _: torch.compile(net) if peer == "compile" else net)


def median(starts, ends):
    return statistics.median(end - start for start, end in zip(starts, ends))


def measure(case, dtype, peer, runs, pipe):
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    warnings.simplefilter("ignore")
    try:
        run = peer_run(case, dtype, peer)
        getattr(run, "warm", run)()
        cpu, wall = [time.process_time()], [time.perf_counter()]
        for _ in range(runs):
            run()
            cpu.append(time.process_time())
            wall.append(time.perf_counter())
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send({"cpu_seconds": median(cpu, cpu[1:]), "seconds": median(wall, wall[1:]), "peak_rss_bytes": peak})
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


# -- ours


def bench(name, case, dtype):
    command = [f"{args.bin}/recap-bench", name, "--json", "--threads", str(args.threads)]
    command += ["--runs", str(case.runs or args.runs), "--config-dir", args.config_dir, "--dtype", dtype]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        return json.loads(out.stdout)
    except ValueError:
        return {"error": (out.stderr.strip().splitlines() or ["no result"])[-1]}


def sampling(dtype, folder):
    command = [f"{args.bin}/recap-sample", "--model", args.model, "--prompt", "a cat", "--negative-prompt", "a dog"]
    command += ["--height", "512", "--width", "512", "--scheduler", "ddim", "--steps", str(args.steps), "--quiet"]
    command += ["--threads", str(args.threads), "--dtype", dtype, "--output", f"{folder}/picture.png"]
    return subprocess.Popen([*command, "--log", f"{folder}/log"], stderr=subprocess.PIPE, text=True)


def ended(process, began):
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode > 0:
        return {"error": (complaint.strip().splitlines() or ["it failed"])[-1]}
    return {"cpu_seconds": usage.ru_utime + usage.ru_stime, "seconds": time.perf_counter() - began,
            "peak_rss_bytes": 1024 * usage.ru_maxrss}


def sample(_, case, dtype):
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        return ended(sampling(dtype, folder), began)


def start_once(dtype):
    """Let it begin its first step, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        began, process, told = time.perf_counter(), sampling(dtype, folder), None
        while not told and process.poll() is None:
            time.sleep(0.02)
            lines = open(f"{folder}/log").readlines() if os.path.exists(f"{folder}/log") else []
            told = next((x for x in lines if x.startswith('{"what": "start"') and x.endswith("\n")), None)
        process.kill()
        if not told:
            return {"error": (process.stderr.read().strip().splitlines() or ["it told of no start"])[-1]}
        told = json.loads(told)
        parts = {part: told[part] for part in ("opening", "prompts", "packing")}
        return {**ended(process, began), **parts, "seconds": told["age"], "cpu_seconds": told["cpu_seconds"]}


def start(_, case, dtype):
    for folder in ("unet", "text_encoder", "vae"):  # into the page cache
        for file in os.scandir(f"{args.model}/{folder}"):
            with open(file.path, "rb") as f:
                while f.read(1 << 20):
                    pass
    results = sorted((start_once(dtype) for _ in range(args.runs)), key=lambda x: x.get("seconds", 1e9))
    return results[(len(results) - 1) // 2]


OURS = {None: bench, "sample": sample, "start": start}


# -- the table: a row for each case, dtype, number of threads and of steps


def met(case, row):
    goal, mine = case.goals.get(row["dtype"]), row.get("ours", {}).get(case.key)
    if goal is None or mine is None:
        return ""
    if not isinstance(goal, tuple):
        return "yes" if mine <= goal else "no"
    sides = ["torch"] if goal[0] == "torch" else PEERS
    others = [row[side][case.key] for side in sides if case.key in row.get(side, {})]
    return ("yes" if min(others) / mine >= goal[1] else "no") if others else ""


def goal_text(case, dtype):
    goal = case.goals.get(dtype)
    if isinstance(goal, tuple):
        return f"{goal[1]}x {'PyTorch' if goal[0] == 'torch' else 'the best'}"
    return "" if goal is None else f"{goal:g}"


def number(result, key, scale=1.0, form="{:.4g}"):
    return "" if not result else form.format(result[key] * scale) if key in result else "failed"


def cells(row):
    case, mine = CASES[row["name"]], row.get("ours", {})
    name = row["name"] + (f", {row['steps']} steps" if row["steps"] else "") + (", wall" if case.key == "seconds" else "")
    line = [name, row["dtype"], str(row["threads"]), number(mine, case.key)]
    line += [number(mine, "gflops_per_core", 1, "{:.0f}") if "gflops_per_core" in mine else ""]
    line += [goal_text(case, row["dtype"]), met(case, row), number(mine, "peak_rss_bytes", 1e-6, "{:.0f}")]
    for peer in PEERS:
        took = row.get(peer, {} if peer in case.peers else {"none": True})
        both = case.key in took and case.key in mine
        line += ["-" if "none" in took else number(took, case.key)]
        line += [f"{took[case.key] / mine[case.key]:.2f}" if both else ""]
        line += [number(took, "peak_rss_bytes", 1e-6, "{:.0f}") if "peak_rss_bytes" in took else ""]
    return line


HEAD = ["case", "dtype", "threads", "ours, CPU s", "GFLOP/s per core", "goal", "met", "MB"]
HEAD += [x for peer in PEERS.values() for x in (f"{peer}, CPU s", "/ ours", "MB")]


def about():
    model = [x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True).stdout.strip()
    return {"processor": model[0] if model else platform.machine(), "processors": os.cpu_count(), "commit": commit,
            "date": time.strftime("%Y-%m-%d %H:%M"), "torch": torch.__version__, "runs": args.runs}


def chosen():
    for name, case in CASES.items():
        if not args.patterns and not case.goals:
            continue
        if args.patterns and not any(fnmatch.fnmatch(name, p) for p in args.patterns):
            continue
        if name in READS and not args.model:
            print(f"{name}: left out, it wants --model", flush=True)
            continue
        for dtype in [args.dtype] if args.dtype else [*case.goals, *case.also] or ["f32"]:
            yield name, case, dtype


def keep(rows, row):
    if args.json:
        with open(args.json + ".part", "w") as file:
            file.write(json.dumps({"rows": rows}, indent=1) + "\n")
        os.replace(args.json + ".part", args.json)
    if args.markdown:
        with open(args.markdown, "w") as file:
            for line in [HEAD, ["---"] * len(HEAD), *map(cells, rows)]:
                file.write("| " + " | ".join(line) + " |\n")
    print("  ".join(f"{h} {x}" if i > 1 else f"{x:20}" if i == 0 else f"{x:4}"
                    for i, (h, x) in enumerate(zip(HEAD, cells(row))) if x), flush=True)
    for side in ("ours", *PEERS):
        if "error" in row.get(side, {}):
            print(f"    {side}: {row[side]['error']}", flush=True)


def main():
    wanted = {"torch": not args.no_torch, "compile": args.compile, "openvino": args.openvino, "sdcpp": args.sdcpp}
    rows, work, where = [], list(chosen()), about()
    if not work:
        sys.exit("nothing to do; the cases are: " + " ".join(CASES))
    if args.json and os.path.exists(args.json):
        rows = json.load(open(args.json))["rows"]
    import diffusers  # noqa: F401  (before the forks)
    import transformers

    transformers.logging.set_verbosity_error()
    print(", ".join(f"{k} {v}" for k, v in where.items()), flush=True)
    for name, case, dtype in work:
        key = {"name": name, "dtype": dtype, "threads": args.threads, "steps": args.steps if case.ours == "sample" else 0}
        row = next((r for r in rows if all(r[k] == v for k, v in key.items())), None)
        if row is None:
            row = key
            rows.append(row)
        for side in ("ours", *PEERS):
            if args.no_ours if side == "ours" else not wanted[side] or side not in case.peers:
                continue
            began = {**where, "load": os.getloadavg()[0]}
            result = OURS[case.ours](name, case, dtype) if side == "ours" else theirs(case, dtype, side)
            row[side] = {**result, "about": {**began, "load_after": os.getloadavg()[0]}}
        row.update({"goal": goal_text(case, dtype), "met": met(case, row)})
        keep(rows, row)


if __name__ == "__main__":
    main()
