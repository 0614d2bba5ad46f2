"""A whole selection, out of core: seconds and the greatest resident memory of `data coreset`.

    python benches/peers/coreset_end_to_end.py --binary target/release/bunny-cli \
        --folder /somewhere/with/disk --rows 5000000 --memory 2GB

Makes a seeded set in clip-retrieval's layout (a mixture on the sphere with near and exact copies,
and one cluster ten times as large as the others), unless the folder has it already. Linux only:
peaks are the child's `ru_maxrss`. Needs numpy and pyarrow.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def make(folder, rows, dims, seed=1):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(rows // 20_000 + 1, dims)).astype(np.float32)
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, rows, 500_000)):
        count = min(500_000, rows - start)
        which = np.where(rng.random(count) < 10 / len(centres), 0, rng.integers(0, len(centres), count))
        images = centres[which] + 1.3 * rng.standard_normal((count, dims), np.float32)
        copies = rng.choice(np.arange(1, count), count // 2, replace=False)
        images[copies] = images[rng.integers(0, copies)]
        near = copies[: len(copies) // 2]
        images[near] += 0.3 * rng.standard_normal((len(near), dims), np.float32)
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        texts = 0.3 * images + rng.standard_normal((count, dims), np.float32) / dims**0.5
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", images.astype(np.float16))
        np.save(folder / "text_emb" / f"text_emb_{number}.npy", texts.astype(np.float16))
        keys = [f"{row // 10_000:06d}{row % 10_000:04d}" for row in range(start, start + count)]
        table = pa.table({"key": keys, "caption": keys})
        pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--memory", default="2GB")
    args = parser.parse_args()
    embeddings = args.folder / f"set-{args.rows}-{args.dims}"
    if not (embeddings / "made").exists():
        make(embeddings, args.rows, args.dims)
        (embeddings / "made").touch()
    print(f"cores {os.cpu_count()}, load {os.getloadavg()}")
    out = args.folder / f"out-{time.time_ns()}"
    command = [*args.binary.split(), "coreset", "--embeddings", embeddings, "--out", out,
               "--memory", args.memory, "--sample", "all", "--format", "json"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    report = json.loads(done.stdout)
    print(f"{args.rows} x {args.dims} in {seconds:.1f} s, peak {peak / 1e9:.2f} GB of {args.memory}")
    for step in report["steps"]:
        print(f"  {step['kept']:>12}  {step['name']}")
    print(f"load {os.getloadavg()}")


if __name__ == "__main__":
    main()
