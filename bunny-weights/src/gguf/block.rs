//! The types in which tensors of GGUF files hold their numbers, and blocks opened into floats.
//!
//! A block is a run of numbers along the rows of a weight, with what they share in front or behind:
//!
//! ```text
//! Q8_0    32 in  34 bytes   d; 32 bytes with sign                       d q
//! Q4_0    32 in  18         d; 16 bytes                                 d (q − 8)
//! Q4_1    32 in  20         d, m; 16 bytes                              d q + m
//! Q5_0    32 in  22         d; 4 bytes of fifth bits; 16 bytes          d (q − 16)
//! Q5_1    32 in  24         d, m; 4 bytes of fifth bits; 16 bytes       d q + m
//! Q4_K   256 in 144         d, e; 12 bytes of scales; 128 bytes         d s q − e t    s, t of each 32
//! Q5_K   256 in 176         d, e; 12; 32 bytes of fifth bits; 128       d s q − e t
//! Q6_K   256 in 210         128 of low halves; 64 of upper two bits;    d s (q − 32)   s of each 16
//!                           16 scales with sign; d
//! ```
//! `d`, `e` and `m` are f16. In the runs of 16 bytes the lower halves are the first 16 numbers and the
//! upper halves the other 16; of Q4_K and Q5_K each 32 bytes are 64 numbers in the same way.

use half::f16;

use crate::StoredDtype;

/// What the numbers of a tensor are held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats of IEEE 754.
    F16,
    /// 16-bit floats with the exponent of 32 bits.
    BF16,
    /// Four bits and a scale of each 32.
    Q4_0,
    /// Four bits, a scale and a minimum of each 32.
    Q4_1,
    /// Five bits and a scale of each 32.
    Q5_0,
    /// Five bits, a scale and a minimum of each 32.
    Q5_1,
    /// Eight bits and a scale of each 32.
    Q8_0,
    /// Four bits; scales and minima of each 32 in six bits.
    Q4K,
    /// Five bits, otherwise as Q4_K.
    Q5K,
    /// Six bits; scales of each 16 in eight bits.
    Q6K,
}

impl TensorType {
    const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Its name, its number in files, numbers of a block and bytes of one.
    const fn facts(self) -> (&'static str, u32, usize, usize) {
        match self {
            Self::F32 => ("F32", 0, 1, 4),
            Self::F16 => ("F16", 1, 1, 2),
            Self::BF16 => ("BF16", 30, 1, 2),
            Self::Q4_0 => ("Q4_0", 2, 32, 18),
            Self::Q4_1 => ("Q4_1", 3, 32, 20),
            Self::Q5_0 => ("Q5_0", 6, 32, 22),
            Self::Q5_1 => ("Q5_1", 7, 32, 24),
            Self::Q8_0 => ("Q8_0", 8, 32, 34),
            Self::Q4K => ("Q4_K", 12, 256, 144),
            Self::Q5K => ("Q5_K", 13, 256, 176),
            Self::Q6K => ("Q6_K", 14, 256, 210),
        }
    }

    /// What llama.cpp calls it.
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// Its number in files.
    pub fn id(self) -> u32 {
        self.facts().1
    }

