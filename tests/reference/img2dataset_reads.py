"""Holds a coreset's kept.parquet against img2dataset's own reader: every row, its address, its caption and
the columns that are to be kept beside.

    pip install img2dataset --no-deps; pip install fsspec pandas pyarrow
    python img2dataset_reads.py coreset/kept.parquet"""

import os
import sys
import sysconfig
import tempfile
import types

import pyarrow as pa
import pyarrow.parquet as pq

# The package as a whole wants OpenCV, its reader does not.
package = types.ModuleType("img2dataset")
package.__path__ = [os.path.join(sysconfig.get_paths()["purelib"], "img2dataset")]
sys.modules["img2dataset"] = package
from img2dataset.reader import Reader  # noqa: E402

BESIDE = ["key", "image_text_cosine", "image_centroid_cosine", "cluster"]

path = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:
    reader = Reader(path, "parquet", "url", "caption", None, None, list(BESIDE), 16, set(), folder)
    read = pa.concat_tables(pa.ipc.open_file(file).read_all() for _, file in reader)
written = pq.read_table(path)
for name in ["url", "caption", *BESIDE]:
    assert read[name].to_pylist() == written[name].to_pylist(), name
assert read.num_rows == written.num_rows > 0
print(f"{read.num_rows} rows, {read.num_rows - read['url'].null_count} with an address")
