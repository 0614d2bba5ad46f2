//! Products of matrices with enough rows to be worth packing.
//!
//! The left operand is packed once into panels of a tile's height; tasks own column chunks of the result, pack their
//! part of the right operand block by block (converting it to `f32` on the way), and multiply it with every panel.
//! The order of each sum depends on [`DEPTH`] alone, so the result is the same on any number of threads.

use super::parallel;
use super::scratch::{Scratch, Shared};
use super::simd::{Element, Kernel, Level, MAX_LANES, Simd, dispatch};
use super::tile::{Left, Right, Tile, multiply};

/// Depth of a block: what is summed in registers before it is added to the result.
const DEPTH: usize = 256;
/// Panels of the right operand that a task holds packed.
const PANELS: usize = 2;
/// Floats of the packed left operand at a time.
const LEFT_FLOATS: usize = 8 << 20;

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A line of memory runs along the sum: `[m, k]` or `[n, k]`.
    AlongDepth,
    /// A line of memory runs across it: `[k, m]` or `[k, n]`.
    AcrossDepth,
}

/// What the result starts from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    Zero,
    /// One value a column.
    Bias(&'a [f32]),
    /// What is there already.
    Present,
}

/// `y [m, n] = start + A [m, k] · B [k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Product<'a, E> {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: &'a [f32],
    pub(super) a_layout: Layout,
    pub(super) b: &'a [E],
    pub(super) b_layout: Layout,
    pub(super) start: Start<'a>,
}

/// Rows and vectors of the register tile: as many accumulators as the registers hold beside the operands.
fn tile_rows(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 4,
        _ => 8,
    }
}

fn tile_columns(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => 48,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 24,
        Level::Plain => 12,
    }
}

impl<E: Element> Product<'_, E> {
    /// Computes into `y`, row-major.
    pub(super) fn compute(self, y: &mut [f32]) {
        assert_eq!(self.a.len(), self.m * self.k, "left operand");
        assert_eq!(self.b.len(), self.n * self.k, "right operand");
        assert_eq!(y.len(), self.m * self.n, "result");
        if let Start::Bias(bias) = self.start {
            assert_eq!(bias.len(), self.n, "bias");
        }
        if self.k == 0 {
            return self.without_depth(y);
        }
        let level = Level::current();
        let (mr, nr) = (tile_rows(level), tile_columns(level));
        let rows_at_once = (LEFT_FLOATS / self.k / mr).max(8) * mr;
        let out = Shared::new(y);
        for first in (0..self.m).step_by(rows_at_once) {
            let rows = rows_at_once.min(self.m - first);
            let panels = rows.div_ceil(mr);
            let mut packed = Scratch::new(panels * mr * self.k);
            let left = Shared::new(packed.as_mut_slice());
            parallel::for_each(panels, |panel| {
                let here = (mr).min(rows - panel * mr);
                // SAFETY: every task writes its own panel in each block.
                unsafe { self.pack_left(first + panel * mr, here, mr, panel, panels, left.get()) };
            });
            let columns = PANELS * nr;
            let chunks = self.n.div_ceil(columns);
            let parts = (4 * rayon::current_num_threads())
                .div_ceil(chunks)
                .clamp(1, panels.div_ceil(6));
            let part = panels.div_ceil(parts);
            parallel::for_each(chunks * parts, |task| {
                let (chunk, part_index) = (task / parts, task % parts);
                let panel_range =
                    (part_index * part).min(panels)..((part_index + 1) * part).min(panels);
                let column = chunk * columns;
                dispatch(Chunk {
                    product: self,
                    left: packed.as_ptr(),
                    panels,
                    panel_range,
                    first,
                    rows,
                    columns: column..(column + columns).min(self.n),
                    out,
                });
            });
        }
    }

    fn without_depth(self, y: &mut [f32]) {
        match self.start {
            Start::Zero => y.fill(0.0),
            Start::Bias(bias) if !bias.is_empty() => {
                y.chunks_exact_mut(bias.len())
                    .for_each(|row| row.copy_from_slice(bias));
            }
            Start::Bias(_) | Start::Present => {}
        }
    }

    /// Packs `here <= mr` rows from `row` on as `[block][panel][depth][mr]`.
    ///
    /// # Safety
    /// `to` holds all the panels; nobody else writes this one.
    unsafe fn pack_left(
        self,
        row: usize,
        here: usize,
        mr: usize,
        panel: usize,
        panels: usize,
        to: *mut f32,
    ) {
        for k0 in (0..self.k).step_by(DEPTH) {
            let depth = DEPTH.min(self.k - k0);
            // SAFETY: blocks before this one hold `panels * mr` floats for each of their depths.
            let to = unsafe {
                core::slice::from_raw_parts_mut(
                    to.add((panels * k0 + panel * depth) * mr),
                    depth * mr,
                )
            };
            match self.a_layout {
                Layout::AlongDepth => {
                    for i in 0..here {
                        let from = &self.a[(row + i) * self.k + k0..][..depth];
                        for (to, from) in to[i..].iter_mut().step_by(mr).zip(from) {
                            *to = *from;
                        }
                    }
                }
                Layout::AcrossDepth => {
                    for (p, to) in to.chunks_exact_mut(mr).enumerate() {
                        to[..here].copy_from_slice(&self.a[(k0 + p) * self.m + row..][..here]);
                    }
                }
            }
        }
    }
}

/// A column chunk of the result, for some of the packed panels.
struct Chunk<'a, E> {
    product: Product<'a, E>,
    left: *const f32,
    panels: usize,
    panel_range: std::ops::Range<usize>,
    first: usize,
    rows: usize,
    columns: std::ops::Range<usize>,
    out: Shared<f32>,
}

