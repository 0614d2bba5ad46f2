//! The operands of a product, repacked in the order in which the register tile takes them.
//!
//! What is packed are words of 32 bits: a float, or with `PAIRS` two `bf16` that follow each other along the sum, the
//! first in the lower half, as AVX512-BF16 multiplies them.

use super::product::Layout;
use super::simd::{Element, Kernel, MAX_LANES, Simd, dispatch};

/// Numbers along the sum that make a word.
pub(super) const fn grain(pairs: bool) -> usize {
    if pairs { 2 } else { 1 }
}

/// The word of two numbers, each rounded to `bf16`.
#[inline(always)]
pub(super) fn word(low: f32, high: f32) -> f32 {
    f32::from_bits(rounded(low) >> 16 | rounded(high) & 0xFFFF_0000)
}

/// The bits of `x` rounded to the nearest `bf16`, ties to even, in the upper half. NaN stays so.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        bits | 0x40_0000
    } else {
        bits + (0x7FFF + (bits >> 16 & 1))
    }
}

/// A left operand, `m` rows with sums over `k`.
#[derive(Clone, Copy)]
pub(super) struct LeftSource<'a> {
    pub(super) data: &'a [f32],
    pub(super) layout: Layout,
    pub(super) m: usize,
    pub(super) k: usize,
}

/// A right operand, `n` columns with sums over `k`.
#[derive(Clone, Copy)]
pub(super) struct RightSource<'a, E> {
    pub(super) data: &'a [E],
    pub(super) layout: Layout,
    pub(super) n: usize,
    pub(super) k: usize,
}

impl LeftSource<'_> {
    /// Packs rows `row..row + rows` from word `word0` on as `[words][mr]`, as many words as `to` holds.
    pub(super) fn pack<const PAIRS: bool>(
        &self,
        row: usize,
        rows: usize,
        mr: usize,
        word0: usize,
        to: &mut [f32],
    ) {
        if PAIRS {
            return self.pack_pairs(row, rows, mr, 2 * word0, to);
        }
        match self.layout {
            Layout::AlongDepth => dispatch(Turn {
                from: &self.data[row * self.k + word0..],
                stride: self.k,
                rows,
                to,
                mr,
            }),
            Layout::AcrossDepth => {
                for (p, to) in to.chunks_exact_mut(mr).enumerate() {
                    to[..rows].copy_from_slice(&self.data[(word0 + p) * self.m + row..][..rows]);
                }
            }
        }
    }

    /// [`Self::pack`] from depth `first` on, as pairs.
    fn pack_pairs(&self, row: usize, rows: usize, mr: usize, first: usize, to: &mut [f32]) {
        let depth = (2 * (to.len() / mr)).min(self.k - first);
        match self.layout {
            Layout::AlongDepth => {
                for i in 0..rows {
                    let from = &self.data[(row + i) * self.k + first..][..depth];
                    let (pairs, rest) = from.as_chunks::<2>();
                    let last = rest.first().map(|x| [*x, 0.0]);
                    let pairs = pairs.iter().chain(&last);
                    for (to, [low, high]) in to[i..].iter_mut().step_by(mr).zip(pairs) {
                        *to = word(*low, *high);
                    }
                }
            }
            Layout::AcrossDepth => {
                let lines = self.data[first * self.m..].chunks(2 * self.m);
                for (to, lines) in to.chunks_exact_mut(mr).zip(lines) {
                    let (low, high) = lines.split_at(self.m);
                    for (i, to) in to[..rows].iter_mut().enumerate() {
                        *to = word(low[row + i], high.get(row + i).copied().unwrap_or(0.0));
                    }
                }
            }
        }
    }
}

