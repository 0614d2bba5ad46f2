//! Weights of eight and of four bits a number: what they are, how floats are rounded to them, and
//! products with them, without a copy of the weight in any other form.
//!
//! A weight `[out, in]` is stored row by row as codes. Numbers that follow each other in a row form
//! groups, 32 of them or a multiple of that, or all of the row; the last group may be short. Every
//! group has a scale, `[out, ⌈in / group⌉]`:
//!
//! ```text
//! Int8   a byte a number, q from −128 to 127             w = scale · q
//! Int4   half a byte a number, n from 0 to 15:           w = scale · (n − 8)
//!          with a zero point z from 0 to 15 a group      w = scale · (n − z)
//!          with a minimum m a group                      w = scale · n + m
//!
//! of a row of Int4:   byte   0     1     2     3     4
//!                     low    n₀    n₂    n₄    n₆    n₈      ⌈in / 8⌉ words of 32 bits,
//!                     high   n₁    n₃    n₅    n₇    n₉      the lowest bits first
//! ```
//! That is how compressed-tensors writes `int-quantized` and `pack-quantized` files, so that a mapped
//! file is a weight as it lies there; GGUF's Q8_0, Q4_0 and Q4_1 are the same numbers in another order.
//!
//! Products come in the two forms that those of floats have. For few rows the weight streams by at the
//! speed of memory, and nothing is less exact than in `f32`: [`linear_streamed`]. For many its codes are
//! opened block by block: [`linear_packed`], with [`Activations`] as they are, rounded to `bf16`, or
//! rounded to eight bits, so that integers are multiplied. In either a row's result is the same to the
//! bit whatever stands beside it, and on any number of threads.
//!
//! ```
//! use bunny_kernels::{WeightRef, quantized::{Coding, linear, quantize, Activations}};
//!
//! let weight = [-8.0, 7.0, 0.5, 0.25, 0.0, 1.0];
//! let packed = quantize(WeightRef::F32(&weight), [3, 2], Coding::Int4, 32)?;
//! assert_eq!(packed.codes.len(), 3 * 4);
//! let mut y = [0.0; 3];
//! linear(&[1.0, 2.0], packed.view(), None, &mut y, 1, Activations::F32);
//! assert_eq!(y, [6.0, 1.0, 2.0]);
//! # Ok::<(), bunny_kernels::quantized::QuantizedError>(())
//! ```

mod input;
mod integers;
mod open;
mod round;
mod stream;
#[cfg(test)]
mod tests;

use std::ops::Range;

use half::f16;

use self::input::Input;
use self::open::Opened;
use self::stream::Few;
use crate::linear::STREAMED_ROWS;
use crate::product::stream::{Streamed, stream};
use crate::product::{Layout, Product, Start};
use crate::scratch::Shared;
use crate::weight::WeightRef;

pub use self::open::dequantize_rows;
pub use self::round::quantize;

/// Groups are this many numbers, or a multiple of it, or the row.
pub const GRAIN: usize = 32;

/// What is wrong with a weight, or with numbers that are to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizedError {
    /// Groups that kernels do not read.
    #[error(
        "groups of {group} numbers in rows of {inner}: a group is a multiple of {GRAIN}, or the row"
    )]
    Group {
        /// Numbers of a group.
        group: usize,
        /// Numbers of a row.
        inner: usize,
    },
    /// A part that is too short or too long.
    #[error("{found} {part} where {out} rows of {inner} numbers have {expected}")]
    Length {
        /// Which one: `codes`, `scales`, `zero points`, `minima` or `numbers`.
        part: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
        /// Rows of the weight.
        out: usize,
        /// Numbers of a row.
        inner: usize,
    },
    /// A number to be rounded is infinite or none at all.
    #[error("row {row} has numbers that are not finite")]
    NotFinite {
        /// The first row that has one.
        row: usize,
    },
    /// The scale of a group is beyond f16.
    #[error("row {row} has numbers too large for a scale in f16")]
    TooLarge {
        /// The first row that has one.
        row: usize,
    },
}

