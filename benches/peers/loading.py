"""How long a checkpoint takes to load where its numbers change type, beside safetensors and torch.

    python benches/peers/loading.py --rounds 3 --bunny target/release/bunny-cli

Makes a checkpoint in f16 with the layers of Phi-1.5 (a small tower and tokenizer come from the
tests), reads it once so that both find it in memory, and loads it in turns: `load_file` and `.to`
on every tensor; `bunny-cli bench --model`, whose time also covers the tokenizer and the checks.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import common

HERE = pathlib.Path(__file__).resolve().parent
TEMPLATE = HERE.parents[1] / "tests" / "fixtures" / "models" / "phi-siglip"
HIDDEN, INNER, HEADS, VOCABULARY = 2048, 8192, 32, 51200


def make(folder, layers):
    """Writes the checkpoint: the template's names, Phi-1.5's shapes, random numbers."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    for name in os.listdir(TEMPLATE):
        if not name.startswith(("expected", "model.safetensors")):
            source = TEMPLATE / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    config = json.loads((TEMPLATE / "config.json").read_text())
    sizes = {config["hidden_size"]: HIDDEN, config["intermediate_size"]: INNER, config["vocab_size"]: VOCABULARY}
    config |= {"hidden_size": HIDDEN, "intermediate_size": INNER, "vocab_size": VOCABULARY}
    config |= {"num_attention_heads": HEADS, "num_key_value_heads": HEADS, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {}
    with safe_open(TEMPLATE / "model.safetensors", "pt") as template:
        for name in template.keys():
            tower = "vision_tower" in name
            shape = template.get_slice(name).get_shape()
            if not tower:
                shape = [sizes.get(size, size) for size in shape]
            names = [name]
            if ".layers." in name and not tower:
                if ".layers.0." not in name:
                    continue
                names = [name.replace(".layers.0.", f".layers.{at}.") for at in range(layers)]
            for name in names:
                tensors[name] = (torch.rand(shape, dtype=torch.float32) * 0.04 - 0.02).half()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def worker(args):
    """One load in a process of its own."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(args.threads)
    dtype = common.dtype_of(args.worker)
    begun = time.perf_counter()
    tensors = load_file(args.folder / "model.safetensors")
    for name in tensors:
        tensors[name] = tensors[name].to(dtype)
    seconds = time.perf_counter() - begun
    print(json.dumps({"dtype": args.worker, "load_seconds": seconds, "peak_memory_bytes": common.peak_memory("cpu")}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["f32", "bf16"], nargs="+", default=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bunny", metavar="BINARY", required="--worker" not in sys.argv)
    parser.add_argument("--worker", choices=["f32", "bf16"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make(folder, args.layers)
        file = folder / "model.safetensors"
        subprocess.run(["cat", str(file)], stdout=subprocess.DEVNULL, check=True)
        print(f"{file.stat().st_size / 2**30:.2f} GiB in f16, {args.threads} threads", flush=True)
        for turn in range(args.rounds):
            for dtype in args.dtype:
                own = [sys.executable, __file__, "--worker", dtype, "--folder", str(folder), "--threads", str(args.threads)]
                theirs = common.launch(own, os.environ)
                bench = [args.bunny, "bench", "--model", str(folder), "--dtype", dtype, "--format", "json"]
                bench += ["--repeats", "1", "--warmup", "0", "--prompt", "16", "--decode", "1"]
                ours = common.launch(bench, os.environ)
                ratio = theirs["load_seconds"] / ours["load_seconds"]
                print(
                    f"{dtype}: safetensors + torch {theirs['load_seconds']:.2f} s, peak "
                    f"{theirs['peak_memory_bytes'] / 2**30:.2f} GiB; bunny {ours['load_seconds']:.2f} s, peak "
                    f"{ours['peak_memory_bytes'] / 2**30:.2f} GiB; {ratio:.2f} times as fast",
                    flush=True,
                )


if __name__ == "__main__":
    main()
