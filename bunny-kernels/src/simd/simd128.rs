//! WebAssembly's fixed-width vectors: four lanes, on whatever the browser makes of them.
//!
//! No instruction here is one of "relaxed SIMD": results are the same bits in every browser, and a product is
//! rounded before it is added.

use super::Simd;
use core::arch::wasm32::*;
use half::{bf16, f16};

/// Four lanes. The module was built for processors that have them, or does not load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simd128;

impl Simd for Simd128 {
    type V = v128;
    const LANES: usize = 4;
    const SIXTEEN: bool = true;
    const FUSED: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> v128 {
        f32x4_splat(x)
    }
    #[inline(always)]
    fn add(self, a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }
    #[inline(always)]
    fn sub(self, a: v128, b: v128) -> v128 {
        f32x4_sub(a, b)
    }
    #[inline(always)]
    fn mul(self, a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    fn div(self, a: v128, b: v128) -> v128 {
        f32x4_div(a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }
    #[inline(always)]
    fn max(self, a: v128, b: v128) -> v128 {
        // `if b < a { a } else { b }`
        f32x4_pmax(b, a)
    }
    #[inline(always)]
    fn min(self, a: v128, b: v128) -> v128 {
        // `if a < b { a } else { b }`
        f32x4_pmin(b, a)
    }
    #[inline(always)]
    fn round(self, a: v128) -> v128 {
        f32x4_nearest(a)
    }
    #[inline(always)]
    fn pow2(self, n: v128) -> v128 {
        i32x4_shl(i32x4_add(i32x4_trunc_sat_f32x4(n), i32x4_splat(127)), 23)
    }
    #[inline(always)]
    fn select_lt(self, a: v128, b: v128, x: v128, y: v128) -> v128 {
        v128_bitselect(x, y, f32x4_lt(a, b))
    }
    #[inline(always)]
    fn any_reaches(self, a: v128, floor: v128) -> bool {
        v128_any_true(f32x4_ge(a, floor))
    }
    #[inline(always)]
    fn sum(self, a: v128) -> f32 {
        let pair = f32x4_add(a, i32x4_shuffle::<2, 3, 0, 1>(a, a));
        f32x4_extract_lane::<0>(pair) + f32x4_extract_lane::<1>(pair)
    }
    #[inline(always)]
    fn greatest(self, a: v128) -> f32 {
        let pair = self.max(a, i32x4_shuffle::<2, 3, 0, 1>(a, a));
        self.first(self.max(pair, i32x4_shuffle::<1, 0, 3, 2>(pair, pair)))
    }
    #[inline(always)]
    fn first(self, a: v128) -> f32 {
        f32x4_extract_lane::<0>(a)
    }

    #[inline(always)]
    fn quad_mul_add(self, a: v128, b: v128, c: v128) -> v128 {
        // Bytes at even and at odd places, as pairs of sixteen bits.
        let even = i32x4_dot_i16x8(v128_and(a, i16x8_splat(255)), i16x8_shr(i16x8_shl(b, 8), 8));
        let odd = i32x4_dot_i16x8(u16x8_shr(a, 8), i16x8_shr(b, 8));
        i32x4_add(c, i32x4_add(even, odd))
    }
    #[inline(always)]
    fn to_floats(self, a: v128) -> v128 {
        f32x4_convert_i32x4(a)
    }
    #[inline(always)]
    fn add_integers(self, a: v128, b: v128) -> v128 {
        i32x4_add(a, b)
    }
    #[inline(always)]
    fn times_256(self, a: v128) -> v128 {
        i32x4_shl(a, 8)
    }
    #[inline(always)]
    fn halves(self, a: v128) -> [v128; 2] {
        let four_bits = i8x16_splat(15);
        [v128_and(a, four_bits), v128_and(u16x8_shr(a, 4), four_bits)]
    }
    #[inline(always)]
    fn look_up(self, table: &[u8; 16], nibbles: &[u8; 16], to: &mut [u8; 32]) {
        // SAFETY: arrays are as long as what is read and written.
        unsafe {
            let table = v128_load(table.as_ptr().cast());
            let nibbles = v128_load(nibbles.as_ptr().cast());
            let [even, odd] = self.halves(nibbles);
            let (even, odd) = (i8x16_swizzle(table, even), i8x16_swizzle(table, odd));
            let low =
                i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(even, odd);
            let high = i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(
                even, odd,
            );
            let to = to.as_mut_ptr().cast::<v128>();
            v128_store(to, low);
            v128_store(to.add(1), high);
        }
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [v128]) {
        let rows: &mut [v128; 4] = rows.try_into().expect("four rows");
        let [a, b, c, d] = *rows;
        let (ab_low, ab_high) = (
            i32x4_shuffle::<0, 4, 1, 5>(a, b),
            i32x4_shuffle::<2, 6, 3, 7>(a, b),
        );
        let (cd_low, cd_high) = (
            i32x4_shuffle::<0, 4, 1, 5>(c, d),
            i32x4_shuffle::<2, 6, 3, 7>(c, d),
        );
        *rows = [
            i64x2_shuffle::<0, 2>(ab_low, cd_low),
            i64x2_shuffle::<1, 3>(ab_low, cd_low),
            i64x2_shuffle::<0, 2>(ab_high, cd_high),
            i64x2_shuffle::<1, 3>(ab_high, cd_high),
        ];
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> v128 {
        // SAFETY: the caller promises the memory.
        unsafe { v128_load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_head(self, from: *const f32, n: usize) -> v128 {
        let mut lanes = [0.0_f32; 4];
        // SAFETY: the caller promises the memory.
        unsafe {
            core::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
            v128_load(lanes.as_ptr().cast())
        }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> v128 {
        // SAFETY: the caller promises the memory.
        let halves = u32x4_extend_low_u16x8(unsafe { v128_load64_zero(from.cast()) });
        let sign = u32x4_shl(v128_and(halves, u32x4_splat(0x8000)), 16);
        let rest = u32x4_shl(v128_and(halves, u32x4_splat(0x7FFF)), 13);
        // Exponents are 112 apart; the product also makes subnormal numbers normal.
        let number = f32x4_mul(rest, f32x4_splat(f32::from_bits((127 + 112) << 23)));
        let is_endless = u32x4_ge(rest, u32x4_splat(0x7C00 << 13));
        let exponent = v128_and(is_endless, u32x4_splat(0x7F80_0000));
        v128_or(v128_or(number, exponent), sign)
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> v128 {
        // SAFETY: the caller promises the memory.
        u32x4_shl(
            u32x4_extend_low_u16x8(unsafe { v128_load64_zero(from.cast()) }),
            16,
        )
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> v128 {
        // SAFETY: the caller promises the memory.
        let bytes = unsafe { v128_load32_zero(from.cast()) };
        f32x4_convert_i32x4(i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(bytes)))
    }
    #[inline(always)]
    unsafe fn load_nibbles(self, from: *const u8) -> v128 {
        // SAFETY: the caller promises the memory.
        let [low, high] = unsafe { from.cast::<[u8; 2]>().read() }.map(i32::from);
        let nibbles = i32x4(low & 15, low >> 4, high & 15, high >> 4);
        f32x4_convert_i32x4(i32x4_sub(nibbles, i32x4_splat(8)))
    }
    #[inline(always)]
    unsafe fn load_fourfold(self, from: *const f32) -> v128 {
        // SAFETY: the caller promises the memory.
        unsafe { v128_load32_splat(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: v128) {
        // SAFETY: the caller promises the memory.
        unsafe { v128_store(to.cast(), a) }
    }
    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, n: usize, a: v128) {
        let mut lanes = [0.0_f32; 4];
        // SAFETY: the caller promises the memory.
        unsafe {
            v128_store(lanes.as_mut_ptr().cast(), a);
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n);
        }
    }
}
