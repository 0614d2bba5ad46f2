//! Products of many rows in integers: input and weight in eight bits, with a scale for every 256 of a
//! row's numbers.
//!
//! Sums of 256 products are integers, the same in any order; they are then multiplied by the scales of
//! both sides and added up in `f32`, one after another, so that every instruction set gives the same
//! bits on any number of threads:
//!
//! ```text
//! y[i][j] = 0 + (Σ a b · weight scale) · input scale + … one of every 256 numbers … + bias[j]
//! ```

use std::ops::Range;

use super::open::Opened;
use super::round::{SMALLEST, TO_INTEGER};
use super::{Codes, GRAIN, Zeros};
#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::parallel;
use crate::scratch::{Scratch, Shared};
use crate::simd::{Kernel, Level, MAX_LANES, Simd, dispatch, dispatch_quads};

/// Numbers along the sum that share a scale, and their words of four bytes.
const BLOCK: usize = 256;
const WORDS: usize = BLOCK / 4;
/// Rows of the input that a task holds sums of, at most: they fit the second cache.
const TASK_ROWS: usize = 768;
/// Words of the packed input at a time.
const LEFT_WORDS: usize = 8 << 20;

/// `y [rows, out] = x [rows, in] · Wᵀ + bias`, whose lengths have been looked at.
pub(super) fn linear(x: &[f32], w: &Opened<'_>, bias: Option<&[f32]>, y: &mut [f32], rows: usize) {
    let product = Product { x, w, bias, rows };
    match Level::current() {
        Level::Plain => product.compute::<Registers<8, 12>>(y),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Level::Simd128 => product.compute::<Registers<4, 12>>(y),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx2Quads => product.compute::<Registers<4, 24>>(y),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Quads | Level::Pairs => product.compute::<Registers<8, 48>>(y),
        #[cfg(target_arch = "x86_64")]
        Level::Tiles => product.compute::<OnTiles>(y),
    }
}

#[derive(Clone, Copy)]
struct Product<'a> {
    x: &'a [f32],
    w: &'a Opened<'a>,
    bias: Option<&'a [f32]>,
    rows: usize,
}

impl Product<'_> {
    fn compute<M: Multiply>(self, y: &mut [f32]) {
        let Self { x, w, bias, rows } = self;
        let [out, inner] = w.weight.sides();
        let blocks = inner.div_ceil(BLOCK);
        let at_once = (LEFT_WORDS / (blocks * WORDS).max(1)).max(TASK_ROWS);
        let y = Shared::new(y);
        for first in (0..rows).step_by(at_once) {
            let rows = at_once.min(rows - first);
            let mut left = Left::new::<M>(rows, blocks);
            left.fill::<M>(&x[first * inner..(first + rows) * inner], inner);
            let panels = rows.div_ceil(M::ROWS);
            let chunks = out.div_ceil(M::PANELS * M::COLUMNS);
            let several = 4 * rayon::current_num_threads();
            let parts = several.div_ceil(chunks.max(1)).min(panels.div_ceil(6));
            let parts = parts.max(rows.div_ceil(TASK_ROWS));
            let part = panels.div_ceil(parts);
            parallel::for_each(chunks * parts, |task| {
                let (chunk, start) = (task / parts, (task % parts * part).min(panels));
                let column = chunk * M::PANELS * M::COLUMNS;
                let chunk = Chunk::<M> {
                    w,
                    bias,
                    left: &left,
                    panels: start..(start + part).min(panels),
                    columns: column..(column + M::PANELS * M::COLUMNS).min(out),
                    first,
                    rows,
                    y,
                    multiply: std::marker::PhantomData,
                };
                dispatch_quads(chunk);
            });
        }
    }
}

/// A way to multiply a panel of rows with one of columns.
trait Multiply {
    const ROWS: usize;
    const COLUMNS: usize;
    /// Panels of columns that a task holds sums of.
    const PANELS: usize;
    /// What the bytes of the weight are changed by: 128 more, where they are to have no sign.
    const FLIPPED: u8;

    /// Takes what it needs on this thread.
    fn start() -> Self;
    /// The places of a word in a panel of rows, and of columns; those of a register's columns follow
    /// each other.
    fn row_place(row: usize, word: usize) -> usize;
    fn column_place(column: usize, word: usize) -> usize;