/// `to [depth][mr] = from [rows, stride]`, turned; places beyond `rows` stay zero.
struct Turn<'a> {
    from: &'a [f32],
    stride: usize,
    rows: usize,
    to: &'a mut [f32],
    mr: usize,
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            from,
            stride,
            rows,
            to,
            mr,
        } = self;
        let (lanes, depth) = (S::LANES, to.len() / mr);
        if mr > lanes {
            for i in 0..rows {
                let from = &from[i * stride..][..depth];
                for (to, from) in to[i..].iter_mut().step_by(mr).zip(from) {
                    *to = *from;
                }
            }
            return;
        }
        for p in (0..depth).step_by(lanes) {
            let deep = lanes.min(depth - p);
            let mut square = [s.zero(); MAX_LANES];
            let square = &mut square[..lanes];
            for (i, line) in square.iter_mut().enumerate().take(rows) {
                *line = s.get(&from[i * stride + p..][..deep], 0);
            }
            s.transpose(square);
            for (line, to) in square
                .iter()
                .zip(to[p * mr..].chunks_exact_mut(mr))
                .take(deep)
            {
                s.set(to, 0, *line);
            }
        }
    }
}

impl<E: Element> RightSource<'_, E> {
    /// Packs `width` columns from `column` on, from word `word0` on, as `[words][nr]` with zeros beyond `width`; as
    /// many words as `to` holds.
    #[inline(always)]
    pub(super) fn pack<S: Simd, const NV: usize, const PAIRS: bool>(
        &self,
        s: S,
        column: usize,
        width: usize,
        word0: usize,
        to: &mut [f32],
    ) {
        let lanes = S::LANES;
        let nr = NV * lanes;
        let first = word0 * grain(PAIRS);
        let depth = (to.len() / nr * grain(PAIRS)).min(self.k - first);
        assert!(column + width <= self.n && self.data.len() == self.n * self.k && width <= nr);
        for group in 0..NV {
            let here = width.saturating_sub(group * lanes).min(lanes);
            for p in (0..depth).step_by(lanes) {
                let deep = lanes.min(depth - p);
                // Depth `i` of these columns is row `i`.
                let mut square = [s.zero(); MAX_LANES];
                let square = &mut square[..lanes];
                match self.layout {
                    Layout::AlongDepth => {
                        for (i, row) in square.iter_mut().enumerate().take(here) {
                            let at = (column + group * lanes + i) * self.k + first + p;
                            *row = self.load(s, at, deep);
                        }
                        s.transpose(square);
                    }
                    Layout::AcrossDepth => {
                        for (i, row) in square.iter_mut().enumerate().take(deep) {
                            let at = (first + p + i) * self.n + column + group * lanes;
                            *row = self.load(s, at, here);
                        }
                    }
                }
                let to = &mut to[p / grain(PAIRS) * nr + group * lanes..];
                for i in 0..deep.div_ceil(grain(PAIRS)) {
                    let word = if PAIRS {
                        s.pair(square[2 * i], square[2 * i + 1])
                    } else {
                        square[i]
                    };
                    s.set(to, i * nr, word);
                }
            }
        }
    }

    /// `n` numbers from `at` on, zeros beyond. They must exist.
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, at: usize, n: usize) -> S::V {
        debug_assert!(at + n <= self.data.len() || n == 0);
        // SAFETY: as `pack` asserts, columns and depths lie within the operand.
        unsafe {
            let from = self.data.as_ptr().wrapping_add(at);
            match n {
                0 => s.zero(),
                _ if n == S::LANES => E::load(s, from),
                _ => E::load_head(s, from, n),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn words_round_as_bf16_does() {
        let numbers = [
            0.0,
            -0.0,
            1.0,
            1.003_906_3,
            1.011_718_8,
            -1.5e-40,
            3.4e38,
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
        ];
        for low in numbers {
            for high in numbers {
                let bits = word(low, high).to_bits();
                assert_eq!(
                    (bits & 0xFFFF) as u16,
                    bf16::from_f32(low).to_bits(),
                    "{low}"
                );
                assert_eq!(
                    (bits >> 16) as u16,
                    bf16::from_f32(high).to_bits(),
                    "{high}"
                );
            }
        }
    }
}
