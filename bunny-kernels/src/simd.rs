//! Vector registers behind one trait, so that every kernel is written once.
//!
//! A kernel implements [`Kernel`], generic over [`Simd`]; [`dispatch`] runs it with the widest registers that this
//! processor has: AVX-512, AVX2 with FMA and F16C, or [`Plain`] arrays that the compiler vectorises as it can (NEON,
//! SSE). The choice is made once, at run time; WebAssembly's, whose modules are built for vectors or not, when it is
//! built.
//!
//! Everything a kernel calls must be `#[inline(always)]`: only what is inlined into [`dispatch`]'s entry points is
//! compiled for their instruction set.

/// Calls functions of an instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! proven {
    ($($body:tt)*) => {
        // SAFETY: whoever holds the token, a value of the module's type, is on a processor that has the
        // instructions.
        unsafe { $($body)* }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

use half::{bf16, f16};

pub(crate) use plain::Plain;

/// The most lanes a vector has.
pub(crate) const MAX_LANES: usize = 16;

/// A set of vector registers of `f32` lanes. A value of the type proves that the processor has them.
///
/// # Safety
/// The `load*` and `store*` methods read and write as many elements behind their pointer as they say.
/// `max` and `min` return the second operand when either is NaN.
pub(crate) trait Simd: Copy + Send + Sync {
    /// One register.
    type V: Copy;
    /// Lanes in a register.
    const LANES: usize;
    /// Whether there are but sixteen registers.
    const SIXTEEN: bool = false;
    /// Whether a product is added in one instruction, and needs no register of its own.
    const FUSED: bool = true;

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for integers `n` in -126..=127.
    fn pow2(self, n: Self::V) -> Self::V;
    /// `if a < b { x } else { y }`, lane by lane.
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Whether `a >= floor` in any lane. NaN reaches nothing.
    fn any_reaches(self, a: Self::V, floor: Self::V) -> bool;
    /// The sum of the lanes, in a fixed order.
    fn sum(self, a: Self::V) -> f32;
    /// The greatest lane.
    fn greatest(self, a: Self::V) -> f32;
    /// The first lane.
    fn first(self, a: Self::V) -> f32;
    /// Words of two numbers rounded to `bf16`: `low` in the lower half, `high` in the upper.
    #[inline(always)]
    fn pair(self, low: Self::V, high: Self::V) -> Self::V {
        pair(self, low, high)
    }
    /// Words of the numbers of `first` and `second`, rounded to `bf16`, in their order.
    #[inline(always)]
    fn words(self, first: Self::V, second: Self::V) -> Self::V {
        words(self, first, second)
    }
    /// `c` plus the products of both halves of the words `a` and `b`.
    #[inline(always)]
    fn pair_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        pair_mul_add(self, a, b, c)
    }
    /// The products of the four bytes of the words `a`, without sign, and `b`, with sign, added to the
    /// integers `c`.
    #[inline(always)]
    fn quad_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        quad_mul_add(self, a, b, c)
    }
    /// The integers that the words are.
    fn to_floats(self, a: Self::V) -> Self::V;
    /// Sums of the integers that the words are.
    fn add_integers(self, a: Self::V, b: Self::V) -> Self::V;
    /// 256 times the integers that the words are.
    fn times_256(self, a: Self::V) -> Self::V;
    /// The lower, and the upper, four bits of every byte.
    fn halves(self, a: Self::V) -> [Self::V; 2];
    /// The bytes of `table` at each four bits, the lower ones of a byte first.
    #[inline(always)]
    fn look_up(self, table: &[u8; 16], nibbles: &[u8; 16], to: &mut [u8; 32]) {
        for (to, byte) in to.as_chunks_mut::<2>().0.iter_mut().zip(nibbles) {
            *to = [byte & 15, byte >> 4].map(|nibble| table[usize::from(nibble)]);
        }
    }
    /// Transposes the square whose rows are the `LANES` registers of `rows`.
    fn transpose(self, rows: &mut [Self::V]);

    unsafe fn load(self, from: *const f32) -> Self::V;
    /// The first `n < LANES` lanes; the rest are zero.
    unsafe fn load_head(self, from: *const f32, n: usize) -> Self::V;
    unsafe fn load_f16(self, from: *const f16) -> Self::V;
    unsafe fn load_bf16(self, from: *const bf16) -> Self::V;
    unsafe fn load_i8(self, from: *const i8) -> Self::V;
    /// As many four bits as there are lanes, less eight, the lower ones of a byte first.
    unsafe fn load_nibbles(self, from: *const u8) -> Self::V;
    /// A quarter as many floats as there are lanes, each of them four times.
    unsafe fn load_fourfold(self, from: *const f32) -> Self::V;
    unsafe fn store(self, to: *mut f32, a: Self::V);
    /// The first `n < LANES` lanes.
    unsafe fn store_head(self, to: *mut f32, n: usize, a: Self::V);

    /// The lanes at `at` of a slice; zeros beyond its end, where `at` must not lie.
    #[inline(always)]
    fn get(self, from: &[f32], at: usize) -> Self::V {
        let from = &from[at..];
        // SAFETY: as many elements remain.
        unsafe {
            if from.len() >= Self::LANES {
                self.load(from.as_ptr())
            } else {
                self.load_head(from.as_ptr(), from.len())
            }
        }
    }
    /// Writes the lanes at `at` of a slice; those beyond its end are dropped.
    #[inline(always)]
    fn set(self, to: &mut [f32], at: usize, a: Self::V) {
        let to = &mut to[at..];
        // SAFETY: as many elements remain.
        unsafe {
            if to.len() >= Self::LANES {
                self.store(to.as_mut_ptr(), a);
            } else {
                self.store_head(to.as_mut_ptr(), to.len(), a);
            }
        }
    }

    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
}

