//! Pillow's bicubic resize of 8-bit RGB, to the bit.
//!
//! Two passes, along rows and then along columns, each rounded to bytes. (Pillow 13 takes tall
//! pictures the other way round; the models were trained when it did not.) The filter is the cubic
//! convolution with a = −0.5, widened by the factor when a side shrinks; its weights are computed
//! in f64, brought to sum 1, and applied as integers with 22 fractional bits (`Resample.c`).

use rayon::prelude::*;

use super::Canvas;

/// Fractional bits of a weight: 32, less 8 for the bytes and 2 for what overshoots.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const CHANNELS: usize = 3;

/// The weights with which `size_out` places are made from `size_in`.
struct Filter {
    /// First place read, for every place made.
    starts: Vec<usize>,
    /// `[size_out, taps]`; weights that a place at the border lacks are 0 at the end.
    weights: Vec<i32>,
    taps: usize,
}

impl Filter {
    fn new(size_in: usize, size_out: usize) -> Self {
        let scale = size_in as f64 / size_out as f64;
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let taps = (support.ceil() as usize * 2 + 1).min(size_in);
        let mut starts = Vec::with_capacity(size_out);
        let mut weights = vec![0; size_out * taps];
        let mut exact = Vec::with_capacity(taps);
        for (place, weights) in weights.chunks_exact_mut(taps).enumerate() {
            let center = (place as f64 + 0.5) * scale;
            // Casts cut towards 0 (and negative ones to 0), as in C followed by its clamp.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(size_in);
            let inverse = 1.0 / stretch;
            exact.clear();
            exact.extend((start..end).map(|x| cubic((x as f64 - center + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&exact) {
                let exact = if sum != 0.0 { exact / sum } else { *exact };
                let fixed = exact * f64::from(1 << PRECISION_BITS);
                *weight = (fixed + 0.5f64.copysign(exact)) as i32;
            }
            // A place at the end is read in full width from further left, its weights moved along.
            let moved = (start + taps).saturating_sub(size_in);
            weights.rotate_right(moved);
            starts.push(start - moved);
        }
        Self {
            starts,
            weights,
            taps,
        }
    }

    fn weights(&self, place: usize) -> &[i32] {
        &self.weights[place * self.taps..][..self.taps]
    }
}

/// Cubic convolution, a = −0.5, in Pillow's order of operations.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Rounds a sum of weighted bytes that started at one half.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Resizes to `width` × `height`: interleaved RGB, `[height, width, 3]`.
pub(super) fn bicubic(canvas: &Canvas<'_>, width: usize, height: usize) -> Vec<u8> {
    let rows = resize_rows(canvas, width);
    if canvas.height == height {
        rows
    } else {
        resize_columns(&rows, width, canvas.height, height)
    }
}

/// `[canvas.height, canvas.width, 3]` → `[canvas.height, width, 3]`.
fn resize_rows(canvas: &Canvas<'_>, width: usize) -> Vec<u8> {
    let filter = (canvas.width != width).then(|| Filter::new(canvas.width, width));
    let make = |row: &mut Vec<u8>, y: Option<usize>, out: &mut [u8]| {
        canvas.read_row(y, row);
        match &filter {
            Some(filter) => resize_row(row, filter, out),
            None => out.copy_from_slice(row),
        }
    };
    let stride = width * CHANNELS;
    // Rows of the canvas outside the picture are all alike: made once, then copied.
    let mut margin = vec![0; stride];
    if canvas.has_margin_rows() {
        make(&mut Vec::new(), None, &mut margin);
    }
    let mut rows = vec![0; canvas.height * stride];
    rows.par_chunks_exact_mut(stride)
        .enumerate()
        .with_min_len(8)
        .for_each_init(Vec::new, |row, (y, out)| match canvas.picture_row(y) {
            Some(y) => make(row, Some(y), out),
            None => out.copy_from_slice(&margin),
        });
    rows
}

fn resize_row(row: &[u8], filter: &Filter, out: &mut [u8]) {
    let (pixels, _) = row.as_chunks::<CHANNELS>();
    let (out, _) = out.as_chunks_mut::<CHANNELS>();
    for (place, out) in out.iter_mut().enumerate() {
        let mut sums = [HALF; CHANNELS];
        for (pixel, weight) in pixels[filter.starts[place]..]
            .iter()
            .zip(filter.weights(place))
        {
            for (sum, byte) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*byte) * weight;
            }
        }
        *out = sums.map(clip);
    }
}

/// `[height_in, width, 3]` → `[height_out, width, 3]`.
fn resize_columns(rows: &[u8], width: usize, height_in: usize, height_out: usize) -> Vec<u8> {
    let filter = Filter::new(height_in, height_out);
    let stride = width * CHANNELS;
    let mut columns = vec![0; height_out * stride];
    columns
        .par_chunks_exact_mut(stride)
        .enumerate()
        .for_each_init(Vec::new, |sums, (y, out)| {
            sums.clear();
            sums.resize(stride, HALF);
            let read = rows[filter.starts[y] * stride..].chunks_exact(stride);
            for (row, weight) in read.zip(filter.weights(y)) {
                for (sum, byte) in sums.iter_mut().zip(row) {
                    *sum += i32::from(*byte) * weight;
                }
            }
            for (out, sum) in out.iter_mut().zip(sums.iter()) {
                *out = clip(*sum);
            }
        });
    columns
}
