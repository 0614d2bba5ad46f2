"""Makes bunny-weights/tests/fixtures/gguf: a file by gguf's own package, with a tensor and a key of every type.

    python tests/reference/gguf_files.py

every-type.gguf    3 rows of 512 numbers in each type that is read here, and keys of all types
every-type.json    what the keys say
TYPE.f32           the numbers that gguf makes of the tensor TYPE

Q8_0, Q4_0, Q5_0 and BF16 hold the numbers of F32, rounded by gguf, and so do F16, Q4_1 and Q5_1. K blocks, which
gguf only opens, are of random bytes, their scales being f16 of moderate size.
"""

import json
from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

FIXTURES = Path(__file__).parents[2] / "bunny-weights" / "tests" / "fixtures" / "gguf"
FIXTURES.mkdir(parents=True, exist_ok=True)
ROWS, ROW = 3, 512
random = np.random.default_rng(31)

numbers = random.normal(size=(ROWS, ROW)).astype(np.float32)
numbers[1] *= 1e-3
numbers[2, 32:64] = 0
numbers[2, 64:96] = -0.75
# Times the inverse of the scale, the second one is a hair above six and a half, and that in f32.
numbers[2, :32] = 0.01
numbers[2, :2] = [0.15625, 0.126953125]
# Halfway between two steps of eight bits, and of four.
numbers[2, 96:128] = np.arange(32) - 15.5
numbers[2, 96] = 127

# Bytes at which the f16 of a K block lie.
HALVES = {"Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def k_blocks(name):
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = random.integers(0, 256, size=(ROWS * ROW // block, size), dtype=np.uint8)
    for at in HALVES[name]:
        scales = random.normal(size=len(blocks)).astype("<f2")
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(ROWS, -1)


said = {
    "architecture": "none", "text": "kanınchen \U0001f430", "u8": 200, "i8": -100, "u16": 60000, "i16": -30000,
    "u32": 4000000000, "i32": -2000000000, "u64": 2**63 + 1, "i64": -(2**62), "texts": ["", "a b", "Ġ\n"],
    "integers": [1, -2, 3],
}
writer = gguf.GGUFWriter(FIXTURES / "every-type.gguf", said["architecture"])
writer.add_string("text", said["text"])
for kind in ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]:
    key = kind.replace("uint", "u").replace("int", "i")
    getattr(writer, f"add_{kind}")(key, said[key])
writer.add_bool("bool", True)
writer.add_float32("f32", 0.1)
writer.add_float64("f64", 0.1)
writer.add_array("texts", said["texts"])
writer.add_array("integers", said["integers"])
writer.add_array("floats", [0.5, -1.5])

for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]:
    kind = GGMLQuantizationType[name]
    blocks = k_blocks(name) if name in HALVES else quantize(numbers, kind)
    opened = dequantize(blocks, kind).astype("<f4")
    assert opened.shape == (ROWS, ROW) and np.isfinite(opened).all(), name
    (FIXTURES / f"{name}.f32").write_bytes(opened.tobytes())
    writer.add_tensor(name, blocks, raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
(FIXTURES / "every-type.json").write_text(json.dumps(said, ensure_ascii=False, indent=1) + "\n")
