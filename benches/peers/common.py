"""What both peer benchmarks share: Bunnies of true shape with random weights in transformers, runs
in processes of their own, taken in turns with bunny's, and the table at the end."""

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

# Text that surrounds one picture of 729 tokens in a prompt of 768.
PROMPT, PICTURE, BEFORE = 768, 729, 8

PHI = {"family": "phi", "vocab_size": 51200, "hidden_act": "gelu_new", "max_position_embeddings": 2048}
LANGUAGE = {
    "bunny-phi-2-siglip": PHI
    | {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32, "heads": 32, "rotary": 0.4},
    "bunny-phi-1.5-siglip": PHI
    | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "heads": 32, "rotary": 0.5},
    "bunny-stablelm-2-siglip": {
        "family": "stablelm",
        "vocab_size": 100352,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "use_qkv_bias": True,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "heads": 32,
        "rotary": 0.25,
    },
}
LINEARS = {
    "phi": ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
    "stablelm": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}


def build(arch, dtype, layers=None, device="cpu"):
    """(language model, vision tower, projector) in `dtype` on `device`, uniform random weights, no
    gradients.

    The tower has the 26 layers that Bunny reads of SigLIP's 27, and no pooling head."""
    import torch
    from torch import nn
    from transformers import (
        PhiConfig,
        PhiForCausalLM,
        SiglipVisionConfig,
        SiglipVisionModel,
        StableLmConfig,
        StableLmForCausalLM,
        initialization,
    )

    shape = dict(LANGUAGE[arch])
    family, heads, rotary = shape.pop("family"), shape.pop("heads"), shape.pop("rotary")
    shape |= {"num_hidden_layers": layers} if layers else {}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary}
    config, model = {"phi": (PhiConfig, PhiForCausalLM), "stablelm": (StableLmConfig, StableLmForCausalLM)}[family]
    config = config(
        **shape,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        rope_parameters=rope,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    vision = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=min(layers or 26, 26),
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
        attn_implementation="sdpa",
    )
    vision.vision_use_head = False
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with initialization.no_init_weights():
        with torch.device(device):
            language, tower = model(config).eval(), SiglipVisionModel(vision).eval()
    hidden = shape["hidden_size"]
    projector = nn.Sequential(nn.Linear(1152, hidden), nn.GELU(), nn.Linear(hidden, hidden)).to(device)
    torch.set_default_dtype(before)
    for module in (language, tower):
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.data.uniform_(-0.02, 0.02)
            else:
                parameter.data.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    for module in (language, tower, projector):
        module.requires_grad_(False)
    return language, tower, projector


def dtype_of(name):
    import torch

    return {"f32": torch.float32, "bf16": torch.bfloat16}[name]


def timed(name, work, args):
    """Seconds of each repeat of `work`, after warm-up, said as they come."""
    import torch

    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    out = []
    for i in range(args.warm_up + args.repeats):
        wait()
        begun = time.perf_counter()
        work()
        wait()
        seconds = time.perf_counter() - begun
        print(f"  {name} {seconds:.3f} s" + (" (warm-up)" if i < args.warm_up else ""), file=sys.stderr, flush=True)
        out.append(seconds)
    return out[args.warm_up :]


def peak_memory(device):
    """Bytes of the largest resident set of this process, or of what it held of a GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def arguments(parser):
    """Adds what both benchmarks take."""
    parser.add_argument("--arch", choices=LANGUAGE, default="bunny-phi-2-siglip")
    parser.add_argument("--dtype", choices=["f32", "bf16"], nargs="+", default=["f32", "bf16"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3, help="timings of each part in a run, after a warm-up")
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="processes of each peer, taken in turns")
    parser.add_argument("--layers", type=int, help="only so many layers: a quick look, not for comparison")
    parser.add_argument("--bunny", metavar="BINARY", help="bunny-cli to run in turns with transformers")
    parser.add_argument("--bunny-args", default="", help="further arguments of its `bench`")
    parser.add_argument("--json", metavar="FILE", help="also write the JSON here")
    parser.add_argument("--worker", choices=["f32", "bf16"], help=argparse.SUPPRESS)


def in_turns(args, bunny_arguments):
    """Runs this script as a worker for each dtype, and bunny where asked, `rounds` times in turns.
    Every run is a process of its own: two models of this size need not fit in memory together."""
    runs = []
    env = os.environ | {"OMP_NUM_THREADS": str(args.threads), "RAYON_NUM_THREADS": str(args.threads)}
    for turn in range(args.rounds):
        for dtype in args.dtype:
            own = [sys.executable, *sys.argv, "--worker", dtype]
            runs.append({"peer": f"transformers {dtype}"} | launch(own, env))
        if args.bunny:
            command = [args.bunny, "bench", *bunny_arguments, "--arch", args.arch, "--format", "json"]
            run = launch(command + shlex.split(args.bunny_args), env)
            runs.append({"peer": f"bunny {run.get('dtype', '')} {run.get('backend', '')}".strip()} | run)
    return runs


def launch(command, env):
    """Runs a command; its last line of JSON, and the load before it began."""
    load = os.getloadavg()[0]
    print(f"load {load:.2f}: {shlex.join(command)}", file=sys.stderr, flush=True)
    begun = time.perf_counter()
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    text = done.stdout.strip()
    run = json.loads(text if text.startswith("{") else text.splitlines()[-1])
    return run | {"load_before": load, "wall_seconds": time.perf_counter() - begun}


def report(args, runs, columns):
    """Prints the best of every peer, its ratio to the first, the spread, and all runs as JSON.

    `columns` are (title, key, scale, unit, whether larger is better)."""
    peers = list(dict.fromkeys(run["peer"] for run in runs))
    titles = ["", *(title for title, *_ in columns)]
    rows, first = [], {}
    for peer in peers:
        cells = [peer]
        for _, key, scale, unit, larger in columns:
            values = [run[key] * scale for run in runs if run["peer"] == peer and run.get(key) is not None]
            if not values:
                cells.append("-")
                continue
            best = max(values) if larger else min(values)
            base = first.setdefault(key, best)
            ratio = best / base if larger else base / best
            spread = f" (median {statistics.median(values):.3g})" if len(values) > 1 else ""
            cells.append(f"{best:.3g} {unit}{spread}" + (f", {ratio:.2f}x" if peer != peers[0] else ""))
        rows.append(cells)
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    for row in [titles, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    if max(run["load_before"] for run in runs) > 1.5:
        print("something else was running: take these figures for a rough idea only")
    text = json.dumps({"arch": args.arch, "threads": args.threads, "machine": machine(), "runs": runs})
    print(text)
    if args.json:
        with open(args.json, "w") as file:
            file.write(text + "\n")


def machine():
    """Processor, memory and versions."""
    import torch
    import transformers

    processor = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            processor = next((line.split(": ")[1].strip() for line in file if line.startswith("model name")), "")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processor": processor,
        "cpus": os.cpu_count(),
        "memory_bytes": pages,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
