"""The three-step coreset, written down directly: quadratic, in float64, no cleverness.

The oracle of bunny-data's `coreset`: `python coreset.py fixtures DIR` makes the seeded sets with
planted duplicates, chains, ties, a giant cluster and unusable rows, and the keys that must be
kept of each, under every option. Dot products are summed exactly (`math.fsum`), so that equal rows
have equal scores wherever they stand.

Sources: "Efficient Multimodal Learning from Data-centric Perspective", section 3.2, and what its
authors' code (BAAI-DCAI/Dataset-Pruning, LAION) does where the paper is silent.
"""

import json
import math
import pathlib
import sys

import numpy as np

MASK = (1 << 64) - 1


# The hash of every draw, as documented in bunny-data: SplitMix64's finaliser over words.
def mix(word):
    word = (word + 0x9E3779B97F4A7C15) & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def mix_all(words):
    value = 0
    for word in words:
        value = mix(value ^ mix(word & MASK))
    return value


def mix_bytes(seed, data):
    value = mix(seed)
    whole = len(data) // 8 * 8
    for at in range(0, whole, 8):
        value = mix(value ^ int.from_bytes(data[at : at + 8], "little"))
    last = int.from_bytes(data[whole:].ljust(8, b"\0"), "little")
    return mix(value ^ last ^ mix(len(data)))


def word(text):
    return int.from_bytes(text, "little")


def draw_hash(seed, key):
    return mix_bytes(mix_all([seed, word(b"coreset!")]), key.encode())


def keep_hash(seed, row):
    return mix_all([seed, word(b"keep-one"), row])


def dot(a, b):
    return math.fsum(float(x) * float(y) for x, y in zip(a, b))


def similarity(a, b, kind):
    product = dot(a, b)
    return product / (math.sqrt(dot(a, a)) * math.sqrt(dot(b, b))) if kind == "cosine" else product


def distance(a, b):
    return math.sqrt(math.fsum((float(x) - float(y)) ** 2 for x, y in zip(a, b)))


def nearest(rows, centroids, geometry):
    """The index of the nearest centroid of each row; of equally near ones the first."""
    labels = []
    if geometry == "spherical":
        lengths = [math.sqrt(dot(c, c)) for c in centroids]
        directions = [
            (np.asarray(c, np.float64) / n).astype(np.float32) for c, n in zip(centroids, lengths)
        ]
        for row in rows:
            scores = [dot(row, c) for c in directions]
            labels.append(scores.index(max(scores)))
    else:
        for row in rows:
            distances = [distance(row, c) for c in centroids]
            labels.append(distances.index(min(distances)))
    return labels


def components(members, joined):
    """Connected components by breadth-first search over all pairs."""
    left = set(members)
    found = []
    for first in members:
        if first not in left:
            continue
        left.discard(first)
        component, frontier = [first], [first]
        while frontier:
            near = sorted(b for b in left if any(joined(a, b) for a in frontier))
            left.difference_update(near)
            component += near
            frontier = near
        found.append(sorted(component))
    return found


