//! The inner loop of every search: a few rows times a panel of 32 vectors, summed in registers.
//!
//! Scores only find candidates, so they may be rough as long as it is known how rough: where the
//! processor multiplies `bf16` faster than `f32`, on tile registers or in pairs, operands are rounded
//! to it, and [`Extent`] tells what that costs. Rows whose scores all lie below a floor are told apart
//! at once, so that nobody looks at them again.

#[cfg(target_arch = "x86_64")]
mod bfloat16;
mod float32;
mod layout;
mod operand;

use std::sync::LazyLock;
use std::time::Instant;

use super::numeric::product_error;
pub(crate) use operand::Extent;

/// Vectors of a panel: two AVX-512 registers.
pub(crate) const WIDTH: usize = 32;

/// The most rows of a panel.
pub(crate) const HEIGHT: usize = 32;

/// The scores of a panel of rows with a panel of vectors.
pub(crate) type Scores = [[f32; WIDTH]; HEIGHT];

/// How products are formed. Decisions are the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// In float32.
    Float32,
    /// Of numbers rounded to `bf16`, in pairs (AVX512-BF16).
    #[cfg(target_arch = "x86_64")]
    Pairs,
    /// Of numbers rounded to `bf16`, on tile registers (AMX).
    #[cfg(target_arch = "x86_64")]
    Tiles,
}

impl Kernel {
    /// The fastest that this processor has, tried once: where AMD multiplies pairs twice as fast as
    /// float32, some of Intel's are slower at it.
    pub(crate) fn best() -> Self {
        static BEST: LazyLock<Kernel> = LazyLock::new(|| {
            let tried = Kernel::here()
                .into_iter()
                .map(|one| (one.time_a_row(), one));
            let fastest = tried.min_by_key(|(time, _)| *time);
            fastest.map_or(Kernel::Float32, |(_, one)| one)
        });
        *BEST
    }

    /// Nanoseconds that a row of 1,024 numbers takes with a panel of vectors, at best.
    fn time_a_row(self) -> u128 {
        const TRIES: usize = 30;
        let words = self.words(1024);
        let (rows, vectors) = (vec![0; self.height() * words], vec![0; WIDTH * words]);
        let floors = [0.0; HEIGHT];
        let mut scores: Scores = [[0.0; WIDTH]; HEIGHT];
        let multiplier = self.start();
        let times = (0..TRIES).map(|_| {
            let start = Instant::now();
            let floors = &floors[..self.height()];
            multiplier.multiply(&rows, &vectors, &[0.0; WIDTH], floors, &mut scores);
            start.elapsed().as_nanos() / self.height() as u128
        });
        times.min().unwrap_or(0)
    }

    /// Those that this processor has.
    pub(crate) fn here() -> Vec<Self> {
        let mut here = vec![Self::Float32];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bf16")
        {
            here.push(Self::Pairs);
            if bunny_kernels::amx::is_available() {
                here.push(Self::Tiles);
            }
        }
        here
    }

    /// Rows of a panel. With two registers a row, twelve leave a quarter of the 32 for operands; a
    /// tile has sixteen.
    pub(crate) fn height(self) -> usize {
        match self {
            Self::Float32 => float32::HEIGHT,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => float32::HEIGHT,
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => HEIGHT,
        }
    }

    /// Words of 32 bits that a vector of `dims` numbers takes.
    pub(crate) fn words(self, dims: usize) -> usize {
        match self {
            Self::Float32 => dims,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => dims.div_ceil(2),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => dims.div_ceil(2).next_multiple_of(bunny_kernels::amx::SIDE),
        }
    }

    /// Lays out at most [`height`](Self::height) rows (`[n, dims]`), less `shift` each, as a panel.
    pub(crate) fn lay_rows(
        self,
        rows: &[f32],
        shift: &[f32],
        rounded: &mut Vec<u32>,
        extents: &mut Vec<Extent>,
        panel: &mut [u32],
    ) {
        let words = self.words(shift.len());
        self.round(rows, shift, rounded, extents);
        match self {
            Self::Float32 => layout::interleave::<{ float32::HEIGHT }>(rounded, words, panel),
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => layout::interleave::<{ float32::HEIGHT }>(rounded, words, panel),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => layout::squares(rounded, words, panel),
        }
    }

    /// Lays out at most [`WIDTH`] vectors (`[n, dims]`), less `shift` each, as a panel.
    pub(crate) fn lay_vectors(
        self,
        vectors: &[f32],
        shift: &[f32],
        rounded: &mut Vec<u32>,
        extents: &mut Vec<Extent>,
        panel: &mut [u32],
    ) {
        let words = self.words(shift.len());
        self.round(vectors, shift, rounded, extents);
        match self {
            Self::Float32 => layout::interleave::<WIDTH>(rounded, words, panel),
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => layout::interleave::<WIDTH>(rounded, words, panel),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => {
                let (low, high) = panel.split_at_mut(words * bunny_kernels::amx::SIDE);
                let first = rounded.len().min(words * bunny_kernels::amx::SIDE);
                layout::interleave::<{ bunny_kernels::amx::SIDE }>(&rounded[..first], words, low);
                layout::interleave::<{ bunny_kernels::amx::SIDE }>(&rounded[first..], words, high);
            }
        }
    }

