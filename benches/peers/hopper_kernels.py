"""The kernels for Hopper by themselves: whether they are right, by float64, and how fast beside torch's.

They are compiled here as bunny compiles them, from bunny-core/src/ops/hopper, by NVRTC.

    python3 benches/peers/hopper_kernels.py
"""

import argparse
import ctypes
import glob
import os
from pathlib import Path

import torch

KERNELS = Path(__file__).parents[2] / "bunny-core/src/ops/hopper"
COMMON, PRODUCT, ATTENTION = [(KERNELS / f"{name}.cu").read_text() for name in ("common", "product", "attention")]
THREADS, ROWS, BLOCK = 384, 128, 64
MAX_DYNAMIC_SHARED_SIZE, FLOAT16, BFLOAT16, SWIZZLE_128B, PROMOTION_128B = 8, 6, 9, 3, 2


def library(name, *places):
    for place in places:
        for path in sorted(glob.glob(place)):
            return ctypes.CDLL(path)
    return ctypes.CDLL(name)


cuda = ctypes.CDLL("libcuda.so.1")
nvrtc = library(
    "libnvrtc.so",
    os.path.join(os.path.dirname(torch.__file__), "../nvidia/*/lib/libnvrtc.so.*"),
    "/usr/local/cuda*/lib64/libnvrtc.so",
)


def check(status, what):
    if status:
        raise RuntimeError(f"{what}: status {status}")


def instruction(name, columns, half, left_turned=0, right_turned=0, registers=False):
    """What kernel.rs writes: one wgmma, 64 rows times `columns`."""
    sums = columns // 2
    kind = "f16" if half else "bf16"
    results = ", ".join(f"%{at}" for at in range(sums))
    bound = ", ".join(f'"+f"(sums[{at}])' for at in range(sums))
    operation = f"wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{kind}.{kind} {{{results}}}"
    head = f"__device__ __forceinline__ void {name}(float (&sums)[{sums}], "
    if registers:
        left = ", ".join(f"%{sums + at}" for at in range(4))
        return (
            f"{head}unsigned a, unsigned b, unsigned c, unsigned d, unsigned long long right) {{\n"
            f'asm volatile("{operation}, {{{left}}}, %{sums + 4}, 1, 1, 1, {right_turned};"\n'
            f': {bound} : "r"(a), "r"(b), "r"(c), "r"(d), "l"(right));\n}}\n'
        )
    return (
        f"{head}unsigned long long left, unsigned long long right, int adds) {{\n"
        f'asm volatile("{{\\n.reg .pred adds;\\nsetp.ne.b32 adds, %{sums + 2}, 0;\\n"\n'
        f'"{operation}, %{sums}, %{sums + 1}, adds, 1, 1, {left_turned}, {right_turned};\\n}}"\n'
        f': {bound} : "l"(left), "l"(right), "r"(adds));\n}}\n'
    )


loaded = {}


def kernel(name, text, constants, instructions, shared):
    """A kernel's handle."""
    source = "".join(f"#define {key} {value}\n" for key, value in constants.items()) + instructions + COMMON + text
    if source not in loaded:
        program = ctypes.c_void_p()
        check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None), "NVRTC")
        options = (ctypes.c_char_p * 1)(b"--gpu-architecture=sm_90a")
        status = nvrtc.nvrtcCompileProgram(program, 1, options)
        size = ctypes.c_size_t()
        if status:
            nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            nvrtc.nvrtcGetProgramLog(program, log)
            raise RuntimeError(log.value.decode())
        check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)), "NVRTC")
        binary = ctypes.create_string_buffer(size.value)
        check(nvrtc.nvrtcGetCUBIN(program, binary), "NVRTC")
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        check(cuda.cuModuleLoadData(ctypes.byref(module), binary), "module")
        check(cuda.cuModuleGetFunction(ctypes.byref(function), module, name), "function")
        check(cuda.cuFuncSetAttribute(function, MAX_DYNAMIC_SHARED_SIZE, shared), "shared memory")
        loaded[source] = function
    return loaded[source]


class Map(ctypes.Structure):
    _fields_ = [("opaque", ctypes.c_uint64 * 16)]


