//! Products in float32.
//!
//! ```text
//!                       vectors [dims, 32]
//!                       v₀ v₁ ... v₃₁        for each of `dims` numbers, one load of 32 vectors'
//!  rows [dims, 12]   r₀ ┌────────────┐       numbers and twelve broadcasts feed 384 sums, which
//!                    .. │   scores   │       stay in registers from the first number to the last
//!                   r₁₁ └────────────┘
//! ```
//! The versions for wider registers sum in the same order but with fused multiply-adds: scores may
//! differ by their rounding.

use super::{Scores, WIDTH};

/// Rows of a panel.
pub(super) const HEIGHT: usize = 12;

/// A panel `[dims, 12]` of rows times one `[dims, 32]` of vectors.
pub(super) fn multiply(
    rows: &[u32],
    vectors: &[u32],
    biases: &[f32; WIDTH],
    floors: &[f32],
    scores: &mut Scores,
) -> u32 {
    let rows = bytemuck::cast_slice::<u32, f32>(rows).as_chunks().0;
    let vectors = bytemuck::cast_slice::<u32, f32>(vectors).as_chunks().0;
    assert_eq!(rows.len(), vectors.len(), "vectors of one width");
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has AVX-512.
            return unsafe { x86::avx512(rows, vectors, biases, floors, scores) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            // SAFETY: the machine has AVX2 and FMA.
            return unsafe { x86::avx2(rows, vectors, biases, floors, scores) };
        }
    }
    plain(rows, vectors, biases, floors, scores)
}