def window(rows, values, spec, clusters):
    """The rows within a range of ranks, in basis points."""
    if spec is None:
        return list(rows)
    groups = {}
    for row in rows:
        key = clusters[row] if spec["scope"] == "per-cluster" else 0
        groups.setdefault(key, []).append(row)
    sign = -1 if spec["order"] == "descending" else 1
    inside = []
    for group in groups.values():
        ranked = sorted(group, key=lambda row: (sign * values[row], row))
        n = len(ranked)
        inside += ranked[n * spec["from"] // 10000 : n * spec["to"] // 10000]
    return sorted(inside)


def coreset(images, texts, keys, centroids, options):
    """The kept rows, with what is known of each."""
    usable = []
    for row in range(len(images)):
        fine = True
        for vector in (images[row], texts[row]):
            length = math.sqrt(dot(vector, vector)) if np.isfinite(vector).all() else math.nan
            fine = fine and 1e-6 <= length <= 1e6
        if fine:
            usable.append(row)
    kind = options["similarity"]
    labels = dict(zip(usable, nearest(images[usable], centroids, options["geometry"])))
    score = {row: similarity(images[row], texts[row], kind) for row in usable}
    far = {row: distance(images[row], centroids[labels[row]]) for row in usable}
    bits = {row: images[row].tobytes() for row in usable}

    pairs = {}

    def joined(a, b):
        pair = (min(a, b), max(a, b))
        if pair not in pairs:
            if kind == "cosine" and bits[a] == bits[b]:
                value = 1.0
            else:
                value = similarity(images[a], images[b], kind)
            limit = options["threshold"]
            pairs[pair] = value >= limit if options["edge"] == "at-least" else value > limit
        return pairs[pair]

    seed, keep = options["seed"], options["keep"]
    rank = {
        "median": lambda row: far[row],
        "near": lambda row: far[row],
        "far": lambda row: -far[row],
        "random": lambda row: keep_hash(seed, row),
        "max-score": lambda row: -score[row],
    }[keep]
    kept, component_of, size_of = [], {}, {}
    for cluster in range(len(centroids)):
        members = [row for row in usable if labels[row] == cluster]
        if options["group"] == "semdedup":
            ordered = sorted(members, key=lambda row: (rank(row), row))
            for i, row in enumerate(ordered):
                if not any(joined(before, row) for before in ordered[:i]):
                    kept.append(row)
                    component_of[row], size_of[row] = row, 1
            continue
        for component in components(members, joined):
            ordered = sorted(component, key=lambda row: (rank(row), row))
            place = 0
            if keep == "median":
                n = len(ordered)
                place = n // 2 if options["median"] == "upper" else (n - 1) // 2
            row = ordered[place]
            kept.append(row)
            component_of[row], size_of[row] = component[0], len(component)
    kept.sort()

    def to_centroid(row):
        centroid = centroids[labels[row]]
        length = math.sqrt(dot(centroid, centroid))
        if kind == "cosine":
            return dot(images[row], centroid) / (math.sqrt(dot(images[row], images[row])) * length)
        return dot(images[row], centroid) / length

    centroid_score = {row: to_centroid(row) for row in kept}
    counts = [len(images), len(kept)]
    left = window(kept, score, options["score_window"], labels)
    counts.append(len(left))
    left = window(left, centroid_score, options["centroid_window"], labels)
    counts.append(len(left))
    if options["sample"] is not None:
        drawn = sorted(left, key=lambda row: (draw_hash(seed, keys[row]), row))
        left = sorted(drawn[: options["sample"]])
    counts.append(len(left))
    return {
        "counts": counts,
        "keys": [keys[row] for row in left],
        "rows": left,
        "clusters": [labels[row] for row in left],
        "components": [component_of[row] for row in left],
        "sizes": [size_of[row] for row in left],
        "scores": [score[row] for row in left],
        "centroid_scores": [centroid_score[row] for row in left],
        "distances": [far[row] for row in left],
    }


def lloyd(rows, centroids, iterations):
    """Plain k-means in float64; centroids are rounded to float32 after every round, and an empty
    cluster takes the farthest row that does not stand alone."""
    centroids = np.asarray(centroids, np.float32)
    for _ in range(iterations):
        labels = nearest(rows, centroids, "euclidean")
        counts = np.bincount(labels, minlength=len(centroids))
        far = sorted(
            range(len(rows)), key=lambda row: (-distance(rows[row], centroids[labels[row]]), row)
        )
        for cluster in np.flatnonzero(counts == 0):
            row = next(row for row in far if counts[labels[row]] > 1)
            far.remove(row)
            counts[labels[row]] -= 1
            labels[row], counts[cluster] = int(cluster), 1
        centroids = np.stack(
            [
                rows[[row for row in range(len(rows)) if labels[row] == cluster]]
                .astype(np.float64)
                .mean(axis=0)
                for cluster in range(len(centroids))
            ]
        ).astype(np.float32)
    return centroids


DEFAULTS = {
    "seed": 7,
    "geometry": "euclidean",
    "similarity": "cosine",
    "threshold": 0.86,
    "edge": "above",
    "group": "components",
    "keep": "median",
    "median": "upper",
    "score_window": {"from": 4000, "to": 6000, "order": "descending", "scope": "global"},
    "centroid_window": {"from": 1500, "to": 3500, "order": "descending", "scope": "global"},
    "sample": None,
}


def wide(start, end, order="descending", scope="global"):
    return {"from": start, "to": end, "order": order, "scope": scope}


VARIANTS = {
    "paper": {},
    "sampled": {"score_window": wide(1000, 9500), "centroid_window": wide(500, 9000), "sample": 25},
    "duplicates-only": {"score_window": None, "centroid_window": None},
    "lower-median": {"median": "lower", "score_window": None, "centroid_window": None},
    "far": {"keep": "far", "score_window": None, "centroid_window": None},
    "near": {"keep": "near", "score_window": None, "centroid_window": None},
    "random": {"keep": "random", "score_window": None, "centroid_window": None},
    "max-score": {"keep": "max-score", "score_window": None, "centroid_window": None},
    "semdedup-far": {"group": "semdedup", "keep": "far", "score_window": None, "centroid_window": None},
    "semdedup-random": {"group": "semdedup", "keep": "random", "score_window": wide(0, 9999)},
    "semdedup-max-score": {"group": "semdedup", "keep": "max-score", "centroid_window": None},
    "at-threshold": {"edge": "at-least", "threshold": 0.75, "score_window": None, "centroid_window": None},
    "above-threshold": {"edge": "above", "threshold": 0.75, "score_window": None, "centroid_window": None},
    "dot": {"similarity": "dot", "score_window": wide(0, 8000), "centroid_window": None},
    "spherical": {"geometry": "spherical", "score_window": None, "centroid_window": None},
    "per-cluster": {
        "score_window": wide(1000, 8000, "descending", "per-cluster"),
        "centroid_window": wide(2000, 9000, "ascending", "per-cluster"),
    },
    "ascending": {"score_window": wide(2000, 7000, "ascending"), "centroid_window": wide(0, 5000, "ascending")},
}


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(seed, rows, dims, clusters, giant):
    """A mixture on the sphere; a share `giant` of the rows in one cluster. Planted in it: exact
    copies, near copies, chains whose ends are not similar, and pairs at exactly 0.75."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(clusters, dims)))
    which = np.where(rng.random(rows) < giant, 0, rng.integers(0, clusters, rows))
    spread = rng.uniform(0.35, 1.2, rows)[:, None]
    noise = unit(rng.normal(size=(rows, dims)))
    images = unit(centres[which] + spread * noise)
    # Near copies of earlier rows, and copies of copies.
    for row in rng.choice(np.arange(1, rows), rows // 4, replace=False):
        source = rng.integers(0, row)
        images[row] = images[source] + rng.uniform(0.02, 0.6) * unit(rng.normal(size=(1, dims)))[0]
    images = unit(images)
    # Chains on a great circle, 25 degrees a step: cos 25 = 0.906, cos 50 = 0.643.
    for start in range(3, rows - 8, rows // 5):
        a, b = np.linalg.qr(rng.normal(size=(dims, 2)))[0].T
        for step, row in enumerate(rng.permutation(np.arange(start, start + 6))):
            angle = math.radians(25 * step)
            images[row] = math.cos(angle) * a + math.sin(angle) * b
    images = images.astype(np.float16)
    # Exact copies, after rounding.
    for row in rng.choice(np.arange(1, rows), rows // 10, replace=False):
        images[row] = images[rng.integers(0, row)]
    # Pairs whose cosine is exactly 3/4, in float16 and in float64: (1,1,1,1,0...)/2 and
    # (1,1,1,0,1,0...)/2.
    for row in (1, rows // 2):
        images[row] = 0
        images[row, :4] = 0.5
        images[row + 1] = 0
        images[row + 1, [0, 1, 2, 4]] = 0.5
    texts = unit(0.3 * images.astype(np.float64) + unit(rng.normal(size=(rows, dims)))).astype(np.float16)
    # Ties of scores: copies of whole rows.
    for row in rng.choice(np.arange(8, rows), rows // 12, replace=False):
        source = rng.integers(8, row + 1)
        images[row], texts[row] = images[source], texts[source]
    starts = images[rng.choice(rows, clusters, replace=False)].astype(np.float32)
    labels = np.argmax(images.astype(np.float32) @ starts.T, axis=1)
    centroids = np.stack(
        [
            images[labels == c].astype(np.float64).mean(axis=0) if (labels == c).any() else starts[c]
            for c in range(clusters)
        ]
    ).astype(np.float32)
    return images, texts, centroids


SETS = {
    # name: seed, rows, dims, clusters, share of the giant, files, unusable rows
    "small": (1, 61, 8, 3, 0.0, [61], []),
    "mixture": (2, 400, 24, 6, 0.0, [150, 0, 130, 120], []),
    "giant": (3, 700, 32, 5, 0.85, [300, 400], []),
    "broken": (4, 240, 17, 4, 0.3, [100, 140], [5, 77, 101, 239]),
}


def fixtures(folder):
    folder = pathlib.Path(folder)
    for name, (seed, rows, dims, clusters, giant, files, broken) in SETS.items():
        images, texts, centroids = make(seed, rows, dims, clusters, giant)
        for i, row in enumerate(broken):
            (images if i % 2 == 0 else texts)[row] = [0.0, np.nan, np.inf, 0.0][i]
        keys = [f"{row // 100:06d}{row % 100:04d}" for row in range(rows)]
        here = folder / name
        (here / "img_emb").mkdir(parents=True, exist_ok=True)
        (here / "text_emb").mkdir(exist_ok=True)
        (here / "metadata").mkdir(exist_ok=True)
        import pyarrow as pa
        import pyarrow.parquet as pq

        start = 0
        for number, length in enumerate(files):
            end = start + length
            # Numbers of several widths: they sort as numbers.
            width = f"{number + 8}" if number % 2 == 0 else f"{number + 8:03d}"
            np.save(here / "img_emb" / f"img_emb_{width}.npy", images[start:end])
            np.save(here / "text_emb" / f"text_emb_{width}.npy", texts[start:end])
            table = pa.table(
                {
                    "image_path": keys[start:end],
                    "caption": [f"a caption of “{key}”" for key in keys[start:end]],
                    "key": keys[start:end],
                }
            )
            pq.write_table(table, here / "metadata" / f"metadata_{width}.parquet")
            start = end
        np.save(here / "centroids.npy", centroids)
        expected = {}
        for variant, changes in VARIANTS.items():
            options = DEFAULTS | changes
            expected[variant] = {
                "options": options,
                "result": coreset(images, texts, keys, centroids, options),
            }
            print(name, variant, expected[variant]["result"]["counts"])
        with open(here / "expected.json", "w") as out:
            json.dump(expected, out, separators=(",", ":"))
            out.write("\n")
    rng = np.random.default_rng(11)
    rows = unit(rng.normal(size=(300, 12))).astype(np.float16)
    # Two of these starts are far from everything, so that empty clusters have to be mended.
    start = rows[:9].astype(np.float32)
    start[3] += 9
    start[7] -= 9
    here = folder / "kmeans"
    here.mkdir(parents=True, exist_ok=True)
    np.save(here / "rows.npy", rows)
    np.save(here / "start.npy", start)
    np.save(here / "after-1.npy", lloyd(rows, start, 1))
    np.save(here / "after-6.npy", lloyd(rows, start, 6))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "fixtures":
        sys.exit("usage: coreset.py fixtures DIR")
    fixtures(sys.argv[2])