    /// Writes `[ROWS, COLUMNS]` sums: integers, as bits. `starts` are what the sums of a row begin with
    /// to make up for the bytes that are changed.
    ///
    /// # Panics
    /// When the panels are too short.
    fn multiply<S: Simd>(
        &self,
        s: S,
        left: &[f32],
        starts: &[f32],
        right: &[f32],
        sums: &mut [f32],
    );
}

/// Rows and columns that fit the registers.
struct Registers<const R: usize, const C: usize>;

impl<const R: usize, const C: usize> Multiply for Registers<R, C> {
    const ROWS: usize = R;
    const COLUMNS: usize = C;
    const PANELS: usize = 2;
    const FLIPPED: u8 = 0x80;

    fn start() -> Self {
        Self
    }

    #[inline(always)]
    fn row_place(row: usize, word: usize) -> usize {
        word * R + row
    }

    #[inline(always)]
    fn column_place(column: usize, word: usize) -> usize {
        word * C + column
    }

    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        s: S,
        left: &[f32],
        starts: &[f32],
        right: &[f32],
        sums: &mut [f32],
    ) {
        const VECTORS: usize = 3;
        assert_eq!(C, VECTORS * S::LANES, "a panel of columns");
        assert!(left.len() >= WORDS * R && starts.len() >= R, "rows");
        assert!(right.len() >= WORDS * C && sums.len() >= R * C, "columns");
        // SAFETY: the lengths were just looked at.
        unsafe {
            let mut tile = [[s.zero(); VECTORS]; R];
            for i in 0..R {
                tile[i] = [s.splat(starts[i]); VECTORS];
            }
            for word in 0..WORDS {
                let mut columns = [s.zero(); VECTORS];
                for j in 0..VECTORS {
                    columns[j] = s.load(right.as_ptr().add(word * C + j * S::LANES));
                }
                for i in 0..R {
                    let row = s.splat(*left.as_ptr().add(word * R + i));
                    for j in 0..VECTORS {
                        tile[i][j] = s.quad_mul_add(columns[j], row, tile[i][j]);
                    }
                }
            }
            for i in 0..R {
                for j in 0..VECTORS {
                    s.store(sums.as_mut_ptr().add(i * C + j * S::LANES), tile[i][j]);
                }
            }
        }
    }
}

/// Two by two squares on tile registers, which multiply bytes with sign.
#[cfg(target_arch = "x86_64")]
struct OnTiles(amx::Tiles);

#[cfg(target_arch = "x86_64")]
impl OnTiles {
    /// Words of half a panel.
    const HALF: usize = WORDS * amx::SIDE;
}

#[cfg(target_arch = "x86_64")]
impl Multiply for OnTiles {
    const ROWS: usize = 2 * amx::SIDE;
    const COLUMNS: usize = 2 * amx::SIDE;
    const PANELS: usize = 8;
    const FLIPPED: u8 = 0;

    fn start() -> Self {
        // SAFETY: it is for a level that has them.
        Self(unsafe { amx::Tiles::take() })
    }

    #[inline(always)]
    fn row_place(row: usize, word: usize) -> usize {
        let (half, row) = (row / amx::SIDE, row % amx::SIDE);
        let (square, word) = (word / amx::SIDE, word % amx::SIDE);
        half * Self::HALF + square * amx::SQUARE + row * amx::SIDE + word
    }

    #[inline(always)]
    fn column_place(column: usize, word: usize) -> usize {
        let (half, column) = (column / amx::SIDE, column % amx::SIDE);
        half * Self::HALF + word * amx::SIDE + column
    }

    #[inline(always)]
    fn multiply<S: Simd>(&self, _: S, left: &[f32], _: &[f32], right: &[f32], sums: &mut [f32]) {
        static ZEROS: [f32; 2 * amx::SIDE] = [0.0; 2 * amx::SIDE];
        assert!(left.len() >= 2 * Self::HALF, "rows");
        assert!(right.len() >= 2 * Self::HALF, "columns");
        assert!(sums.len() >= Self::ROWS * Self::COLUMNS, "sums");
        let halves = |panel: &[f32]| [0, Self::HALF].map(|at| panel[at..].as_ptr());
        // SAFETY: the lengths were just looked at; a row of zeros begins all sums.
        unsafe {
            self.0.multiply_bytes(
                WORDS / amx::SIDE,
                halves(left),
                halves(right),
                (ZEROS.as_ptr(), 0),
                (sums.as_mut_ptr(), Self::COLUMNS),
            );
        }
    }
}