/// [`Simd::pair`] without an instruction for it.
#[inline(always)]
fn pair<S: Simd>(s: S, low: S::V, high: S::V) -> S::V {
    let (mut words, mut upper) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    s.set(&mut words, 0, low);
    s.set(&mut upper, 0, high);
    for (word, high) in words.iter_mut().zip(upper) {
        *word = crate::product::pack::word(*word, high);
    }
    s.get(&words, 0)
}

/// [`Simd::words`] without an instruction for it.
#[inline(always)]
fn words<S: Simd>(s: S, first: S::V, second: S::V) -> S::V {
    let mut numbers = [0.0; 2 * MAX_LANES];
    s.set(&mut numbers, 0, first);
    s.set(&mut numbers, S::LANES, second);
    let mut words = [0.0; MAX_LANES];
    for (word, pair) in words.iter_mut().zip(numbers.chunks_exact(2)) {
        *word = crate::product::pack::word(pair[0], pair[1]);
    }
    s.get(&words, 0)
}

/// [`Simd::pair_mul_add`] without an instruction for it.
#[inline(always)]
fn pair_mul_add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
    let (mut left, mut right, mut sums) =
        ([0.0f32; MAX_LANES], [0.0f32; MAX_LANES], [0.0; MAX_LANES]);
    s.set(&mut left, 0, a);
    s.set(&mut right, 0, b);
    s.set(&mut sums, 0, c);
    for ((left, right), sum) in left.into_iter().zip(right).zip(&mut sums) {
        let low = |x: f32| f32::from_bits(x.to_bits() << 16);
        let high = |x: f32| f32::from_bits(x.to_bits() & 0xFFFF_0000);
        *sum += low(left) * low(right) + high(left) * high(right);
    }
    s.get(&sums, 0)
}

/// [`Simd::quad_mul_add`] without an instruction for it.
#[inline(always)]
fn quad_mul_add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
    let (mut left, mut right, mut sums) =
        ([0.0f32; MAX_LANES], [0.0f32; MAX_LANES], [0.0; MAX_LANES]);
    s.set(&mut left, 0, a);
    s.set(&mut right, 0, b);
    s.set(&mut sums, 0, c);
    for ((left, right), sum) in left.into_iter().zip(right).zip(&mut sums) {
        let (left, right) = (left.to_bits().to_le_bytes(), right.to_bits().to_le_bytes());
        let mut total = sum.to_bits() as i32;
        for (left, right) in left.into_iter().zip(right) {
            total += i32::from(left) * i32::from(right as i8);
        }
        *sum = f32::from_bits(total as u32);
    }
    s.get(&sums, 0)
}

