//! The register tile that every product is made of.

use super::simd::Simd;

/// The left operand of a tile: element (row `i`, depth `p`) lies at `from + i * row + p * depth`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) from: *const f32,
    pub(super) row: usize,
    pub(super) depth: usize,
}

/// `MR` rows times `NV` vectors of accumulators.
pub(super) type Tile<S, const MR: usize, const NV: usize> = [[<S as Simd>::V; NV]; MR];

/// `tile + A·B` over `depth` steps. Step `p` of B lies at `b + p * b_depth`, its lanes side by side; of its last vector
/// only `tail` lanes are read when `TAIL`.
///
/// # Safety
/// All those elements are readable.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, const MR: usize, const NV: usize, const TAIL: bool>(
    s: S,
    depth: usize,
    a: Left,
    b: *const f32,
    b_depth: usize,
    tail: usize,
    mut tile: Tile<S, MR, NV>,
) -> Tile<S, MR, NV> {
    for p in 0..depth {
        let mut right = [s.zero(); NV];
        for j in 0..NV {
            // SAFETY: within B, as the caller promises.
            right[j] = unsafe {
                let from = b.add(p * b_depth + j * S::LANES);
                if TAIL && j == NV - 1 {
                    s.load_head(from, tail)
                } else {
                    s.load(from)
                }
            };
        }
        for i in 0..MR {
            // SAFETY: within A, as the caller promises.
            let left = s.splat(unsafe { *a.from.add(i * a.row + p * a.depth) });
            for j in 0..NV {
                tile[i][j] = s.mul_add(left, right[j], tile[i][j]);
            }
        }
    }
    tile
}
