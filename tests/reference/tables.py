"""Small tables of every type that people's libraries write: records, and sets of embeddings.

    pip install pyarrow numpy pillow
    python tests/reference/tables.py

writes bunny-data/tests/fixtures/tables/, all by pyarrow, NumPy and Pillow; expected.json holds what
Python reads back from it.
"""

import base64
import decimal
import io
import json
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = Path(__file__).parents[2] / "bunny-data/tests/fixtures/tables"
ROWS, DIMS = 12, 8


def png(shade):
    out = io.BytesIO()
    Image.new("RGB", (3, 2), (shade, 255 - shade, 7)).save(out, "PNG")
    return out.getvalue()


def turns(index):
    return [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"It is {index}."}]


def base64_of(pictures):
    return [base64.b64encode(picture).decode() for picture in pictures]


def json_column(values):
    texts = [None if value is None else json.dumps(value) for value in values]
    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(texts, pa.string()))


def records(expected):
    # As datasets 5 writes columns that have no one type: the texts of their JSON.
    said = [{"id": "a", "image": "0.jpg"}, {"id": 1, "image": ["1.jpg"]}, {"id": "NaN", "image": None}]
    said = [record | {"conversations": turns(index)} for index, record in enumerate(said)]
    table = pa.table({
        "id": json_column([record["id"] for record in said]),
        "image": json_column([record["image"] for record in said]),
        "conversations": pa.array([record["conversations"] for record in said]),
    })
    pq.write_table(table, OUT / "json.parquet")
    # Turns of unequal keys: each is a text of its own.
    flat = json_column([turn for record in said for turn in record["conversations"]])
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4, 6], pa.int32()), flat)
    table = pa.table({"id": json_column([record["id"] for record in said]), "conversations": lists})
    pq.write_table(table, OUT / "json_turns.parquet", store_schema=False)
    expected["json"] = said

    # Pictures inside the file: datasets' `Image()`, a list of them, and bytes alone.
    pictures = [png(shade) for shade in range(0, 250, 25)]
    one = [
        {"bytes": pictures[0], "path": None},
        {"bytes": pictures[1], "path": "b.png"},
        {"bytes": None, "path": "elsewhere/c.png"},
        None,
        {"bytes": pictures[4], "path": None},
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    conversations = pa.array([turns(index) for index in range(5)])
    pq.write_table(pa.table({"image": pa.array(one, kind), "conversations": conversations}),
                   OUT / "image.parquet", row_group_size=2)
    many = [[one[0], one[1]], [], None, [one[2], one[4]], [one[4]]]
    messages = pa.array([[
        {"role": "user", "content": "<image>\nWhat?"},
        {"role": "assistant", "content": f"It is {index}."},
    ] for index in range(5)])
    pq.write_table(pa.table({"images": pa.array(many, pa.list_(kind)), "messages": messages}),
                   OUT / "images.parquet", row_group_size=3)
    bare = [pictures[0], pictures[1], None, pictures[3], pictures[4]]
    pq.write_table(pa.table({"image": pa.array(bare, pa.binary()), "conversations": conversations}),
                   OUT / "bytes.parquet")
    place = {"elsewhere/c.png": "elsewhere/c.png"}
    show = lambda item: place.get(item["path"]) or base64_of([item["bytes"]])[0]
    expected["image"] = [[show(item)] if item else [] for item in one]
    expected["images"] = [[show(item) for item in items or []] for items in many]
    expected["bytes"] = [base64_of([item]) if item else [] for item in bare]

    pq.write_table(pa.table({"conversations": conversations}), OUT / "brotli.parquet", compression="brotli")


def embeddings(expected):
    draw = np.random.default_rng(7)
    image = draw.normal(size=(ROWS, DIMS)).astype("f4")
    text = draw.normal(size=(ROWS, DIMS)).astype("f4")
    words = [f"key_{index % 100:03}" for index in range(ROWS)]
    names = [uuid.UUID(int=(index + 1) * 0x0123456789ABCDEF0123456789) for index in range(ROWS)]
    numbers = list(range(100, 100 + ROWS))
    keys = {
        "string": pa.array(words),
        "large_string": pa.array(words, pa.large_string()),
        "string_view": pa.array(words, pa.string_view()),
        "binary": pa.array([word.encode() for word in words]),
        "large_binary": pa.array([word.encode() for word in words], pa.large_binary()),
        "fixed_binary": pa.array([word.encode() for word in words], pa.binary(7)),
        "dictionary": pa.array(words).dictionary_encode(),
        "dictionary_large": pa.array(words, pa.large_string()).dictionary_encode(),
        "uuid": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([name.bytes for name in names], pa.binary(16))),
        "int8": pa.array(numbers, pa.int8()),
        "int16": pa.array(numbers, pa.int16()),
        "int32": pa.array(numbers, pa.int32()),
        "int64": pa.array(numbers, pa.int64()),
        "uint8": pa.array(numbers, pa.uint8()),
        "uint16": pa.array(numbers, pa.uint16()),
        "uint32": pa.array(numbers, pa.uint32()),
        "uint64": pa.array(numbers, pa.uint64()),
        "decimal": pa.array([decimal.Decimal(number) for number in numbers], pa.decimal128(20, 0)),
        "dictionary_int": pa.array(numbers, pa.int64()).dictionary_encode(),
    }
    are_numbers = lambda name: name == "decimal" or "int" in name
    texts = lambda name: names if name == "uuid" else numbers if are_numbers(name) else words
    expected["keys"] = {name: [str(text) for text in texts(name)] for name in keys}
    # Quarters, which float16 holds exactly.
    scores = [(row * 7 % ROWS) / 4 for row in range(ROWS)]
    score = {
        "score_float16": pa.array(np.array(scores, "f2")),
        "score_float32": pa.array(scores, pa.float32()),
        "score_float64": pa.array(scores, pa.float64()),
        "score_int8": pa.array([int(4 * value) for value in scores], pa.int8()),
        "score_dictionary": pa.array(scores, pa.float32()).dictionary_encode(),
    }
    other = {
        "double": pa.array([float(number) for number in numbers]),
        "list": pa.array([[word] for word in words]),
        "no_text": pa.array([b"\xff\xfe" for _ in words]),
    }
    folder = OUT / "typed"
    for name in ["img_emb", "text_emb", "metadata"]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "img_emb/img_emb_0.npy", image)
    np.save(folder / "text_emb/text_emb_0.npy", text)
    table = pa.table({**keys, **score, **other, "caption": keys["dictionary"]})
    pq.write_table(table, folder / "metadata/metadata_0.parquet")

    folder = OUT / "brotli/metadata"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"key": words, "caption": words}), folder / "metadata_0.parquet", compression="brotli")

    # A part for each of three, of which a filter has emptied the second; float64, as pandas writes
    # lists of Python's numbers.
    for name, dtype in [("parts_float64", pa.float64()), ("parts_float32", pa.float32())]:
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        lists = lambda rows: pa.array([list(map(float, row)) for row in rows], pa.list_(dtype))
        table = pa.table({
            "key": words, "caption": words, "image_embedding": lists(image), "text_embedding": lists(text)})
        bounds = [(0, 5), (5, 5), (5, ROWS)] if dtype == pa.float64() else [(0, ROWS)]
        for index, (start, end) in enumerate(bounds):
            pq.write_table(table.slice(start, end - start), folder / f"part-{index}.parquet")
    np.save(OUT / "centroids_float64.npy", image[:3].astype("f8"))
    np.save(OUT / "centroids_float32.npy", image[:3])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    expected = {}
    records(expected)
    embeddings(expected)
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


main()
