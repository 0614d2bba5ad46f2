"""Writes how much of a PNG Pillow wants: bunny-core/tests/fixtures/pictures/cut-pngs.json.

For each PNG of files/, the fewest bytes from its beginning that Pillow opens; from there on it opens
any number of them, to the whole picture.
"""

import io
import json
from pathlib import Path

from PIL import Image

OUT = Path(__file__).resolve().parents[2] / "bunny-core/tests/fixtures/pictures"


def pixels(data):
    try:
        return Image.open(io.BytesIO(data), formats=["PNG"]).convert("RGB").tobytes()
    except (OSError, SyntaxError):
        return None


def needed(data):
    whole = pixels(data)
    taken = [kept for kept in range(len(data) + 1) if pixels(data[:kept]) is not None]
    assert taken == list(range(taken[0], len(data) + 1))
    assert all(pixels(data[:kept]) == whole for kept in taken)
    return taken[0]


if __name__ == "__main__":
    files = sorted((OUT / "files").glob("*.png"))
    found = {path.name: needed(path.read_bytes()) for path in files}
    (OUT / "cut-pngs.json").write_text(json.dumps(found, indent=0) + "\n")