/// How [`quantize`] rounds the numbers of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Coding {
    /// `q = round(w / scale)`, where the greatest magnitude of the group is `127 scale`.
    Int8,
    /// `n = round(w / scale) + 8`, where the number of the greatest magnitude is `−8 scale`: the scale
    /// takes the sign that makes that one exact. As GGUF's Q4_0.
    Int4,
    /// `n = round(w / scale) + z`, where the least and the greatest number, or zero if all are on one
    /// side of it, are `15 scale` apart.
    Int4Zeros,
    /// `n = round((w − m) / scale)`, where the least number is `m` and the greatest `15 scale` above. As
    /// GGUF's Q4_1.
    Int4Minima,
}

/// What stands for zero in a group of numbers of four bits.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Zeros<'a> {
    /// Eight, in all.
    Eight,
    /// A number from 0 to 15 each, `[out, groups]`.
    Integers(&'a [u8]),
    /// None: what is added to the numbers of each, `[out, groups]`.
    Minima(WeightRef<'a>),
}

/// The codes of a weight.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Codes<'a> {
    /// Bytes with sign, `[out, in]`.
    Int8(&'a [u8]),
    /// Four bits each, `[out, 4 ⌈in / 8⌉]` bytes.
    Int4(&'a [u8], Zeros<'a>),
}

/// A weight of eight or four bits a number, wherever its parts lie.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedRef<'a> {
    codes: Codes<'a>,
    scales: WeightRef<'a>,
    out: usize,
    inner: usize,
    group: usize,
}

impl<'a> QuantizedRef<'a> {
    /// A weight of so many rows and numbers a row, in groups of `group`, or of the row where that is
    /// shorter.
    ///
    /// # Errors
    /// When a part has another length, or the groups are none that kernels read.
    pub fn new(
        codes: Codes<'a>,
        scales: WeightRef<'a>,
        [out, inner]: [usize; 2],
        group: usize,
    ) -> Result<Self, QuantizedError> {
        check_group(group, inner)?;
        let groups = out * inner.div_ceil(group.max(1));
        let check = |part, found, expected| match found == expected {
            true => Ok(()),
            false => Err(QuantizedError::Length {
                part,
                found,
                expected,
                out,
                inner,
            }),
        };
        let weight = Self {
            codes,
            scales,
            out,
            inner,
            group,
        };
        check("scales", scales.len(), groups)?;
        let (Codes::Int8(bytes) | Codes::Int4(bytes, _)) = codes;
        check("codes", bytes.len(), out * weight.row_bytes())?;
        match codes {
            Codes::Int4(_, Zeros::Integers(zeros)) => check("zero points", zeros.len(), groups)?,
            Codes::Int4(_, Zeros::Minima(minima)) => check("minima", minima.len(), groups)?,
            Codes::Int8(_) | Codes::Int4(_, Zeros::Eight) => {}
        }
        Ok(weight)
    }

    /// Rows, and numbers of a row.
    pub fn sides(&self) -> [usize; 2] {
        [self.out, self.inner]
    }

    /// Bytes of all parts: what a product reads.
    pub fn bytes(&self) -> usize {
        let of_floats = |floats: WeightRef<'_>| floats.len() * floats.element_bytes();
        let (Codes::Int8(bytes) | Codes::Int4(bytes, _)) = self.codes;
        let zeros = match self.codes {
            Codes::Int8(_) | Codes::Int4(_, Zeros::Eight) => 0,
            Codes::Int4(_, Zeros::Integers(zeros)) => zeros.len(),
            Codes::Int4(_, Zeros::Minima(minima)) => of_floats(minima),
        };
        bytes.len() + of_floats(self.scales) + zeros
    }

