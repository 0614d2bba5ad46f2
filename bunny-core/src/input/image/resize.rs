//! Pillow's bicubic resize of 8-bit RGB, to the bit.
//!
//! Two passes, along rows and then along columns, each rounded to bytes. (Pillow 13 takes tall
//! pictures the other way round; the models were trained when it did not.) The filter is the cubic
//! convolution with a = −0.5, widened by the factor when a side shrinks; its weights are computed
//! in f64, brought to sum 1, and applied as integers with 22 fractional bits (`Resample.c`).
//!
//! A weight is kept as two numbers of 16 bits, `high · 2¹¹ + low`: processors multiply and add
//! such numbers several times as fast as whole ones, and the sums are the same.
//!
//! The crate fast_image_resize does not serve for this: version 6.1 takes the columns of bytes first, and
//! keeps a weight in 16 bits. Computed so, a fifth of the bytes made of noise differ from Pillow's, by up
//! to 4; with rows first some still do, by 1.

use std::ops::Range;

use rayon::prelude::*;

use super::Canvas;

/// Fractional bits of a weight: 32, less 8 for the bytes and 2 for what overshoots.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Bits in the lower part of a weight.
const LOW_BITS: u32 = 11;
/// Taps are padded with weights of 0 to a multiple of these, so that no loop has a rest.
const LANES: usize = 16;
const CHANNELS: usize = 3;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// The weights with which some places of `size_out` are made from `size_in`.
struct Filter {
    /// First place read, for every place made.
    starts: Vec<usize>,
    /// `[places, taps]`, the upper parts of the weights.
    high: Vec<i16>,
    /// `[places, taps]`, the lower parts.
    low: Vec<i16>,
    taps: usize,
}

