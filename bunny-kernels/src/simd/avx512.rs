//! AVX-512: sixteen lanes, masks for the tails.

use super::Simd;
use core::arch::x86_64::*;
use core::mem::transmute;
use half::{bf16, f16};

/// Proof that the processor has AVX-512 F, BW, DQ and VL, and BF16 and VNNI too if so named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512<const BF16: bool, const VNNI: bool>(());

impl<const BF16: bool, const VNNI: bool> Avx512<BF16, VNNI> {
    /// # Safety
    /// The processor has AVX-512 F, BW, DQ and VL, and BF16 and VNNI too if so named.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

#[inline(always)]
fn head(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

impl<const BF16: bool, const VNNI: bool> Simd for Avx512<BF16, VNNI> {
    type V = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        proven!(_mm512_roundscale_ps::<0>(a))
    }
    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        proven! {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        proven!(_mm512_mask_blend_ps(
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b),
            y,
            x
        ))
    }
    #[inline(always)]
    fn any_reaches(self, a: __m512, floor: __m512) -> bool {
        proven!(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, floor) != 0)
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        proven!(_mm512_reduce_add_ps(a))
    }
    #[inline(always)]
    fn greatest(self, a: __m512) -> f32 {
        proven!(_mm512_reduce_max_ps(a))
    }

    #[inline(always)]
    fn first(self, a: __m512) -> f32 {
        proven!(_mm512_cvtss_f32(a))
    }

    #[inline(always)]
    fn pair(self, low: __m512, high: __m512) -> __m512 {
        if !BF16 {
            return super::pair(self, low, high);
        }
        proven! {
            let [low, high] = [_mm512_cvtneps_pbh(low), _mm512_cvtneps_pbh(high)];
            let low = _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(low));
            let high = _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(high));
            _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
        }
    }
    #[inline(always)]
    fn words(self, first: __m512, second: __m512) -> __m512 {
        if !BF16 {
            return super::words(self, first, second);
        }
        proven!(transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(
            second, first
        )))
    }
    #[inline(always)]
    fn pair_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        if !BF16 {
            return super::pair_mul_add(self, a, b, c);
        }
        proven! {
            _mm512_dpbf16_ps(
                c,
                transmute::<__m512, __m512bh>(a),
                transmute::<__m512, __m512bh>(b),
            )
        }
    }

    #[inline(always)]
    fn quad_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven! {
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let c = _mm512_castps_si512(c);
            _mm512_castsi512_ps(if VNNI {
                _mm512_dpbusd_epi32(c, a, b)
            } else {
                // Bytes at even and at odd places, as pairs of sixteen bits.
                let even = _mm512_madd_epi16(
                    _mm512_and_si512(a, _mm512_set1_epi16(255)),
                    _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(b)),
                );
                let odd =
                    _mm512_madd_epi16(_mm512_srli_epi16::<8>(a), _mm512_srai_epi16::<8>(b));
                _mm512_add_epi32(c, _mm512_add_epi32(even, odd))
            })
        }
    }
    #[inline(always)]
    fn to_floats(self, a: __m512) -> __m512 {
        proven!(_mm512_cvtepi32_ps(_mm512_castps_si512(a)))
    }
    #[inline(always)]
    fn add_integers(self, a: __m512, b: __m512) -> __m512 {
        proven! {
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_add_epi32(a, b))
        }
    }
    #[inline(always)]
    fn times_256(self, a: __m512) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<8>(
            _mm512_castps_si512(a)
        )))
    }
    #[inline(always)]
    fn halves(self, a: __m512) -> [__m512; 2] {
        proven! {
            let (a, four_bits) = (_mm512_castps_si512(a), _mm512_set1_epi8(15));
            let upper = _mm512_srli_epi16::<4>(a);
            [
                _mm512_castsi512_ps(_mm512_and_si512(a, four_bits)),
                _mm512_castsi512_ps(_mm512_and_si512(upper, four_bits)),
            ]
        }
    }
    #[inline(always)]
    fn look_up(self, table: &[u8; 16], nibbles: &[u8; 16], to: &mut [u8; 32]) {
        proven!(super::look_up(table, nibbles, to))
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [__m512]) {
        let rows: &mut [__m512; 16] = rows.try_into().expect("sixteen rows");
        proven! {
            // Pairs of rows, then of pairs, within 128-bit quarters; then the quarters change places.
            let mut t = [_mm512_setzero_ps(); 16];
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
            }
            // q[4 * g + c]: quarter l holds column 4 * l + c of rows 4 * g .. 4 * g + 4.
            let mut q = [_mm512_setzero_ps(); 16];
            for g in 0..4 {
                for h in 0..2 {
                    let a = _mm512_castps_pd(t[4 * g + h]);
                    let b = _mm512_castps_pd(t[4 * g + 2 + h]);
                    q[4 * g + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    q[4 * g + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            for c in 0..4 {
                let low01 = _mm512_shuffle_f32x4::<0b01_00_01_00>(q[c], q[4 + c]);
                let low23 = _mm512_shuffle_f32x4::<0b01_00_01_00>(q[8 + c], q[12 + c]);
                let high01 = _mm512_shuffle_f32x4::<0b11_10_11_10>(q[c], q[4 + c]);
                let high23 = _mm512_shuffle_f32x4::<0b11_10_11_10>(q[8 + c], q[12 + c]);
                rows[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low01, low23);
                rows[4 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low01, low23);
                rows[8 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high01, high23);
                rows[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high01, high23);
            }
        }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_head(self, from: *const f32, n: usize) -> __m512 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm512_maskz_loadu_ps(head(n), from) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m512 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m512 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m512 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(self, from: *const u8) -> __m512 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe {
            let all = _mm512_set1_epi64(from.cast::<i64>().read_unaligned());
            let halves = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
            let each = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
            let nibbles = _mm512_srlv_epi32(_mm512_permutexvar_epi32(halves, all), each);
            // The permutation looks at no other bits.
            let numbers = _mm512_setr_ps(
                -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0,
                7.0,
            );
            _mm512_permutexvar_ps(nibbles, numbers)
        }
    }
    #[inline(always)]
    unsafe fn load_fourfold(self, from: *const f32) -> __m512 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe {
            let four = _mm512_castps128_ps512(_mm_loadu_ps(from));
            let each = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            _mm512_permutexvar_ps(each, four)
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: __m512) {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm512_storeu_ps(to, a) }
    }
    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, n: usize, a: __m512) {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm512_mask_storeu_ps(to, head(n), a) }
    }
}
