"""Small record files and archives as the common Python libraries write them.

    pip install pyarrow pillow
    python tests/reference/records.py

writes bunny-data/tests/fixtures/records/: Parquet by pyarrow, archives by tarfile, pictures by
Pillow, and in expected.json what Python reads back.
"""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = Path(__file__).parents[2] / "bunny-data/tests/fixtures/records"


def record(index):
    """A record with what is awkward in text: quotes, line breaks, other scripts, an emoji."""
    human = f"<image>\nNumber {index}? \"quoted\" \\ back\tslash"
    gpt = f"Zahl {index}: größer, 数字, 🐰" if index % 3 else f"No. {index}\n\nSecond line."
    return {
        "id": f"r_{index}",
        "image": f"coco/{index % 7}.jpg",
        "conversations": [
            {"from": "human", "value": human},
            {"from": "gpt", "value": gpt},
        ],
    }


def picture(width, height, form):
    image = Image.new("RGB", (width, height))
    image.putdata([(x * 5 % 256, y * 7 % 256, x * y % 256) for y in range(height) for x in range(width)])
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    records = [record(index) for index in range(300)]

    # Several row groups, and pages much smaller than one, so that windows cross them.
    table = pa.Table.from_pylist(records)
    for name in ["snappy", "zstd", "gzip"]:
        pq.write_table(table, OUT / f"{name}.parquet", compression=name, row_group_size=110,
                       data_page_size=512)
    # As Hugging Face `datasets` stores an image column.
    embedded = [dict(r, image={"bytes": b"\xff\xd8\x00", "path": r["image"]}) for r in records[:5]]
    pq.write_table(pa.Table.from_pylist(embedded), OUT / "embedded.parquet")

    # Indented, and with every non-ASCII character escaped, as json.dump does by default.
    (OUT / "indented.json").write_text(json.dumps(records[:20], indent=4))

    pictures = {
        "a.jpg": picture(40, 30, "JPEG"),
        "folder/b.png": picture(31, 17, "PNG"),
        "deep/" * 30 + "long name.gif": picture(8, 9, "GIF"),
        "größe.webp": picture(20, 10, "WEBP"),
    }
    for name, form in [("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)]:
        with tarfile.open(OUT / f"{name}.tar", "w", format=form) as tar:
            folder = tarfile.TarInfo("top")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for path, content in pictures.items():
                member = tarfile.TarInfo("top/" + path)
                member.size = len(content)
                if name == "pax":
                    member.pax_headers = {"comment": "x" * 700}
                tar.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("top/link.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
            tar.addfile(link)

    expected = {
        "records": records,
        "pictures": {path: {"bytes": len(content), "sum": sum(content)} for path, content in pictures.items()},
    }
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


main()
