#!/usr/bin/env python3
"""Two builds of this project side by side: what a change costs or gains.

    git worktree add ../before 99acb8c
    (cd ../before && cargo build --release -p bunny-cli && cargo build --release -p bunny-data --example coreset_kernels)
    cargo build --release -p bunny-cli && cargo build --release -p bunny-data --example coreset_kernels
    benches/two_builds.py ../before/target/release target/release --rounds 5

Each round runs every measurement with the old build and then with the new one, so that whatever else the machine does
meets both. Printed are the best of each over all rounds, their spread, and the ratio (new over old in speed: above 1 is
faster). Ends with 1 when a ratio lies below --floor. Needs NumPy.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

MODEL = "bunny-phi-1.5-siglip"


def last_json(command):
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])


def inference(build, dtype):
    report = last_json([build / "bunny-cli", "bench", "--arch", MODEL, "--dtype", dtype, "--prompt", "768",
                        "--decode", "24", "--repeats", "2", "--format", "json"])
    return {
        f"load {dtype} (s)": report["load_seconds"],
        f"picture {dtype} (s)": report["vision_seconds"],
        f"prefill {dtype} (s)": report["prefill_seconds"],
        f"decode {dtype} (s/token)": 1 / report["decode_tokens_per_second"],
    }


def training(build):
    report = last_json([build / "bunny-cli", "bench", "train", "--arch", MODEL, "--dtype", "bf16", "--positions", "768",
                        "--repeats", "1", "--format", "json"])
    return {"train step bf16 (s)": report["train_step_seconds"]}


def start(build):
    """The built-in model from nothing to the end of one answer."""
    started = time.monotonic()
    subprocess.run([build / "bunny-cli", "chat", "--prompt", "What is 2 + 2?"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return {"built-in model, whole run (s)": time.monotonic() - started}


def coreset(build, data):
    kernels = build / "examples" / "coreset_kernels"
    assign = last_json([kernels, "assign", data / "rows.npy", data / "centroids.npy", "2", data / "labels.u32"])
    duplicates = last_json([kernels, "duplicates", data / "rows.npy", data / "ends.u64", "2", data / "components.u32"])
    return {"coreset assignment (s)": min(assign["seconds"]), "coreset duplicates (s)": min(duplicates["seconds"])}


def make_rows(folder, rows=60_000, dims=512, centroids=1_000):
    generator = np.random.default_rng(0)
    points = generator.standard_normal((rows, dims), dtype=np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    np.save(folder / "rows.npy", points.astype(np.float16))
    np.save(folder / "centroids.npy", points[:: rows // centroids][:centroids].copy())
    ends = np.linspace(0, rows, 7, dtype=np.uint64)[1:]
    ends.tofile(folder / "ends.u64")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=pathlib.Path)
    parser.add_argument("new", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="comma-separated: f32, f16, bf16, train, start, coreset")
    parser.add_argument("--floor", type=float, default=0.97)
    args = parser.parse_args()
    chosen = args.only.split(",") if args.only else ["start", "coreset", "bf16", "f16", "f32", "train"]
    seen = {}
    with tempfile.TemporaryDirectory() as data:
        data = pathlib.Path(data)
        make_rows(data)
        measures = {
            "start": start,
            "coreset": lambda build: coreset(build, data),
            "train": training,
            **{dtype: lambda build, dtype=dtype: inference(build, dtype) for dtype in ("f32", "f16", "bf16")},
        }
        for round_number in range(args.rounds):
            for name in chosen:
                for side, build in (("old", args.old), ("new", args.new)):
                    for figure, value in measures[name](build.resolve()).items():
                        seen.setdefault(figure, {"old": [], "new": []})[side].append(value)
            print(f"round {round_number + 1} of {args.rounds}", file=sys.stderr)
    worst = 1e9
    print(f"{'':32} {'old best':>10} {'worst':>10} {'new best':>10} {'worst':>10} {'ratio':>7}")
    for figure, sides in seen.items():
        old, new = sides["old"], sides["new"]
        ratio = min(old) / min(new)
        worst = min(worst, ratio)
        print(f"{figure:32} {min(old):10.4f} {max(old):10.4f} {min(new):10.4f} {max(new):10.4f} {ratio:7.3f}")
    return 1 if worst < args.floor else 0


if __name__ == "__main__":
    sys.exit(main())
