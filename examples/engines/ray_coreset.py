"""A coreset on a Ray cluster whose nodes share a file system: pip install ray, then
python examples/engines/ray_coreset.py --embeddings /mnt/laion --out /mnt/coreset --sample 2000000

Tried with Ray 2.60.0 (Python 3.11) on one machine of two cores, three workers killed while they worked: the same bytes
as one process (tests/reference/ray_kills.py). On several machines bunny-cli has to be in the PATH of each."""

import json
import subprocess
import sys

import ray

CLI = ["bunny-cli", "data", "coreset"]


@ray.remote(num_cpus=1, max_retries=20, retry_exceptions=[BlockingIOError])
def run_part(folders, stage, part):
    code = subprocess.run([*CLI, "run-part", *folders, "--threads", "1", "--stage", stage, "--part", str(part)]).returncode
    if code == 75:
        raise BlockingIOError(f"{stage}, part {part}: try again")
    return code


options = sys.argv[1:]
places = [name for name in ("--embeddings", "--out", "--work") if name in options]
folders = [word for name in places for word in (name, options[options.index(name) + 1])]
ray.init()
while wanted := json.loads(subprocess.check_output([*CLI, "plan-parts", "--format", "json", *options])):
    if any(ray.get([run_part.remote(folders, wanted["stage"], part) for part in wanted["missing"]])):
        sys.exit(f"{wanted['stage']}: a part failed")
sys.exit(subprocess.call([*CLI, "finish", *options]))
