"""A writer of JPEG files from coefficients: sampling factors, scans and tables as wanted."""

import heapq
import struct
from collections import Counter

import numpy as np

ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i % 8, i // 8)[(i // 8 + i % 8) % 2]))
DCT = np.array([[np.sqrt((1 + (k > 0)) / 8) * np.cos((2 * n + 1) * k * np.pi / 16) for n in range(8)]
                for k in range(8)])  # fmt: skip


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def code_lengths(counts):
    """Huffman's, with one symbol more, so that no code is all ones; 16 bits at most."""
    while True:
        heap = [(count, number, [symbol]) for number, (symbol, count) in enumerate(counts.items())]
        heap.append((0, -1, [None]))
        heapq.heapify(heap)
        lengths = Counter()
        while len(heap) > 1:
            (a, i, first), (b, _, second) = heapq.heappop(heap), heapq.heappop(heap)
            lengths.update(first + second)
            heapq.heappush(heap, (a + b, i, first + second))
        if max(lengths.values()) <= 16:
            # The symbol that is none takes a longest code: the last one.
            return sorted((length, symbol) for symbol, length in lengths.items() if symbol is not None)
        counts = {symbol: count // 2 + 1 for symbol, count in counts.items()}


def table(counts):
    """A table as `DHT` has it, and the codes."""
    lengths = code_lengths(counts or {0: 1})
    codes, code, previous = {}, 0, 0
    for length, symbol in lengths:
        code <<= length - previous
        codes[symbol] = (code, length)
        code, previous = code + 1, length
    number = Counter(length for length, _ in lengths)
    return bytes(number[i] for i in range(1, 17)) + bytes(s for _, s in lengths), codes


def size_and_bits(value):
    size = int(abs(value)).bit_length()
    return size, (value if value > 0 else value + (1 << size) - 1)


class Scan:
    """The symbols and bits of a scan; they become bytes once its tables are known."""

    def __init__(self):
        self.tokens = []

    def symbol(self, kind, symbol):
        self.tokens.append((kind, symbol))

    def bits(self, value, count):
        self.tokens.append((None, (int(value), count)))

    def restart(self):
        self.tokens.append(("restart", None))

    def write(self):
        """The tables by kind, and the data."""
        counts = {kind: Counter() for kind, _ in self.tokens if kind not in (None, "restart")}
        for kind, symbol in self.tokens:
            if kind in counts:
                counts[kind][symbol] += 1
        tables = {kind: table(count) for kind, count in counts.items()}
        data, buffer, held, restarts = bytearray(), 0, 0, 0
        for kind, value in [*self.tokens, ("restart", None)]:
            if kind == "restart":
                value, count = (1 << (-held % 8)) - 1, -held % 8
            elif kind is None:
                value, count = value
            else:
                value, count = tables[kind][1][value]
            buffer, held = buffer << count | value, held + count
            while held >= 8:
                byte = buffer >> (held - 8) & 0xFF
                data += bytes([byte, 0] if byte == 0xFF else [byte])
                held -= 8
            buffer &= (1 << held) - 1
            if kind == "restart":
                data += bytes([0xFF, 0xD0 + restarts % 8])
                restarts += 1
        return {kind: written for kind, (written, _) in tables.items()}, bytes(data[:-2])


class Picture:
    """Quantised coefficients, [rows, columns, 64] in zigzag order for each component."""

    def __init__(self, width, height, factors, *, ids=None, tables=None, which=None):
        self.width, self.height, self.factors = width, height, factors
        self.high, self.wide = max(v for _, v in factors), max(h for h, _ in factors)
        self.ids = ids or list(range(1, len(factors) + 1))
        self.which = which or [min(i, 1) for i in range(len(factors))]
        self.tables = tables or [np.full(64, 6), np.full(64, 9)]
        self.coefficients = []
        for h, v in factors:
            rows = -(-height // (8 * self.high)) * v
            columns = -(-width // (8 * self.wide)) * h
            self.coefficients.append(np.zeros((rows, columns, 64), int))

    def draw(self, rng, noise=6):
        """Waves, edges and noise."""
        for blocks, which in zip(self.coefficients, self.which, strict=True):
            rows, columns, _ = blocks.shape
            y, x = np.mgrid[0 : rows * 8, 0 : columns * 8]
            fx, fy, phase = rng.uniform(0.02, 0.4), rng.uniform(0.02, 0.4), rng.uniform(0, 6)
            plane = 110 * np.sin(fx * x + fy * y + phase) + rng.normal(0, noise, x.shape)
            plane[(x + 2 * y) % 37 == 0] = 127
            tiles = np.clip(plane, -128, 127).reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
            values = (DCT @ tiles @ DCT.T).reshape(rows, columns, 64)[..., ZIGZAG]
            blocks[:] = np.rint(values / self.tables[which])
        return self

    def draw_wild(self, rng):
        """Coefficients that no picture has."""
        for blocks in self.coefficients:
            blocks[:] = rng.integers(-1000, 1001, blocks.shape) * (rng.random(blocks.shape) < 0.2)
            blocks[..., 0] = rng.integers(-1000, 1001, blocks.shape[:2])
        return self

    def units(self, parts):
        """Lists of (place in the scan, component, block)."""
        if len(parts) == 1:
            h, v = self.factors[parts[0]]
            rows = -(-(-(-self.height * v // self.high)) // 8)
            columns = -(-(-(-self.width * h // self.wide)) // 8)
            for y in range(rows):
                for x in range(columns):
                    yield [(0, parts[0], self.coefficients[parts[0]][y, x])]
            return
        for y in range(-(-self.height // (8 * self.high))):
            for x in range(-(-self.width // (8 * self.wide))):
                yield [
                    (place, part, self.coefficients[part][y * v + j, x * h + i])
                    for place, part in enumerate(parts)
                    for (h, v) in [self.factors[part]]
                    for j in range(v)
                    for i in range(h)
                ]

    def scan(self, parts, first=0, last=63, high=0, low=0, restarts=0, progressive=False):
        """`DHT` and `SOS` with their data."""
        out = Scan()
        writer = Progressive(out, first, last, high, low) if progressive else Sequential(out)
        for number, unit in enumerate(self.units(parts)):
            if restarts and number and number % restarts == 0:
                writer.restart()
                out.restart()
            for place, part, block in unit:
                writer.block(place, min(part, 1), block)
        writer.finish()
        tables, data = out.write()
        codes = b"".join(segment(0xC4, bytes([kind]) + written) for kind, written in tables.items())
        chosen = b"".join(bytes([self.ids[part], min(part, 1) * 0x11]) for part in parts)
        head = bytes([len(parts)]) + chosen + bytes([first, last, high << 4 | low])
        return codes + segment(0xDA, head) + data

    def head(self, kind=0xC0, before=b"", restarts=0):
        quantisation = b""
        for number, steps in enumerate(self.tables):
            wide = max(steps) > 255
            quantisation += segment(0xDB, struct.pack(">B64" + ("H" if wide else "B"), 16 * bool(wide) + number, *steps))
        components = b"".join(
            bytes([name, h << 4 | v, which])
            for name, (h, v), which in zip(self.ids, self.factors, self.which, strict=True)
        )
        frame = struct.pack(">BHHB", 8, self.height, self.width, len(self.factors)) + components
        interval = segment(0xDD, struct.pack(">H", restarts)) if restarts else b""
        return b"\xff\xd8" + before + quantisation + segment(kind, frame) + interval

    def file(self, scans=None, restarts=0, kind=None, before=b"", end=b"\xff\xd9"):
        """`scans` are arguments of `scan`, those with a band in a progressive file."""
        parts = list(range(len(self.factors)))
        scans = scans or [(parts,)]
        progressive = any(len(scan) > 1 for scan in scans)
        kind = kind or (0xC2 if progressive else 0xC0)
        data = b"".join(self.scan(*scan, restarts=restarts, progressive=progressive) for scan in scans)
        return self.head(kind, before, restarts) + data + end


class Sequential:
    def __init__(self, out):
        self.out, self.previous = out, Counter()

    def restart(self):
        self.previous.clear()

    def finish(self):
        pass

    def block(self, place, tables, block):
        size, bits = size_and_bits(block[0] - self.previous[place])
        self.previous[place] = block[0]
        self.out.symbol(tables, size)
        self.out.bits(bits, size)
        run = 0
        for value in block[1:]:
            if value == 0:
                run += 1
                continue
            while run > 15:
                self.out.symbol(0x10 | tables, 0xF0)
                run -= 16
            size, bits = size_and_bits(value)
            self.out.symbol(0x10 | tables, run << 4 | size)
            self.out.bits(bits, size)
            run = 0
        if run:
            self.out.symbol(0x10 | tables, 0)


class Progressive:
    """Annex G of ITU-T T.81."""

    def __init__(self, out, first, last, high, low):
        self.out, self.first, self.last, self.high, self.low = out, first, last, high, low
        self.previous, self.ended, self.held, self.tables = Counter(), 0, [], 0

    def restart(self):
        self.finish()
        self.previous.clear()

    def finish(self):
        """The run of blocks whose band is over, and the corrections in them."""
        if self.ended:
            size = self.ended.bit_length() - 1
            self.out.symbol(0x10 | self.tables, size << 4)
            self.out.bits(self.ended - (1 << size), size)
            self.correct(self.held)
            self.ended, self.held = 0, []

    def correct(self, corrections):
        for bit in corrections:
            self.out.bits(bit, 1)

    def block(self, place, tables, block):
        self.tables = tables
        if self.first == 0 and self.high:
            self.out.bits(block[0] >> self.low & 1, 1)
        elif self.first == 0:
            value = block[0] >> self.low
            size, bits = size_and_bits(value - self.previous[place])
            self.previous[place] = value
            self.out.symbol(tables, size)
            self.out.bits(bits, size)
        else:
            self.band([int(np.sign(v)) * (abs(int(v)) >> self.low) for v in block[self.first : self.last + 1]])

    def band(self, values):
        """Corrections wait for the next code: those before it come behind it."""
        new = [i for i, v in enumerate(values) if (abs(v) == 1 if self.high else v)]
        run, waiting = 0, []
        for i, value in enumerate(values):
            if self.high and abs(value) > 1:
                waiting.append(abs(value) & 1)
                continue
            if value == 0:
                run += 1
                if run == 16 and any(i < other for other in new):
                    self.finish()
                    self.out.symbol(0x10 | self.tables, 0xF0)
                    self.correct(waiting)
                    run, waiting = 0, []
                continue
            self.finish()
            size, bits = (1, value > 0) if self.high else size_and_bits(value)
            self.out.symbol(0x10 | self.tables, run << 4 | size)
            self.out.bits(bits, size)
            self.correct(waiting)
            run, waiting = 0, []
        if run or waiting:
            self.ended += 1
            self.held += waiting
            if self.ended == 0x7FFF or len(self.held) > 900:
                self.finish()
