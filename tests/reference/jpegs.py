"""Writes JPEG files of every kind and what Pillow makes of them: bunny-core/tests/fixtures/pictures.

    jpegs.bin     the files, one behind the other
    jpegs.json    of each its name and length, and the size and SHA-256 of Pillow's RGB bytes, or
                  `refused` where Pillow does not take it

Half of them Pillow writes; what it does not write (sampling factors, scans, damage) comes from
jpeg_writer.py. Made with Pillow 12.3.0 (libjpeg-turbo 3.1.4.1) and numpy 2.4.6 alone:

    pip install 'pillow==12.3.*' numpy==2.4.6

Pillow 13.0.0 (libjpeg-turbo 3.2.0) gives the same. Other pictures, as many as wanted, are compared
like this:

    python jpegs.py --folder DIR --count 1000 --seed 7
    JPEGS=DIR cargo test -p bunny-core --test jpegs
"""

import argparse
import hashlib
import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, features

from jpeg_writer import Picture, segment

OUT = Path(__file__).resolve().parents[2] / "bunny-core/tests/fixtures/pictures"

# --- kinds: functions of a generator and the largest side, that give names and files ---

SAMPLINGS = {
    "444": [(1, 1)] * 3,
    "422": [(2, 1), (1, 1), (1, 1)],
    "420": [(2, 2), (1, 1), (1, 1)],
    "440": [(1, 2), (1, 1), (1, 1)],
    "411": [(4, 1), (1, 1), (1, 1)],
    "410": [(4, 2), (1, 1), (1, 1)],
    "311": [(3, 1), (1, 1), (1, 1)],
    "tall": [(1, 4), (1, 1), (1, 1)],
    "mixed": [(2, 2), (1, 2), (2, 1)],
    "quarters": [(2, 2), (2, 1), (1, 1)],
    "fours": [(4, 1), (2, 1), (2, 1)],
    "high-fours": [(1, 4), (1, 2), (1, 2)],
    "large-chroma": [(1, 1), (2, 2), (2, 2)],
    "all-twos": [(2, 1)] * 3,
    "grey": [(1, 1)],
    "grey-twos": [(2, 2)],
    "inks": [(1, 1)] * 4,
    "inks-420": [(2, 2), (1, 1), (1, 1), (2, 2)],
    "inks-440": [(1, 2), (1, 1), (1, 1), (1, 2)],
}


