//! Products of matrices with enough rows to be worth packing.
//!
//! The left operand is packed once into panels of a tile's height; tasks own column chunks of the result, pack their
//! part of the right operand block by block (converting it on the way), and multiply it with every panel.
//! The order of each sum depends on [`DEPTH`] alone, so the result is the same on any number of threads.

#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod pack;
pub(crate) mod stream;

use self::pack::{Source, grain};
use crate::lines::{Floats, Lines};
use crate::parallel;
use crate::register_tile::{Left, Right, Tile, multiply};
use crate::scratch::{Scratch, Shared};
use crate::simd::{Kernel, Level, Simd, dispatch, dispatch_pairs};

/// Words of a block along the sum: what is summed in registers before it is added to the result.
const DEPTH: usize = 256;
/// Panels of the right operand that a task holds packed.
const PANELS: usize = 2;
/// Floats of the packed left operand at a time.
const LEFT_FLOATS: usize = 8 << 20;

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A line of memory runs along the sum: `[m, k]` or `[n, k]`.
    AlongDepth,
    /// A line of memory runs across it: `[k, m]` or `[k, n]`.
    AcrossDepth,
}

impl Layout {
    /// Numbers in a line of memory of an operand of `lines` rows or columns with sums over `depth`.
    fn width(self, lines: usize, depth: usize) -> usize {
        match self {
            Self::AlongDepth => depth,
            Self::AcrossDepth => lines,
        }
    }
}

/// What the result starts from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    Zero,
    /// One value a column.
    Bias(&'a [f32]),
    /// What is there already.
    Present,
}

/// `y [m, n] = start + A [m, k] · B [k, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a, L> {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: &'a [f32],
    pub(crate) a_layout: Layout,
    pub(crate) b: L,
    pub(crate) b_layout: Layout,
    pub(crate) start: Start<'a>,
}

/// Rows and vectors of the register tile: as many accumulators as the registers hold beside the operands.
fn tile_rows(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx2Quads => 4,
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Level::Simd128 => 4,
        _ => 8,
    }
}

fn tile_columns(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Quads | Level::Pairs | Level::Tiles => 48,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx2Quads => 24,
        Level::Plain => 12,
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Level::Simd128 => 8,
    }
}

impl<'a, L: Lines> Product<'a, L> {
    /// Computes into `y`, row-major. With `PAIRS` both operands are rounded to `bf16`; sums are `f32` either way.
    pub(crate) fn compute<const PAIRS: bool>(self, y: &mut [f32]) {
        let Self { m, n, k, .. } = self;
        let source = self.left();
        source.assert_sides("left operand");
        self.right().assert_sides("right operand");
        assert_eq!(y.len(), m * n, "result");
        if let Start::Bias(bias) = self.start {
            assert_eq!(bias.len(), n, "bias");
        }
        if k == 0 {
            return self.without_depth(y);
        }
        #[cfg(target_arch = "x86_64")]
        if PAIRS && Level::current() == Level::Tiles {
            // SAFETY: the level says that there are tiles.
            return unsafe { amx::compute(self, y) };
        }
        let words = k.div_ceil(grain(PAIRS));
        let level = Level::current();
        let (mr, nr) = (tile_rows(level), tile_columns(level));
        let rows_at_once = (LEFT_FLOATS / words / mr).max(8) * mr;
        let out = Shared::new(y);
        for first in (0..m).step_by(rows_at_once) {
            let rows = rows_at_once.min(m - first);
            let panels = rows.div_ceil(mr);
            // [block][panel][word][mr]
            let mut packed = Scratch::new(panels * mr * words);
            let left = Shared::new(packed.as_mut_slice());
            parallel::for_each(panels, |panel| {
                let pack = Panel::<PAIRS> {
                    source,
                    first: first + panel * mr,
                    rows: mr.min(rows - panel * mr),
                    mr,
                    panel,
                    panels,
                    words,
                    left,
                };
                if PAIRS {
                    dispatch_pairs(pack)
                } else {
                    dispatch(pack)
                }
            });
            let columns = PANELS * nr;
            let chunks = n.div_ceil(columns);
            let parts = (4 * rayon::current_num_threads())
                .div_ceil(chunks)
                .clamp(1, panels.div_ceil(6));
            let part = panels.div_ceil(parts);
            parallel::for_each(chunks * parts, |task| {
                let (column, part_index) = (task / parts * columns, task % parts);
                let start = (part_index * part).min(panels);
                let chunk = Chunk::<L, PAIRS> {
                    product: self,
                    left: packed.as_ptr(),
                    panels,
                    panel_range: start..(start + part).min(panels),
                    first,
                    rows,
                    columns: column..(column + columns).min(n),
                    out,
                };
                if PAIRS {
                    dispatch_pairs(chunk)
                } else {
                    dispatch(chunk)
                }
            });
        }
    }