/// The same without intrinsics, in blocks whose sums fit sixteen registers of four.
fn plain(
    rows: &[[f32; HEIGHT]],
    vectors: &[[f32; WIDTH]],
    biases: &[f32; WIDTH],
    floors: &[f32],
    scores: &mut Scores,
) -> u32 {
    const ROWS: usize = 4;
    const VECTORS: usize = 8;
    for row in (0..HEIGHT).step_by(ROWS) {
        for vector in (0..WIDTH).step_by(VECTORS) {
            let mut sums = [[0.0_f32; VECTORS]; ROWS];
            for (rows, vectors) in rows.iter().zip(vectors) {
                for (sums, x) in sums.iter_mut().zip(&rows[row..row + ROWS]) {
                    for (sum, v) in sums.iter_mut().zip(&vectors[vector..vector + VECTORS]) {
                        *sum += x * v;
                    }
                }
            }
            for (scores, sums) in scores[row..row + ROWS].iter_mut().zip(sums) {
                scores[vector..vector + VECTORS].copy_from_slice(&sums);
            }
        }
    }
    let mut reached = 0;
    for (row, (scores, floor)) in scores.iter_mut().zip(floors).enumerate() {
        let mut any = false;
        for (score, bias) in scores.iter_mut().zip(biases) {
            *score += bias;
            any |= *score >= *floor;
        }
        reached |= u32::from(any) << row;
    }
    reached
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::finish;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{HEIGHT, Scores, WIDTH};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(
        rows: &[[f32; HEIGHT]],
        vectors: &[[f32; WIDTH]],
        biases: &[f32; WIDTH],
        floors: &[f32],
        scores: &mut Scores,
    ) -> u32 {
        let mut sums = [[_mm512_setzero_ps(); 2]; HEIGHT];
        for (rows, vectors) in rows.iter().zip(vectors) {
            // SAFETY: a vector of 32 numbers is two registers.
            let (low, high) = unsafe {
                let from = vectors.as_ptr();
                (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)))
            };
            for (sums, x) in sums.iter_mut().zip(rows) {
                let x = _mm512_set1_ps(*x);
                sums[0] = _mm512_fmadd_ps(x, low, sums[0]);
                sums[1] = _mm512_fmadd_ps(x, high, sums[1]);
            }
        }
        finish(sums, biases, floors, scores)
    }

    /// Adds the biases, writes the scores, and tells which rows reach their floors.
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn finish(
        sums: [[__m512; 2]; HEIGHT],
        biases: &[f32; WIDTH],
        floors: &[f32],
        scores: &mut Scores,
    ) -> u32 {
        // SAFETY: 32 numbers are two registers.
        let (low_bias, high_bias) = unsafe {
            let from = biases.as_ptr();
            (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)))
        };
        let mut reached = 0;
        for (row, (scores, sums)) in scores.iter_mut().zip(sums).enumerate() {
            let low = _mm512_add_ps(sums[0], low_bias);
            let high = _mm512_add_ps(sums[1], high_bias);
            let floor = _mm512_set1_ps(floors[row]);
            let any = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(low, floor)
                | _mm512_cmp_ps_mask::<_CMP_GE_OQ>(high, floor);
            reached |= u32::from(any != 0) << row;
            // SAFETY: a row of 32 scores is two registers.
            unsafe {
                let to = scores.as_mut_ptr();
                _mm512_storeu_ps(to, low);
                _mm512_storeu_ps(to.add(16), high);
            }
        }
        reached
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(
        rows: &[[f32; HEIGHT]],
        vectors: &[[f32; WIDTH]],
        biases: &[f32; WIDTH],
        floors: &[f32],
        scores: &mut Scores,
    ) -> u32 {
        // Sixteen registers: the panel is multiplied in four parts of 6 rows and 16 vectors.
        const ROWS: usize = HEIGHT / 2;
        let mut reached = 0;
        for first in [0, ROWS] {
            for vector in [0, WIDTH / 2] {
                // SAFETY: half of a vector of 32 numbers is two registers.
                let pair = |from: &[f32; WIDTH]| unsafe {
                    let from = from.as_ptr().add(vector);
                    (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8)))
                };
                let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
                for (rows, vectors) in rows.iter().zip(vectors) {
                    let (low, high) = pair(vectors);
                    for (sums, x) in sums.iter_mut().zip(&rows[first..first + ROWS]) {
                        let x = _mm256_set1_ps(*x);
                        sums[0] = _mm256_fmadd_ps(x, low, sums[0]);
                        sums[1] = _mm256_fmadd_ps(x, high, sums[1]);
                    }
                }
                let (low_bias, high_bias) = pair(biases);
                for (row, sums) in (first..first + ROWS).zip(sums) {
                    let low = _mm256_add_ps(sums[0], low_bias);
                    let high = _mm256_add_ps(sums[1], high_bias);
                    let floor = _mm256_set1_ps(floors[row]);
                    let any = _mm256_or_ps(
                        _mm256_cmp_ps::<_CMP_GE_OQ>(low, floor),
                        _mm256_cmp_ps::<_CMP_GE_OQ>(high, floor),
                    );
                    reached |= u32::from(_mm256_movemask_ps(any) != 0) << row;
                    // SAFETY: half of a row of 32 scores is two registers.
                    unsafe {
                        let to = scores[row].as_mut_ptr().add(vector);
                        _mm256_storeu_ps(to, low);
                        _mm256_storeu_ps(to.add(8), high);
                    }
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version of the product.
    type Version = fn(&[[f32; HEIGHT]], &[[f32; WIDTH]], &[f32; WIDTH], &[f32], &mut Scores) -> u32;

    #[test]
    fn every_width_of_registers_gives_the_same_products_of_small_integers() {
        let mut versions: Vec<(&str, Version)> = vec![("plain", plain)];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                // SAFETY: the machine has AVX2 and FMA.
                versions.push(("avx2", |a, b, c, d, e| unsafe { x86::avx2(a, b, c, d, e) }));
            }
            if has!("avx512f") {
                // SAFETY: the machine has AVX-512.
                versions.push(("avx512", |a, b, c, d, e| unsafe {
                    x86::avx512(a, b, c, d, e)
                }));
            }
        }
        for dims in [1, 7, 64] {
            let value =
                |seed: u64, i: usize| (crate::hash::mix_all(&[seed, i as u64]) % 17) as f32 - 8.0;
            let rows: Vec<f32> = (0..dims * HEIGHT).map(|i| value(1, i)).collect();
            let vectors: Vec<f32> = (0..dims * WIDTH).map(|i| value(2, i)).collect();
            let biases: [f32; WIDTH] = std::array::from_fn(|i| value(3, i));
            let expected = |row: usize, vector: usize| {
                let products =
                    (0..dims).map(|k| rows[k * HEIGHT + row] * vectors[k * WIDTH + vector]);
                biases[vector] + products.sum::<f32>()
            };
            // Every other row reaches its floor, and just so.
            let floors: [f32; HEIGHT] = std::array::from_fn(|row| {
                let scores = (0..WIDTH).map(|vector| expected(row, vector));
                scores.fold(f32::MIN, f32::max) + (row % 2) as f32
            });
            for (name, version) in &versions {
                let mut scores = [[f32::NAN; WIDTH]; super::super::HEIGHT];
                let (rows, vectors) = (rows.as_chunks().0, vectors.as_chunks().0);
                let reached = version(rows, vectors, &biases, &floors, &mut scores);
                assert_eq!(reached, 0b0101_0101_0101, "{name}");
                for (row, scores) in scores[..HEIGHT].iter().enumerate() {
                    for (vector, score) in scores.iter().enumerate() {
                        assert_eq!(*score, expected(row, vector), "{name}");
                    }
                }
            }
        }
    }
}