impl<E: Element> Kernel for Chunk<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: panels were packed for these very heights, and chunks are disjoint.
        unsafe {
            if S::LANES == 8 {
                self.compute::<S, 4, 3>(s)
            } else {
                self.compute::<S, 8, 3>(s)
            }
        }
    }
}

impl<E: Element> Chunk<'_, E> {
    /// # Safety
    /// The panels are `MR` high, packed by [`Product::pack_left`]; nobody else writes this chunk of the result.
    #[inline(always)]
    unsafe fn compute<S: Simd, const MR: usize, const NV: usize>(self, s: S) {
        let Product { n, k, start, .. } = self.product;
        let nr = NV * S::LANES;
        let mut right = Scratch::new(nr * DEPTH.min(k));
        for k0 in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - k0);
            for column in self.columns.clone().step_by(nr) {
                let width = nr.min(self.columns.end - column);
                let right = &mut right.as_mut_slice()[..nr * depth];
                pack_right::<S, E, NV>(s, &self.product, column, width, k0, right);
                for panel in self.panel_range.clone() {
                    let here = MR.min(self.rows - panel * MR);
                    // SAFETY: the packed panel, the packed right operand, and this tile of the result.
                    unsafe {
                        let from = self.left.add((self.panels * k0 + panel * depth) * MR);
                        let left = Left {
                            from,
                            row: 1,
                            depth: MR,
                        };
                        let tile = [[s.zero(); NV]; MR];
                        let packed = Right {
                            from: right.as_ptr(),
                            depth: nr,
                        };
                        let tile = multiply::<S, MR, NV, false>(s, depth, left, packed, 0, tile);
                        let to = self.out.get().add((self.first + panel * MR) * n + column);
                        match start {
                            Start::Bias(bias) if k0 == 0 => {
                                write(
                                    s,
                                    &tile,
                                    Some((bias.as_ptr().add(column), 0)),
                                    to,
                                    n,
                                    here,
                                    width,
                                );
                            }
                            Start::Zero if k0 == 0 => write(s, &tile, None, to, n, here, width),
                            _ => write(s, &tile, Some((to.cast_const(), n)), to, n, here, width),
                        }
                    }
                }
            }
        }
    }
}

/// Writes the first `rows` by `width` of `tile`, plus what lies at the pointer of `plus` with its row stride.
///
/// # Safety
/// As much is writable at `to`, with row stride `to_row`, and readable at `plus`.
#[inline(always)]
unsafe fn write<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    tile: &Tile<S, MR, NV>,
    plus: Option<(*const f32, usize)>,
    to: *mut f32,
    to_row: usize,
    rows: usize,
    width: usize,
) {
    for i in 0..MR {
        if i == rows {
            break;
        }
        for j in 0..NV {
            let column = j * S::LANES;
            // SAFETY: within the rows and the width.
            unsafe {
                let to = to.add(i * to_row + column);
                if column + S::LANES <= width {
                    let plus =
                        plus.map_or(s.zero(), |(plus, row)| s.load(plus.add(i * row + column)));
                    s.store(to, s.add(tile[i][j], plus));
                } else if column < width {
                    let n = width - column;
                    let plus = plus.map_or(s.zero(), |(plus, row)| {
                        s.load_head(plus.add(i * row + column), n)
                    });
                    s.store_head(to, n, s.add(tile[i][j], plus));
                }
            }
        }
    }
}

/// Packs `width` columns of the right operand from `column` on, `to.len() / nr` deep from `k0` on, as `[depth][nr]`,
/// with zeros beyond `width`.
#[inline(always)]
fn pack_right<S: Simd, E: Element, const NV: usize>(
    s: S,
    product: &Product<'_, E>,
    column: usize,
    width: usize,
    k0: usize,
    to: &mut [f32],
) {
    let lanes = S::LANES;
    let nr = NV * lanes;
    let depth = to.len() / nr;
    let Product { n, k, b, .. } = *product;
    assert!(column + width <= n && k0 + depth <= k && b.len() == n * k && width <= nr);
    let (from, to) = (b.as_ptr(), to.as_mut_ptr());
    for group in 0..NV {
        let here = width.saturating_sub(group * lanes).min(lanes);
        match product.b_layout {
            Layout::AlongDepth => {
                for p in (0..depth).step_by(lanes) {
                    let deep = lanes.min(depth - p);
                    let mut square = [s.zero(); MAX_LANES];
                    for (i, row) in square[..lanes].iter_mut().enumerate() {
                        if i < here {
                            // SAFETY: row `column + group * lanes + i` of B, from `k0 + p` on; checked above.
                            *row = unsafe {
                                let from = from.add((column + group * lanes + i) * k + k0 + p);
                                if deep == lanes {
                                    E::load(s, from)
                                } else {
                                    E::load_head(s, from, deep)
                                }
                            };
                        }
                    }
                    s.transpose(&mut square[..lanes]);
                    for (i, row) in square[..lanes].iter().enumerate() {
                        if i < deep {
                            // SAFETY: depth `p + i` of the panel.
                            unsafe { s.store(to.add((p + i) * nr + group * lanes), *row) };
                        }
                    }
                }
            }
            Layout::AcrossDepth => {
                for p in 0..depth {
                    // SAFETY: row `k0 + p` of B, and depth `p` of the panel.
                    unsafe {
                        let from = from.add((k0 + p) * n + column + group * lanes);
                        let row = match here {
                            0 => s.zero(),
                            _ if here == lanes => E::load(s, from),
                            _ => E::load_head(s, from, here),
                        };
                        s.store(to.add(p * nr + group * lanes), row);
                    }
                }
            }
        }
    }
}
