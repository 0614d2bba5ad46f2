"""A whole selection, out of core: seconds and memory of 5,000,000 rows of image and text.

    cargo build --release -p bunny-data --example select_coreset
    python benches/peers/coreset_end_to_end.py --binary target/release/examples/select_coreset \
        --folder /somewhere/with/30GB --rows 5000000 --memory 2048 --limit 2048

Makes a seeded set in clip-retrieval's layout (a mixture on the sphere with near and exact copies,
and one cluster ten times as large as the others), unless the folder has it already.

Linux only. What is mapped and can be dropped counts as resident too, so three peaks are shown: the
process's own memory (anonymous and shared, sampled from /proc), all that was resident (VmHWM), and
with `--limit MiB` the run goes into a memory cgroup of that size, page cache included, which no
selection that needs more would survive (needs root). Needs numpy and pyarrow.
"""

import argparse
import json
import os
import pathlib
import shutil
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


class Limit:
    """A memory cgroup, of the first or second version."""

    def __init__(self, mebibytes):
        root = pathlib.Path("/sys/fs/cgroup")
        first = (root / "memory").is_dir()
        self.folder = (root / "memory" if first else root) / f"bunny-bench-{os.getpid()}"
        self.folder.mkdir()
        limit, self.peak_name = (
            ("memory.limit_in_bytes", "memory.max_usage_in_bytes") if first else ("memory.max", "memory.peak")
        )
        (self.folder / limit).write_text(str(mebibytes << 20))

    def enter(self):
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def leave(self):
        peak = int((self.folder / self.peak_name).read_text())
        self.folder.rmdir()
        return peak


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if "kB" in line)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon", "RssShmem") if name in fields}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--memory", type=int, default=2048, help="MiB the selection is told to use")
    parser.add_argument("--limit", type=int, help="MiB of the cgroup it runs in")
    args = parser.parse_args()
    embeddings = args.folder / f"set-{args.rows}-{args.dims}"
    if not (embeddings / "made").exists():
        make(embeddings, args.rows, args.dims)
        (embeddings / "made").touch()
    print(f"cores {os.cpu_count()}, load {os.getloadavg()}")
    out = args.folder / f"out-{time.time_ns()}"
    limit = Limit(args.limit) if args.limit else None
    start = time.perf_counter()
    child = subprocess.Popen([args.binary, embeddings, out, str(args.memory)], stdout=subprocess.PIPE,
                             text=True, preexec_fn=limit.enter if limit else None)
    own = resident = 0
    while child.poll() is None:
        try:
            now = status(child.pid)
        except (OSError, KeyError):
            continue
        own = max(own, now.get("RssAnon", 0) + now.get("RssShmem", 0))
        resident = max(resident, now.get("VmHWM", 0))
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    steps = child.stdout.read()
    peak = f", cgroup {limit.leave() / 1e9:.2f} of {args.limit * 2**20 / 1e9:.2f} GB" if limit else ""
    if child.returncode:
        raise SystemExit(f"exit code {child.returncode}")
    print(f"{args.rows} x {args.dims} in {seconds:.1f} s, told to use {args.memory * 2**20 / 1e9:.2f} GB; "
          f"peaks: own {own / 1e9:.2f} GB, resident {resident / 1e9:.2f} GB{peak}")
    for step in json.loads(steps):
        print(f"  {step['kept']:>12}  {step['name']}")
    shutil.rmtree(out)
    print(f"load {os.getloadavg()}")


if __name__ == "__main__":
    main()
