//! Products of `bf16`: two numbers a word, sums in float32.

use std::arch::x86_64::*;

use bunny_kernels::amx::SQUARE;

use super::float32::{HEIGHT, finish};
use super::{Scores, WIDTH};

/// A panel `[words, 12]` of rows times one `[words, 32]` of vectors.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn pairs(
    rows: &[u32],
    vectors: &[u32],
    biases: &[f32; WIDTH],
    floors: &[f32],
    scores: &mut Scores,
) -> u32 {
    let (rows, vectors) = (rows.as_chunks::<HEIGHT>().0, vectors.as_chunks::<WIDTH>().0);
    assert_eq!(rows.len(), vectors.len(), "vectors of one width");
    let words = |of: __m512i| -> __m512bh {
        // SAFETY: both are 512 bits of anything.
        unsafe { std::mem::transmute(of) }
    };
    let mut sums = [[_mm512_setzero_ps(); 2]; HEIGHT];
    for (rows, vectors) in rows.iter().zip(vectors) {
        // SAFETY: 32 words are two registers.
        let (low, high) = unsafe {
            let from = vectors.as_ptr();
            let half = |at: usize| words(_mm512_loadu_si512(from.add(at).cast()));
            (half(0), half(16))
        };
        for (sums, pair) in sums.iter_mut().zip(rows) {
            let pair = words(_mm512_set1_epi32(*pair as i32));
            sums[0] = _mm512_dpbf16_ps(sums[0], pair, low);
            sums[1] = _mm512_dpbf16_ps(sums[1], pair, high);
        }
    }
    finish(sums, biases, floors, scores)
}

/// A panel of 32 rows in squares times one `[2, words, 16]` of vectors.
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tiles(
    tiles: &bunny_kernels::amx::Tiles,
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
    let mut reached = 0;
    for (row, (scores, floor)) in scores.iter().zip(floors).enumerate() {
        let floor = _mm512_set1_ps(*floor);
        // SAFETY: a row of 32 scores is two registers.
        let (low, high) = unsafe {
            let from = scores.as_ptr();
            (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)))
        };
        let any = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(low, floor)
            | _mm512_cmp_ps_mask::<_CMP_GE_OQ>(high, floor);
        reached |= u32::from(any != 0) << row;
    }
    reached
}
