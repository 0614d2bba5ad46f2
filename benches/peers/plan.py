"""What `data plan` says of a selection, and what it takes: seconds of each step, and of the whole.

    cargo build --release -p bunny-cli
    python benches/peers/plan.py --binary target/release/bunny-cli --folder /somewhere/with/5GB

Selects from a seeded mixture of float16 rows on the sphere (written once), in one process or, with
`--workers N`, by that many processes that do the parts, sharing the machine's cores. Needs numpy alone."""

import argparse
import json
import pathlib
import shutil
import subprocess
import threading
import time

import numpy as np

STEPS = ["scan", "k-means", "assign", "duplicates"]


def write_set(folder, rows, dims, rows_of_file):
    if (folder / "img_emb").exists():
        return
    rng = np.random.default_rng(1)
    middle = rng.standard_normal((rows // 1000, dims), np.float32)
    for name in ("img_emb", "text_emb"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, rows, rows_of_file)):
        count = min(rows_of_file, rows - start)
        x = middle[rng.integers(0, len(middle), count)] + 1.2 * rng.standard_normal((count, dims), np.float32)
        y = x + rng.standard_normal((count, dims), np.float32)
        for name, values in (("img_emb", x), ("text_emb", y)):
            values /= np.linalg.norm(values, axis=1, keepdims=True)
            np.save(folder / name / f"{name}_{number:04}.npy", values.astype(np.float16))


def planned(args):
    said = subprocess.check_output(
        [args.binary, "data", "plan", "--rows", args.rows, "--dim", args.dims, "--clusters", args.clusters,
         "--skew", "1.3", "--out", args.folder, "--format", "json"], text=True)
    return {step["name"]: step for step in json.loads(said)["steps"]}


def in_one_process(args, out):
    """Seconds of each step, by when the next one is announced."""
    begun = []
    program = subprocess.Popen([args.binary, "data", "coreset", *options(args, out)], stderr=subprocess.PIPE, text=True)
    for line in program.stderr:
        name = line.split(":")[0]
        if name in STEPS + ["keys", "output"]:
            begun.append((name, time.perf_counter()))
    if program.wait():
        raise SystemExit("the selection failed")
    begun.append(("end", time.perf_counter()))
    return {name: later - now for (name, now), (_, later) in zip(begun, begun[1:])}


def launched(args, out):
    """Seconds of the stages that each step has, with the driver's work before them."""
    seconds = dict.fromkeys(STEPS, 0.0)
    base = [args.binary, "data", "coreset"]
    place = ["--embeddings", str(args.folder / "set"), "--out", str(out)]
    step = "scan"
    while True:
        start = time.perf_counter()
        plan = [*base, "plan-parts", *options(args, out), "--format", "json"]
        wanted = json.loads(subprocess.check_output(plan, stderr=subprocess.DEVNULL))
        if wanted is None:
            break
        name = wanted["stage"].split("/")[1].split("-")[0]
        step = {"label": "k-means"}.get(name, name if name in STEPS else step)
        todo, lock = list(reversed(wanted["missing"])), threading.Lock()

        def work():
            while True:
                with lock:
                    if not todo:
                        return
                    part = todo.pop()
                run = [*base, "run-part", *place, "--threads", "1", "--stage", wanted["stage"], "--part", str(part)]
                subprocess.run(run, check=True)

        workers = [threading.Thread(target=work) for _ in range(args.workers)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        seconds[step] += time.perf_counter() - start
    subprocess.run([*base, "finish", *options(args, out)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return seconds


def options(args, out):
    return ["--embeddings", str(args.folder / "set"), "--out", str(out), "--clusters", str(args.clusters)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--rows", default="1000000")
    parser.add_argument("--dims", default="512")
    parser.add_argument("--clusters", default="1000")
    parser.add_argument("--rows-of-file", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    write_set(args.folder / "set", int(args.rows), int(args.dims), args.rows_of_file)
    plan = planned(args)
    out = args.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    seconds = launched(args, out) if args.workers else in_one_process(args, out)
    whole = time.perf_counter() - start
    print(f"{'':12}{'planned':>10}{'measured':>10}")
    for name in STEPS:
        said, took = plan[name]["seconds"], seconds.get(name, 0.0)
        print(f"{name:12}{said:9.2f}s{took:9.2f}s{100 * (said / took - 1) if took else 0:+8.0f} %")
    said = sum(step["seconds"] for step in plan.values())
    print(f"{'in all':12}{said:9.2f}s{whole:9.2f}s{100 * (said / whole - 1):+8.0f} %")


main()
