"""Assignment, k-means, duplicates and rank cuts: bunny-data beside faiss, scikit-learn, NumPy and
torch.

    cargo build --release -p bunny-data --example coreset_kernels
    env -u OPENBLAS_L2_SIZE OPENBLAS_CORETYPE=SkylakeX python benches/peers/coreset_kernels.py \
        --binary target/release/examples/coreset_kernels --folder /somewhere/with/5GB assignment

Every pair runs in turn on the same data, so that a busy machine slows both. Prints the BLAS that
was used, every repeat, the best with its ratio, and checks that results agree. faiss brings an
OpenBLAS of its own that knows few processors: try `OPENBLAS_CORETYPE` unset, Haswell and SkylakeX,
and keep the fastest. Needs numpy, faiss-cpu, scikit-learn, scipy, torch and threadpoolctl.
"""

import argparse
import json
import os
import pathlib
import subprocess
import time

import faiss
import numpy as np
import threadpoolctl

THRESHOLD = 0.86


def ours(binary, *args):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)["seconds"]


def timed(run):
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def show(name, flop, seconds, note=""):
    best = min(seconds)
    rate = f"{flop / best / 1e9:7.1f} GFLOP/s" if flop else ""
    print(f"  {name:28} {best:8.3f} s {rate}   [{' '.join(f'{s:.3f}' for s in seconds)}] {note}", flush=True)
    return best


def mixture(rng, rows, dims, centres, which=None):
    middle = rng.standard_normal((centres, dims), np.float32)
    x = middle[rng.integers(0, centres, rows) if which is None else which]
    for start in range(0, rows, 65536):
        part = x[start : start + 65536]
        part += 1.2 * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return x


def made(path, make):
    """The array at `path`, which `make` returns where it is not there yet."""
    if not path.exists():
        np.save(path, make())
    return np.load(path)


