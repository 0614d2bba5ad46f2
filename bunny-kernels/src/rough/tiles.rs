//! Products in tiles that fit a cache: vectors are laid out once, and a tile of them stays in the
//! second cache of the core that multiplies it with many rows. Scores are read where they arise and
//! never stored.

use std::ops::Range;

use rayon::prelude::*;

use super::{Arithmetic, Extent, HEIGHT, Scores, WIDTH};

/// Vectors laid out for products, in panels of 32.
///
/// Scores are those of an arithmetic, which are rough: [`error`](Self::error) says how much.
#[derive(Clone, Debug)]
pub struct VectorTiles {
    arithmetic: Arithmetic,
    /// `[panels, 32 * words]`; what is missing to a full panel is zero.
    data: Vec<u32>,
    /// Added to a vector's products; minus infinity for vectors that are none.
    biases: Vec<[f32; WIDTH]>,
    /// Subtracted from vectors and rows alike.
    shift: Vec<f32>,
    /// Of the vectors, the largest.
    extent: Extent,
    /// The largest, without its sign.
    bias: f64,
    /// Panels of a tile.
    panels: usize,
    count: usize,
}

impl VectorTiles {
    /// Lays out `vectors` (`[count, dims]`), in tiles of `width` of them, rounded up to panels.
    pub fn new(vectors: &[f32], dims: usize, width: usize) -> Self {
        Self::centred(Arithmetic::fastest(), vectors, vec![0.0; dims], width)
    }

    /// The same for an arithmetic, of what the vectors are less `shift`: scores are
    /// `(row − shift) · (vector − shift)`. Rough scores of short vectors are less rough.
    pub fn centred(arithmetic: Arithmetic, vectors: &[f32], shift: Vec<f32>, width: usize) -> Self {
        let mut tiles = Self {
            arithmetic,
            data: Vec::new(),
            biases: Vec::new(),
            shift,
            extent: Extent::default(),
            bias: 0.0,
            panels: width.div_ceil(WIDTH),
            count: 0,
        };
        tiles.fill(vectors);
        tiles
    }

    /// Replaces the vectors, without biases; the memory is kept.
    pub fn fill(&mut self, vectors: &[f32]) {
        let dims = self.shift.len();
        self.count = vectors.len() / dims;
        let panels = self.count.div_ceil(WIDTH);
        let (arithmetic, shift) = (self.arithmetic, &self.shift);
        let size = WIDTH * arithmetic.words(dims);
        self.data.resize(panels * size, 0);
        let extents = self
            .data
            .par_chunks_exact_mut(size)
            .zip(vectors.par_chunks(WIDTH * dims))
            .map_init(
                Default::default,
                |(rounded, extents): &mut (Vec<u32>, Vec<Extent>), (panel, vectors)| {
                    extents.clear();
                    arithmetic.lay_vectors(vectors, shift, rounded, extents, panel);
                    extents.iter().copied().fold(Extent::default(), Extent::max)
                },
            );
        self.extent = extents.reduce(Extent::default, Extent::max);
        self.biases.clear();
        self.biases.resize(panels, [0.0; WIDTH]);
        self.bias = 0.0;
        if let Some(last) = self.biases.last_mut() {
            last[(self.count - 1) % WIDTH + 1..].fill(f32::NEG_INFINITY);
        }
    }

    /// Adds a number to all scores of each vector.
    pub fn with_biases(mut self, biases: impl IntoIterator<Item = f32>) -> Self {
        for (to, bias) in self.biases.as_flattened_mut().iter_mut().zip(biases) {
            *to = bias;
            self.bias = self.bias.max(f64::from(bias.abs()));
        }
        self
    }

    /// Number of tiles.
    pub fn tile_count(&self) -> usize {
        self.biases.len().div_ceil(self.panels)
    }

    /// The vectors of one tile.
    pub fn range(&self, tile: usize) -> Range<usize> {
        let width = self.panels * WIDTH;
        tile * width..self.count.min((tile + 1) * width)
    }

    /// How far a score of a row of this extent can be from the exact one.
    pub fn error(&self, row: Extent) -> f64 {
        self.arithmetic
            .error(self.shift.len(), row, self.extent, self.bias)
    }

    /// Multiplies rows with some vectors, those of a tile or the first of them, and calls
    /// `found(row, first, scores, floor)` wherever a score of up to 32 vectors, from `first` on,
    /// reaches the row's floor; `found` may raise it.
    pub fn scan(
        &self,
        vectors: Range<usize>,
        rows: &mut RowPanels,
        mut found: impl FnMut(usize, usize, &[f32], &mut f32),
    ) {
        let (height, words) = (
            self.arithmetic.height(),
            self.arithmetic.words(self.shift.len()),
        );
        let mut scores: Scores = [[0.0; WIDTH]; HEIGHT];
        let multiplier = self.arithmetic.start();
        let panels = vectors.start / WIDTH..vectors.end.div_ceil(WIDTH);
        for (row_panel, (rows, floors)) in rows
            .data
            .chunks_exact(height * words)
            .zip(rows.floors.chunks_exact_mut(height))
            .enumerate()
        {
            for panel in panels.clone() {
                let size = words * WIDTH;
                let data = &self.data[panel * size..(panel + 1) * size];
                let biases = &self.biases[panel];
                let mut reached = multiplier.multiply(rows, data, biases, floors, &mut scores);
                let count = WIDTH.min(vectors.end - panel * WIDTH);
                while reached != 0 {
                    let row = reached.trailing_zeros() as usize;
                    reached &= reached - 1;
                    found(
                        row_panel * height + row,
                        panel * WIDTH,
                        &scores[row][..count],
                        &mut floors[row],
                    );
                }
            }
        }
    }
}