    /// Its left operand.
    fn left(&self) -> Source<Floats<'a, f32>> {
        Source {
            data: Floats {
                data: self.a,
                stride: self.a_layout.width(self.m, self.k),
            },
            layout: self.a_layout,
            lines: self.m,
            depth: self.k,
        }
    }

    /// Its right operand.
    fn right(&self) -> Source<L> {
        Source {
            data: self.b,
            layout: self.b_layout,
            lines: self.n,
            depth: self.k,
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
}

/// A panel of the left operand to be packed, block by block.
struct Panel<'a, const PAIRS: bool> {
    source: Source<Floats<'a, f32>>,
    /// The first of its rows, how many it has, and how many there is room for.
    first: usize,
    rows: usize,
    mr: usize,
    panel: usize,
    panels: usize,
    words: usize,
    /// `[block][panel][word][mr]`.
    left: Shared<'a, f32>,
}

impl<const PAIRS: bool> Kernel for Panel<'_, PAIRS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            panel, panels, mr, ..
        } = self;
        for word in (0..self.words).step_by(DEPTH) {
            let depth = DEPTH.min(self.words - word);
            // SAFETY: this task's own panel of the block.
            let to = unsafe {
                self.left
                    .part((panels * word + panel * depth) * mr, depth * mr)
            };
            self.source
                .pack::<S, PAIRS>(s, self.first, self.rows, word, mr, to);
        }
    }
}

/// A column chunk of the result, for some of the packed panels.
struct Chunk<'a, L, const PAIRS: bool> {
    product: Product<'a, L>,
    left: *const f32,
    panels: usize,
    panel_range: std::ops::Range<usize>,
    first: usize,
    rows: usize,
    columns: std::ops::Range<usize>,
    out: Shared<'a, f32>,
}

impl<L: Lines, const PAIRS: bool> Kernel for Chunk<'_, L, PAIRS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: panels were packed for these very heights, and chunks are disjoint.
        unsafe {
            if S::SIXTEEN && !S::FUSED {
                // Sums, columns, a row's number and a product: as many as are there.
                self.compute::<S, 4, 2>(s)
            } else if S::SIXTEEN {
                self.compute::<S, 4, 3>(s)
            } else {
                self.compute::<S, 8, 3>(s)
            }
        }
    }
}

impl<L: Lines, const PAIRS: bool> Chunk<'_, L, PAIRS> {
    /// # Safety
    /// The panels are `MR` high, packed with the same `PAIRS`; nobody else writes this chunk of the result.
    #[inline(always)]
    unsafe fn compute<S: Simd, const MR: usize, const NV: usize>(self, s: S) {
        let source = self.product.right();
        let words = self.product.k.div_ceil(grain(PAIRS));
        let nr = NV * S::LANES;
        let mut right = Scratch::new(nr * DEPTH.min(words));
        for k0 in (0..words).step_by(DEPTH) {
            let depth = DEPTH.min(words - k0);
            for column in self.columns.clone().step_by(nr) {
                let width = nr.min(self.columns.end - column);
                let packed = &mut right.as_mut_slice()[..nr * depth];
                source.pack::<S, PAIRS>(s, column, width, k0, nr, packed);
                let block = Block {
                    right: right.as_ptr(),
                    nr,
                    k0,
                    depth,
                    column,
                    width,
                };
                // SAFETY: the right operand is packed for these columns, which are this chunk's.
                unsafe {
                    // The last columns may fill but one or two vectors.
                    match width.div_ceil(S::LANES) {
                        1 => self.tiles::<S, MR, 1>(s, block),
                        2 => self.tiles::<S, MR, 2>(s, block),
                        _ => self.tiles::<S, MR, NV>(s, block),
                    }
                }
            }
        }
    }

    /// Multiplies every panel with a packed block of the right operand.
    ///
    /// # Safety
    /// As [`Self::compute`]; the block is packed and fits `NV` vectors.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const MR: usize, const NV: usize>(&self, s: S, block: Block) {
        let (n, start) = (self.product.n, self.product.start);
        let Block {
            right,
            nr,
            k0,
            depth,
            column,
            width,
        } = block;
        let right = Right {
            from: right,
            depth: nr,
        };
        for panel in self.panel_range.clone() {
            let here = MR.min(self.rows - panel * MR);
            // SAFETY: the packed panel, the packed right operand, and this tile of the result.
            unsafe {
                let left = Left {
                    from: self.left.add((self.panels * k0 + panel * depth) * MR),
                    row: 1,
                    depth: MR,
                };
                let tile = [[s.zero(); NV]; MR];
                let tile = multiply::<S, MR, NV, false, PAIRS>(s, depth, left, right, 0, tile);
                let to = self.out.get().add((self.first + panel * MR) * n + column);
                let plus = match start {
                    Start::Bias(bias) if k0 == 0 => Some((bias.as_ptr().add(column), 0)),
                    Start::Zero if k0 == 0 => None,
                    _ => Some((to.cast_const(), n)),
                };
                write(s, &tile, plus, to, n, here, width);
            }
        }
    }
}

/// A part of the right operand, packed as `[depth][nr]`.
#[derive(Clone, Copy)]
struct Block {
    right: *const f32,
    nr: usize,
    /// The first of its words, and how many.
    k0: usize,
    depth: usize,
    /// The first of its columns, and how many.
    column: usize,
    width: usize,
}

/// Writes the first `rows` by `width` of `tile`, plus what lies at the pointer of `plus` with its row stride.
///
/// # Safety
/// As much is writable at `to`, with row stride `to_row`, and readable at `plus`.
#[inline(always)]
pub(crate) unsafe fn write<S: Simd, const MR: usize, const NV: usize>(
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
