//! A panel of rows times a panel of vectors.
//!
//! ```text
//!                       vectors [words, 32]
//!                       v₀ v₁ ... v₃₁        for each word (a number, or a pair of bf16), one load
//!  rows [words, 12]  r₀ ┌────────────┐       of 32 vectors' words and twelve broadcasts feed 384
//!                    .. │   scores   │       sums, which stay in registers from the first word to
//!                   r₁₁ └────────────┘       the last
//! ```
//! Narrower registers take the panel in parts. All sum in the same order, with fused multiply-adds
//! where there are some: scores may differ by their rounding.

use super::{Scores, WIDTH};
#[cfg(target_arch = "x86_64")]
use crate::amx::{SQUARE, Tiles};
use crate::register_tile::{self, Left, Right};
use crate::simd::{Kernel, Simd, dispatch, dispatch_pairs};

/// Rows of a panel.
pub(super) const HEIGHT: usize = 12;

/// A panel `[words, 12]` of rows times one `[words, 32]` of vectors. With `PAIRS` a word is two `bf16`.
pub(super) fn multiply<const PAIRS: bool>(
    rows: &[u32],
    vectors: &[u32],
    biases: &[f32; WIDTH],
    floors: &[f32],
    scores: &mut Scores,
) -> u32 {
    assert!(
        rows.len() / HEIGHT == vectors.len() / WIDTH && vectors.len().is_multiple_of(WIDTH),
        "vectors of one width"
    );
    let panel = Panel::<PAIRS> {
        rows,
        vectors,
        biases,
        floors,
        scores,
    };
    if PAIRS {
        dispatch_pairs(panel)
    } else {
        dispatch(panel)
    }
}

struct Panel<'a, const PAIRS: bool> {
    rows: &'a [u32],
    vectors: &'a [u32],
    biases: &'a [f32; WIDTH],
    floors: &'a [f32],
    scores: &'a mut Scores,
}

impl<const PAIRS: bool> Kernel for Panel<'_, PAIRS> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u32 {
        // As many sums as fit the registers beside the operands.
        match S::LANES {
            16 => self.in_parts::<S, HEIGHT, 2>(s),
            8 => self.in_parts::<S, { HEIGHT / 2 }, 2>(s),
            _ => self.in_parts::<S, 4, 2>(s),
        }
    }
}

impl<const PAIRS: bool> Panel<'_, PAIRS> {
    /// `R` rows and `NV` registers of vectors at a time.
    #[inline(always)]
    fn in_parts<S: Simd, const R: usize, const NV: usize>(self, s: S) -> u32 {
        let words = self.vectors.len() / WIDTH;
        let mut reached = 0;
        for vector in (0..WIDTH).step_by(NV * S::LANES) {
            for first in (0..HEIGHT).step_by(R) {
                // SAFETY: `words` words of twelve rows and of 32 vectors, as `multiply` asserts; parts
                // divide both.
                let sums = unsafe {
                    let left = Left {
                        from: self.rows.as_ptr().cast::<f32>().add(first),
                        row: 1,
                        depth: HEIGHT,
                    };
                    let right = Right {
                        from: self.vectors.as_ptr().cast::<f32>().add(vector),
                        depth: WIDTH,
                    };
                    let zeros = [[s.zero(); NV]; R];
                    register_tile::multiply::<S, R, NV, false, PAIRS>(
                        s, words, left, right, 0, zeros,
                    )
                };
                for (row, sums) in (first..first + R).zip(sums) {
                    let floor = s.splat(self.floors[row]);
                    let mut any = false;
                    for (j, sum) in sums.into_iter().enumerate() {
                        let at = vector + j * S::LANES;
                        let score = s.add(sum, s.get(self.biases, at));
                        any |= s.any_reaches(score, floor);
                        s.set(&mut self.scores[row], at, score);
                    }
                    reached |= u32::from(any) << row;
                }
            }
        }
        reached
    }
}

/// A panel of 32 rows in squares times one `[2, words, 16]` of vectors, on tile registers.
#[cfg(target_arch = "x86_64")]
pub(super) fn multiply_squares(
    tiles: &Tiles,
    rows: &[u32],
    vectors: &[u32],
    biases: &[f32; WIDTH],
    floors: &[f32],
    scores: &mut Scores,
) -> u32 {
    assert!(
        rows.len() == vectors.len() && !rows.is_empty() && rows.len().is_multiple_of(2 * SQUARE),
        "whole squares, as many of either"
    );
    assert_eq!(floors.len(), scores.len(), "a floor a row");
    let half = rows.len() / 2;
    let halves = |operand: &[u32]| [0, half].map(|at| operand[at..].as_ptr().cast());
    // SAFETY: `half / SQUARE` squares are at each half of the operands; a bias is read 32 times.
    unsafe {
        tiles.multiply(
            half / SQUARE,
            halves(rows),
            halves(vectors),
            (biases.as_ptr(), 0),
            (scores.as_mut_ptr().cast(), WIDTH),
        );
    }
    dispatch(Reached { scores, floors })
}

/// Which rows have a score that reaches their floor.
#[cfg(target_arch = "x86_64")]
struct Reached<'a> {
    scores: &'a Scores,
    floors: &'a [f32],
}

#[cfg(target_arch = "x86_64")]
impl Kernel for Reached<'_> {
    type Output = u32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u32 {
        let mut reached = 0;
        for (row, (scores, floor)) in self.scores.iter().zip(self.floors).enumerate() {
            let floor = s.splat(*floor);
            let mut any = false;
            for at in (0..WIDTH).step_by(S::LANES) {
                any |= s.any_reaches(s.get(scores, at), floor);
            }
            reached |= u32::from(any) << row;
        }
        reached
    }
}