/// The input in eight bits.
struct Left {
    /// `[block][panel]`, each [`WORDS`] words of so many rows.
    codes: Scratch,
    /// `[block][panel][row]`.
    scales: Scratch,
    /// `[block][panel][row]`: -128 times the sum of the codes, integers as bits.
    starts: Scratch,
    rows: usize,
    blocks: usize,
    panels: usize,
}

impl Left {
    fn new<M: Multiply>(rows: usize, blocks: usize) -> Self {
        let panels = rows.div_ceil(M::ROWS);
        let rows_in_all = blocks * panels * M::ROWS;
        Self {
            codes: Scratch::new(rows_in_all * WORDS),
            scales: Scratch::new(rows_in_all),
            starts: Scratch::new(rows_in_all),
            rows,
            blocks,
            panels,
        }
    }

    /// Rounds all rows.
    fn fill<M: Multiply>(&mut self, x: &[f32], inner: usize) {
        let Self {
            rows,
            blocks,
            panels,
            ..
        } = *self;
        let codes = Shared::new(self.codes.as_mut_slice());
        let scales = Shared::new(self.scales.as_mut_slice());
        let starts = Shared::new(self.starts.as_mut_slice());
        parallel::for_each(panels, |panel| {
            for block in 0..blocks {
                let at = (block * panels + panel) * M::ROWS;
                // SAFETY: this panel's own parts.
                let (codes, scales, starts) = unsafe {
                    (
                        codes.part(at * WORDS, M::ROWS * WORDS),
                        scales.part(at, M::ROWS),
                        starts.part(at, M::ROWS),
                    )
                };
                let of_panel = panel * M::ROWS..rows.min((panel + 1) * M::ROWS);
                for (i, row) in of_panel.enumerate() {
                    let numbers = row * inner + block * BLOCK..(row + 1) * inner;
                    let numbers = &x[numbers];
                    let mut rounded = [0; BLOCK];
                    let (scale, sum) = dispatch(Round {
                        x: &numbers[..numbers.len().min(BLOCK)],
                        to: &mut rounded,
                    });
                    (scales[i], starts[i]) = (scale, f32::from_bits((-128 * sum) as u32));
                    for (word, bytes) in rounded.as_chunks::<4>().0.iter().enumerate() {
                        codes[M::row_place(i, word)] = f32::from_bits(u32::from_le_bytes(*bytes));
                    }
                }
            }
        });
    }

    fn panel<M: Multiply>(&self, block: usize, panel: usize) -> (&[f32], &[f32], &[f32]) {
        let at = (block * self.panels + panel) * M::ROWS;
        (
            &self.codes.as_slice()[at * WORDS..][..M::ROWS * WORDS],
            &self.scales.as_slice()[at..][..M::ROWS],
            &self.starts.as_slice()[at..][..M::ROWS],
        )
    }
}

/// Rounds up to 256 numbers; returns their scale and the sum of their codes.
struct Round<'a> {
    x: &'a [f32],
    to: &'a mut [u8; BLOCK],
}

impl Kernel for Round<'_> {
    type Output = (f32, i32);

    /// Plain loops, as in rounding a weight: the same bits everywhere.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (f32, i32) {
        let mut x = [0.0; BLOCK];
        x[..self.x.len()].copy_from_slice(self.x);
        let mut greatest = [0; 16];
        for x in x.as_chunks::<16>().0 {
            for i in 0..16 {
                greatest[i] = (x[i].to_bits() & 0x7FFF_FFFF).max(greatest[i]);
            }
        }
        let greatest = f32::from_bits(greatest.into_iter().fold(0, u32::max));
        if !greatest.is_finite() {
            // Such a row has no result.
            return (f32::NAN, 0);
        }
        if greatest < SMALLEST {
            return (0.0, 0);
        }
        let inverse = 127.0 / greatest;
        for (to, x) in self.to.iter_mut().zip(x) {
            *to = (x * inverse + TO_INTEGER).to_bits() as u8;
        }
        let sum = self.to.iter().map(|code| i32::from(*code as i8)).sum();
        (greatest / 127.0, sum)
    }
}

