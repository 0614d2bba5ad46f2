//! Rough products: scores of many rows with many vectors, as fast as this processor forms them, and
//! how far each can be from the exact one.
//!
//! Scores only find candidates, so they may be rough as long as it is known how rough: where the
//! processor multiplies `bf16` faster than `f32`, on tile registers or in pairs, operands are rounded
//! to it, and [`Extent`] tells what that costs. Rows whose scores all lie below a floor are told apart
//! at once, so that nobody looks at them again. What comes within the error of a decision is then
//! decided by [`exact`](crate::exact).
//!
//! ```
//! use bunny_kernels::rough::{RowPanels, VectorTiles};
//!
//! // Two vectors of three numbers, and one row.
//! let vectors = VectorTiles::new(&[1.0, 0.0, 2.0, 0.0, 3.0, 0.0], 3, 64);
//! let mut rows = RowPanels::default();
//! rows.fill(&vectors, &[0.5, 2.0, 0.25]);
//! let mut scores: Vec<f32> = Vec::new();
//! vectors.scan(vectors.range(0), &mut rows, |_row, _first, found, _floor| scores.extend(found));
//! assert_eq!(scores, [1.0, 6.0]);
//! ```

mod layout;
mod operand;
mod panel;
mod tiles;

use std::sync::LazyLock;
use std::time::Instant;

#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::exact::product_error;
use crate::simd::Level;
pub use operand::Extent;
pub use tiles::{RowPanels, VectorTiles};

/// Vectors of a panel: two AVX-512 registers.
const WIDTH: usize = 32;

/// The most rows of a panel.
const HEIGHT: usize = 32;

/// The scores of a panel of rows with a panel of vectors.
type Scores = [[f32; WIDTH]; HEIGHT];

/// How products are formed. What is decided by their scores and errors is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arithmetic {
    /// In float32.
    Float32,
    /// Of numbers rounded to `bf16`, in pairs (AVX512-BF16).
    #[cfg(target_arch = "x86_64")]
    Pairs,
    /// Of numbers rounded to `bf16`, on tile registers (AMX).
    #[cfg(target_arch = "x86_64")]
    Tiles,
}

impl Arithmetic {
    /// The fastest that this processor has, tried once, in less than a millisecond.
    ///
    /// This is where it is settled whether `bf16` pays, for these products and for those of
    /// [`linear_bf16_dot`](crate::linear_bf16_dot): an instruction that is there need not be fast. AMD
    /// multiplies pairs twice as fast as float32, some of Intel's no faster. What rounds must save a
    /// quarter of the time: no processor is near that limit, so that noise does not change the choice
    /// from one run to the next.
    pub fn fastest() -> Self {
        static FASTEST: LazyLock<Arithmetic> = LazyLock::new(|| {
            let here = Arithmetic::at(Level::detect());
            if let [only] = here[..] {
                return only;
            }
            let mut best = vec![u128::MAX; here.len()];
            // They take turns: a core that has rested is slow at first.
            for _ in 0..TRIES {
                for (best, arithmetic) in best.iter_mut().zip(&here) {
                    *best = (*best).min(arithmetic.time_a_row());
                }
            }
            let mut fastest = 0;
            for one in 1..here.len() {
                if 4 * best[one] < 3 * best[fastest] {
                    fastest = one;
                }
            }
            here[fastest]
        });
        *FASTEST
    }

    /// Those that this processor has.
    pub fn here() -> Vec<Self> {
        Self::at(Level::current())
    }

    fn at(level: Level) -> Vec<Self> {
        let all = [
            (Self::Float32, Level::Plain),
            #[cfg(target_arch = "x86_64")]
            (Self::Pairs, Level::Pairs),
            #[cfg(target_arch = "x86_64")]
            (Self::Tiles, Level::Tiles),
        ];
        let here = all.into_iter().filter(|(_, needs)| *needs <= level);
        here.map(|(arithmetic, _)| arithmetic).collect()
    }

    /// Nanoseconds that a row of 1,024 numbers takes with a panel of vectors.
    fn time_a_row(self) -> u128 {
        let words = self.words(1024);
        let (rows, vectors) = (vec![0; self.height() * words], vec![0; WIDTH * words]);
        let floors = [0.0; HEIGHT];
        let mut scores: Scores = [[0.0; WIDTH]; HEIGHT];
        let multiplier = self.start();
        let mut once = || {
            let start = Instant::now();
            let floors = &floors[..self.height()];
            multiplier.multiply(&rows, &vectors, &[0.0; WIDTH], floors, &mut scores);
            start.elapsed().as_nanos() / self.height() as u128
        };
        // The first brings the operands into the cache.
        once().min(once())
    }

    /// Rows of a panel. With two registers a row, twelve leave a quarter of the 32 for operands; a
    /// tile has sixteen.
    fn height(self) -> usize {
        match self {
            Self::Float32 => panel::HEIGHT,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => panel::HEIGHT,
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => HEIGHT,
        }
    }