    /// Some of its rows.
    ///
    /// # Panics
    /// When they are not there.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let groups = rows.start * self.groups()..rows.end * self.groups();
        let bytes = rows.start * self.row_bytes()..rows.end * self.row_bytes();
        Self {
            codes: match self.codes {
                Codes::Int8(codes) => Codes::Int8(&codes[bytes]),
                Codes::Int4(codes, zeros) => {
                    let zeros = match zeros {
                        Zeros::Eight => Zeros::Eight,
                        Zeros::Integers(zeros) => Zeros::Integers(&zeros[groups.clone()]),
                        Zeros::Minima(minima) => Zeros::Minima(minima.slice(groups.clone())),
                    };
                    Codes::Int4(&codes[bytes], zeros)
                }
            },
            scales: self.scales.slice(groups),
            out: rows.len(),
            ..*self
        }
    }

    /// Groups of a row.
    fn groups(&self) -> usize {
        self.inner.div_ceil(self.group.max(1))
    }

    /// Bytes of the codes of a row.
    fn row_bytes(&self) -> usize {
        match self.codes {
            Codes::Int8(_) => self.inner,
            Codes::Int4(..) => 4 * self.inner.div_ceil(8),
        }
    }
}

fn check_group(group: usize, inner: usize) -> Result<(), QuantizedError> {
    match group >= inner || group > 0 && group.is_multiple_of(GRAIN) {
        true => Ok(()),
        false => Err(QuantizedError::Group { group, inner }),
    }
}

/// What [`quantize`] made of floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// How they were rounded.
    pub coding: Coding,
    /// As [`Codes`] has them.
    pub codes: Vec<u8>,
    /// `[out, groups]`.
    pub scales: Vec<f16>,
    /// The zero points of [`Coding::Int4Zeros`], `[out, groups]`.
    pub zeros: Vec<u8>,
    /// The minima of [`Coding::Int4Minima`], `[out, groups]`.
    pub minima: Vec<f16>,
    /// Rows, and numbers of a row.
    pub sides: [usize; 2],
    /// Numbers of a group.
    pub group: usize,
}

impl Quantized {
    /// As kernels take it.
    ///
    /// # Panics
    /// When somebody has changed the length of a part.
    pub fn view(&self) -> QuantizedRef<'_> {
        let codes = match self.coding {
            Coding::Int8 => Codes::Int8(&self.codes),
            Coding::Int4 => Codes::Int4(&self.codes, Zeros::Eight),
            Coding::Int4Zeros => Codes::Int4(&self.codes, Zeros::Integers(&self.zeros)),
            Coding::Int4Minima => {
                Codes::Int4(&self.codes, Zeros::Minima(WeightRef::F16(&self.minima)))
            }
        };
        QuantizedRef::new(codes, WeightRef::F16(&self.scales), self.sides, self.group)
            .unwrap_or_else(|wrong| panic!("a quantised weight: {wrong}"))
    }
}

/// What products of many rows make of their input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activations {
    /// Nothing: sums and products are `f32`.
    F32,
    /// They and the opened weight are rounded to `bf16`: see [`linear_bf16_dot`](crate::linear_bf16_dot).
    Bf16,
    /// They are rounded to eight bits, with a scale for every 256 numbers of a row, and so is the
    /// weight, where those have several scales. Integers are summed exactly, and what is made of them
    /// in one order, so that the result is the same bits on every processor.
    ///
    /// With `a` for the greatest magnitude of 256 inputs each is off by `a / 254` at most; a number of
    /// the weight by `b / 254`, `b` being the greatest magnitude that the scales of 256 numbers allow.
    Int8,
}

/// `y [rows, out] = x [rows, in] · Wᵀ + bias`: [`linear_streamed`] for up to twelve rows, otherwise
/// [`linear_packed`].
///
/// # Panics
/// When the lengths do not agree with `rows` and the sides of `w`.
pub fn linear(
    x: &[f32],
    w: QuantizedRef<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    activations: Activations,
) {
    match rows <= STREAMED_ROWS {
        true => linear_streamed(x, w, bias, y, rows),
        false => linear_packed(x, w, bias, y, rows, activations),
    }
}

/// [`linear`] in the order of its sums that a single row has, however many rows there are.
///
/// Numbers of a weight of eight bits are widened to `f32`. For four bits each 32 numbers of a row of `x`
/// are taken as integers of 24 bits, which leaves them within `2⁻²⁴` of the greatest magnitude among
/// them, and eight products each are summed exactly. Other sums are `f32`.
///
/// # Panics
/// When the lengths do not agree with `rows` and the sides of `w`.
pub fn linear_streamed(
    x: &[f32],
    w: QuantizedRef<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
) {
    stream_many(rows, &mut [QuantizedLinear { x, w, bias, y }]);
}

