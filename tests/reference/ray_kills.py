"""Runs examples/engines/ray_coreset.py on a cluster of this machine, kills workers of it while they work, and
holds what is left against the bytes of one process.

    pip install ray==2.60.0 numpy
    python tests/reference/ray_kills.py target/release/bunny-cli

Run by hand. The program has to be found by Ray's workers: its folder is put before PATH.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROWS, DIMS, FILES = 20_000, 64, 8
OPTIONS = ["--clusters", "16", "--iterations", "4", "--sample", "500", "--part-rows", "2500", "--bucket-bytes", "256KiB"]


def write_set(folder):
    dice = np.random.default_rng(7)
    middle = dice.standard_normal((200, DIMS))
    for number in range(FILES):
        images = middle[dice.integers(0, 200, ROWS // FILES)] + 0.6 * dice.standard_normal((ROWS // FILES, DIMS))
        texts = images + dice.standard_normal(images.shape)
        for name, rows in (("img_emb", images), ("text_emb", texts)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            np.save(folder / name / f"{name}_{number}.npy", rows.astype(np.float16))


def workers_at_work(root):
    """Processes of Ray below `root` that run a part, by the title that Ray gives them."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    above = {int(pid): int(parent) for pid, parent, _ in rows}

    def is_below(pid):
        while pid in above and pid != root:
            pid = above[pid]
        return pid == root

    return [int(pid) for pid, _, title in rows if title.startswith("ray::run_part") and is_below(int(pid))]


def results(out):
    return {file.name: file.read_bytes() for file in out.iterdir() if file.is_file() and file.name != "manifest.json"}


def main(program):
    program = pathlib.Path(program).resolve()
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_set(folder / "set")
        where = ["--embeddings", str(folder / "set"), "--out"]
        subprocess.run([program, "data", "coreset", *where, folder / "whole", *OPTIONS], check=True, capture_output=True)
        example = [sys.executable, ROOT / "examples/engines/ray_coreset.py", *where, folder / "out", *OPTIONS]
        killed, driver = 0, subprocess.Popen(example, env=environment)
        while driver.poll() is None:
            at_work = workers_at_work(driver.pid)
            if at_work and killed < 3:
                os.kill(at_work[0], signal.SIGKILL)
                killed += 1
            time.sleep(0.3)
        assert driver.returncode == 0, driver.returncode
        assert killed == 3, killed
        one, other = results(folder / "whole"), results(folder / "out")
        assert one.keys() == other.keys() and one == other, [name for name in one if one[name] != other.get(name)]
        print(f"{len(one)} files of the same bytes; {killed} workers were killed")


main(*sys.argv[1:])
