"""Makes bunny-kernels/tests/fixtures/gguf: weights of 8 and 4 bits as GGUF has them, by its own package.

    python tests/reference/gguf_blocks.py

For each of Q8_0, Q4_0 and Q4_1 three rows of 96 numbers: NAME.blocks, the bytes of the rows' blocks,
and NAME.numbers, what gguf makes of them, in f32. One row is small, and one block of another all zeros.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

FIXTURES = Path(__file__).parents[2] / "bunny-kernels" / "tests" / "fixtures" / "gguf"

numbers = np.random.default_rng(25).normal(size=(3, 96)).astype(np.float32)
numbers[1] *= 1e-3
numbers[2, 32:64] = 0
for kind in ["Q8_0", "Q4_0", "Q4_1"]:
    blocks = quantize(numbers, GGMLQuantizationType[kind])
    (FIXTURES / f"{kind}.blocks").write_bytes(blocks.tobytes())
    opened = dequantize(blocks, GGMLQuantizationType[kind]).astype("<f4")
    (FIXTURES / f"{kind}.numbers").write_bytes(opened.tobytes())