    /// `[n, dims]` to `[n, words]`.
    fn round(
        self,
        vectors: &[f32],
        shift: &[f32],
        rounded: &mut Vec<u32>,
        extents: &mut Vec<Extent>,
    ) {
        let dims = shift.len();
        let words = self.words(dims);
        rounded.clear();
        rounded.resize(vectors.len() / dims * words, 0);
        for (vector, rounded) in vectors.chunks(dims).zip(rounded.chunks_mut(words)) {
            let (squared, error_squared) = match self {
                Self::Float32 => operand::to_float32(vector, shift, rounded),
                #[cfg(target_arch = "x86_64")]
                Self::Pairs | Self::Tiles => {
                    let halves: &mut [u16] = bytemuck::cast_slice_mut(rounded);
                    operand::to_bfloat16(vector, shift, &mut halves[..dims])
                }
            };
            extents.push(Extent {
                length: squared.sqrt(),
                error: error_squared.sqrt(),
            });
        }
    }

    /// How far the score of a row of this extent can be from that of the vectors it stands for,
    /// where no vector's extent exceeds `vectors`, and no bias `bias`.
    ///
    /// With `r` and `v` for the exact operands and `r'` and `v'` for the rounded, `r'·v' − r·v =
    /// (r' − r)·v' + r·(v' − v)`, and Cauchy and Schwarz bound both. The sums' own rounding comes on
    /// top, for which a pair counts as two terms, and numbers too small for float32.
    pub(crate) fn error(self, dims: usize, row: Extent, vectors: Extent, bias: f64) -> f64 {
        let rounding = row.error * vectors.length + (row.length + row.error) * vectors.error;
        let magnitude = row.length * vectors.length + bias;
        let smallest = f64::from(f32::MIN_POSITIVE);
        rounding * (1.0 + 1e-9)
            + product_error(2 * dims, 1.0, magnitude)
            + 4.0 * dims as f64 * smallest
    }

    /// Gets this thread ready to multiply.
    pub(crate) fn start(self) -> Multiplier {
        match self {
            Self::Float32 => Multiplier::Float32,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => Multiplier::Pairs,
            // SAFETY: `here` has seen them, and no search begins within another on one thread.
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => Multiplier::Tiles(unsafe { bunny_kernels::amx::Tiles::take() }),
        }
    }
}

/// A kernel at work.
#[derive(Debug)]
pub(crate) enum Multiplier {
    Float32,
    #[cfg(target_arch = "x86_64")]
    Pairs,
    #[cfg(target_arch = "x86_64")]
    Tiles(bunny_kernels::amx::Tiles),
}

impl Multiplier {
    /// Writes `row · vector + bias` for a panel of rows and one of vectors. Bit `r` of what it
    /// returns says that a score of row `r` is at least `floors[r]`.
    pub(crate) fn multiply(
        &self,
        rows: &[u32],
        vectors: &[u32],
        biases: &[f32; WIDTH],
        floors: &[f32],
        scores: &mut Scores,
    ) -> u32 {
        match self {
            Self::Float32 => float32::multiply(rows, vectors, biases, floors, scores),
            // SAFETY: `Kernel::here` has seen the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => unsafe { bfloat16::pairs(rows, vectors, biases, floors, scores) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(tiles) => unsafe {
                bfloat16::tiles(tiles, rows, vectors, biases, floors, scores)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_gives_the_products_and_the_rows_that_reach_their_floors() {
        for (kernel, dims) in Kernel::here()
            .into_iter()
            .flat_map(|kernel| [1, 7, 64, 70].map(|dims| (kernel, dims)))
        {
            // Small integers: they are `bf16`, and float32 sums of their products are exact.
            let value =
                |seed: u64, i: usize| (crate::hash::mix_all(&[seed, i as u64]) % 17) as f32 - 8.0;
            let height = kernel.height();
            let rows: Vec<f32> = (0..height * dims).map(|i| value(1, i)).collect();
            let vectors: Vec<f32> = (0..WIDTH * dims).map(|i| value(2, i)).collect();
            let biases: [f32; WIDTH] = std::array::from_fn(|i| value(3, i));
            let shift: Vec<f32> = (0..dims).map(|i| value(4, i)).collect();
            let expected = |row: usize, vector: usize| -> f32 {
                let less = |of: &[f32], at: usize, k: usize| of[at * dims + k] - shift[k];
                let products = (0..dims).map(|k| less(&rows, row, k) * less(&vectors, vector, k));
                biases[vector] + products.sum::<f32>()
            };
            // Every other row reaches its floor, and just so.
            let floors: Vec<f32> = (0..height)
                .map(|row| {
                    let highest = (0..WIDTH)
                        .map(|vector| expected(row, vector))
                        .fold(f32::MIN, f32::max);
                    highest + (row % 2) as f32
                })
                .collect();
            let (mut rounded, mut extents) = (Vec::new(), Vec::new());
            let mut row_panel = vec![0; height * kernel.words(dims)];
            kernel.lay_rows(&rows, &shift, &mut rounded, &mut extents, &mut row_panel);
            let mut panel = vec![0; WIDTH * kernel.words(dims)];
            kernel.lay_vectors(&vectors, &shift, &mut rounded, &mut extents, &mut panel);
            assert!(extents.iter().all(|extent| extent.error == 0.0));
            let mut scores = [[f32::NAN; WIDTH]; HEIGHT];
            let reached =
                kernel
                    .start()
                    .multiply(&row_panel, &panel, &biases, &floors, &mut scores);
            for (row, scores) in scores[..height].iter().enumerate() {
                for (vector, score) in scores.iter().enumerate() {
                    assert_eq!(*score, expected(row, vector), "{kernel:?}, {row}, {vector}");
                }
            }
            let every_other = 0x5555_5555 & ((1_u64 << height) - 1) as u32;
            assert_eq!(reached, every_other, "{kernel:?}, {dims}");
        }
    }
}