    /// Words of 32 bits that a vector of `dims` numbers takes.
    fn words(self, dims: usize) -> usize {
        match self {
            Self::Float32 => dims,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => dims.div_ceil(2),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => dims.div_ceil(2).next_multiple_of(amx::SIDE),
        }
    }

    /// Lays out at most [`height`](Self::height) rows (`[n, dims]`), less `shift` each, as a panel.
    fn lay_rows(
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
            Self::Float32 => layout::interleave::<{ panel::HEIGHT }>(rounded, words, panel),
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => layout::interleave::<{ panel::HEIGHT }>(rounded, words, panel),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => layout::squares(rounded, words, panel),
        }
    }

    /// Lays out at most [`WIDTH`] vectors (`[n, dims]`), less `shift` each, as a panel.
    fn lay_vectors(
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
                let (low, high) = panel.split_at_mut(words * amx::SIDE);
                let first = rounded.len().min(words * amx::SIDE);
                layout::interleave::<{ amx::SIDE }>(&rounded[..first], words, low);
                layout::interleave::<{ amx::SIDE }>(&rounded[first..], words, high);
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
    fn error(self, dims: usize, row: Extent, vectors: Extent, bias: f64) -> f64 {
        let rounding = row.error * vectors.length + (row.length + row.error) * vectors.error;
        let magnitude = row.length * vectors.length + bias;
        let smallest = f64::from(f32::MIN_POSITIVE);
        rounding * (1.0 + 1e-9)
            + product_error(2 * dims, 1.0, magnitude)
            + 4.0 * dims as f64 * smallest
    }

    /// Gets this thread ready to multiply.
    fn start(self) -> Multiplier {
        match self {
            Self::Float32 => Multiplier::Float32,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => Multiplier::Pairs,
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => {
                assert!(Level::current() == Level::Tiles, "no tile registers here");
                // SAFETY: the level says that there are some.
                Multiplier::Tiles(unsafe { amx::Tiles::take() })
            }
        }
    }
}

/// How often each arithmetic is timed.
const TRIES: usize = 30;

/// An arithmetic at work.
#[derive(Debug)]
enum Multiplier {
    Float32,
    #[cfg(target_arch = "x86_64")]
    Pairs,
    #[cfg(target_arch = "x86_64")]
    Tiles(amx::Tiles),
}

impl Multiplier {
    /// Writes `row · vector + bias` for a panel of rows and one of vectors. Bit `r` of what it
    /// returns says that a score of row `r` is at least `floors[r]`.
    fn multiply(
        &self,
        rows: &[u32],
        vectors: &[u32],
        biases: &[f32; WIDTH],
        floors: &[f32],
        scores: &mut Scores,
    ) -> u32 {
        match self {
            Self::Float32 => panel::multiply::<false>(rows, vectors, biases, floors, scores),
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => panel::multiply::<true>(rows, vectors, biases, floors, scores),
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(tiles) => {
                panel::multiply_squares(tiles, rows, vectors, biases, floors, scores)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::mix;

    #[test]
    fn every_arithmetic_gives_the_products_and_the_rows_that_reach_their_floors() {
        at_every_level(1, || {
            for arithmetic in Arithmetic::here() {
                for dims in [1, 7, 64, 70] {
                    check(arithmetic, dims);
                }
            }
        });
    }

    fn check(arithmetic: Arithmetic, dims: usize) {
        // Small integers: they are `bf16`, and float32 sums of their products are exact.
        let value = |seed: u64, i: usize| (mix(seed, i as u64) % 17) as f32 - 8.0;
        let height = arithmetic.height();
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
        let mut row_panel = vec![0; height * arithmetic.words(dims)];
        arithmetic.lay_rows(&rows, &shift, &mut rounded, &mut extents, &mut row_panel);
        let mut panel = vec![0; WIDTH * arithmetic.words(dims)];
        arithmetic.lay_vectors(&vectors, &shift, &mut rounded, &mut extents, &mut panel);
        assert!(extents.iter().all(|extent| extent.error == 0.0));
        let mut scores = [[f32::NAN; WIDTH]; HEIGHT];
        let reached =
            arithmetic
                .start()
                .multiply(&row_panel, &panel, &biases, &floors, &mut scores);
        for (row, scores) in scores[..height].iter().enumerate() {
            for (vector, score) in scores.iter().enumerate() {
                assert_eq!(
                    *score,
                    expected(row, vector),
                    "{arithmetic:?}, {row}, {vector}"
                );
            }
        }
        let every_other = 0x5555_5555 & ((1_u64 << height) - 1) as u32;
        assert_eq!(reached, every_other, "{arithmetic:?}, {dims}");
    }
}
