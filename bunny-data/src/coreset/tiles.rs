//! Matrix products in tiles: one side is laid out once, and the scores of a tile stay in the cache
//! of the core that reads them.

use gemm::Parallelism;

/// Vectors laid out for products: tiles of `width` vectors, in each tile the first numbers of all
/// its vectors, then the second, and so on.
///
/// ```text
/// vector  0 1 2 3 | 4 5        width 4, dims 2
///         a c e g | i k   →    a c e g b d f h | i k j l
///         b d f h | j l
/// ```
/// The product's kernel loads such a tile straight into registers, where rows would be transposed
/// anew for every call.
#[derive(Clone, Debug)]
pub(crate) struct Tiles {
    data: Vec<f32>,
    dims: usize,
    width: usize,
    count: usize,
}

impl Tiles {
    /// Lays out `vectors` (`[count, dims]`).
    pub(crate) fn new(vectors: &[f32], dims: usize, width: usize) -> Self {
        let mut tiles = Self {
            data: Vec::new(),
            dims,
            width,
            count: 0,
        };
        tiles.fill(vectors);
        tiles
    }

    /// Replaces the vectors; the memory is kept.
    pub(crate) fn fill(&mut self, vectors: &[f32]) {
        let (dims, width) = (self.dims, self.width);
        self.count = vectors.len() / dims;
        self.data.resize(vectors.len(), 0.0);
        for (tile, rows) in self
            .data
            .chunks_mut(width * dims)
            .zip(vectors.chunks(width * dims))
        {
            transpose(rows, dims, tile);
        }
    }

    /// Number of tiles.
    pub(crate) fn len(&self) -> usize {
        self.count.div_ceil(self.width)
    }

    /// The vectors of one tile.
    pub(crate) fn range(&self, tile: usize) -> std::ops::Range<usize> {
        tile * self.width..self.count.min((tile + 1) * self.width)
    }

    /// Writes the products of `rows` (`[n, dims]`) with the vectors of one tile into `scores`
    /// (`[n, vectors of the tile]`).
    ///
    /// # Panics
    /// Where a slice is too short.
    pub(crate) fn products(&self, tile: usize, rows: &[f32], scores: &mut [f32]) {
        let range = self.range(tile);
        let (vectors, n) = (range.len(), rows.len() / self.dims);
        let tile = &self.data[range.start * self.dims..range.end * self.dims];
        assert_eq!(rows.len(), n * self.dims, "whole rows");
        assert!(scores.len() >= n * vectors, "room for every score");
        // SAFETY: `tile` is [dims, vectors] and `rows` [n, dims], both row-major and as long as
        // asserted; `scores` has room for [n, vectors], read as its transpose.
        unsafe {
            gemm::gemm(
                vectors,
                n,
                self.dims,
                scores.as_mut_ptr(),
                vectors as isize,
                1,
                false,
                tile.as_ptr(),
                vectors as isize,
                1,
                rows.as_ptr(),
                self.dims as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

/// `[rows, dims]` to `[dims, rows]`, in blocks that fit the first cache.
fn transpose(rows: &[f32], dims: usize, out: &mut [f32]) {
    const BLOCK: usize = 16;
    let count = rows.len() / dims;
    for first_row in (0..count).step_by(BLOCK) {
        for first_dim in (0..dims).step_by(BLOCK) {
            for dim in first_dim..dims.min(first_dim + BLOCK) {
                for row in first_row..count.min(first_row + BLOCK) {
                    out[dim * count + row] = rows[row * dims + dim];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_rows_whatever_the_width() {
        let value =
            |seed: u64, i: usize| (crate::hash::mix_all(&[seed, i as u64]) % 17) as f32 - 8.0;
        for (count, n, dims, width) in [(5, 3, 2, 4), (40, 33, 37, 16), (1, 1, 1, 256)] {
            let vectors: Vec<f32> = (0..count * dims).map(|i| value(1, i)).collect();
            let rows: Vec<f32> = (0..n * dims).map(|i| value(2, i)).collect();
            let tiles = Tiles::new(&vectors, dims, width);
            let mut scores = vec![f32::NAN; n * width];
            for tile in 0..tiles.len() {
                tiles.products(tile, &rows, &mut scores);
                let range = tiles.range(tile);
                for row in 0..n {
                    for (i, vector) in range.clone().enumerate() {
                        // Small integers: float32 sums are exact.
                        let expected: f32 = (0..dims)
                            .map(|k| rows[row * dims + k] * vectors[vector * dims + k])
                            .sum();
                        assert_eq!(scores[row * range.len() + i], expected);
                    }
                }
            }
        }
    }
}