/// Some columns of the result for some panels of rows.
struct Chunk<'a, M> {
    w: &'a Opened<'a>,
    bias: Option<&'a [f32]>,
    left: &'a Left,
    panels: Range<usize>,
    columns: Range<usize>,
    /// The first row of those that are packed, and how many are.
    first: usize,
    rows: usize,
    y: Shared<'a, f32>,
    multiply: std::marker::PhantomData<fn() -> M>,
}

impl<M: Multiply> Kernel for Chunk<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let multiply = M::start();
        let tile = M::ROWS * M::COLUMNS;
        let across = self.columns.len().div_ceil(M::COLUMNS);
        // [columns' panel][rows' panel][row][column]
        let mut totals = Scratch::new(across * self.panels.len() * tile);
        let mut sums = Scratch::new(tile);
        let mut right = Scratch::new(WORDS * M::COLUMNS);
        let mut scales = Scratch::new(M::COLUMNS);
        for block in 0..self.left.blocks {
            let mut totals = totals.as_mut_slice().chunks_exact_mut(tile);
            for column in self.columns.clone().step_by(M::COLUMNS) {
                let columns = column..self.columns.end.min(column + M::COLUMNS);
                let (right, scales) = (right.as_mut_slice(), scales.as_mut_slice());
                self.pack(s, columns.clone(), block, right, scales);
                for panel in self.panels.clone() {
                    let (left, row_scales, starts) = self.left.panel::<M>(block, panel);
                    let sums = sums.as_mut_slice();
                    multiply.multiply(s, left, starts, right, sums);
                    let totals = totals.next().expect("a tile for every panel");
                    scale_and_add::<S, M>(s, sums, row_scales, scales, totals);
                    if block + 1 == self.left.blocks {
                        self.write(s, panel, columns.clone(), totals);
                    }
                }
            }
        }
    }
}

/// `totals += (sums · scale of the column) · scale of the row`.
#[inline(always)]
fn scale_and_add<S: Simd, M: Multiply>(
    s: S,
    sums: &[f32],
    rows: &[f32],
    columns: &[f32],
    totals: &mut [f32],
) {
    assert!(sums.len() >= M::ROWS * M::COLUMNS && totals.len() == M::ROWS * M::COLUMNS);
    assert!(rows.len() == M::ROWS && columns.len() >= M::COLUMNS);
    for at in (0..M::COLUMNS).step_by(S::LANES) {
        // SAFETY: within a panel of either and their tile, whose lengths were just looked at.
        unsafe {
            let column = s.load(columns.as_ptr().add(at));
            for i in 0..M::ROWS {
                let place = i * M::COLUMNS + at;
                let sum = s.to_floats(s.load(sums.as_ptr().add(place)));
                let product = s.mul(s.mul(sum, column), s.splat(rows[i]));
                let total = totals.as_mut_ptr().add(place);
                s.store(total, s.add(s.load(total), product));
            }
        }
    }
}

impl<M: Multiply> Chunk<'_, M> {
    /// Brings a block of some rows of the weight into eight bits, as columns of the product.
    #[inline(always)]
    fn pack<S: Simd>(
        &self,
        s: S,
        columns: Range<usize>,
        block: usize,
        right: &mut [f32],
        scales: &mut [f32],
    ) {
        for first in (0..columns.len()).step_by(S::LANES) {
            let mut codes = [[M::FLIPPED; BLOCK]; MAX_LANES];
            let here = S::LANES.min(columns.len() - first);
            for (i, codes) in codes.iter_mut().enumerate().take(here) {
                let row = columns.start + first + i;
                scales[first + i] = block_of_codes(s, self.w, row, block, codes);
                codes.iter_mut().for_each(|code| *code ^= M::FLIPPED);
            }
            for word in (0..WORDS).step_by(S::LANES) {
                let mut square = [s.zero(); MAX_LANES];
                for (register, codes) in square.iter_mut().zip(&codes).take(S::LANES) {
                    // SAFETY: a register's words are within the block.
                    *register = unsafe { s.load(codes.as_ptr().cast::<f32>().add(word)) };
                }
                s.transpose(&mut square[..S::LANES]);
                for (i, register) in square.iter().enumerate().take(S::LANES) {
                    let to = &mut right[M::column_place(first, word + i)..][..S::LANES];
                    s.set(to, 0, *register);
                }
            }
        }
    }

    /// Writes the part of a tile that there is, plus the bias.
    #[inline(always)]
    fn write<S: Simd>(&self, s: S, panel: usize, columns: Range<usize>, totals: &[f32]) {
        let bias = self.bias.map(|bias| &bias[columns.clone()]);
        let row = panel * M::ROWS;
        let rows = M::ROWS.min(self.rows - row);
        for (i, totals) in totals.chunks_exact(M::COLUMNS).enumerate().take(rows) {
            let at = (self.first + row + i) * self.w.weight.out + columns.start;
            // SAFETY: this task's part of the row.
            let y = unsafe { self.y.part(at, columns.len()) };
            for at in (0..columns.len()).step_by(S::LANES) {
                let bias = bias.map_or(s.zero(), |bias| s.get(bias, at));
                s.set(y, at, s.add(s.get(totals, at), bias));
            }
        }
    }
}