def choose(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def sides(rng, most):
    """Small ones as often as large ones."""
    return tuple(int(rng.integers(1, choose(rng, [9, 20, 70, most]) + 1)) for _ in range(2))


def scene(rng, width, height, channels):
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(channels):
        fx, fy, phase = rng.uniform(0.01, 0.5), rng.uniform(0.01, 0.5), rng.uniform(0, 6)
        plane = 128 + 120 * np.sin(fx * x + fy * y + phase) + rng.normal(0, choose(rng, [0, 4, 40]), x.shape)
        plane[(x + 3 * y) % 41 == 0] = choose(rng, [0, 255])
        planes.append(plane)
    values = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return Image.fromarray(values[..., 0] if channels == 1 else values, {1: "L", 3: "RGB", 4: "CMYK"}[channels])


def saved(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def by_pillow(rng, most, channels=3, **options):
    quality, subsampling = int(rng.integers(1, 101)), int(rng.integers(3))
    if rng.random() < 0.3:
        options[choose(rng, ["restart_marker_blocks", "restart_marker_rows"])] = int(rng.integers(1, 5))
    elif rng.random() < 0.3:
        options["optimize"] = True
    picture = scene(rng, *sides(rng, most), channels)
    try:
        return f"q{quality}-s{subsampling}", saved(picture, quality=quality, subsampling=subsampling, **options)
    except OSError:  # optimised tables need a larger buffer than Pillow gives them
        return "q75", saved(picture)


def inks_by_pillow(rng, most):
    transform = int(rng.choice([0, 2]))
    name, data = by_pillow(rng, most, 4, progressive=bool(rng.random() < 0.3))
    at = data.index(b"Adobe") + 11
    return f"{name}-adobe{transform}", data[:at] + bytes([transform]) + data[at + 1 :]


def turned(rng, most):
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    return f"{exif[0x0112]}", saved(scene(rng, *sides(rng, most), 3), exif=exif)


def colors(rng, most):
    """Components and segments that say what the colours are."""
    count = int(rng.choice([3, 4]))
    ids = choose(rng, [None, [82, 71, 66, 75], [0, 1, 2, 3], [7, 7, 7, 7]])
    before = choose(rng, [b"", JFIF, *[adobe(i) for i in range(4)], JFIF + adobe(0)])
    picture = Picture(*sides(rng, most), [(1, 1)] * count, ids=ids and ids[:count]).draw(rng)
    return f"{count}", picture.file(before=before)


def sampled(rng, most, name=None):
    name = name or choose(rng, list(SAMPLINGS))
    picture = Picture(*sides(rng, most), SAMPLINGS[name]).draw(rng)
    parts = list(range(len(picture.factors)))
    apart = rng.random() < 0.4 or sum(h * v for h, v in picture.factors) > 10
    scans = [([part],) for part in parts] if apart else [(parts,)]
    restarts = int(rng.integers(1, 6)) if rng.random() < 0.3 else 0
    before = choose(rng, [b"", JFIF, adobe(2)]) if len(parts) == 4 else b""
    return name + "-apart" * apart, picture.file(scans, restarts, before=before)


def steps(rng, parts):
    """A sequence of progressive scans that brings everything."""
    low = int(rng.integers(0, 3))
    apart = rng.random() < 0.3
    together = [[part] for part in parts] if apart else [parts]
    scans = [(scan, 0, 0, 0, low) for scan in together]
    scans += [(scan, 0, 0, bit + 1, bit) for bit in reversed(range(low)) for scan in together]
    for part in parts:
        low = int(rng.integers(0, 3))
        cuts = sorted({1, *rng.integers(2, 64, int(rng.integers(0, 3))).tolist(), 64})
        for first, after in zip(cuts, cuts[1:], strict=False):
            scans.append(([part], first, after - 1, 0, low))
            scans += [([part], first, after - 1, bit + 1, bit) for bit in reversed(range(low))]
    return scans


def progressive(rng, most, complete=True):
    name = choose(rng, [name for name, f in SAMPLINGS.items() if sum(h * v for h, v in f) <= 10])
    picture = Picture(*sides(rng, most), SAMPLINGS[name]).draw(rng, choose(rng, [1, 10, 40]))
    scans = steps(rng, list(range(len(picture.factors))))
    restarts = int(rng.integers(1, 6)) if rng.random() < 0.2 else 0
    if complete:
        return name, picture.file(scans, restarts)
    kept = int(rng.integers(1, len(scans) + 1))
    data = picture.file(scans[:kept], restarts)
    if rng.random() < 0.3:
        data = data[: int(rng.integers(len(data) * 3 // 4, len(data)))] + b"\xff\xd9"
    return f"{name}-{kept}-of-{len(scans)}", data


def incomplete(rng, most):
    return progressive(rng, most, complete=False)


def wide_steps(rng, most):
    tables = [np.rint(np.exp(rng.uniform(0, 8, 64))).astype(int) for _ in range(2)]
    factors = SAMPLINGS[choose(rng, ["444", "420", "grey"])]
    tables[0][0] = max(tables[0][0], 256)
    return "", Picture(*sides(rng, most), factors, tables=tables).draw(rng, 30).file()


def wild(rng, most):
    """Coefficients and steps out of all bounds."""
    top = choose(rng, [3, 40, 2000, 65535])
    tables = [rng.integers(0, top + 1, 64) for _ in range(2)]
    picture = Picture(*sides(rng, min(most, 64)), SAMPLINGS[choose(rng, ["444", "420", "grey"])], tables=tables)
    return f"{top}", picture.draw_wild(rng).file()


def without_codes(rng, most):
    data = saved(scene(rng, *sides(rng, most), 3), subsampling=int(rng.integers(3)))
    return "", b"".join(part for part in segments(data) if part[1] != 0xC4)


def segments(data):
    """A file in parts; the first is its start, the last one begins with a scan."""
    at = 2
    yield data[:2]
    while data[at + 1] != 0xDA:
        after = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at:after]
        at = after
    yield data[at:]


def whole(rng, most):
    """Any kind that is in order."""
    return choose(rng, [by_pillow, by_pillow, sampled, progressive, wide_steps])(rng, most)


def strewn(rng, most):
    """Bytes between segments that belong to none."""
    name, data = whole(rng, most)
    parts = list(segments(data))
    stray = choose(rng, [b"\0", b"\xff\0", b"\xff\xff", b"\x12\x34\0", b"\xff\x01", b"\xff\xd3", b"\xff\x02"])
    parts.insert(int(rng.integers(1, len(parts))), stray)
    return name, b"".join(parts)


def damaged(rng, most):
    """A few bytes changed, dropped or doubled behind the head, or anywhere."""
    name, data = whole(rng, most)
    data = bytearray(data)
    head = data.index(b"\xff\xda") if rng.random() < 0.8 else 2
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(head, len(data)))
        kind = int(rng.integers(5))
        if kind == 0:
            data[at] = int(rng.integers(256))
        elif kind == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 20))]
        elif kind == 3:
            data[at:at] = data[at : at + int(rng.integers(1, 20))]
        else:
            data[at : at + 2] = bytes([0xFF, int(rng.choice([0, 0xD0, 0xD1, 0xD4, 0xD7, 0xD9, 0xC4, 1, 0xFF]))])
    return name, bytes(data)


