"""Assignment, k-means and duplicate components: bunny-data beside faiss, scikit-learn and NumPy.

    env -u OPENBLAS_L2_SIZE OPENBLAS_CORETYPE=SkylakeX python benches/peers/coreset_kernels.py \
        --binary target/release/examples/coreset_kernels

Every pair runs in turn on the same data in the same run, so that a busy machine slows both. Prints
the BLAS that was used, every repeat, medians and ratios, and checks that results agree.
Needs numpy, faiss-cpu, scikit-learn and threadpoolctl.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import faiss
import numpy as np
import threadpoolctl


def ours(binary, *args):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["seconds"]


def timed(run):
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def show(name, flop, seconds):
    median = statistics.median(seconds)
    rate = f"{flop / median / 1e9:7.1f} GFLOP/s" if flop else ""
    spread = " ".join(f"{s:.3f}" for s in seconds)
    print(f"  {name:28} {median:8.3f} s {rate}   [{spread}]")
    return median


def mixture(rng, rows, dims, centres):
    middle = rng.normal(size=(centres, dims)).astype(np.float32)
    x = middle[rng.integers(0, centres, rows)] + 1.2 * rng.normal(size=(rows, dims)).astype(np.float32)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def assignment(binary, folder, rows, dims, k, repeats):
    rng = np.random.default_rng(1)
    x = mixture(rng, rows, dims, k)
    centroids = x[rng.choice(rows, k, replace=False)].copy()
    np.save(folder / "rows.npy", x)
    np.save(folder / "centroids.npy", centroids)
    flop = 2.0 * rows * k * dims
    print(f"assignment: {rows} x {dims}, k = {k}")
    seconds = {"sgemm alone (NumPy)": [], "bunny": [], "faiss": [], "scikit-learn": []}
    index = faiss.IndexFlatL2(dims)
    index.add(centroids)
    from sklearn.metrics import pairwise_distances_argmin

    block = x[:4096].copy()
    for _ in range(repeats):
        _, s = timed(lambda: [block @ centroids.T for _ in range(rows // 4096)])
        seconds["sgemm alone (NumPy)"].append(s * rows / (rows // 4096 * 4096))
        seconds["bunny"] += ours(
            binary, "assign", folder / "rows.npy", folder / "centroids.npy", 1, folder / "labels.u32"
        )
        (_, labels), s = timed(lambda: index.search(x, 1))
        seconds["faiss"].append(s)
        _, s = timed(lambda: pairwise_distances_argmin(x, centroids))
        seconds["scikit-learn"].append(s)
    median = {name: show(name, flop, s) for name, s in seconds.items()}
    found = np.fromfile(folder / "labels.u32", np.uint32)
    differ = np.flatnonzero(found != labels[:, 0])
    exact = ((x[differ, None].astype(np.float64) - centroids) ** 2).sum(-1).argmin(1) if len(differ) else []
    print(f"  faiss differs in {len(differ)} rows; in float64 bunny is right in {(found[differ] == exact).sum()}")
    print(f"  bunny: {median['sgemm alone (NumPy)'] / median['bunny']:.2f} of sgemm, "
          f"{median['faiss'] / median['bunny']:.2f} x faiss, "
          f"{median['scikit-learn'] / median['bunny']:.2f} x scikit-learn")


def training(binary, folder, k, dims, iterations, repeats):
    rng = np.random.default_rng(2)
    rows = 256 * k
    x = mixture(rng, rows, dims, k)
    start = x[rng.choice(rows, k, replace=False)].copy()
    np.save(folder / "rows.npy", x)
    np.save(folder / "start.npy", start)
    print(f"k-means: {rows} x {dims}, k = {k}, {iterations} iterations from the same start")
    seconds = {"bunny": [], "faiss": []}
    for _ in range(repeats):
        seconds["bunny"] += ours(
            binary, "kmeans", folder / "rows.npy", folder / "start.npy", iterations, folder / "out.npy"
        )
        kmeans = faiss.Kmeans(dims, k, niter=iterations, max_points_per_centroid=256)
        _, s = timed(lambda: kmeans.train(x, init_centroids=start))
        seconds["faiss"].append(s)
    flop = 2.0 * rows * k * dims * iterations
    median = {name: show(name, flop, s) for name, s in seconds.items()}

    def objective(centroids):
        index = faiss.IndexFlatL2(dims)
        index.add(np.ascontiguousarray(centroids))
        return float(index.search(x, 1)[0].sum())

    print(f"  objective: bunny {objective(np.load(folder / 'out.npy')):.4f}, "
          f"faiss {objective(kmeans.centroids):.4f}; bunny {median['faiss'] / median['bunny']:.2f} x faiss")


def breadth_first(x, threshold=0.86):
    """The component search of the authors' code, written anew in NumPy: take the first row left,
    collect what is similar, widen until nothing is added."""
    left = np.arange(len(x))
    labels = np.empty(len(x), np.uint32)
    while len(left):
        frontier = left[:1]
        members = [frontier]
        left = left[1:]
        while len(frontier) and len(left):
            near = (x[frontier] @ x[left].T > threshold).any(0)
            frontier = left[near]
            left = left[~near]
            members.append(frontier)
        members = np.concatenate(members)
        labels[members] = members.min()
    return labels


def duplicates(binary, folder, rows, dims, repeats):
    rng = np.random.default_rng(3)
    print(f"duplicates: one cluster of {rows} x {dims}, a third of it near copies")
    x = mixture(rng, rows, dims, 1)
    for row in rng.choice(np.arange(1, rows), rows // 3, replace=False):
        x[row] = x[rng.integers(0, row)] + 0.02 * rng.normal(size=dims)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    np.save(folder / "rows.npy", x)
    seconds = {"bunny": [], "breadth-first (NumPy)": []}
    for _ in range(repeats):
        seconds["bunny"] += ours(binary, "components", folder / "rows.npy", 1, folder / "labels.u32")
        labels, s = timed(lambda: breadth_first(x))
        seconds["breadth-first (NumPy)"].append(s)
    median = {name: show(name, None, s) for name, s in seconds.items()}
    found = np.fromfile(folder / "labels.u32", np.uint32)
    print(f"  {len(np.unique(found))} components, equal: {bool((found == labels).all())}; "
          f"bunny {median['breadth-first (NumPy)'] / median['bunny']:.1f} x")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for pool in threadpoolctl.threadpool_info():
        print({key: pool.get(key) for key in ("user_api", "internal_api", "version", "architecture", "num_threads")})
    print(f"cores {os.cpu_count()}, load {os.getloadavg()}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for k in (1000, 4096):
            assignment(args.binary, folder, args.rows, 512, k, args.repeats)
        training(args.binary, folder, 500, 512, 5, args.repeats)
        duplicates(args.binary, folder, 8000, 768, args.repeats)
    print(f"load {os.getloadavg()}")


if __name__ == "__main__":
    main()
