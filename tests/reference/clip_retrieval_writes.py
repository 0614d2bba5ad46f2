"""Holds embeddings against clip-retrieval's own writer: given the same rows it must leave the same .npy
files, byte for byte, and a table of the same columns and types.

    bunny-cli data embed --images tars --model MODEL --out embedded
    pip install --no-deps clip-retrieval==2.45.0 fsspec
    python tests/reference/clip_retrieval_writes.py embedded tars

Run by hand. A column without any value is text here and has no type there; one of lists is text here, JSON.
"""

import importlib.util
import json
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

# The module alone: the package imports its server.
PACKAGE = importlib.util.find_spec("clip_retrieval").submodule_search_locations[0]
WRITER = Path(PACKAGE) / "clip_inference" / "writer.py"
SPEC = importlib.util.spec_from_file_location("writer", WRITER)
writer = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(writer)


def main(embedded, tars):
    metadata = {}
    for tar in sorted(tars.glob("*.tar")):
        with tarfile.open(tar) as archive:
            for member in archive:
                key, ending = member.name.split(".", 1)
                if ending == "json":
                    metadata[key] = archive.extractfile(member).read().decode()
    files = sorted((embedded / "img_emb").glob("*.npy"))
    parts = len(list((embedded / "stats").glob("*.json")))
    for file in files:
        number = file.stem.rsplit("_", 1)[1]
        table = f"metadata/metadata_{number}.parquet"
        ours = pd.read_parquet(embedded / table)
        text = f"text_emb/text_emb_{number}.npy"
        with tempfile.TemporaryDirectory() as out:
            sink = writer.OutputSink(out, True, True, True, int(number), parts)
            sink.add(
                {
                    "image_embs": np.load(file),
                    "text_embs": np.load(embedded / text),
                    "image_filename": list(ours["image_path"]),
                    "text": list(ours["caption"]),
                    "metadata": [metadata[key] for key in ours["image_path"]],
                }
            )
            sink.flush()
            for name in (f"img_emb/{file.name}", text):
                assert (Path(out) / name).read_bytes() == (embedded / name).read_bytes(), name
            theirs = pd.read_parquet(Path(out) / table)
        assert list(ours.columns) == list(theirs.columns), (ours.columns, theirs.columns)
        for column in ours.columns:
            if theirs[column].isna().all():
                continue
            if isinstance(theirs[column].dropna().iloc[0], np.ndarray):
                lists = [None if value is None else value.tolist() for value in theirs[column]]
                assert [None if value is None else json.loads(value) for value in ours[column]] == lists, column
                continue
            assert ours[column].dtype == theirs[column].dtype, column
            assert ours[column].equals(theirs[column]), column
        print(f"part {number}: {len(ours)} rows, {len(ours.columns)} columns, as clip-retrieval writes them")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