/// The codes of 256 numbers of a row with one scale, which is returned. Where they have one already and
/// it is all that stands between codes and numbers, they are those of the weight.
#[inline(always)]
fn block_of_codes<S: Simd>(
    s: S,
    w: &Opened<'_>,
    row: usize,
    block: usize,
    to: &mut [u8; BLOCK],
) -> f32 {
    let weight = &w.weight;
    let (start, end) = (block * BLOCK, weight.inner.min((block + 1) * BLOCK));
    let first = row * weight.groups();
    let groups = first + start / weight.group..first + (end - 1) / weight.group + 1;
    let scale = w.scales[groups.start];
    let quarters = to.as_chunks_mut::<GRAIN>().0.iter_mut();
    let of_quarters = (start..end)
        .step_by(GRAIN)
        .map(|at| first + at / weight.group);
    match weight.codes {
        Codes::Int8(bytes) => {
            let bytes = &bytes[row * weight.inner..][start..end];
            if groups.len() == 1 {
                to[..bytes.len()].copy_from_slice(bytes);
                return scale;
            }
            let scales = w.scales[groups].iter();
            let greatest = scales.fold(0.0, |most: f32, scale| most.max(scale.abs()));
            if greatest < SMALLEST {
                return 0.0;
            }
            for ((to, bytes), group) in quarters.zip(bytes.chunks(GRAIN)).zip(of_quarters) {
                let mut whole = [0; GRAIN];
                whole[..bytes.len()].copy_from_slice(bytes);
                let ratio = w.scales[group] / greatest;
                for (to, code) in to.iter_mut().zip(whole) {
                    let number = f32::from(code as i8) * ratio;
                    // The negative of -128.
                    let number = if number > 127.0 { 127.0 } else { number };
                    *to = (number + TO_INTEGER).to_bits() as u8;
                }
            }
            greatest
        }
        Codes::Int4(bytes, zeros) => {
            let bytes = &bytes[row * weight.row_bytes()..][start / 2..end.div_ceil(2)];
            let is_kept = groups.len() == 1 && !matches!(zeros, Zeros::Minima(_));
            // The code that stands for zero but for what is added.
            let zero = 8.0 - w.shift;
            let greatest = groups.fold(0.0, |most: f32, group| {
                let (scale, offset) = (w.scales[group], w.offset(group));
                let [least, last] = [0.0, 15.0].map(|code| (code - zero) * scale + offset);
                most.max(least.abs().max(last.abs()))
            });
            if !is_kept && greatest < SMALLEST {
                return 0.0;
            }
            for ((to, bytes), group) in quarters.zip(bytes.chunks(GRAIN / 2)).zip(of_quarters) {
                let (zero, scale, offset, inverse) = match (is_kept, zeros) {
                    (false, _) => (zero, w.scales[group], w.offset(group), 127.0 / greatest),
                    (true, Zeros::Integers(zeros)) => (f32::from(zeros[group]), 1.0, 0.0, 1.0),
                    (true, _) => (8.0, 1.0, 0.0, 1.0),
                };
                let mut table = [0; 16];
                for (code, entry) in table.iter_mut().enumerate() {
                    let number = ((code as f32 - zero) * scale + offset) * inverse;
                    *entry = (number + TO_INTEGER).to_bits() as u8;
                }
                let mut whole = [0; GRAIN / 2];
                whole[..bytes.len()].copy_from_slice(bytes);
                s.look_up(&table, &whole, to);
            }
            match is_kept {
                true => scale,
                false => greatest / 127.0,
            }
        }
    }
}