def tensor_map(tensor, inner, outer, high):
    """What the copy engine has to know: blocks of 64 along `inner`, `high` along `outer`."""
    room = (ctypes.c_byte * 256)()
    result = Map.from_buffer(room, -ctypes.addressof(room) % 64)
    order = [inner, outer, 1, 0]
    assert tensor.stride(inner) == 1
    sides = (ctypes.c_uint64 * 4)(*[tensor.shape[dim] for dim in order])
    steps = [tensor.stride(dim) * 2 if tensor.shape[dim] > 1 else 16 for dim in order[1:]]
    strides = (ctypes.c_uint64 * 3)(*steps)
    box, ones = (ctypes.c_uint32 * 4)(BLOCK, high, 1, 1), (ctypes.c_uint32 * 4)(1, 1, 1, 1)
    kind = FLOAT16 if tensor.dtype == torch.float16 else BFLOAT16
    status = cuda.cuTensorMapEncodeTiled(
        ctypes.byref(result), kind, 4, ctypes.c_void_p(tensor.data_ptr()), sides, strides, box, ones,
        0, SWIZZLE_128B, PROMOTION_128B, 0,
    )  # fmt: skip
    check(status, "tensor map")
    return result


def bits(number):
    return ctypes.c_uint32.from_buffer(ctypes.c_float(number)).value


def launcher(function, cubes, shared, maps, tensors, numbers):
    """A launch to repeat."""
    numbers = (ctypes.c_uint64 * len(numbers))(*numbers)
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    arguments = [*maps, *pointers, numbers]
    addresses = (ctypes.c_void_p * len(arguments))(*[ctypes.addressof(one) for one in arguments])
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)

    def launch(_kept=(arguments, tensors)):
        check(cuda.cuLaunchKernel(function, *cubes, THREADS, 1, 1, shared, stream, addresses, None), "launch")

    return launch