/// Rows laid out for products with tiles, each with the floor below which its scores are of no
/// interest.
#[derive(Debug, Default)]
pub struct RowPanels {
    /// `[panels, height * words]`; what is missing to a full panel is zero.
    data: Vec<u32>,
    /// Infinite for rows that are none.
    floors: Vec<f32>,
    extents: Vec<Extent>,
    rounded: Vec<u32>,
}

impl RowPanels {
    /// Replaces the rows (`[n, dims]`), for products with `vectors`, all of interest; the memory is
    /// kept.
    pub fn fill(&mut self, vectors: &VectorTiles, rows: &[f32]) {
        let (arithmetic, dims) = (vectors.arithmetic, vectors.shift.len());
        let (count, height) = (rows.len() / dims, arithmetic.height());
        let size = height * arithmetic.words(dims);
        self.extents.clear();
        self.data.resize(count.div_ceil(height) * size, 0);
        let panels = self.data.chunks_exact_mut(size);
        for (panel, rows) in panels.zip(rows.chunks(height * dims)) {
            let (rounded, extents) = (&mut self.rounded, &mut self.extents);
            arithmetic.lay_rows(rows, &vectors.shift, rounded, extents, panel);
        }
        self.floors.clear();
        self.floors.resize(count, f32::NEG_INFINITY);
        self.floors
            .resize(count.next_multiple_of(height), f32::INFINITY);
    }

    /// Makes scores below `floor` uninteresting, for all rows.
    pub fn set_floors(&mut self, floor: f32) {
        self.floors[..self.extents.len()].fill(floor);
    }

    /// Of each row.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mix;

    #[test]
    fn scores_are_the_products_of_the_rows_whatever_the_width() {
        let value = |seed: u64, i: usize| (mix(seed, i as u64) % 17) as f32 - 8.0;
        for (count, n, dims, width) in [(5, 3, 2, 4), (80, 33, 37, 33), (64, 12, 1, 256)] {
            let vectors: Vec<f32> = (0..count * dims).map(|i| value(1, i)).collect();
            let rows: Vec<f32> = (0..n * dims).map(|i| value(2, i)).collect();
            let biases: Vec<f32> = (0..count).map(|i| value(3, i)).collect();
            let tiles = VectorTiles::new(&vectors, dims, width).with_biases(biases.iter().copied());
            let mut panels = RowPanels::default();
            panels.fill(&tiles, &rows);
            let mut found = vec![f32::NAN; n * count];
            let mut seen = 0;
            for tile in 0..tiles.tile_count() {
                assert_eq!(tiles.range(tile).start, seen);
                seen = tiles.range(tile).end;
                tiles.scan(tiles.range(tile), &mut panels, |row, first, scores, _| {
                    found[row * count + first..][..scores.len()].copy_from_slice(scores);
                });
            }
            assert_eq!(seen, count);
            for row in 0..n {
                for vector in 0..count {
                    // Small integers: float32 sums are exact.
                    let expected: f32 = (0..dims)
                        .map(|k| rows[row * dims + k] * vectors[vector * dims + k])
                        .sum();
                    assert_eq!(found[row * count + vector], expected + biases[vector]);
                }
            }
        }
    }

    #[test]
    fn a_raised_floor_silences_what_comes_after() {
        // One row of 1; vectors that score 0 to 99.
        let vectors: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let tiles = VectorTiles::new(&vectors, 1, 64);
        let mut rows = RowPanels::default();
        rows.fill(&tiles, &[1.0]);
        rows.set_floors(20.0);
        let mut firsts = Vec::new();
        for tile in 0..tiles.tile_count() {
            tiles.scan(tiles.range(tile), &mut rows, |row, first, _, floor| {
                assert_eq!(row, 0);
                firsts.push(first);
                *floor = 70.0;
            });
        }
        assert_eq!(firsts, [0, 64, 96]);
    }

    #[test]
    fn no_score_is_further_off_than_is_said() {
        let value =
            |seed: u64, i: usize| (mix(seed, i as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let dims = 300;
        let vectors: Vec<f32> = (0..50 * dims).map(|i| value(1, i)).collect();
        let rows: Vec<f32> = (0..40 * dims).map(|i| 0.1 * value(2, i) + 0.3).collect();
        let shift: Vec<f32> = (0..dims).map(|i| 0.3 + 0.01 * value(3, i)).collect();
        let biases: Vec<f32> = (0..50).map(|i| 2.0 * value(4, i)).collect();
        for arithmetic in Arithmetic::here() {
            let tiles = VectorTiles::centred(arithmetic, &vectors, shift.clone(), 64)
                .with_biases(biases.clone());
            let mut panels = RowPanels::default();
            panels.fill(&tiles, &rows);
            let extents = panels.extents().to_vec();
            let (mut seen, mut worst) = (0, 0.0_f64);
            for tile in 0..tiles.tile_count() {
                tiles.scan(tiles.range(tile), &mut panels, |row, first, scores, _| {
                    for (score, vector) in scores.iter().zip(first..) {
                        let less = |of: &[f32], at: usize, k: usize| {
                            f64::from(of[at * dims + k]) - f64::from(shift[k])
                        };
                        let exact: f64 = (0..dims)
                            .map(|k| less(&rows, row, k) * less(&vectors, vector, k))
                            .sum::<f64>()
                            + f64::from(biases[vector]);
                        let off = (f64::from(*score) - exact).abs() / tiles.error(extents[row]);
                        assert!(off <= 1.0, "{arithmetic:?}: {off}");
                        worst = worst.max(off);
                        seen += 1;
                    }
                });
            }
            assert_eq!(seen, 2000);
            // A bound that says nothing would hold too.
            assert!(worst > 1e-3, "{arithmetic:?}: {worst}");
        }
    }
}