/// [`Simd::look_up`] by SSSE3.
///
/// # Safety
/// The processor has it, as it has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn look_up(table: &[u8; 16], nibbles: &[u8; 16], to: &mut [u8; 32]) {
    use core::arch::x86_64::*;
    // SAFETY: the caller's promise; arrays are as long as what is read and written.
    unsafe {
        let table = _mm_loadu_si128(table.as_ptr().cast());
        let nibbles = _mm_loadu_si128(nibbles.as_ptr().cast());
        let four_bits = _mm_set1_epi8(15);
        let even = _mm_shuffle_epi8(table, _mm_and_si128(nibbles, four_bits));
        let high = _mm_and_si128(_mm_srli_epi16::<4>(nibbles), four_bits);
        let odd = _mm_shuffle_epi8(table, high);
        let to = to.as_mut_ptr().cast::<__m128i>();
        _mm_storeu_si128(to, _mm_unpacklo_epi8(even, odd));
        _mm_storeu_si128(to.add(1), _mm_unpackhi_epi8(even, odd));
    }
}

/// Asks for the line of memory at `at`, which may be anywhere, into the second cache.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is no access, and every x86-64 has the instruction.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// What a weight may be stored as; computed with as `f32`.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    const ZERO: Self;
    /// # Safety
    /// Reads `S::LANES` elements.
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::V;

    /// # Safety
    /// Reads `n < S::LANES` elements.
    #[inline(always)]
    unsafe fn load_head<S: Simd>(s: S, from: *const Self, n: usize) -> S::V {
        let mut lanes = [Self::ZERO; MAX_LANES];
        // SAFETY: `n` elements are readable and fit the array, which holds `S::LANES` or more.
        unsafe {
            core::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
            Self::load(s, lanes.as_ptr())
        }
    }
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load(from) }
    }
    #[inline(always)]
    unsafe fn load_head<S: Simd>(s: S, from: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load_head(from, n) }
    }
}

impl Element for f16 {
    const ZERO: Self = f16::ZERO;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load_f16(from) }
    }
}

impl Element for bf16 {
    const ZERO: Self = bf16::ZERO;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load_bf16(from) }
    }
}

impl Element for i8 {
    const ZERO: Self = 0;
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load_i8(from) }
    }
}

/// A computation to be compiled for every instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// An instruction set that kernels are compiled for, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Plain,
    /// Vectors of 128 bits in WebAssembly.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 with VNNI, which multiplies quads of bytes.
    #[cfg(target_arch = "x86_64")]
    Avx2Quads,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with VNNI, which multiplies quads of bytes.
    #[cfg(target_arch = "x86_64")]
    Quads,
    /// The same, and BF16, which multiplies pairs of `bf16`.
    #[cfg(target_arch = "x86_64")]
    Pairs,
    /// The same, and AMX for products of `bf16` and of bytes.
    #[cfg(target_arch = "x86_64")]
    Tiles,
}

impl Level {
    const ALL: &[Self] = &[
        Self::Plain,
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Self::Simd128,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2Quads,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::Quads,
        #[cfg(target_arch = "x86_64")]
        Self::Pairs,
        #[cfg(target_arch = "x86_64")]
        Self::Tiles,
    ];

    /// Whether this processor has it. Asks the system: to be called once, and remembered.
    fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let narrow = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let wide = narrow
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let quads = wide && is_x86_feature_detected!("avx512vnni");
            let pairs = quads && is_x86_feature_detected!("avx512bf16");
            match self {
                Self::Plain => true,
                Self::Avx2 => narrow,
                Self::Avx2Quads => narrow && is_x86_feature_detected!("avxvnni"),
                Self::Avx512 => wide,
                Self::Quads => quads,
                Self::Pairs => pairs,
                Self::Tiles => pairs && crate::amx::is_available(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        true
    }

    /// The widest that this processor has, of those that `BUNNY_LEVEL` allows: `plain`, `avx2`,
    /// `avx2quads`, `avx512`, `quads`, `pairs`, or `tiles`, which is all of them.
    pub(crate) fn detect() -> Self {
        let most = std::env::var("BUNNY_LEVEL").ok();
        let allowed = Self::ALL.iter().position(|level| {
            let name = format!("{level:?}");
            most.as_ref()
                .is_some_and(|most| most.eq_ignore_ascii_case(&name))
        });
        let allowed = &Self::ALL[..=allowed.unwrap_or(Self::ALL.len() - 1)];
        let mut here = allowed.iter().rev().filter(|level| level.is_here());
        *here.next().expect("plain code runs anywhere")
    }

    /// Lanes of its registers.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Plain => Plain::LANES,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => simd128::Simd128::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::Avx2Quads => avx2::Avx2::<false>::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Quads | Self::Pairs | Self::Tiles => {
                avx512::Avx512::<false, false>::LANES
            }
        }
    }

    /// The level that kernels run at.
    #[inline]
    pub(crate) fn current() -> Self {
        #[cfg(test)]
        if let Some(level) = testing::LEVEL.get() {
            return level;
        }
        static LEVEL: std::sync::LazyLock<Level> = std::sync::LazyLock::new(Level::detect);
        *LEVEL
    }
}

