"""Writes examples/pictures, from the photographs in scikit-image. See the README there."""

from pathlib import Path

from PIL import Image
from skimage import data

OUT = Path(__file__).resolve().parents[2] / "examples/pictures"

if __name__ == "__main__":
    for name in ("chelsea", "coffee", "rocket"):
        picture = Image.fromarray(getattr(data, name)())
        picture.save(OUT / f"{name}.jpg", quality=88, optimize=True)