    /// The type of this number, if it is read here.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// Numbers of a block; a row is whole blocks.
    pub fn block(self) -> usize {
        self.facts().2
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// Bytes of `count` numbers that are whole blocks.
    pub fn bytes(self, count: usize) -> usize {
        count / self.block() * self.block_bytes()
    }

    /// The float type that it is, if it is one.
    pub fn float(self) -> Option<StoredDtype> {
        match self {
            Self::F32 => Some(StoredDtype::F32),
            Self::F16 => Some(StoredDtype::F16),
            Self::BF16 => Some(StoredDtype::BF16),
            _ => None,
        }
    }

    /// Opens whole blocks: as many numbers as they hold.
    pub(crate) fn open(self, blocks: &[u8], numbers: &mut [f32]) {
        let open: fn(&[u8], &mut [f32]) = match self {
            Self::F32 => |block, numbers| {
                numbers[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            },
            Self::F16 => |block, numbers| numbers[0] = half(block, 0),
            Self::BF16 => |block, numbers| {
                numbers[0] = half::bf16::from_le_bytes([block[0], block[1]]).to_f32();
            },
            Self::Q4_0 => q4_0,
            Self::Q4_1 => q4_1,
            Self::Q5_0 => q5_0,
            Self::Q5_1 => q5_1,
            Self::Q8_0 => q8_0,
            Self::Q4K => q4_k,
            Self::Q5K => q5_k,
            Self::Q6K => q6_k,
        };
        let blocks = blocks.chunks_exact(self.block_bytes());
        for (block, numbers) in blocks.zip(numbers.chunks_exact_mut(self.block())) {
            open(block, numbers);
        }
    }
}

/// The f16 at byte `at`.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The halves of a run of bytes, the lower ones first, each with the fifth bit that `fifth` says.
fn halves(bytes: &[u8], fifth: u32, mut put: impl FnMut(usize, u8)) {
    for (at, byte) in bytes.iter().enumerate() {
        let upper = at + bytes.len();
        put(at, byte & 15 | ((fifth >> at & 1) as u8 * 16));
        put(upper, (byte >> 4) | ((fifth >> upper & 1) as u8 * 16));
    }
}

fn q8_0(block: &[u8], numbers: &mut [f32]) {
    let d = half(block, 0);
    for (number, byte) in numbers.iter_mut().zip(&block[2..]) {
        *number = d * f32::from(*byte as i8);
    }
}

fn q4_0(block: &[u8], numbers: &mut [f32]) {
    let d = half(block, 0);
    halves(&block[2..], 0, |at, q| {
        numbers[at] = d * (f32::from(q) - 8.0);
    });
}

fn q4_1(block: &[u8], numbers: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    halves(&block[4..], 0, |at, q| numbers[at] = d * f32::from(q) + m);
}

/// The word of fifth bits at byte `at`.
fn fifth(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

fn q5_0(block: &[u8], numbers: &mut [f32]) {
    let d = half(block, 0);
    halves(&block[6..], fifth(block, 2), |at, q| {
        numbers[at] = d * (f32::from(q) - 16.0);
    });
}

fn q5_1(block: &[u8], numbers: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    halves(&block[8..], fifth(block, 4), |at, q| {
        numbers[at] = d * f32::from(q) + m;
    });
}

/// Scale and minimum of run `run` of eight, of six bits each.
fn scale_and_minimum(packed: &[u8], run: usize) -> (u8, u8) {
    match run {
        0..4 => (packed[run] & 63, packed[run + 4] & 63),
        _ => (
            packed[run + 4] & 15 | (packed[run - 4] >> 6) << 4,
            packed[run + 4] >> 4 | (packed[run] >> 6) << 4,
        ),
    }
}

/// Numbers of Q4_K and Q5_K; `upper` gives the fifth bit of number `at` of run `run`.
fn k_runs(block: &[u8], halves: &[u8], numbers: &mut [f32], upper: impl Fn(usize, usize) -> u8) {
    let (d, e) = (half(block, 0), half(block, 2));
    for (run, numbers) in numbers.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], run);
        let (scale, minimum) = (d * f32::from(scale), e * f32::from(minimum));
        let bytes = &halves[run / 2 * 32..];
        for (at, (number, byte)) in numbers.iter_mut().zip(bytes).enumerate() {
            let q = byte >> (4 * (run % 2)) & 15 | upper(run, at) << 4;
            *number = scale * f32::from(q) - minimum;
        }
    }
}

fn q4_k(block: &[u8], numbers: &mut [f32]) {
    k_runs(block, &block[16..], numbers, |_, _| 0);
}

fn q5_k(block: &[u8], numbers: &mut [f32]) {
    let fifth = &block[16..48];
    k_runs(block, &block[48..], numbers, |run, at| fifth[at] >> run & 1);
}

fn q6_k(block: &[u8], numbers: &mut [f32]) {
    let d = half(block, 208);
    for (side, numbers) in numbers.chunks_exact_mut(128).enumerate() {
        let low = &block[side * 64..][..64];
        let high = &block[128 + side * 32..][..32];
        let scales = &block[192 + side * 8..][..8];
        for (at, number) in numbers.iter_mut().enumerate() {
            let (quarter, place) = (at / 32, at % 32);
            let low = low[at % 64] >> (4 * (at / 64)) & 15;
            let high = high[place] >> (2 * quarter) & 3;
            let q = i32::from(low | high << 4) - 32;
            *number = d * f32::from(scales[at / 16] as i8) * q as f32;
        }
    }
}