def restarts_damaged(rng, most):
    """Restart markers dropped, doubled or renumbered."""
    factors = SAMPLINGS[choose(rng, ["444", "420", "grey"])]
    picture = Picture(*sides(rng, most), factors).draw(rng)
    scans = steps(rng, list(range(len(factors)))) if rng.random() < 0.3 else None
    data = bytearray(picture.file(scans, int(rng.integers(1, 6))))
    marks = [at for at in range(len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    for at in sorted(rng.choice(marks, min(len(marks), 2), replace=False).tolist() if marks else [], reverse=True):
        kind = int(rng.integers(3))
        if kind == 0:
            data[at + 1] = 0xD0 + int(rng.integers(8))
        elif kind == 1:
            del data[at : at + 2]
        else:
            data[at:at] = data[at : at + 2]
    return "", bytes(data)


def cut(rng, most):
    name, data = whole(rng, most)
    return name, data[: int(rng.integers(2, len(data)))]


def cut_and_ended(rng, most):
    name, data = cut(rng, most)
    return name, data + b"\xff\xd9"


def refused(rng, most):
    """What neither Pillow nor this project reads; some of it is in order."""
    picture = Picture(*sides(rng, most), SAMPLINGS["420"]).draw(rng)
    data = picture.file()
    frame = data.index(b"\xff\xc0")
    kinds = {
        "fractions": lambda: Picture(16, 16, [(3, 1), (2, 1), (1, 1)]).draw(rng).file(),
        "two-components": lambda: Picture(16, 16, [(1, 1)] * 2).draw(rng).file(),
        "twelve-bits": lambda: data[: frame + 4] + b"\x0c" + data[frame + 5 :],
        "no-height": lambda: data[: frame + 5] + b"\0\0" + data[frame + 7 :],
        "two-frames": lambda: data[:2] + data[frame : frame + 19] + data[2:],
        "two-scans": lambda: picture.file([([0, 1, 2],)] * 2),
        "no-steps": lambda: data[:2] + data[frame:],
        "hierarchical": lambda: data[: frame + 1] + b"\xc5" + data[frame + 2 :],
        "lossless": lambda: data[: frame + 1] + b"\xc3" + data[frame + 2 :],
        "end-alone": lambda: data[:frame] + data[frame : frame + 19] + b"\xff\xd9",
    }
    name = choose(rng, list(kinds))
    return name, kinds[name]()


def tables_before(rng, most):
    """A file of tables alone, and the picture behind it."""
    parts = list(segments(saved(scene(rng, *sides(rng, most), 3))))
    tables = [part for part in parts if part[1] in (0xDB, 0xC4)]
    rest = [part for part in parts if part[1] not in (0xDB, 0xC4)]
    return "", b"".join([parts[0], *tables, b"\xff\xd9", *rest])


def grey_by_pillow(rng, most):
    return by_pillow(rng, most, 1, progressive=bool(rng.random() < 0.3))


def progressive_by_pillow(rng, most):
    return by_pillow(rng, most, progressive=True)


def rgb_by_pillow(rng, most):
    return by_pillow(rng, most, keep_rgb=True)


KINDS = [
    by_pillow, progressive_by_pillow, grey_by_pillow, inks_by_pillow, rgb_by_pillow, turned, colors,
    sampled, sampled, progressive, progressive, incomplete, wide_steps, wild, without_codes, strewn,
    damaged, restarts_damaged, cut, cut_and_ended, refused, tables_before,
]  # fmt: skip


# --- what is expected ---


def described(data, upright):
    """Pillow's own decision, and its bytes."""
    try:
        picture = Image.open(io.BytesIO(data), formats=["JPEG"])
        picture.load()
    except (OSError, SyntaxError) as error:
        return {"refused": str(error).split(" <")[0]}
    if upright:
        picture = ImageOps.exif_transpose(picture)
    picture = picture.convert("RGB")
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    return {"width": picture.width, "height": picture.height, "sha256": digest}


def write(folder, count, seed, most):
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    with open(folder / "jpegs.bin", "wb") as files:
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            kind = KINDS[number % len(KINDS)]
            detail, data = kind(rng, most)
            name = f"{kind.__name__.replace('_', '-')}-{number}" + f"-{detail}" * bool(detail)
            upright = kind is turned
            entries.append({"name": name, "length": len(data), "upright": upright, **described(data, upright)})
            files.write(data)
    (folder / "jpegs.json").write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n")
    refused = sum("refused" in entry for entry in entries)
    print(f"{count} files, {refused} refused by Pillow, libjpeg-turbo {features.version('libjpeg_turbo')}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, default=OUT)
    arguments.add_argument("--count", type=int, default=220)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--most", type=int, default=150, help="the longest side")
    write(**vars(arguments.parse_args()))