def product(left, right, output, columns, bias=None):
    """`[b, h, m, k]` by `[b, h, k, n]`, each row by row or column by column."""
    half, stages = left.dtype == torch.float16, 4 if columns == 256 else 6
    left_turned, right_turned = int(left.stride(3) != 1), int(right.stride(3) == 1)
    constants = {
        "COLUMNS": columns, "STAGES": stages, "LEFT_TURNED": left_turned, "RIGHT_TURNED": right_turned,
        "WIDE": int(output.dtype == torch.float32), "HALF": int(half), "BIASED": int(bias is not None),
        "KEPT": 0, "ONTO": 0, "MIX_FIRST": 1, "MIX_SECOND": 1,
    }  # fmt: skip
    shared = stages * (ROWS + columns) * BLOCK * 2 + 1024
    multiply = instruction("multiply", columns, half, left_turned, right_turned)
    function = kernel(b"hopper_product", PRODUCT, constants, multiply, shared)
    maps = [
        tensor_map(left, 2, 3, BLOCK) if left_turned else tensor_map(left, 3, 2, ROWS),
        tensor_map(right, 3, 2, BLOCK) if right_turned else tensor_map(right, 2, 3, columns),
    ]
    batch, heads, rows, depth = left.shape
    width = right.shape[3]
    tiles = batch * heads * -(-rows // ROWS) * -(-width // columns)
    cubes = [min(tiles, torch.cuda.get_device_properties(0).multi_processor_count), 1, 1]
    numbers = [rows, width, depth, batch * heads, heads, output.stride(2), output.stride(0), output.stride(1)]
    numbers += [bits(1.0), bits(1.0), 0, 0, 0]
    tensors = [left, right, output] + ([bias] if bias is not None else [])
    return launcher(function, cubes, shared, maps, tensors, numbers)


def rows_like(tensor):
    """Rows of heads as projections take them, poisoned."""
    batch, heads, rows, channels = tensor.shape
    room = torch.full((batch, rows, heads, channels), float("nan"), device="cuda", dtype=tensor.dtype)
    return room.transpose(1, 2)


class Attention:
    """Attention and its way back, `[b, h, q, d]` on `[b, kv_heads, kv, d]`."""

    def __init__(self, query, key, value, gradient, sight, bounds, scale):
        batch, heads, queries, channels = query.shape
        kv_heads, keys = key.shape[1:3]
        room = -(-queries // ROWS) * ROWS
        half = query.dtype == torch.float16
        logs, common = [torch.full((batch, heads, room), float("nan"), device="cuda") for _ in range(2)]
        self.seen, self.of_queries = rows_like(query), rows_like(query)
        self.of_keys, self.of_values = rows_like(key), rows_like(value)

        def numbers(one, other=None):
            shape = [queries, keys, heads, heads // kv_heads, keys - queries, room, bits(scale)]
            steps = [[rows.stride(dim) for dim in (2, 1, 0)] if rows is not None else [0] * 3 for rows in (one, other)]
            return shape + steps[0] + steps[1]

        def part(number, cubes, maps, tensors, given):
            step = 128 if number == 0 else 64
            blocks = -(-channels // BLOCK)
            held, stages = (1, 2) if number == 0 else (2, 3)
            shared = blocks * BLOCK * 2 * (held * ROWS + stages * 2 * step) + 1024 if number != 1 else 0
            constants = {"PART": number, "CHANNELS": channels, "STEP": step, "SIGHT": sight, "HALF": int(half)}
            instructions = instruction("meet", step, half)
            instructions += instruction("gather", channels, half, right_turned=1, registers=True)
            function = kernel(b"hopper_attention", ATTENTION, constants, instructions, shared)
            maps = [tensor_map(tensor, 3, 2, high) for tensor, high in maps]
            return launcher(function, cubes, shared, maps, tensors, given)

        tiles = [room // ROWS, heads, batch]
        inputs = [query, key, value]
        self.forward = part(0, tiles, [(query, ROWS), (key, 128), (value, 128)],
                            [*inputs, self.seen, logs, bounds], numbers(self.seen))  # fmt: skip
        warps = THREADS // 32
        self.back = [
            part(1, [-(-room // warps), heads, batch], [], [self.seen, gradient, common], numbers(self.seen, gradient)),
            part(2, [-(-keys // ROWS), kv_heads, batch], [(query, 64), (key, ROWS), (value, ROWS), (gradient, 64)],
                 [*inputs, gradient, self.of_keys, self.of_values, logs, common, bounds], numbers(self.of_keys)),
            part(3, tiles, [(query, ROWS), (key, 64), (value, 64), (gradient, ROWS)],
                 [*inputs, gradient, self.of_queries, logs, common, bounds], numbers(self.of_queries)),
        ]  # fmt: skip

    def backward(self):
        for launch in self.back:
            launch()


def error(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


def matrix(batch, heads, rows, columns, turned, dtype):
    if turned:
        return torch.randn(batch, heads, columns, rows, device="cuda", dtype=dtype).transpose(2, 3)
    return torch.randn(batch, heads, rows, columns, device="cuda", dtype=dtype)


def check_products():
    """Every layout, tiles that are full and not, several matrices, results in f32."""
    wrong = cases = 0
    for dtype, limit in ((torch.bfloat16, 4e-3), (torch.float16, 6e-4)):
        for columns in (256, 128):
            for layout in range(4):
                for batch, heads, m, n, k, wide, biased in (
                    (1, 1, 256, 512, 256, 0, 0), (1, 1, 192, 328, 200, 0, 1),
                    (2, 3, 136, 264, 88, 1, 0), (1, 2, 1000, 776, 4096, 0, 1),
                ):  # fmt: skip
                    left = matrix(batch, heads, m, k, layout % 2, dtype)
                    right = matrix(batch, heads, k, n, layout // 2, dtype)
                    bias = torch.randn(n, device="cuda", dtype=dtype) if biased else None
                    kind = torch.float32 if wide else dtype
                    output = torch.full((batch, heads, m, n), float("nan"), device="cuda", dtype=kind)
                    product(left, right, output, columns, bias)()
                    expected = left.double() @ right.double() + (bias.double() if biased else 0)
                    found = error(output, expected)
                    cases += 1
                    if not found < (1e-5 if wide else limit):
                        wrong += 1
                        print(f"wrong by {found}: {dtype} {columns} {layout} {(batch, heads, m, n, k, wide, biased)}")
    print(f"products: {cases - wrong} of {cases} right")
    return wrong


def check_attention():
    """Every mask, grouped heads, padded tiles, forward and back."""
    wrong = cases = 0
    for dtype, limit in ((torch.bfloat16, 8e-3), (torch.float16, 2e-3)):
        for batch, heads, kv_heads, queries, keys, channels in (
            (2, 4, 4, 150, 150, 80), (2, 4, 2, 300, 300, 64), (1, 4, 4, 130, 200, 72), (2, 6, 2, 33, 517, 128),
        ):  # fmt: skip
            for sight in range(4):
                query, gradient = [
                    torch.randn(batch, queries, heads, channels, device="cuda", dtype=dtype).transpose(1, 2)
                    for _ in range(2)
                ]
                key, value = [
                    torch.randn(batch, keys, kv_heads, channels, device="cuda", dtype=dtype).transpose(1, 2)
                    for _ in range(2)
                ]
                at, place = torch.arange(keys, device="cuda"), torch.arange(queries, device="cuda") + keys - queries
                sees = torch.ones(batch, 1, queries, keys, dtype=torch.bool, device="cuda")
                bounds = torch.zeros(1, dtype=torch.int32, device="cuda")
                if sight >= 1:
                    sees = sees & (at <= place[:, None])
                if sight == 2:
                    bounds = torch.tensor([0, 41][:batch], dtype=torch.int32, device="cuda")
                    sees = sees & (at >= bounds[:, None, None, None])
                if sight == 3:
                    bounds = torch.stack([(at + 5 * row) // 37 for row in range(batch)]).int().contiguous()
                    sees = sees & (bounds[:, None, None, :] == bounds[:, place][:, None, :, None])
                mine = Attention(query, key, value, gradient, sight, bounds, 0.1)
                mine.forward()
                mine.backward()
                q, k, v = [one.double().detach().requires_grad_() for one in (query, key, value)]
                group = heads // kv_heads
                scores = q @ k.repeat_interleave(group, 1).transpose(2, 3) * 0.1
                # A query that sees nothing gets zeros.
                shares = torch.nan_to_num(torch.softmax(scores.masked_fill(~sees, float("-inf")), -1))
                seen = shares @ v.repeat_interleave(group, 1)
                expected = [seen, *map(torch.nan_to_num, torch.autograd.grad(seen, (q, k, v), gradient.double()))]
                found = [mine.seen, mine.of_queries, mine.of_keys, mine.of_values]
                errors = [error(*pair) for pair in zip(found, expected)]
                cases += 1
                if not all(one < limit for one in errors):
                    wrong += 1
                    print(f"wrong by {errors}: {dtype} {(batch, heads, kv_heads, queries, keys, channels)} {sight}")
    print(f"attentions: {cases - wrong} of {cases} right")
    return wrong


def microseconds(run, repeats=20):
    for _ in range(3):
        run()
    begin, end = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeats * 1e3


def time_products():
    print(f"{'product, us (TFLOP/s)':24}{'torch':>16}{'256 columns':>16}{'128 columns':>16}")
    for name, batch, heads, m, n, k, layout in (
        ("attention's weights", 1, 1, 6144, 2560, 2560, 2), ("first of the MLP", 1, 1, 6144, 10240, 2560, 2),
        ("second of the MLP", 1, 1, 6144, 2560, 10240, 2), ("back through the first", 1, 1, 6144, 2560, 10240, 0),
        ("adapter, down", 1, 1, 6144, 128, 2560, 2), ("adapter, up", 1, 1, 6144, 2560, 128, 2),
        ("adapter's gradient", 1, 8, 128, 2560, 768, 1), ("a prompt's, first", 1, 1, 768, 10240, 2560, 2),
        ("a prompt's, second", 1, 1, 768, 2560, 10240, 2), ("a picture's", 1, 1, 729, 1152, 1152, 2),
    ):  # fmt: skip
        # A weight `[out, in]` is a right operand that lies column by column.
        left = matrix(batch, heads, m, k, layout % 2, torch.bfloat16)
        right = matrix(batch, heads, k, n, layout // 2, torch.bfloat16)
        output = torch.empty(batch, heads, m, n, device="cuda", dtype=torch.bfloat16)
        runs = [lambda: torch.matmul(left, right)] + [product(left, right, output, columns) for columns in (256, 128)]
        if batch * heads == 1:
            runs[0] = lambda: torch.mm(left[0, 0], right[0, 0])
        times = [microseconds(run) for run in runs]
        rate = [2e-6 * batch * heads * m * n * k / time for time in times]
        print(f"{name:24}" + "".join(f"{time:9.1f} ({each:4.0f})" for time, each in zip(times, rate)))


def time_attention():
    for batch, heads, rows, channels, causal in ((8, 32, 768, 80, 1), (8, 16, 729, 72, 0), (1, 16, 729, 72, 0), (1, 32, 768, 80, 1)):
        inputs = [
            torch.randn(batch, rows, heads, channels, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
            for _ in range(4)
        ]
        mine = Attention(*inputs, causal, torch.zeros(1, dtype=torch.int32, device="cuda"), 0.1)
        leaves = [one.detach().requires_grad_() for one in inputs[:3]]

        def attend():
            return torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=bool(causal))

        seen = attend()
        theirs = microseconds(attend), microseconds(
            lambda: torch.autograd.grad(seen, leaves, inputs[3], retain_graph=True)
        )
        forward, back = microseconds(mine.forward), microseconds(mine.backward)
        what = f"attention, {batch} x {heads} heads, {rows} rows of {channels}{', causal' if causal else ''}"
        print(f"{what}: {forward:.0f} us forward (torch {theirs[0]:.0f}), {back:.0f} back (torch {theirs[1]:.0f})")


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.zeros(1, device="cuda")
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    wrong = check_products() + check_attention()
    time_products()
    time_attention()
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
