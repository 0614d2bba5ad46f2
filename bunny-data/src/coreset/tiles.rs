//! Products in tiles: vectors are laid out once, and a tile of them stays in the second cache of
//! the core that multiplies it with many rows. Scores are read where they arise and never stored.

use std::ops::Range;

use super::product::{HEIGHT, Scores, WIDTH, multiply};

/// Vectors laid out for products: panels of 32, in each the first numbers of all its vectors, then
/// the second, and so on.
///
/// ```text
/// vector  0 1 2 | 3 4 5        panels of 3, dims 2
///         a c e | g i k   →    a c e b d f | g i k h j l
///         b d f | h j l
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Tiles {
    /// `[panels, dims, WIDTH]`; what is missing to a full panel is zero.
    data: Vec<f32>,
    /// Added to a vector's products; minus infinity for vectors that are none.
    biases: Vec<[f32; WIDTH]>,
    dims: usize,
    /// Panels of a tile.
    panels: usize,
    count: usize,
}

impl Tiles {
    /// Lays out `vectors` (`[count, dims]`), in tiles of `width` of them, rounded up to panels.
    pub(crate) fn new(vectors: &[f32], dims: usize, width: usize) -> Self {
        let mut tiles = Self {
            data: Vec::new(),
            biases: Vec::new(),
            dims,
            panels: width.div_ceil(WIDTH),
            count: 0,
        };
        tiles.fill(vectors);
        tiles
    }

    /// Replaces the vectors, without biases; the memory is kept.
    pub(crate) fn fill(&mut self, vectors: &[f32]) {
        self.count = vectors.len() / self.dims;
        interleave::<WIDTH>(vectors, self.dims, &mut self.data);
        self.biases.clear();
        self.biases.resize(self.count.div_ceil(WIDTH), [0.0; WIDTH]);
        if let Some(last) = self.biases.last_mut() {
            last[(self.count - 1) % WIDTH + 1..].fill(f32::NEG_INFINITY);
        }
    }

    /// Adds a number to all products of each vector.
    pub(crate) fn with_biases(mut self, biases: impl IntoIterator<Item = f32>) -> Self {
        for (to, bias) in self.biases.as_flattened_mut().iter_mut().zip(biases) {
            *to = bias;
        }
        self
    }

    /// Number of tiles.
    pub(crate) fn len(&self) -> usize {
        self.biases.len().div_ceil(self.panels)
    }

    /// The vectors of one tile.
    pub(crate) fn range(&self, tile: usize) -> Range<usize> {
        let width = self.panels * WIDTH;
        tile * width..self.count.min((tile + 1) * width)
    }

    /// Multiplies rows with some vectors, those of a tile or the first of them, and calls
    /// `found(row, first, scores, floor)` wherever a score of up to 32 vectors, from `first` on,
    /// reaches the row's floor; `found` may raise it.
    pub(crate) fn scan(
        &self,
        vectors: Range<usize>,
        rows: &mut RowPanels,
        mut found: impl FnMut(usize, usize, &[f32], &mut f32),
    ) {
        let mut scores: Scores = [[0.0; WIDTH]; HEIGHT];
        let panels = vectors.start / WIDTH..vectors.end.div_ceil(WIDTH);
        for (row_panel, (rows, floors)) in rows
            .data
            .chunks_exact(self.dims * HEIGHT)
            .zip(&mut rows.floors)
            .enumerate()
        {
            for panel in panels.clone() {
                let size = self.dims * WIDTH;
                let data = &self.data[panel * size..(panel + 1) * size];
                let biases = &self.biases[panel];
                let mut reached = multiply(rows, data, biases, floors, &mut scores);
                let count = WIDTH.min(vectors.end - panel * WIDTH);
                while reached != 0 {
                    let row = reached.trailing_zeros() as usize;
                    reached &= reached - 1;
                    found(
                        row_panel * HEIGHT + row,
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
pub(crate) struct RowPanels {
    /// `[panels, dims, HEIGHT]`; what is missing to a full panel is zero.
    data: Vec<f32>,
    /// Infinite for rows that are none.
    floors: Vec<[f32; HEIGHT]>,
}

impl RowPanels {
    /// Replaces the rows (`[n, dims]`); the memory is kept.
    pub(crate) fn fill(&mut self, rows: &[f32], dims: usize, floor: f32) {
        let count = rows.len() / dims;
        interleave::<HEIGHT>(rows, dims, &mut self.data);
        self.floors.clear();
        self.floors.resize(count.div_ceil(HEIGHT), [floor; HEIGHT]);
        if let Some(last) = self.floors.last_mut() {
            last[(count - 1) % HEIGHT + 1..].fill(f32::INFINITY);
        }
    }
}

/// `[count, dims]` to panels `[dims, N]` of `N` vectors, the last filled up with zeros.
fn interleave<const N: usize>(vectors: &[f32], dims: usize, out: &mut Vec<f32>) {
    // Numbers of a vector at a time: a line of the first cache.
    const BLOCK: usize = 16;
    let panels = (vectors.len() / dims).div_ceil(N);
    out.resize(panels * dims * N, 0.0);
    for (panel, vectors) in out.chunks_exact_mut(dims * N).zip(vectors.chunks(N * dims)) {
        let (panel, _) = panel.as_chunks_mut::<N>();
        if vectors.len() < N * dims {
            panel.as_flattened_mut().fill(0.0);
        }
        for (block, panel) in panel.chunks_mut(BLOCK).enumerate() {
            for (i, vector) in vectors.chunks_exact(dims).enumerate() {
                let numbers = &vector[block * BLOCK..][..panel.len()];
                for (to, from) in panel.iter_mut().zip(numbers) {
                    to[i] = *from;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_products_of_the_rows_whatever_the_width() {
        let value =
            |seed: u64, i: usize| (crate::hash::mix_all(&[seed, i as u64]) % 17) as f32 - 8.0;
        for (count, n, dims, width) in [(5, 3, 2, 4), (80, 33, 37, 33), (64, 12, 1, 256)] {
            let vectors: Vec<f32> = (0..count * dims).map(|i| value(1, i)).collect();
            let rows: Vec<f32> = (0..n * dims).map(|i| value(2, i)).collect();
            let biases: Vec<f32> = (0..count).map(|i| value(3, i)).collect();
            let tiles = Tiles::new(&vectors, dims, width).with_biases(biases.iter().copied());
            let mut panels = RowPanels::default();
            panels.fill(&rows, dims, f32::NEG_INFINITY);
            let mut found = vec![f32::NAN; n * count];
            let mut seen = 0;
            for tile in 0..tiles.len() {
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
        let tiles = Tiles::new(&vectors, 1, 64);
        let mut rows = RowPanels::default();
        rows.fill(&[1.0], 1, 20.0);
        let mut firsts = Vec::new();
        for tile in 0..tiles.len() {
            tiles.scan(tiles.range(tile), &mut rows, |row, first, _, floor| {
                assert_eq!(row, 0);
                firsts.push(first);
                *floor = 70.0;
            });
        }
        assert_eq!(firsts, [0, 64, 96]);
    }
}