/// Runs `kernel` with the widest registers of this processor.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn avx512<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: this function's own features.
            kernel.run(unsafe { avx512::Avx512::<false, false>::new() })
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: this function's own features.
            kernel.run(unsafe { avx2::Avx2::<false>::new() })
        }
        match Level::current() {
            Level::Plain => {}
            // SAFETY: `Level::is_here` found these features.
            Level::Avx2 | Level::Avx2Quads => return unsafe { avx2(kernel) },
            // SAFETY: as above.
            _ => return unsafe { avx512(kernel) },
        }
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    {
        // Tests alone want plain code where there are vectors: it would double the module.
        #[cfg(test)]
        if Level::current() == Level::Plain {
            return kernel.run(Plain);
        }
        kernel.run(simd128::Simd128)
    }
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    kernel.run(Plain)
}

/// [`dispatch`] for a kernel of [`Simd::pair_mul_add`]: with the instruction for it where there is one.
#[inline]
pub(crate) fn dispatch_pairs<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
        fn avx512<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: this function's own features.
            kernel.run(unsafe { avx512::Avx512::<true, false>::new() })
        }
        if Level::current() >= Level::Pairs {
            // SAFETY: `Level::is_here` found these features.
            return unsafe { avx512(kernel) };
        }
    }
    dispatch(kernel)
}

/// [`dispatch`] for a kernel of [`Simd::quad_mul_add`]: with the instruction for it where there is one.
#[inline]
pub(crate) fn dispatch_quads<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn avx512<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: this function's own features.
            kernel.run(unsafe { avx512::Avx512::<false, true>::new() })
        }
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            // SAFETY: this function's own features.
            kernel.run(unsafe { avx2::Avx2::<true>::new() })
        }
        match Level::current() {
            // SAFETY: `Level::is_here` found these features.
            Level::Avx2Quads => return unsafe { avx2(kernel) },
            // SAFETY: as above.
            Level::Quads | Level::Pairs | Level::Tiles => return unsafe { avx512(kernel) },
            Level::Plain | Level::Avx2 | Level::Avx512 => {}
        }
    }
    dispatch(kernel)
}

/// Tests run every kernel at every level that the machine has, and at that of tile registers wherever
/// nothing else is missing: plain code stands in for them.
#[cfg(test)]
pub(crate) mod testing {
    use super::Level;
    use std::cell::Cell;
    #[cfg(target_family = "wasm")]
    use std::sync::atomic::{AtomicU32, Ordering};

    thread_local! {
        pub(crate) static LEVEL: Cell<Option<Level>> = const { Cell::new(None) };
    }

    /// Runs `test` once per level, on `threads` threads of its own. Those that only multiply quads on
    /// top of another are left out: see [`at_every_level_of_quads`].
    pub(crate) fn at_every_level<R: Send>(
        threads: usize,
        test: impl Fn() -> R + Send + Sync,
    ) -> Vec<R> {
        let levels = Level::ALL.iter().copied();
        #[cfg(target_arch = "x86_64")]
        let levels = levels.filter(|level| ![Level::Avx2Quads, Level::Quads].contains(level));
        at(levels, threads, test)
    }

    /// [`at_every_level`], and at those that multiply quads.
    pub(crate) fn at_every_level_of_quads<R: Send>(
        threads: usize,
        test: impl Fn() -> R + Send + Sync,
    ) -> Vec<R> {
        at(Level::ALL.iter().copied(), threads, test)
    }

    fn can_be_tried(level: Level) -> bool {
        #[cfg(target_arch = "x86_64")]
        if level == Level::Tiles {
            return Level::Pairs.is_here();
        }
        level.is_here()
    }

