"""Writes the fixtures of the image processor: bunny-core/tests/fixtures/pictures.

    files/          small pictures in every format and mode
    decoded.json    how each should come out, and where its bytes lie
    decoded.bin     Pillow's open(...).convert("RGB"), or exif_transpose before it
    pixels.json     which files were processed how, and where the values lie
    pixels.bin      f32, [3, side, side]: transformers' PIL processors and torchvision's transform
    tables.json     what each processor makes of the bytes 0 to 255, as the bits of f32

Run with the packages of requirements.txt; the output depends on nothing else.
"""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision import transforms
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

OUT = Path(__file__).resolve().parents[2] / "bunny-core/tests/fixtures/pictures"
FILES = OUT / "files"
SIGLIP = ([0.5] * 3, [0.5] * 3)
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


# Pillow 13 resizes the columns of a tall picture before its rows. Bunny's models were trained with
# a Pillow that always began with the rows, so here every resize does.
pillow_resize = Image.Image.resize


def resize_rows_first(picture, size, *args, **kwargs):
    rows = pillow_resize(picture, (size[0], picture.height), *args, **kwargs)
    return pillow_resize(rows, size, *args, **kwargs)


Image.Image.resize = resize_rows_first


# --- what the pictures show ---


def scene(width, height, channels, seed, top=255):
    """Waves with some noise: smooth places, edges, and full range."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(channels):
        fx, fy, phase = rng.uniform(0.05, 0.6), rng.uniform(0.05, 0.6), rng.uniform(0, 6)
        wave = np.sin(fx * x + fy * y + phase) * 0.62 + 0.5
        wave = wave + (rng.random((height, width)) - 0.5) * 0.3
        wave[(x + 2 * y) % 11 == 0] = rng.choice([0.0, 1.0])
        planes.append(wave)
    values = np.clip(np.stack(planes, -1), 0, 1) * top
    return values.astype(np.uint16 if top > 255 else np.uint8)


def rgb(width, height, seed):
    return Image.fromarray(scene(width, height, 3, seed))


def rgba(width, height, seed):
    return Image.fromarray(scene(width, height, 4, seed))


def grey(width, height, seed):
    return Image.fromarray(scene(width, height, 1, seed)[..., 0])


def palette(width, height, seed, colors=64):
    return rgb(width, height, seed).quantize(colors, dither=Image.Dither.NONE)


def deep(width, height, channels, seed):
    """16 bits, with low values among them: Pillow clips 16-bit grey at 255."""
    values = scene(width, height, channels, seed, top=65535)
    values[: height // 2] >>= 8
    return values


# --- files that Pillow does not write ---


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows, width, height, depth, color, extra=(), interlace=0):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_deep(values, color, extra=()):
    height, width = values.shape[:2]
    rows = [row.astype(">u2").tobytes() for row in values]
    return png(rows, width, height, 16, color, extra)


def png_packed(values, depth, color, extra=()):
    """Samples of 1, 2 or 4 bits."""
    height, width = values.shape
    rows = []
    for row in values:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return png(rows, width, height, depth, color, extra)


def png_interlaced(values):
    height, width = values.shape[:2]
    rows = []
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x, y, dx, dy in passes:
        part = values[y::dy, x::dx]
        if part.size:
            rows += [row.tobytes() for row in part]
    return png(rows, width, height, 8, 2, interlace=1)


def bmp(width, height, bits, data, compression=0, colors=b"", masks=b"", top_down=False):
    start = 14 + 40 + len(masks) + len(colors)
    sizes = (40, width, -height if top_down else height, 1, bits, compression, len(data), 2835, 2835)
    header = struct.pack("<IiiHHIIii", *sizes) + struct.pack("<II", len(colors) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + masks + colors + data


def bmp_16(values, green_bits):
    """5 bits red and blue, 5 or 6 green."""
    height, width = values.shape[:2]
    r, g, b = (values[..., c].astype(np.uint16) for c in range(3))
    packed = (r >> 3) << (5 + green_bits) | (g >> (8 - green_bits)) << 5 | b >> 3
    rows = [row.astype("<u2").tobytes() for row in packed[::-1]]
    data = b"".join(row + b"\0" * (-len(row) % 4) for row in rows)
    if green_bits == 5:
        return bmp(width, height, 16, data)
    return bmp(width, height, 16, data, 3, masks=struct.pack("<III", 0xF800, 0x07E0, 0x001F))


def bmp_rle8(indices, colors):
    height, width = indices.shape
    data = b""
    for row in indices[::-1]:
        at = 0
        while at < width:
            run = 1
            while at + run < width and run < 255 and row[at + run] == row[at]:
                run += 1
            data += bytes([run, row[at]])
            at += run
        data += b"\0\0"
    return bmp(width, height, 8, data + b"\0\1", 1, colors)


def bmp_4(indices, colors):
    height, width = indices.shape
    data = b""
    for row in indices[::-1]:
        row = list(row) + [0] * (width % 2)
        packed = bytes(a << 4 | b for a, b in zip(row[::2], row[1::2]))
        data += packed + b"\0" * (-len(packed) % 4)
    return bmp(width, height, 4, data, 0, colors)


def gif_on_screen(file, width, height):
    """A GIF whose only frame covers a part of a larger screen."""
    data = bytearray(file)
    struct.pack_into("<HH", data, 6, width, height)
    start = data.index(b"\x2c\0\0\0\0", 13)
    struct.pack_into("<HH", data, start + 1, 3, 2)
    return bytes(data)


def tiff(width, height, tags, data, endian="<"):
    """One strip."""
    tags = {256: (4, [width]), 257: (4, [height]), 259: (3, [1]), 273: (4, [8]), 278: (4, [height]),
            279: (4, [len(data)]), **tags}  # fmt: skip
    data += b"\0" * (len(data) % 2)
    at = 8 + len(data)
    entries, far = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        body = b"".join(struct.pack(endian + {3: "H", 4: "I"}[kind], value) for value in values)
        if len(body) > 4:
            where = at + 2 + 12 * len(tags) + 4 + len(far)
            far += body
            body = struct.pack(endian + "I", where)
        entries += struct.pack(endian + "HHI", tag, kind, len(values)) + body.ljust(4, b"\0")
    magic = b"II*\0" if endian == "<" else b"MM\0*"
    directory = struct.pack(endian + "H", len(tags)) + entries + b"\0\0\0\0"
    return magic + struct.pack(endian + "I", at) + data + directory + far


def tiff_deep(values, endian):
    height, width, channels = values.shape
    tags = {258: (3, [16] * channels), 262: (3, [2]), 277: (3, [channels])}
    if channels == 4:
        tags[338] = (3, [2])
    return tiff(width, height, tags, values.astype(endian + "u2").tobytes(), endian)


# --- the files ---


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def colors_of(picture, quad):
    flat = picture.getpalette()
    triples = [flat[i : i + 3] for i in range(0, len(flat), 3)]
    return b"".join(bytes([b, g, r, 0] if quad else [r, g, b]) for r, g, b in triples)


def files():
    # PNG
    yield "rgb.png", saved(rgb(23, 17, 1), "PNG")
    yield "rgb-interlaced.png", png_interlaced(scene(29, 13, 3, 2))
    yield "rgb-gamma.png", png([r.tobytes() for r in scene(11, 9, 3, 3)], 11, 9, 8, 2,
                               [chunk(b"gAMA", struct.pack(">I", 100000))])  # fmt: skip
    yield "rgba.png", saved(rgba(19, 31, 4), "PNG")
    yield "grey.png", saved(grey(37, 5, 5), "PNG")
    yield "grey-alpha.png", saved(Image.fromarray(scene(13, 21, 2, 6), "LA"), "PNG")
    yield "grey-1.png", saved(grey(27, 14, 7).convert("1"), "PNG")
    yield "grey-2.png", png_packed(scene(15, 9, 1, 8)[..., 0] >> 6, 2, 0)
    yield "grey-4.png", png_packed(scene(17, 8, 1, 9)[..., 0] >> 4, 4, 0)
    yield "grey-transparent.png", saved(grey(9, 12, 10), "PNG", transparency=7)
    yield "grey-16.png", png_deep(deep(21, 12, 1, 11)[..., 0], 0)
    yield "grey-16-transparent.png", png_deep(deep(14, 10, 1, 12)[..., 0], 0, [chunk(b"tRNS", b"\0\x40")])
    yield "grey-alpha-16.png", png_deep(deep(12, 10, 2, 13), 4)
    yield "rgb-16.png", png_deep(deep(10, 15, 3, 14), 2)
    yield "rgba-16.png", png_deep(deep(11, 10, 4, 15), 6)
    yield "palette.png", saved(palette(33, 22, 16), "PNG")
    yield "palette-4.png", saved(palette(25, 16, 17, 4), "PNG")
    yield "palette-16.png", saved(palette(16, 25, 17, 16), "PNG")
    yield "palette-transparent.png", saved(palette(20, 20, 18), "PNG", transparency=bytes([0, 128, 255, 3]))
    yield "upright-6.png", saved(rgb(7, 5, 19), "PNG", exif=turned(6))
    # GIF
    yield "palette.gif", saved(palette(26, 15, 20), "GIF", interlace=0)
    yield "interlaced.gif", saved(palette(18, 37, 21), "GIF", interlace=1)
    yield "transparent.gif", saved(palette(17, 11, 22), "GIF", transparency=3)
    yield "grey.gif", saved(grey(12, 13, 23), "GIF")
    yield "animated.gif", saved(palette(14, 14, 24), "GIF", save_all=True,
                                append_images=[palette(14, 14, 25), palette(14, 14, 26)])  # fmt: skip
    yield "part-of-screen.gif", gif_on_screen(saved(palette(9, 7, 27), "GIF", interlace=0), 16, 12)
    yield "part-of-screen-transparent.gif", gif_on_screen(
        saved(palette(9, 7, 28), "GIF", interlace=0, transparency=5), 15, 13)  # fmt: skip
    # BMP
    yield "rgb.bmp", saved(rgb(13, 9, 30), "BMP")
    yield "rgba.bmp", saved(rgba(9, 13, 31), "BMP")
    yield "grey.bmp", saved(grey(15, 10, 32), "BMP")
    yield "palette.bmp", saved(palette(10, 11, 33), "BMP")
    yield "black-white.bmp", saved(grey(35, 6, 34).convert("1"), "BMP")
    sixteen = palette(21, 7, 35, 16)
    yield "palette-16.bmp", bmp_4(np.array(sixteen), colors_of(sixteen, True))
    yield "rle.bmp", bmp_rle8(np.array(sixteen).repeat(2, 1), colors_of(sixteen, True))
    yield "rgb-555.bmp", bmp_16(scene(15, 8, 3, 36), 5)
    yield "rgb-565.bmp", bmp_16(scene(8, 15, 3, 37), 6)
    top = scene(12, 5, 3, 38)
    yield "top-down.bmp", bmp(12, 5, 24, top[..., ::-1].tobytes(), top_down=True)
    # TIFF
    yield "rgb.tif", saved(rgb(19, 14, 40), "TIFF")
    yield "rgb-lzw.tif", saved(rgb(31, 20, 41), "TIFF", compression="tiff_lzw")
    yield "rgb-deflate.tif", saved(rgb(20, 31, 42), "TIFF", compression="tiff_deflate")
    yield "rgb-packbits.tif", saved(rgb(9, 9, 43), "TIFF", compression="packbits")
    yield "rgba.tif", saved(rgba(10, 12, 44), "TIFF")
    yield "grey.tif", saved(grey(12, 10, 45), "TIFF")
    yield "grey-alpha.tif", saved(Image.fromarray(scene(11, 8, 2, 46), "LA"), "TIFF")
    yield "black-white.tif", saved(grey(29, 11, 47).convert("1"), "TIFF")
    yield "black-white-fax.tif", saved(grey(32, 16, 47).convert("1"), "TIFF", compression="group4")
    yield "palette.tif", saved(palette(18, 9, 48), "TIFF")
    yield "grey-16.tif", saved(Image.fromarray(deep(13, 12, 1, 49)[..., 0]), "TIFF")
    yield "rgb-16.tif", tiff_deep(deep(12, 9, 3, 50), "<")
    yield "rgb-16-big-endian.tif", tiff_deep(deep(9, 12, 3, 51), ">")
    yield "cmyk.tif", saved(Image.fromarray(scene(24, 13, 4, 52), "CMYK"), "TIFF")
    yield "cmyk-lzw.tif", saved(Image.fromarray(scene(13, 24, 4, 53), "CMYK"), "TIFF", compression="tiff_lzw")
    white = scene(16, 9, 1, 54)[..., 0]
    yield "white-is-zero.tif", tiff(16, 9, {258: (3, [8]), 262: (3, [0]), 277: (3, [1])}, white.tobytes())
    yield "float.tif", saved(Image.fromarray(deep(10, 9, 1, 55)[..., 0].astype(np.float32) / 100 - 30), "TIFF")
    yield "premultiplied.tif", tiff(14, 11, {258: (3, [8] * 4), 262: (3, [2]), 277: (3, [4]), 338: (3, [1])},
                                    scene(14, 11, 4, 57).tobytes())  # fmt: skip
    yield "planes.tif", tiff(13, 10, {258: (3, [8] * 3), 262: (3, [2]), 277: (3, [3]), 284: (3, [2]),
                                      273: (4, [8, 138, 268]), 279: (4, [130] * 3)},
                             scene(13, 10, 3, 58).transpose(2, 0, 1).tobytes())  # fmt: skip
    yield "palette-4.tif", tiff(10, 6, {258: (3, [4]), 262: (3, [3]), 277: (3, [1]), 320: (3, list(range(0, 65000, 1354))[:48])},
                                scene(5, 6, 1, 59)[..., 0].tobytes(), ">")  # fmt: skip
    yield "upright-8.tif", saved(rgb(8, 5, 56), "TIFF", exif=turned(8))
    # WebP
    yield "rgb.webp", saved(rgb(22, 18, 60), "WEBP", lossless=True)
    yield "rgba.webp", saved(rgba(18, 22, 61), "WEBP", lossless=True, exact=True)
    yield "animated.webp", saved(rgb(12, 12, 62), "WEBP", lossless=True, save_all=True,
                                 append_images=[rgb(12, 12, 63)])  # fmt: skip
    yield "lossy.webp", saved(rgb(45, 33, 64), "WEBP", quality=80)
    yield "lossy-alpha.webp", saved(rgba(33, 45, 65), "WEBP", quality=60)
    yield "upright-5.webp", saved(rgb(6, 9, 66), "WEBP", lossless=True, exif=turned(5))
    # JPEG
    yield "rgb-444.jpg", saved(rgb(41, 27, 70), "JPEG", quality=90, subsampling=0)
    yield "rgb-422.jpg", saved(rgb(39, 26, 71), "JPEG", quality=75, subsampling=1)
    yield "rgb-420.jpg", saved(rgb(51, 35, 72), "JPEG", quality=75, subsampling=2)
    yield "progressive.jpg", saved(rgb(35, 51, 73), "JPEG", quality=75, progressive=True)
    yield "grey.jpg", saved(grey(30, 21, 74), "JPEG", quality=85)
    yield "cmyk.jpg", saved(Image.fromarray(scene(28, 20, 4, 75), "CMYK"), "JPEG", quality=95, subsampling=0)
    for value in range(1, 9):
        yield f"upright-{value}.jpg", saved(rgb(10, 6, 76), "JPEG", quality=95, subsampling=0, exif=turned(value))


# --- what is expected ---


def lossy(name):
    return name.endswith(".jpg") or name.startswith("lossy")


def write_decoded():
    entries, data = [], b""
    for name, content in files():
        (FILES / name).write_bytes(content)
        picture = Image.open(FILES / name)
        upright = name.startswith("upright")
        entry = {"name": name, "mode": picture.mode, "lossy": lossy(name), "upright": upright}
        if upright:
            picture = ImageOps.exif_transpose(picture)
        picture = picture.convert("RGB")
        entries.append({**entry, "width": picture.width, "height": picture.height, "offset": len(data)})
        data += picture.tobytes()
    (OUT / "decoded.json").write_text(json.dumps(entries, indent=0) + "\n")
    (OUT / "decoded.bin").write_bytes(data)


def on_square(picture, mean):
    if picture.width == picture.height:
        return picture
    side = max(picture.size)
    square = Image.new("RGB", (side, side), tuple(int(x * 255) for x in mean))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def processors(side):
    size = {"height": side, "width": side}
    siglip = SiglipImageProcessorPil(size=size, resample=3, image_mean=SIGLIP[0], image_std=SIGLIP[1])
    clip = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=size, resample=3)
    eva = transforms.Compose([
        transforms.Resize(side, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(side),
        transforms.ToTensor(),
        transforms.Normalize(*CLIP),
    ])  # fmt: skip
    return {
        "siglip": (SIGLIP[0], lambda p: siglip(p, return_tensors="np")["pixel_values"][0]),
        "eva": (CLIP[0], lambda p: eva(p).numpy()),
        "clip": (CLIP[0], lambda p: clip(p, return_tensors="np")["pixel_values"][0]),
    }


def photograph():
    """A larger picture, for sides that the towers have; its name is in no folder."""
    return rgb(211, 157, 99)


def write_pixels():
    entries, data = [], b""
    names = sorted(path.name for path in FILES.iterdir() if not lossy(path.name))
    for number, name in enumerate(names[::2]):
        # Through an array, so that no processor sees a transparent colour beside the pixels.
        picture = Image.fromarray(np.asarray(Image.open(FILES / name).convert("RGB")))
        side = [7, 12, 16][number % 3]
        for kind, (mean, process) in processors(side).items():
            for aspect in ("pad", "square"):
                given = on_square(picture, mean) if aspect == "pad" else picture
                values = np.ascontiguousarray(process(given), dtype=np.float32)
                assert values.shape == (3, side, side)
                entry = {"name": name, "kind": kind, "aspect": aspect, "side": side}
                entries.append({**entry, "offset": len(data)})
                data += values.tobytes()
    (OUT / "pixels.json").write_text(json.dumps(entries) + "\n")
    (OUT / "pixels.bin").write_bytes(data)


def write_large():
    """Whole-size runs, as checksums: 384, 1152 and 336."""
    entries = []
    (FILES.parent / "large.png").write_bytes(saved(photograph(), "PNG"))
    for kind, side in (("siglip", 384), ("siglip", 1152), ("eva", 336), ("clip", 336)):
        mean, process = processors(side)[kind]
        for aspect in ("pad", "square"):
            given = on_square(photograph(), mean) if aspect == "pad" else photograph()
            values = np.ascontiguousarray(process(given), dtype=np.float32)
            entries.append({"kind": kind, "aspect": aspect, "side": side, "crc32": zlib.crc32(values.tobytes())})
    (OUT / "large.json").write_text(json.dumps(entries, indent=0) + "\n")


def write_tables():
    """Every byte in every channel: 16 x 16 pixels, each of one grey, resized to themselves."""
    greys = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    tables = {
        kind: process(greys).astype(np.float32).reshape(3, 256).view(np.uint32).tolist()
        for kind, (_, process) in processors(16).items()
    }
    (OUT / "tables.json").write_text(json.dumps(tables) + "\n")


if __name__ == "__main__":
    FILES.mkdir(parents=True, exist_ok=True)
    for old in FILES.iterdir():
        old.unlink()
    write_decoded()
    write_pixels()
    write_large()
    write_tables()
