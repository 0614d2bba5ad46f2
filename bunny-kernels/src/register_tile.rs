//! The register tile that every product is made of.

use crate::simd::Simd;

/// The left operand of a tile: element (row `i`, depth `p`) lies at `from + i * row + p * depth`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub(crate) from: *const f32,
    pub(crate) row: usize,
    pub(crate) depth: usize,
}

/// The right operand of a tile: the columns of depth `p` lie side by side at `from + p * depth`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right {
    pub(crate) from: *const f32,
    pub(crate) depth: usize,
}

/// `MR` rows times `NV` vectors of accumulators.
pub(crate) type Tile<S, const MR: usize, const NV: usize> = [[<S as Simd>::V; NV]; MR];

/// `tile + left · right` over `depth` steps. Of the last vector of `right` only `tail` lanes are read when `TAIL`. With
/// `PAIRS` the operands are words of two `bf16`.
///
/// # Safety
/// All those elements are readable.
#[inline(always)]
pub(crate) unsafe fn multiply<
    S: Simd,
    const MR: usize,
    const NV: usize,
    const TAIL: bool,
    const PAIRS: bool,
>(
    s: S,
    depth: usize,
    left: Left,
    right: Right,
    tail: usize,
    mut tile: Tile<S, MR, NV>,
) -> Tile<S, MR, NV> {
    for p in 0..depth {
        let mut columns = [s.zero(); NV];
        for j in 0..NV {
            // SAFETY: within the right operand, as the caller promises.
            columns[j] = unsafe {
                let from = right.from.add(p * right.depth + j * S::LANES);
                if TAIL && j == NV - 1 {
                    s.load_head(from, tail)
                } else {
                    s.load(from)
                }
            };
        }
        for i in 0..MR {
            // SAFETY: within the left operand, as the caller promises.
            let row = s.splat(unsafe { *left.from.add(i * left.row + p * left.depth) });
            for j in 0..NV {
                tile[i][j] = if PAIRS {
                    s.pair_mul_add(row, columns[j], tile[i][j])
                } else {
                    s.mul_add(row, columns[j], tile[i][j])
                };
            }
        }
    }
    tile
}

/// `to = factors · to + left · right` for `MR` rows of `width` columns, a factor a row, one where there are none.
///
/// # Safety
/// Everything named is readable, and `MR` rows of `to`, with row stride `to_row`, writable.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, const MR: usize>(
    s: S,
    depth: usize,
    left: Left,
    right: Right,
    width: usize,
    factors: Option<*const f32>,
    to: *mut f32,
    to_row: usize,
) {
    let mut column = 0;
    while column < width {
        let rest = width - column;
        let tail = rest % S::LANES;
        // SAFETY: what is left of each row, the last vector by its head alone.
        unsafe {
            let right = Right {
                from: right.from.add(column),
                ..right
            };
            let to = to.add(column);
            match (rest.div_ceil(S::LANES), tail) {
                (1, 0) => {
                    columns::<S, MR, 1, false>(s, depth, left, right, tail, factors, to, to_row)
                }
                (1, _) => {
                    columns::<S, MR, 1, true>(s, depth, left, right, tail, factors, to, to_row)
                }
                (2, 0) => {
                    columns::<S, MR, 2, false>(s, depth, left, right, tail, factors, to, to_row)
                }
                (2, _) => {
                    columns::<S, MR, 2, true>(s, depth, left, right, tail, factors, to, to_row)
                }
                (3, 1..) => {
                    columns::<S, MR, 3, true>(s, depth, left, right, tail, factors, to, to_row)
                }
                _ => columns::<S, MR, 3, false>(s, depth, left, right, tail, factors, to, to_row),
            }
        }
        column += 3 * S::LANES;
    }
}

/// [`accumulate`] for `NV` vectors of columns, the last cut to `tail` when `TAIL`.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn columns<S: Simd, const MR: usize, const NV: usize, const TAIL: bool>(
    s: S,
    depth: usize,
    left: Left,
    right: Right,
    tail: usize,
    factors: Option<*const f32>,
    to: *mut f32,
    to_row: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut tile = [[s.zero(); NV]; MR];
        for i in 0..MR {
            let factor = factors.map(|factors| s.splat(*factors.add(i)));
            for j in 0..NV {
                let from = to.add(i * to_row + j * S::LANES);
                let here = if TAIL && j == NV - 1 {
                    s.load_head(from, tail)
                } else {
                    s.load(from)
                };
                tile[i][j] = factor.map_or(here, |factor| s.mul(factor, here));
            }
        }
        let tile = multiply::<S, MR, NV, TAIL, false>(s, depth, left, right, tail, tile);
        for i in 0..MR {
            for j in 0..NV {
                let to = to.add(i * to_row + j * S::LANES);
                if TAIL && j == NV - 1 {
                    s.store_head(to, tail, tile[i][j])
                } else {
                    s.store(to, tile[i][j])
                }
            }
        }
    }
}
