//! The transform with AVX2: two rows of 16-bit numbers in a register, one in each half.

use std::arch::x86_64::*;

use super::super::frame::Block;
use super::{
    F_0_298, F_0_390, F_0_541, F_0_765, F_0_899, F_1_175, F_1_501, F_1_847, F_1_961, F_2_053,
    F_2_562, F_3_072, FIRST_SHIFT, KEPT, SECOND_SHIFT, Samples,
};

/// Rows 0 and 4, 1 and 5, 2 and 6, 3 and 7.
type Rows = [__m256i; 4];

/// What [`super::inverse`] gives.
#[target_feature(enable = "avx2")]
pub(in super::super) fn inverse(block: &Block, steps: &Block) -> Samples {
    let coefficients: [__m256i; 4] = bytemuck::cast(*block);
    let steps: [__m256i; 4] = bytemuck::cast(*steps);
    let [c01, c23, c45, c67] = coefficients;
    let below = _mm256_or_si256(
        _mm256_or_si256(_mm256_blend_epi32::<0x0f>(c01, c23), c23),
        _mm256_or_si256(c45, c67),
    );
    let row = |pair: usize| _mm256_mullo_epi16(coefficients[pair], steps[pair]);
    let (r01, r23, r45, r67) = (row(0), row(1), row(2), row(3));
    let columns = if _mm256_testz_si256(below, below) == 1 {
        flat_columns(r01)
    } else {
        let rows = [
            _mm256_permute2x128_si256::<0x20>(r01, r45),
            _mm256_permute2x128_si256::<0x31>(r01, r45),
            _mm256_permute2x128_si256::<0x20>(r23, r67),
            _mm256_permute2x128_si256::<0x31>(r23, r67),
        ];
        pass::<{ FIRST_SHIFT as i32 }>(rows)
    };
    let [r04, r15, r26, r37] = pass::<{ SECOND_SHIFT as i32 }>(columns);
    let r0145 = _mm256_packs_epi16(r04, r15);
    let r2367 = _mm256_packs_epi16(r26, r37);
    let offset = _mm256_set1_epi8(-128);
    bytemuck::cast([
        _mm256_xor_si256(_mm256_permute2x128_si256::<0x20>(r0145, r2367), offset),
        _mm256_xor_si256(_mm256_permute2x128_si256::<0x31>(r0145, r2367), offset),
    ])
}

/// The first pass where the first row alone has anything.
#[target_feature(enable = "avx2")]
fn flat_columns(row: __m256i) -> Rows {
    let row = _mm256_slli_epi16::<{ KEPT as i32 }>(row);
    // Numbers 0 to 3 in the lower half, 4 to 7 in the upper one, each twice.
    let quarters = _mm256_permute4x64_epi64::<0x50>(row);
    let pairs = _mm256_unpacklo_epi16(quarters, quarters);
    [
        _mm256_shuffle_epi32::<0x00>(pairs),
        _mm256_shuffle_epi32::<0x55>(pairs),
        _mm256_shuffle_epi32::<0xaa>(pairs),
        _mm256_shuffle_epi32::<0xff>(pairs),
    ]
}

/// Factors for pairs of numbers: one pair for the lower half, one for the upper.
#[target_feature(enable = "avx2")]
fn factors(lower: (i16, i16), upper: (i16, i16)) -> __m256i {
    let pair = |(first, second): (i16, i16)| i32::from(first) & 0xffff | i32::from(second) << 16;
    _mm256_set_m128i(_mm_set1_epi32(pair(upper)), _mm_set1_epi32(pair(lower)))
}

#[target_feature(enable = "avx2")]
fn swap_halves(rows: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0x4e>(rows)
}