/// One of several products with as many rows each: `y = x · Wᵀ + bias`.
#[derive(Debug)]
pub struct QuantizedLinear<'a> {
    /// `[rows, in]`.
    pub x: &'a [f32],
    /// `[out, in]`.
    pub w: QuantizedRef<'a>,
    /// `[out]`.
    pub bias: Option<&'a [f32]>,
    /// `[rows, out]`.
    pub y: &'a mut [f32],
}

/// [`linear_streamed`] for several products: the same numbers sooner, as threads meet once for all of
/// them instead of once for each.
///
/// # Panics
/// When the lengths of a product do not agree with `rows` and the sides of its weight.
pub fn stream_many(rows: usize, products: &mut [QuantizedLinear<'_>]) {
    // Products often share their input.
    let mut inputs: Vec<Input<'_>> = Vec::new();
    let of_products: Vec<usize> = products
        .iter()
        .map(|QuantizedLinear { x, w, bias, y }| {
            assert_sides(x, w, *bias, y, rows);
            let made = inputs.iter().position(|input| input.serves(x, w));
            made.unwrap_or_else(|| {
                inputs.push(Input::new(x, w, rows));
                inputs.len() - 1
            })
        })
        .collect();
    let streamed: Vec<Streamed<'_, Few<'_>>> = products
        .iter_mut()
        .zip(of_products)
        .map(|(product, input)| Streamed {
            weight: Few {
                weight: product.w,
                input: &inputs[input],
            },
            bias: product.bias,
            y: Shared::new(product.y),
            inner: product.w.inner,
            out: product.w.out,
        })
        .collect();
    // SAFETY: the lengths were looked at, and results are held exclusively.
    unsafe { stream(rows, &streamed) };
}

/// [`linear`] in the order of its sums that many rows have, however few there are.
///
/// # Panics
/// When the lengths do not agree with `rows` and the sides of `w`.
pub fn linear_packed(
    x: &[f32],
    w: QuantizedRef<'_>,
    bias: Option<&[f32]>,
    y: &mut [f32],
    rows: usize,
    activations: Activations,
) {
    assert_sides(x, &w, bias, y, rows);
    let opened = Opened::new(w);
    let product = Product {
        m: rows,
        n: w.out,
        k: w.inner,
        a: x,
        a_layout: Layout::AlongDepth,
        b: &opened,
        b_layout: Layout::AlongDepth,
        start: bias.map_or(Start::Zero, Start::Bias),
    };
    match activations {
        Activations::Bf16 => product.compute::<true>(y),
        Activations::Int8 if w.inner > 0 => integers::linear(x, &opened, bias, y, rows),
        _ => product.compute::<false>(y),
    }
}

/// The gradient of [`linear`] for its input: `dx [rows, in] = dy [rows, out] · W`. With `rounds`, `dy`
/// and the opened weight are rounded to `bf16`, as in
/// [`linear_backward_input_bf16_dot`](crate::linear_backward_input_bf16_dot).
///
/// # Panics
/// When the lengths do not agree with `rows` and the sides of `w`.
pub fn linear_backward_input(
    dy: &[f32],
    w: QuantizedRef<'_>,
    dx: &mut [f32],
    rows: usize,
    rounds: bool,
) {
    let opened = Opened::new(w);
    let product = Product {
        m: rows,
        n: w.inner,
        k: w.out,
        a: dy,
        a_layout: Layout::AlongDepth,
        b: &opened,
        b_layout: Layout::AcrossDepth,
        start: Start::Zero,
    };
    match rounds {
        true => product.compute::<true>(dx),
        false => product.compute::<false>(dx),
    }
}

fn assert_sides(x: &[f32], w: &QuantizedRef<'_>, bias: Option<&[f32]>, y: &[f32], rows: usize) {
    assert_eq!(x.len(), rows * w.inner, "input");
    assert_eq!(y.len(), rows * w.out, "result");
    assert!(bias.is_none_or(|bias| bias.len() == w.out), "bias");
}