def sgemm(x, vectors, rows):
    """Seconds that products alone would take, by the faster of NumPy and torch, into memory that
    is there already."""
    import torch

    count = min(rows, 65536)
    best = {}
    for block in (1024, 4096):
        a, b = x[:block].copy(), vectors.T
        out = np.empty((block, len(vectors)), np.float32)
        tensors = [torch.from_numpy(array) for array in (a, vectors, out)]
        peers = {
            "NumPy": lambda: np.matmul(a, b, out=out),
            "torch": lambda: torch.mm(tensors[0], tensors[1].T, out=tensors[2]),
        }
        for name, run in peers.items():
            run()
            _, seconds = timed(lambda: [run() for _ in range(count // block)])
            best[name] = min(best.get(name, np.inf), seconds * rows / count)
    name = min(best, key=best.get)
    return best[name], name


def assignment(args):
    for k in args.clusters or (1000, 4096, 10_000):
        x = made(args.folder / f"rows-{args.rows}-{args.dims}.npy",
                 lambda: mixture(np.random.default_rng(1), args.rows, args.dims, 1000))
        centroids = x[np.random.default_rng(k).choice(args.rows, k, replace=False)].copy()
        np.save(args.folder / "centroids.npy", centroids)
        if args.prepare:
            continue
        flop = 2.0 * args.rows * k * args.dims
        print(f"assignment: {args.rows} x {args.dims}, k = {k}")
        index = faiss.IndexFlatL2(args.dims)
        index.add(centroids)
        from sklearn.metrics import pairwise_distances_argmin

        seconds = {"sgemm alone": [], "bunny": [], "faiss": [], "scikit-learn": []}
        tenth = x[: args.rows // 10]
        for _ in range(args.repeats):
            s, gemm = sgemm(x, centroids, args.rows)
            seconds["sgemm alone"].append(s)
            seconds["bunny"] += ours(args.binary, "assign", args.folder / f"rows-{args.rows}-{args.dims}.npy",
                                     args.folder / "centroids.npy", 1, args.folder / "labels.u32")
            (_, labels), s = timed(lambda: index.search(x, 1))
            seconds["faiss"].append(s)
            _, s = timed(lambda: pairwise_distances_argmin(tenth, centroids))
            seconds["scikit-learn"].append(10 * s)
        notes = {"sgemm alone": f"({gemm}, 65,536 rows, scaled)", "scikit-learn": "(a tenth of the rows, scaled)"}
        best = {name: show(name, flop, s, notes.get(name, "")) for name, s in seconds.items()}
        found = np.fromfile(args.folder / "labels.u32", np.uint32)
        differ = np.flatnonzero(found != labels[:, 0])
        right = 0
        for row in differ:
            distances = ((x[row].astype(np.float64) - centroids) ** 2).sum(-1)
            right += int(distances.argmin() == found[row])
        print(f"  faiss differs in {len(differ)} rows; in float64 bunny is right in {right} of them")
        print(f"  bunny: {best['sgemm alone'] / best['bunny']:.2f} of sgemm, {best['faiss'] / best['bunny']:.2f} x faiss, "
              f"{best['scikit-learn'] / best['bunny']:.2f} x scikit-learn", flush=True)


def kmeans(args):
    k, iterations = (args.clusters or [1000])[0], 10
    rows = 256 * k
    path = args.folder / f"rows-{rows}-{args.dims}.npy"
    x = made(path, lambda: mixture(np.random.default_rng(2), rows, args.dims, k))
    start = x[np.random.default_rng(3).choice(rows, k, replace=False)].copy()
    np.save(args.folder / "start.npy", start)
    if args.prepare:
        return
    print(f"k-means: {rows} x {args.dims}, k = {k}, {iterations} iterations from the same start")
    from sklearn.cluster import KMeans

    seconds = {"bunny": [], "faiss": [], "scikit-learn": []}
    for _ in range(args.repeats):
        seconds["bunny"] += ours(args.binary, "kmeans", path, args.folder / "start.npy", iterations,
                                 args.folder / "out.npy")
        there = faiss.Kmeans(args.dims, k, niter=iterations, max_points_per_centroid=256)
        _, s = timed(lambda: there.train(x, init_centroids=start))
        seconds["faiss"].append(s)
        learn = KMeans(k, init=start, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
        _, s = timed(lambda: learn.fit(x))
        seconds["scikit-learn"].append(s)
    flop = 2.0 * rows * k * args.dims * iterations
    best = {name: show(name, flop, s) for name, s in seconds.items()}

    def objective(centroids):
        index = faiss.IndexFlatL2(args.dims)
        index.add(np.ascontiguousarray(centroids))
        return float(index.search(x, 1)[0].sum(dtype=np.float64))

    print(f"  objective: bunny {objective(np.load(args.folder / 'out.npy')):.3f}, faiss {objective(there.centroids):.3f}, "
          f"scikit-learn {objective(learn.cluster_centers_):.3f}")
    print(f"  bunny: {best['faiss'] / best['bunny']:.2f} x faiss, "
          f"{best['scikit-learn'] / best['bunny']:.2f} x scikit-learn", flush=True)


def breadth_first(x):
    """The component search of the authors' code, written anew in NumPy: take the first row left,
    collect what is similar, widen until nothing is added."""
    left = np.arange(len(x))
    labels = np.empty(len(x), np.uint32)
    while len(left):
        frontier = left[:1]
        members = [frontier]
        left = left[1:]
        while len(frontier) and len(left):
            near = (x[frontier] @ x[left].T > THRESHOLD).any(0)
            frontier = left[near]
            left = left[~near]
            members.append(frontier)
        members = np.concatenate(members)
        labels[members] = members.min()
    return labels


def all_pairs(x):
    """The same components by one matrix product and SciPy's search in the graph."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    found = []
    for start in range(0, len(x), 4096):
        a, b = np.nonzero(x[start : start + 4096] @ x.T > THRESHOLD)
        found.append((a + start, b))
    a, b = (np.concatenate(side) for side in zip(*found))
    _, names = connected_components(coo_matrix((np.ones(len(a), bool), (a, b)), (len(x), len(x))), directed=False)
    first = np.full(names.max() + 1, len(x), np.uint32)
    np.minimum.at(first, names, np.arange(len(x), dtype=np.uint32))
    return first[names]


def semdedup(x):
    """SemDeDup's loop in torch: the whole matrix of a cluster, its upper triangle, and for every
    row the greatest similarity to one before it. Another rule than components, and less work."""
    import torch

    rows = torch.from_numpy(x)
    similar = torch.triu(rows @ rows.T, diagonal=1)
    return (similar.max(0)[0] > THRESHOLD).numpy()


def duplicates(args):
    """1,000 clusters, one of them ten times as large; a third of the rows are copies with noise of
    earlier rows of their cluster."""
    path, ends_path = args.folder / f"duplicates-{args.rows}-{args.dims}.npy", args.folder / "ends.u64"

    def make():
        rng = np.random.default_rng(4)
        which = np.sort(np.where(rng.random(args.rows) < 10 / 1009, 0, rng.integers(0, 1000, args.rows)))
        x = mixture(rng, args.rows, args.dims, 1000, which)
        starts = np.searchsorted(which, which)
        for row in rng.permutation(args.rows)[: args.rows // 3]:
            if row > starts[row]:
                x[row] = x[rng.integers(starts[row], row)] + 0.02 * rng.standard_normal(args.dims, np.float32)
                x[row] /= np.linalg.norm(x[row])
        np.searchsorted(which, np.arange(1000), side="right").astype(np.uint64).tofile(ends_path)
        return x

    x = made(path, make)
    if args.prepare:
        return
    ends = np.fromfile(ends_path, np.uint64).astype(int)
    clusters = list(zip([0, *ends[:-1]], ends))
    sizes = np.diff([0, *ends])
    # The large cluster and a fifth of the others tell the time of all: NumPy takes minutes.
    shown = clusters[:1] + clusters[1::5]
    scale = (sizes.astype(float) ** 2).sum() / sum((end - start) ** 2 for start, end in shown)
    print(f"duplicates: {args.rows} x {args.dims} in {len(clusters)} clusters, the largest of {sizes.max()} rows")
    peers = {"breadth-first (NumPy)": breadth_first, "all pairs (NumPy, SciPy)": all_pairs, "SemDeDup loop (torch)": semdedup}
    seconds = {name: [] for name in ("bunny", *peers)}
    differ = {}
    for _ in range(args.repeats):
        seconds["bunny"] += ours(args.binary, "duplicates", path, ends_path, 1, args.folder / "labels.u32")
        found = np.fromfile(args.folder / "labels.u32", np.uint32)
        for name, run in peers.items():
            labels, s = timed(lambda: [run(x[start:end]) for start, end in shown])
            seconds[name].append(s * scale)
            if run is not semdedup:
                differ[name] = sum(int((found[start:end] != l).sum()) for (start, end), l in zip(shown, labels))
    print(f"  rows that differ: {differ}")
    best = {name: show(name, None, s, "" if name == "bunny" else f"({len(shown)} clusters, scaled by pairs)")
            for name, s in seconds.items()}
    print("  bunny: " + ", ".join(f"{best[name] / best['bunny']:.1f} x {name}" for name in peers), flush=True)


def window(args):
    rows = 100 * args.rows
    path = args.folder / "values.f64"
    if not path.exists():
        np.random.default_rng(5).normal(0.25, 0.05, rows).astype(np.float32).astype(np.float64).tofile(path)
    if args.prepare:
        return
    values = np.fromfile(path)
    rows = len(values)
    print(f"ranks 40 % to 60 % of {rows} values")

    def sorting():
        order = np.argsort(-values, kind="stable")
        return np.sort(order[rows * 4 // 10 : rows * 6 // 10])

    def partition():
        """Two order statistics; ties at the boundaries are settled by row afterwards."""
        negative = -values
        low, high = rows * 4 // 10, rows * 6 // 10
        parts = np.partition(negative, (low, high))
        first, last = parts[low], parts[high]
        inside = np.flatnonzero((negative > first) & (negative < last))
        below = np.count_nonzero(negative < first)
        at_first = np.flatnonzero(negative == first)[low - below :]
        at_last = np.flatnonzero(negative == last)[: high - np.count_nonzero(negative < last)]
        return np.sort(np.concatenate([inside, at_first, at_last]))

    seconds = {"bunny": [], "argsort (NumPy)": [], "partition (NumPy)": []}
    for _ in range(args.repeats):
        seconds["bunny"] += ours(args.binary, "window", path, 4000, 6000, 1, args.folder / "rows.u64")
        expected, s = timed(sorting)
        seconds["argsort (NumPy)"].append(s)
        partitioned, s = timed(partition)
        seconds["partition (NumPy)"].append(s)
    found = np.fromfile(args.folder / "rows.u64", np.uint64)
    print(f"  equal to argsort: {np.array_equal(found, expected)}, to partition: {np.array_equal(found, partitioned)}")
    best = {name: show(name, None, s) for name, s in seconds.items()}
    print(f"  bunny: {best['argsort (NumPy)'] / best['bunny']:.1f} x argsort, "
          f"{best['partition (NumPy)'] / best['bunny']:.1f} x partition", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=["assignment", "kmeans", "duplicates", "window"])
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--clusters", type=int, nargs="*")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--prepare", action="store_true", help="make the data and stop")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    names = ("user_api", "internal_api", "version", "architecture", "num_threads")
    import torch  # noqa: F401, so that its pools are listed too

    for pool in threadpoolctl.threadpool_info():
        print({key: pool.get(key) for key in names}, pathlib.Path(pool["filepath"]).name)
    core = os.environ.get("OPENBLAS_CORETYPE")
    print(f"cores {os.cpu_count()}, load {os.getloadavg()}, OPENBLAS_CORETYPE {core}", flush=True)
    for part in args.parts:
        globals()[part](args)
    print(f"load {os.getloadavg()}")


if __name__ == "__main__":
    main()