/// Transforms the columns and gives them as rows.
#[target_feature(enable = "avx2")]
fn pass<const SHIFT: i32>([r04, r15, r26, r37]: Rows) -> Rows {
    // Products of pairs, for columns 0 to 3 and 4 to 7.
    let products = |a: __m256i, b: __m256i, factors: __m256i| {
        [
            _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), factors),
            _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), factors),
        ]
    };
    let add = |a: [__m256i; 2], b: [__m256i; 2]| {
        [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])]
    };
    let sub = |a: [__m256i; 2], b: [__m256i; 2]| {
        [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])]
    };

    // Even part. Names have the number in the lower half first, then the one in the upper.
    let even32 = products(
        r26,
        swap_halves(r26),
        factors((F_0_541 + F_0_765, F_0_541), (F_0_541 - F_1_847, F_0_541)),
    );
    let signs = _mm256_set_m128i(_mm_set1_epi16(-1), _mm_set1_epi16(1));
    let sums = _mm256_add_epi16(swap_halves(r04), _mm256_sign_epi16(r04, signs));
    let zero = _mm256_setzero_si256();
    let even01 = [
        _mm256_srai_epi32::<3>(_mm256_unpacklo_epi16(zero, sums)),
        _mm256_srai_epi32::<3>(_mm256_unpackhi_epi16(zero, sums)),
    ];
    let (a01, a32) = (add(even01, even32), sub(even01, even32));

    // Odd part.
    let r75 = _mm256_permute2x128_si256::<0x31>(r37, r15);
    let r31 = _mm256_permute2x128_si256::<0x20>(r37, r15);
    let r13 = swap_halves(r31);
    let z34 = _mm256_add_epi16(r75, r31);
    let z34 = products(
        z34,
        swap_halves(z34),
        factors((F_1_175 - F_1_961, F_1_175), (F_1_175 - F_0_390, F_1_175)),
    );
    let z43 = z34.map(|z| swap_halves(z));
    let b32 = products(
        r75,
        r13,
        factors((F_0_298 - F_0_899, -F_0_899), (F_2_053 - F_2_562, -F_2_562)),
    );
    let b01 = products(
        r75,
        r13,
        factors((-F_0_899, F_1_501 - F_0_899), (-F_2_562, F_3_072 - F_2_562)),
    );
    let (b32, b01) = (add(b32, z34), add(b01, z43));

    let bias = _mm256_set1_epi32(1 << (SHIFT - 1));
    let round = |sums: [__m256i; 2]| {
        let [low, high] = sums.map(|sum| _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(sum, bias)));
        _mm256_packs_epi32(low, high)
    };
    transpose(
        round(add(a01, b01)),
        round(add(a32, b32)),
        round(sub(a32, b32)),
        round(sub(a01, b01)),
    )
}

/// Takes rows 0 and 1, 3 and 2, 4 and 5, 7 and 6.
#[target_feature(enable = "avx2")]
fn transpose(r01: __m256i, r32: __m256i, r45: __m256i, r76: __m256i) -> Rows {
    // From columns 0 to 3 of two rows behind each other to pairs; so in the upper half 4 to 7.
    let straight = _mm256_set_epi64x(
        0x0f0e_0706_0d0c_0504,
        0x0b0a_0302_0908_0100,
        0x0f0e_0706_0d0c_0504,
        0x0b0a_0302_0908_0100,
    );
    let turned = _mm256_set_epi64x(
        0x0706_0f0e_0504_0d0c,
        0x0302_0b0a_0100_0908,
        0x0706_0f0e_0504_0d0c,
        0x0302_0b0a_0100_0908,
    );
    let pairs = |rows: __m256i, order: __m256i| {
        _mm256_shuffle_epi8(_mm256_permute4x64_epi64::<0xd8>(rows), order)
    };
    let (r01, r23) = (pairs(r01, straight), pairs(r32, turned));
    let (r45, r67) = (pairs(r45, straight), pairs(r76, turned));
    let (c0_upper, c2_upper) = (
        _mm256_unpacklo_epi32(r01, r23),
        _mm256_unpackhi_epi32(r01, r23),
    );
    let (c0_lower, c2_lower) = (
        _mm256_unpacklo_epi32(r45, r67),
        _mm256_unpackhi_epi32(r45, r67),
    );
    [
        _mm256_unpacklo_epi64(c0_upper, c0_lower),
        _mm256_unpackhi_epi64(c0_upper, c0_lower),
        _mm256_unpacklo_epi64(c2_upper, c2_lower),
        _mm256_unpackhi_epi64(c2_upper, c2_lower),
    ]
}
