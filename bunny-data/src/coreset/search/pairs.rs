//! All similar pairs of a cluster, exactly, in tiles of the upper triangle.
//!
//! ```text
//!            panel      rest
//!          ┌────────┬───────────┐
//!    panel │ ◥      │ block by  │   the panel's rows are laid out once, as large as memory
//!          └────────┤ block     │   allows; the rest is read block by block; then the next
//!            rest   │ ◥         │   panel is taken from the rest
//!                   └───────────┘
//! ```
//! Where pairs are only wanted to join sets, most of the work of a cluster of near copies can be
//! left out: after each panel, the rest is sorted by its sets so far, and tiles whose rows are all
//! of one set are skipped.

use bunny_kernels::exact::product_error;
use bunny_kernels::rough::{Extent, RowPanels, VectorTiles};
use rayon::prelude::*;

use crate::coreset::worker::Worker;

/// The distinct rows of a cluster.
pub(crate) trait Units: Sync {
    /// Numbers in a row.
    fn dims(&self) -> usize;
    /// Copies one row, scaled so that a product is the similarity.
    fn load(&self, unit: u32, out: &mut [f32]);
    /// No less than the length of the longest row as loaded.
    fn longest(&self) -> f64;
    /// Whether a similarity joins; this is what the borderline ones are decided by.
    fn similar(&self, a: u32, b: u32) -> bool;
    /// The similarity above which pairs join.
    fn threshold(&self) -> f64;
}

/// Takes the similar pairs.
pub(crate) trait Sink: Sync {
    /// A pair that is similar; called from many threads, in no order.
    fn pair(&self, a: u32, b: u32);
    /// Whether this pair would change nothing.
    fn known(&self, a: u32, b: u32) -> bool;
    /// The set of a unit, where pairs within a set change nothing.
    fn set(&self, unit: u32) -> Option<u32>;
}

/// Rows of the first panel; each following one is twice as long, until memory ends it.
const FIRST_PANEL: usize = 256;

/// Calls the sink with every similar pair, those known excepted.
pub(crate) fn for_each_similar(
    units: &impl Units,
    sink: &impl Sink,
    order: &mut [u32],
    worker: &Worker<'_>,
) {
    let dims = units.dims();
    let search = Search {
        units,
        sink,
        dims,
        loading: product_error(0, units.longest(), units.longest()),
    };
    // Rows and their layout, in a quarter of the memory.
    let most = (worker.memory as usize / 4 / (8 * dims)).max(FIRST_PANEL);
    let mut tiles = VectorTiles::new(&[], dims, worker.tile.columns);
    let mut values = Vec::new();
    let mut rest = order;
    let mut length = FIRST_PANEL;
    while !rest.is_empty() {
        let (panel, after) = rest.split_at_mut(length.min(rest.len()));
        values.resize(panel.len() * dims, 0.0);
        values
            .par_chunks_mut(dims)
            .zip(&*panel)
            .for_each(|(row, unit)| units.load(*unit, row));
        tiles.fill(&values);
        search.within(panel, &values, &tiles, worker.tile.rows);
        search.against(panel, &tiles, after, worker.tile.rows);
        if sink.set(panel[0]).is_some() && after.len() > worker.tile.columns {
            after.par_sort_unstable_by_key(|unit| (sink.set(*unit), *unit));
        }
        rest = after;
        length = (length * 2).min(most);
    }
}

struct Search<'a, U, S> {
    units: &'a U,
    sink: &'a S,
    dims: usize,
    /// How far a product can be from the similarity because rows are rounded as they are loaded.
    loading: f64,
}

/// What a product says.
#[derive(Clone, Copy)]
struct Verdict {
    /// Products of at least this are similar.
    certain: f32,
    /// Products below this are not.
    possible: f32,
}

impl<U: Units, S: Sink> Search<'_, U, S> {
    /// The pairs of a panel.
    fn within(&self, panel: &[u32], values: &[f32], tiles: &VectorTiles, block: usize) {
        (0..panel.len())
            .into_par_iter()
            .step_by(block)
            .for_each_init(RowPanels::default, |work, start| {
                let rows = start..panel.len().min(start + block);
                let values = &values[rows.start * self.dims..rows.end * self.dims];
                let verdict = self.lay_out(work, tiles, values);
                for tile in 0..tiles.tile_count() {
                    let columns = tiles.range(tile);
                    if columns.start >= rows.end {
                        break;
                    }
                    // What lies above the diagonal is left out, as far as whole panels go.
                    tiles.scan(
                        columns.start..columns.end.min(rows.end),
                        work,
                        |row, first, scores, _| {
                            let row = rows.start + row;
                            for (i, product) in scores.iter().enumerate() {
                                if first + i < row {
                                    self.pair(panel[first + i], panel[row], *product, verdict);
                                }
                            }
                        },
                    );
                }
            });
    }

    /// The pairs of a panel's rows with the rows after it.
    fn against(&self, panel: &[u32], tiles: &VectorTiles, rest: &[u32], block: usize) {
        let sets: Vec<Option<u32>> = (0..tiles.tile_count())
            .map(|tile| self.one_set(&panel[tiles.range(tile)]))
            .collect();
        rest.par_chunks(block).for_each_init(
            || (RowPanels::default(), Vec::new()),
            |(work, values), rows| {
                let set = self.one_set(rows);
                let known = |tile: usize| set.is_some() && sets[tile] == set;
                if (0..tiles.tile_count()).all(known) {
                    return;
                }
                values.resize(rows.len() * self.dims, 0.0);
                for (row, values) in rows.iter().zip(values.chunks_mut(self.dims)) {
                    self.units.load(*row, values);
                }
                let verdict = self.lay_out(work, tiles, values);
                for tile in (0..tiles.tile_count()).filter(|tile| !known(*tile)) {
                    tiles.scan(tiles.range(tile), work, |row, first, scores, _| {
                        for (i, product) in scores.iter().enumerate() {
                            self.pair(panel[first + i], rows[row], *product, verdict);
                        }
                    });
                }
            },
        );
    }

    /// Lays out rows for products with `tiles`, and says what these will mean.
    fn lay_out(&self, rows: &mut RowPanels, tiles: &VectorTiles, values: &[f32]) -> Verdict {
        rows.fill(tiles, values);
        let extents = rows.extents().iter().copied();
        let error = self.loading + tiles.error(extents.fold(Extent::default(), Extent::max));
        let verdict = Verdict {
            certain: next_above(self.units.threshold() + error),
            possible: next_below(self.units.threshold() - error),
        };
        rows.set_floors(verdict.possible);
        verdict
    }

    /// The set that all of these are in.
    fn one_set(&self, units: &[u32]) -> Option<u32> {
        let set = self.sink.set(units[0])?;
        let same = units.iter().all(|unit| self.sink.set(*unit) == Some(set));
        same.then_some(set)
    }

    /// A pair and its product: passed on if it is similar and says something new.
    #[inline(always)]
    fn pair(&self, a: u32, b: u32, product: f32, verdict: Verdict) {
        if product >= verdict.possible
            && !self.sink.known(a, b)
            && (product >= verdict.certain || self.units.similar(a, b))
        {
            self.sink.pair(a, b);
        }
    }
}

fn next_above(value: f64) -> f32 {
    (value as f32).next_up()
}

fn next_below(value: f64) -> f32 {
    (value as f32).next_down()
}
