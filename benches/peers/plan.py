"""What `data plan` says of a selection, and what it takes: seconds of each step, and of the whole.

    cargo build --release -p bunny-cli
    python benches/peers/plan.py --binary target/release/bunny-cli --folder /somewhere/with/5GB

Selects from a seeded mixture of float16 rows on the sphere (written once), none of which are near duplicates, in one process or, with
`--workers N`, by that many processes that do the parts, sharing the machine's cores. Needs numpy alone.

With `--s3 PYTHON`, set and work files are on an S3 server (tests/reference/s3_server.py, run by that Python), a
part is a file, and requests and bytes are held against what the server has counted; the binary is built with
`--features s3`. The server's bytes a second are measured first, and given to the plan: it takes its share of the
same cores, so seconds say little there. This way has not been run yet."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time
import urllib.request

import numpy as np

STEPS = ["scan", "k-means", "assign", "duplicates", "ranks"]
SERVER = pathlib.Path(__file__).resolve().parents[2] / "tests/reference/s3_server.py"


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


def planned(args, more):
    said = subprocess.check_output(
        [args.binary, "data", "plan", "--rows", args.rows, "--dim", args.dims, "--clusters", args.clusters,
         "--skew", "1.3", "--kept", "100", "--out", args.folder, "--format", "json", *more], text=True)
    return {step["name"]: step for step in json.loads(said)["steps"]}


class Server:
    """An S3 server with the set, which nothing goes wrong on."""

    def __init__(self, args):
        command = [args.s3, SERVER, args.folder / "set", "well"]
        self.program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = json.loads(self.program.stdout.readline())["proxy"]
        os.environ |= {"AWS_ENDPOINT_URL_S3": self.address, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "key",
                       "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_READ_TIMEOUT": "300 seconds"}

    def traffic(self):
        return json.load(urllib.request.urlopen(f"{self.address}/traffic"))

    def rate(self):
        """Bytes a second, both ways, eight pieces of 16 MiB at a time as the program moves them."""
        piece = 16 << 20

        def move(number):
            name = f"{self.address}/bunny/trial-{number}"
            urllib.request.urlopen(urllib.request.Request(name, bytes(piece), method="PUT")).read()
            urllib.request.urlopen(name).read()
            urllib.request.urlopen(urllib.request.Request(name, method="DELETE")).read()

        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            list(threads.map(move, range(32)))
        return 2 * 32 * piece / (time.perf_counter() - start)


def in_one_process(args, out, told):
    """What each step took, by when the next one is announced; `told` says seconds and traffic so far."""
    begun = []
    program = subprocess.Popen([args.binary, "data", "coreset", *options(args, out)], stderr=subprocess.PIPE, text=True)
    for line in program.stderr:
        name = line.split(":")[0]
        if name in STEPS + ["keys", "output"]:
            begun.append((name, told()))
    if program.wait():
        raise SystemExit("the selection failed")
    begun.append(("end", told()))
    return {name: added(None, now, later) for (name, now), (_, later) in zip(begun, begun[1:])}


def added(before, now, later):
    return {key: later[key] - now[key] + (before or {}).get(key, 0) for key in now}


def launched(args, out, told):
    """What the stages took that each step has, with the driver's work before them."""
    took = {}
    base = [args.binary, "data", "coreset"]
    place = ["--embeddings", args.set, "--out", str(out), *args.work]
    while True:
        start = told()
        plan = [*base, "plan-parts", *options(args, out), "--format", "json"]
        wanted = json.loads(subprocess.check_output(plan, stderr=subprocess.DEVNULL))
        if wanted is None:
            break
        name = wanted["stage"].split("/")[1].split("-")[0]
        step = {"label": "k-means"}.get(name, name if name in STEPS else "ranks")
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
        took[step] = added(took.get(step), start, told())
        print(f"  {wanted['stage']}: {wanted['parts']} parts, {added(None, start, told())}", flush=True)
    subprocess.run([*base, "finish", *options(args, out)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return took


def options(args, out):
    return ["--embeddings", args.set, "--out", str(out), *args.work, "--clusters", args.clusters, *args.division]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--rows", default="1000000")
    parser.add_argument("--dims", default="512")
    parser.add_argument("--clusters", default="1000")
    parser.add_argument("--rows-of-file", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--s3", metavar="PYTHON", help="on an S3 server that this Python runs")
    args = parser.parse_args()
    write_set(args.folder / "set", int(args.rows), int(args.dims), args.rows_of_file)
    out = args.folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    args.set, args.work, args.division = str(args.folder / "set"), [], []
    server, more = None, []
    if args.workers:
        more = ["--workers", str(args.workers), "--threads", "1"]
    if args.s3:
        server = Server(args)
        args.set, args.work = "s3://bunny/set", ["--work", "s3://bunny/work"]
        args.division = ["--part-rows", str(args.rows_of_file), "--bucket-bytes", "64MiB"]
        more += ["--store", "s3", "--network", str(int(server.rate())), *args.division]

    def told():
        return {"seconds": time.perf_counter()} | (server.traffic() if server else {})

    plan = planned(args, more)
    start = told()
    took = launched(args, out, told) if args.workers else in_one_process(args, out, told)
    whole = added(None, start, told())
    if server:
        server.program.stdin.close()
    for key, unit, scale in (("seconds", "s", 1), ("requests", "", 1), ("read", "MB", 1e6), ("written", "MB", 1e6)):
        if key not in whole:
            continue
        print(f"{key:12}{'planned':>12}{'measured':>12}")
        # One process does not announce its ranks: they are measured with the duplicates.
        steps = STEPS if args.workers else STEPS[:4]
        rows = [(name, plan[name][key], took.get(name, {}).get(key, 0)) for name in steps]
        rows.append(("in all", sum(step[key] for step in plan.values()), whole[key]))
        for name, said, found in rows:
            apart = f"{100 * (said / found - 1):+8.0f} %" if found else ""
            print(f"{name:12}{said / scale:10.2f} {unit:2}{found / scale:10.2f} {unit:2}{apart}")


main()
