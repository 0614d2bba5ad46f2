//! Arrays in place of registers: plain loops, which the compiler vectorises for what it was told to build for.

use super::Simd;
use half::{bf16, f16};

/// Four lanes of ordinary arithmetic: the fallback everywhere, and what NEON and SSE make of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain;

type V = [f32; 4];

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Simd for Plain {
    type V = V;
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; 4]
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        // Without an instruction for it, `f32::mul_add` is a slow library call.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            [
                a[0].mul_add(b[0], c[0]),
                a[1].mul_add(b[1], c[1]),
                a[2].mul_add(b[2], c[2]),
                a[3].mul_add(b[3], c[3]),
            ]
        } else {
            self.add(self.mul(a, b), c)
        }
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        // 1.5 * 2^23: adding it leaves no bits for a fraction. Exact for the small numbers that kernels round.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|a| (a + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn pow2(self, n: V) -> V {
        n.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn select_lt(self, a: V, b: V, x: V, y: V) -> V {
        let mut out = y;
        for i in 0..4 {
            if a[i] < b[i] {
                out[i] = x[i];
            }
        }
        out
    }
    #[inline(always)]
    fn any_reaches(self, a: V, floor: V) -> bool {
        (0..4).any(|i| a[i] >= floor[i])
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn greatest(self, a: V) -> f32 {
        a[0].max(a[2]).max(a[1].max(a[3]))
    }
    #[inline(always)]
    fn first(self, a: V) -> f32 {
        a[0]
    }

    #[inline(always)]
    fn to_floats(self, a: V) -> V {
        a.map(|a| a.to_bits() as i32 as f32)
    }
    #[inline(always)]
    fn add_integers(self, a: V, b: V) -> V {
        zip(a, b, |a, b| {
            f32::from_bits(a.to_bits().wrapping_add(b.to_bits()))
        })
    }
    #[inline(always)]
    fn times_256(self, a: V) -> V {
        a.map(|a| f32::from_bits(a.to_bits() << 8))
    }
    #[inline(always)]
    fn halves(self, a: V) -> [V; 2] {
        [0, 4].map(|shift| a.map(|a| f32::from_bits(a.to_bits() >> shift & 0x0F0F_0F0F)))
    }

    #[inline(always)]
    fn transpose(self, rows: &mut [V]) {
        for i in 0..4 {
            for j in 0..i {
                (rows[i][j], rows[j][i]) = (rows[j][i], rows[i][j]);
            }
        }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> V {
        // SAFETY: the caller promises the memory.
        unsafe { from.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_head(self, from: *const f32, n: usize) -> V {
        let mut lanes = [0.0; 4];
        // SAFETY: the caller promises the memory.
        unsafe { core::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n) };
        lanes
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> V {
        // SAFETY: the caller promises the memory.
        unsafe { from.cast::<[f16; 4]>().read_unaligned() }.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> V {
        // SAFETY: the caller promises the memory.
        unsafe { from.cast::<[bf16; 4]>().read_unaligned() }.map(bf16::to_f32)
    }
    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> V {
        // SAFETY: the caller promises the memory.
        unsafe { from.cast::<[i8; 4]>().read() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_nibbles(self, from: *const u8) -> V {
        // SAFETY: the caller promises the memory.
        let [low, high] = unsafe { from.cast::<[u8; 2]>().read() };
        [low & 15, low >> 4, high & 15, high >> 4].map(|nibble| f32::from(nibble) - 8.0)
    }
    #[inline(always)]
    unsafe fn load_fourfold(self, from: *const f32) -> V {
        // SAFETY: the caller promises the memory.
        [unsafe { *from }; 4]
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: V) {
        // SAFETY: the caller promises the memory.
        unsafe { to.cast::<V>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, n: usize, a: V) {
        // SAFETY: the caller promises the memory.
        unsafe { core::ptr::copy_nonoverlapping(a.as_ptr(), to, n) }
    }
}