    fn at<R: Send>(
        levels: impl Iterator<Item = Level>,
        threads: usize,
        test: impl Fn() -> R + Send + Sync,
    ) -> Vec<R> {
        levels
            .filter(|level| can_be_tried(*level))
            .map(|level| at_one(level, threads, &test))
            .collect()
    }

    #[cfg(not(target_family = "wasm"))]
    fn at_one<R: Send>(level: Level, threads: usize, test: impl Fn() -> R + Send + Sync) -> R {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .start_handler(move |_| LEVEL.set(Some(level)))
            .build()
            .expect("a pool of a few threads")
            .install(test)
    }

    /// There is but one thread. How often this was done, and where, is what the page of these tests has to
    /// tell by: nothing that is printed is heard.
    #[cfg(target_family = "wasm")]
    fn at_one<R>(level: Level, _threads: usize, test: impl Fn() -> R) -> R {
        LEVEL.set(Some(level));
        let result = test();
        LEVEL.set(None);
        TRIED[usize::from(level != Level::Plain)].fetch_add(1, Ordering::Relaxed);
        result
    }

    #[cfg(target_family = "wasm")]
    static TRIED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

    /// How often a test was run with plain code (0), or with vectors (1).
    #[cfg(target_family = "wasm")]
    #[unsafe(no_mangle)]
    extern "C" fn tried(with_vectors: usize) -> u32 {
        TRIED[with_vectors].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{at_every_level, at_every_level_of_quads};
    use super::*;

    /// The lanes of the registers that a kernel is given.
    struct Lanes;

    impl Kernel for Lanes {
        type Output = usize;

        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::LANES
        }
    }

    #[test]
    fn every_level_that_the_processor_has_is_tried() {
        let tried = at_every_level_of_quads(1, || {
            let level = Level::current();
            assert_eq!(dispatch(Lanes), level.lanes(), "{level:?}");
            level
        });
        println!("tried: {tried:?}");
        assert_eq!(tried[0], Level::Plain);
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        {
            // As the system lists them: levels are chosen by other means.
            let processor = std::fs::read_to_string("/proc/cpuinfo").expect("/proc/cpuinfo");
            let flags = processor.lines().find(|line| line.starts_with("flags"));
            let flags: Vec<&str> = flags.expect("flags").split_whitespace().collect();
            for (level, needs) in [
                (Level::Avx2, "avx2 fma f16c"),
                (Level::Avx2Quads, "avx2 fma f16c avx_vnni"),
                (Level::Avx512, "avx512f avx512bw avx512dq avx512vl"),
                (
                    Level::Quads,
                    "avx512f avx512bw avx512dq avx512vl avx512_vnni",
                ),
                (
                    Level::Pairs,
                    "avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16",
                ),
                (Level::Tiles, "avx512_bf16 amx_tile amx_bf16 amx_int8"),
            ] {
                let is_listed = needs.split(' ').all(|flag| flags.contains(&flag));
                assert_eq!(level.is_here(), is_listed, "{level:?}, of {needs}");
                let stands_in = level == Level::Tiles && Level::Pairs.is_here();
                let is_tried = tried.contains(&level);
                assert_eq!(is_tried, is_listed || stands_in, "{level:?}");
            }
        }
    }

    #[test]
    fn what_lies_beyond_a_slice_is_neither_read_nor_written() {
        struct Beyond;
        impl Kernel for Beyond {
            type Output = ();

            #[inline(always)]
            fn run<S: Simd>(self, s: S) {
                let mut three = [1.0, 2.0, 3.0];
                assert_eq!(s.sum(s.get(&three, 1)), 5.0);
                assert_eq!(s.sum(s.get(&three, 3)), 0.0);
                s.set(&mut three, 2, s.splat(7.0));
                s.set(&mut three, 3, s.splat(9.0));
                assert_eq!(three, [1.0, 2.0, 7.0]);
            }
        }
        struct Outside;
        impl Kernel for Outside {
            type Output = f32;

            #[inline(always)]
            fn run<S: Simd>(self, s: S) -> f32 {
                s.first(s.get(&[1.0, 2.0, 3.0], 4))
            }
        }
        at_every_level(1, || {
            dispatch(Beyond);
            // There, a panic is the end.
            if cfg!(not(target_family = "wasm")) {
                assert!(std::panic::catch_unwind(|| dispatch(Outside)).is_err());
            }
        });
    }
}