impl Filter {
    fn new(size_in: usize, size_out: usize, places: Range<usize>) -> Self {
        let scale = size_in as f64 / size_out as f64;
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let taps = (support.ceil() as usize * 2 + 1)
            .min(size_in)
            .next_multiple_of(LANES);
        let count = places.len() * taps;
        let (mut high, mut low) = (vec![0; count], vec![0; count]);
        let mut starts = Vec::with_capacity(places.len());
        let mut exact = Vec::with_capacity(taps);
        for (row, place) in places.enumerate() {
            let center = (place as f64 + 0.5) * scale;
            // Casts cut towards 0 (and negative ones to 0), as in C followed by its clamp.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(size_in);
            let inverse = 1.0 / stretch;
            exact.clear();
            exact.extend((start..end).map(|x| cubic((x as f64 - center + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            for (tap, exact) in exact.iter().enumerate() {
                let exact = if sum != 0.0 { exact / sum } else { *exact };
                let fixed = exact * f64::from(1 << PRECISION_BITS);
                let weight = (fixed + 0.5f64.copysign(exact)) as i32;
                high[row * taps + tap] = (weight >> LOW_BITS) as i16;
                low[row * taps + tap] = (weight & ((1 << LOW_BITS) - 1)) as i16;
            }
            starts.push(start);
        }
        Self {
            starts,
            high,
            low,
            taps,
        }
    }
}

/// A filter over the part of a canvas that the picture lies in. All the rest is of one color: of its weights
/// the sums suffice, however far it reaches.
struct PartFilter {
    inside: Filter,
    /// For every place made, the sums of the upper and the lower parts of the weights outside.
    outside: Vec<[i32; 2]>,
}

impl Filter {
    /// The same filter, over `part` of what it reads.
    fn within(&self, part: Range<usize>) -> PartFilter {
        let read = |start: usize| {
            let first = start.clamp(part.start, part.end);
            first..(start + self.taps).clamp(first, part.end)
        };
        let most = self.starts.iter().map(|start| read(*start).len()).max();
        let taps = most.unwrap_or(0).next_multiple_of(LANES);
        let count = self.starts.len() * taps;
        let mut inside = Self {
            starts: Vec::with_capacity(self.starts.len()),
            high: vec![0; count],
            low: vec![0; count],
            taps,
        };
        let mut outside = Vec::with_capacity(self.starts.len());
        for (place, start) in self.starts.iter().enumerate() {
            let read = read(*start);
            let first = read.start.saturating_sub(*start).min(self.taps);
            let parts = [(&self.high, &mut inside.high), (&self.low, &mut inside.low)];
            outside.push(parts.map(|(all, inside)| {
                let all = &all[place * self.taps..][..self.taps];
                let kept = &all[first..first + read.len()];
                inside[place * taps..][..kept.len()].copy_from_slice(kept);
                sum(all) - sum(kept)
            }));
            inside.starts.push(read.start - part.start);
        }
        PartFilter { inside, outside }
    }
}

fn sum(weights: &[i16]) -> i32 {
    weights.iter().map(|weight| i32::from(*weight)).sum()
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

/// Rounds a weighted sum, given in parts; they may wrap, the whole fits.
fn round(high: i32, low: i32) -> u8 {
    let sum = HALF.wrapping_add(high << LOW_BITS).wrapping_add(low);
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// A side of the result: its length, and which part of it is made.
pub(super) struct Side {
    pub(super) length: usize,
    pub(super) made: Range<usize>,
}

/// Resizes a canvas and cuts the made part out: interleaved RGB, `[rows made, columns made, 3]`.
pub(super) fn bicubic(canvas: &Canvas<'_>, columns: &Side, rows: &Side) -> Vec<u8> {
    let wide = resize_rows(canvas, columns);
    if canvas.height == rows.length {
        let made = rows.made.clone().map(|y| wide.row(canvas.picture_row(y)));
        return made.collect::<Vec<_>>().concat();
    }
    let filter = Filter::new(canvas.height, rows.length, rows.made.clone());
    resize_columns(&wide, &filter.within(canvas.picture_rows()))
}

/// The rows of a canvas, each as wide as is made.
struct Wide {
    /// `[picture.height, columns made, 3]`.
    picture: Vec<u8>,
    /// `[columns made, 3]`: any row that the picture does not lie in.
    margin: Vec<u8>,
}

impl Wide {
    /// That of a row of the picture, or of none.
    fn row(&self, picture_row: Option<usize>) -> &[u8] {
        let stride = self.margin.len();
        match picture_row {
            Some(y) => &self.picture[y * stride..][..stride],
            None => &self.margin,
        }
    }
}

/// Makes columns of the picture's rows, and of one of the canvas' color.
fn resize_rows(canvas: &Canvas<'_>, columns: &Side) -> Wide {
    let stride = columns.made.len() * CHANNELS;
    let filter = (canvas.width != columns.length).then(|| {
        let filter = Filter::new(canvas.width, columns.length, columns.made.clone());
        filter.within(canvas.picture_columns())
    });
    let make = |planes: &mut Vec<i16>, row: &[u8], out: &mut [u8]| match &filter {
        None => out.copy_from_slice(&canvas.row(row)[columns.made.start * CHANNELS..][..stride]),
        Some(filter) => {
            split_channels(row, filter.inside.taps, planes);
            resize_row(planes, filter, canvas.color, out);
        }
    };
    let blank = canvas.color.repeat(canvas.picture.width() as usize);
    let mut margin = vec![0; stride];
    make(&mut Vec::new(), &blank, &mut margin);
    let mut picture = vec![0; canvas.picture.height() as usize * stride];
    let each = picture
        .par_chunks_exact_mut(stride)
        .enumerate()
        .with_min_len(8);
    each.for_each_init(Vec::new, |planes, (y, out)| {
        let row = &canvas.picture.as_raw()[y * blank.len()..][..blank.len()];
        make(planes, row, out);
    });
    Wide { picture, margin }
}

/// `[width, 3]` → `[3, width + margin]`: the margin is there to be read with weights of 0.
fn split_channels(row: &[u8], margin: usize, planes: &mut Vec<i16>) {
    let width = row.len() / CHANNELS;
    planes.clear();
    planes.resize(CHANNELS * (width + margin), 0);
    let (red, rest) = planes.split_at_mut(width + margin);
    let (green, blue) = rest.split_at_mut(width + margin);
    for (((pixel, red), green), blue) in row
        .as_chunks::<CHANNELS>()
        .0
        .iter()
        .zip(red)
        .zip(green)
        .zip(blue)
    {
        (*red, *green, *blue) = (pixel[0].into(), pixel[1].into(), pixel[2].into());
    }
}

fn resize_row(planes: &[i16], filter: &PartFilter, color: [u8; CHANNELS], out: &mut [u8]) {
    let PartFilter { inside, outside } = filter;
    let (plane, taps) = (planes.len() / CHANNELS, inside.taps);
    let places = out.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(outside);
    for (place, (out, outside)) in places.enumerate() {
        let high = &inside.high[place * taps..][..taps];
        let low = &inside.low[place * taps..][..taps];
        for (channel, out) in out.iter_mut().enumerate() {
            let bytes = &planes[channel * plane + inside.starts[place]..][..taps];
            let [high_rest, low_rest] = outside.map(|sum| sum.wrapping_mul(color[channel].into()));
            *out = round(
                dot(bytes, high).wrapping_add(high_rest),
                dot(bytes, low).wrapping_add(low_rest),
            );
        }
    }
}

/// The sum of products, modulo 2³². In this form compilers see multiply-and-add of 16 bits.
fn dot(bytes: &[i16], weights: &[i16]) -> i32 {
    let products = bytes
        .iter()
        .zip(weights)
        .map(|(byte, weight)| i32::from(*byte) * i32::from(*weight));
    products.fold(0, i32::wrapping_add)
}

/// The weight of which these are the upper and the lower part.
fn whole(high: i32, low: i32) -> i32 {
    (high << LOW_BITS) + low
}

/// → `[rows made, columns made, 3]`.
fn resize_columns(wide: &Wide, PartFilter { inside, outside }: &PartFilter) -> Vec<u8> {
    let stride = wide.margin.len();
    let mut made = vec![0; inside.starts.len() * stride];
    let each = made.par_chunks_exact_mut(stride.max(1)).enumerate();
    each.for_each_init(Vec::new, |sums: &mut Vec<i32>, (y, out)| {
        let [high, low] = outside[y];
        let rest = whole(high, low);
        let margin = wide.margin.iter();
        sums.clear();
        sums.extend(margin.map(|byte| HALF + i32::from(*byte) * rest));
        let read = wide.picture[inside.starts[y] * stride..].chunks_exact(stride);
        let weights = y * inside.taps..(y + 1) * inside.taps;
        let weights = inside.high[weights.clone()]
            .iter()
            .zip(&inside.low[weights]);
        for (row, (high, low)) in read.zip(weights) {
            let weight = whole((*high).into(), (*low).into());
            for (sum, byte) in sums.iter_mut().zip(row) {
                *sum += i32::from(*byte) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums.iter()) {
            *out = (sum >> PRECISION_BITS).clamp(0, 255) as u8;
        }
    });
    made
}
