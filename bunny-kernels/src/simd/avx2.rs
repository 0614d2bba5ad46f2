//! AVX2 with FMA and F16C: eight lanes.

use super::Simd;
use core::arch::x86_64::*;
use half::{bf16, f16};

/// Proof that the processor has AVX2, FMA and F16C, and AVX-VNNI too if `VNNI`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2<const VNNI: bool>(());

impl<const VNNI: bool> Avx2<VNNI> {
    /// # Safety
    /// The processor has AVX2, FMA and F16C, and AVX-VNNI too if `VNNI`.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// All ones in the first `n` lanes.
#[inline(always)]
fn head(n: usize) -> __m256i {
    const ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: a window of eight within the sixteen, as n <= 8.
    unsafe { _mm256_loadu_si256(ONES.as_ptr().add(8 - n).cast()) }
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type V = __m256;
    const LANES: usize = 8;
    const SIXTEEN: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        proven!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        proven!(_mm256_round_ps::<
            { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
        >(a))
    }
    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        proven! {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn select_lt(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        proven!(_mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }
    #[inline(always)]
    fn any_reaches(self, a: __m256, floor: __m256) -> bool {
        proven!(_mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a, floor)) != 0)
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        proven! {
            let quad = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    fn greatest(self, a: __m256) -> f32 {
        proven! {
            let quad = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_max_ps(quad, _mm_movehl_ps(quad, quad));
            _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
        }
    }

    #[inline(always)]
    fn first(self, a: __m256) -> f32 {
        proven!(_mm256_cvtss_f32(a))
    }

    #[inline(always)]
    fn quad_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven! {
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            let c = _mm256_castps_si256(c);
            _mm256_castsi256_ps(if VNNI {
                _mm256_dpbusd_avx_epi32(c, a, b)
            } else {
                // Bytes at even and at odd places, as pairs of sixteen bits.
                let even = _mm256_madd_epi16(
                    _mm256_and_si256(a, _mm256_set1_epi16(255)),
                    _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b)),
                );
                let odd =
                    _mm256_madd_epi16(_mm256_srli_epi16::<8>(a), _mm256_srai_epi16::<8>(b));
                _mm256_add_epi32(c, _mm256_add_epi32(even, odd))
            })
        }
    }
    #[inline(always)]
    fn to_floats(self, a: __m256) -> __m256 {
        proven!(_mm256_cvtepi32_ps(_mm256_castps_si256(a)))
    }
    #[inline(always)]
    fn add_integers(self, a: __m256, b: __m256) -> __m256 {
        proven! {
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            _mm256_castsi256_ps(_mm256_add_epi32(a, b))
        }
    }
    #[inline(always)]
    fn times_256(self, a: __m256) -> __m256 {
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<8>(
            _mm256_castps_si256(a)
        )))
    }
    #[inline(always)]
    fn halves(self, a: __m256) -> [__m256; 2] {
        proven! {
            let (a, four_bits) = (_mm256_castps_si256(a), _mm256_set1_epi8(15));
            let upper = _mm256_srli_epi16::<4>(a);
            [
                _mm256_castsi256_ps(_mm256_and_si256(a, four_bits)),
                _mm256_castsi256_ps(_mm256_and_si256(upper, four_bits)),
            ]
        }
    }
    #[inline(always)]
    fn look_up(self, table: &[u8; 16], nibbles: &[u8; 16], to: &mut [u8; 32]) {
        proven!(super::look_up(table, nibbles, to))
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [__m256]) {
        let rows: &mut [__m256; 8] = rows.try_into().expect("eight rows");
        proven! {
            let mut t = [_mm256_setzero_ps(); 8];
            for i in 0..4 {
                t[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
                t[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
            }
            // q[4 * g + c]: half l holds column 4 * l + c of rows 4 * g .. 4 * g + 4.
            let mut q = [_mm256_setzero_ps(); 8];
            for g in 0..2 {
                q[4 * g] = _mm256_shuffle_ps::<0b01_00_01_00>(t[4 * g], t[4 * g + 2]);
                q[4 * g + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(t[4 * g], t[4 * g + 2]);
                q[4 * g + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(t[4 * g + 1], t[4 * g + 3]);
                q[4 * g + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(t[4 * g + 1], t[4 * g + 3]);
            }
            for c in 0..4 {
                rows[c] = _mm256_permute2f128_ps::<0x20>(q[c], q[4 + c]);
                rows[4 + c] = _mm256_permute2f128_ps::<0x31>(q[c], q[4 + c]);
            }
        }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_head(self, from: *const f32, n: usize) -> __m256 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm256_maskload_ps(from, head(n)) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m256 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m256 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m256 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_nibbles(self, from: *const u8) -> __m256 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe {
            let all = _mm256_set1_epi32(from.cast::<i32>().read_unaligned());
            let each = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
            let nibbles = _mm256_and_si256(_mm256_srlv_epi32(all, each), _mm256_set1_epi32(15));
            _mm256_sub_ps(_mm256_cvtepi32_ps(nibbles), _mm256_set1_ps(8.0))
        }
    }
    #[inline(always)]
    unsafe fn load_fourfold(self, from: *const f32) -> __m256 {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm256_set_m128(_mm_set1_ps(*from.add(1)), _mm_set1_ps(*from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: __m256) {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm256_storeu_ps(to, a) }
    }
    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, n: usize, a: __m256) {
        // SAFETY: the token proves the instructions, and the caller promises the memory.
        unsafe { _mm256_maskstore_ps(to, head(n), a) }
    }
}
