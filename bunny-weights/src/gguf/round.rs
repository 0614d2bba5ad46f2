//! Floats rounded to blocks.
//!
//! Q8_0, Q4_0 and Q5_0 are rounded as ggml's own reference does, to the byte (where a compiler has not
//! fused its products and sums). What a K block loses hangs on
//! the scales that are tried for it: those of ggml are (without an importance matrix), but the last bits
//! of sums may fall otherwise.

use half::f16;
use rayon::prelude::*;

use super::TensorType;
use crate::{StoredDtype, convert};

/// Numbers that cannot be held in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("row {row} has {problem}")]
pub struct NotRounded {
    /// The first row of which that is so.
    pub row: usize,
    /// Why.
    pub problem: &'static str,
}

const NOT_FINITE: &str = "numbers that are not finite";
const TOO_LARGE: &str = "numbers too large for f16";

/// Adding it to a number of up to a few millions, and taking it away, leaves the nearest integer, ties
/// to even.
const TO_INTEGER: f32 = 12_582_912.0;

#[inline(always)]
fn nearest(x: f32, least: f32, most: f32) -> f32 {
    ((x + TO_INTEGER) - TO_INTEGER).clamp(least, most)
}

/// Rows of `row` numbers each as `kind` holds them, in parallel.
///
/// # Errors
/// When numbers are not finite, or too large for the f16 that they or their scales are held in.
///
/// # Panics
/// When a row is no whole blocks, or nothing is rounded to `kind` (Q4_1, Q5_1, Q5_K).
pub fn round_rows(kind: TensorType, numbers: &[f32], row: usize) -> Result<Vec<u8>, NotRounded> {
    assert!(row > 0 && row.is_multiple_of(kind.block()));
    let block = match kind {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => return floats(kind, numbers, row),
        TensorType::Q8_0 => q8_0,
        TensorType::Q4_0 => q4_0,
        TensorType::Q5_0 => q5_0,
        TensorType::Q4K => q4_k,
        TensorType::Q6K => q6_k,
        other => panic!("nothing is rounded to {}", other.name()),
    };
    let row_bytes = kind.bytes(row);
    let mut bytes = vec![0; kind.bytes(numbers.len())];
    let rows = bytes.par_chunks_mut(row_bytes).zip(numbers.par_chunks(row));
    let rounded = rows.enumerate().map(|(at, (bytes, numbers))| {
        let fault = |problem| NotRounded { row: at, problem };
        if !all_finite(numbers) {
            return Err(fault(NOT_FINITE));
        }
        let blocks = bytes.chunks_exact_mut(kind.block_bytes());
        for (bytes, numbers) in blocks.zip(numbers.chunks_exact(kind.block())) {
            block(numbers, bytes).map_err(fault)?;
        }
        Ok(())
    });
    // The first of them, whatever the threads do.
    let fault = rounded
        .filter_map(Result::err)
        .min_by_key(|fault: &NotRounded| fault.row);
    match fault {
        None => Ok(bytes),
        Some(fault) => Err(fault),
    }
}

/// The bits of the greatest magnitude: as integers they are in the same order, and compared several at a
/// time.
fn greatest_bits(numbers: &[f32]) -> i32 {
    let bits = numbers.iter().map(|x| (x.to_bits() & 0x7fff_ffff) as i32);
    bits.fold(0, i32::max)
}

fn all_finite(numbers: &[f32]) -> bool {
    greatest_bits(numbers) < f32::INFINITY.to_bits() as i32
}

fn floats(kind: TensorType, numbers: &[f32], row: usize) -> Result<Vec<u8>, NotRounded> {
    let is_f16 = kind == TensorType::F16;
    let fault = |row: &[f32]| {
        let greatest = f32::from_bits(greatest_bits(row) as u32);
        if !greatest.is_finite() {
            return Some(NOT_FINITE);
        }
        (is_f16 && f16::from_f32(greatest).is_infinite()).then_some(TOO_LARGE)
    };
    let rows = numbers.par_chunks(row).enumerate();
    let faults =
        rows.filter_map(|(row, numbers)| fault(numbers).map(|problem| NotRounded { row, problem }));
    if let Some(fault) = faults.min_by_key(|fault| fault.row) {
        return Err(fault);
    }
    let dtype = kind.float().unwrap_or(StoredDtype::F32);
    Ok(convert::from_f32(numbers, dtype).unwrap_or_default())
}

/// Puts an f16, if there is one that large.
fn put_half(bytes: &mut [u8], at: usize, number: f32) -> Result<f32, &'static str> {
    let half = f16::from_f32(number);
    if half.is_infinite() {
        return Err(TOO_LARGE);
    }
    bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
    Ok(half.to_f32())
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn q8_0(numbers: &[f32], bytes: &mut [u8]) -> Result<(), &'static str> {
    let scale = f32::from_bits(greatest_bits(numbers) as u32) / 127.0;
    let inverse = inverse(scale);
    put_half(bytes, 0, scale)?;
    for (byte, number) in bytes[2..].iter_mut().zip(numbers) {
        // Halves away from zero; in f64, adding one rounds nothing.
        let x = f64::from(number * inverse);
        *byte = (x + 0.5f64.copysign(x)) as i32 as u8;
    }
    Ok(())
}

/// The number of the greatest magnitude, the first of them.
fn extreme(numbers: &[f32]) -> f32 {
    let greatest = f32::from_bits(greatest_bits(numbers) as u32);
    let first = numbers.iter().find(|x| x.abs() == greatest);
    first.copied().unwrap_or_default()
}

/// `x` times `inverse` plus `offset` without its fraction, each step rounded to f32.
#[inline(always)]
fn truncated(x: f32, inverse: f32, offset: f32, most: i32) -> u8 {
    ((x * inverse + offset) as i32).min(most) as u8
}

fn q4_0(numbers: &[f32], bytes: &mut [u8]) -> Result<(), &'static str> {
    let scale = extreme(numbers) / -8.0;
    let inverse = inverse(scale);
    put_half(bytes, 0, scale)?;
    let (low, high) = numbers.split_at(16);
    for ((byte, low), high) in bytes[2..].iter_mut().zip(low).zip(high) {
        let [low, high] = [low, high].map(|x| truncated(*x, inverse, 8.5, 15));
        *byte = low | high << 4;
    }
    Ok(())
}

fn q5_0(numbers: &[f32], bytes: &mut [u8]) -> Result<(), &'static str> {
    let scale = extreme(numbers) / -16.0;
    let inverse = inverse(scale);
    put_half(bytes, 0, scale)?;
    let (low, high) = numbers.split_at(16);
    let mut fifth = 0u32;
    for (at, ((byte, low), high)) in bytes[6..].iter_mut().zip(low).zip(high).enumerate() {
        let [low, high] = [low, high].map(|x| truncated(*x, inverse, 16.5, 31));
        *byte = low & 15 | high << 4;
        fifth |= u32::from(low >> 4) << at | u32::from(high >> 4) << (at + 16);
    }
    bytes[2..6].copy_from_slice(&fifth.to_le_bytes());
    Ok(())
}

/// The best scale and minimum for 32 numbers in `0..=15`: `scale · q − minimum`, the latter not below
/// zero. Numbers that are large count more.
fn scale_and_minimum(numbers: &[f32; 32]) -> (f32, f32) {
    let greatest = extreme(numbers).abs();
    if greatest == 0.0 {
        return (0.0, 0.0);
    }
    // Squares neither overflow nor vanish.
    let numbers = &numbers.map(|x| x / greatest);
    let squares: f32 = numbers.iter().map(|x| x * x).sum();
    let mean = (squares / 32.0).sqrt();
    let weights = numbers.map(|x| mean + x.abs());
    let least = numbers.iter().fold(0f32, |least, x| least.min(*x));
    let most = numbers
        .iter()
        .fold(f32::NEG_INFINITY, |most, x| most.max(*x));
    if most <= least {
        return (0.0, -least * greatest);
    }
    let sum_w: f32 = weights.iter().sum();
    let sum_x: f32 = weights.iter().zip(numbers).map(|(w, x)| w * x).sum();
    let lost = |q: &[f32; 32], scale: f32, minimum: f32| {
        let mut sum = 0f32;
        for at in 0..32 {
            let off = scale * q[at] + minimum - numbers[at];
            sum += weights[at] * off * off;
        }
        sum
    };
    let rounded = |inverse: f32| numbers.map(|x| nearest(inverse * (x - least), 0.0, 15.0));
    let inverse = 15.0 / (most - least);
    let (mut scale, mut minimum) = (1.0 / inverse, least);
    let mut best = lost(&rounded(inverse), scale, minimum);
    for step in 0..=20 {
        let q = rounded((14.0 + 0.1 * step as f32) / (most - least));
        let (mut sum_q, mut sum_qq, mut sum_qx) = (0f32, 0f32, 0f32);
        for at in 0..32 {
            let weighted = weights[at] * q[at];
            sum_q += weighted;
            sum_qq += weighted * q[at];
            sum_qx += weighted * numbers[at];
        }
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant <= 0.0 {
            continue;
        }
        let mut tried = (sum_w * sum_qx - sum_x * sum_q) / determinant;
        let mut from = (sum_qq * sum_x - sum_q * sum_qx) / determinant;
        if from > 0.0 {
            (tried, from) = (sum_qx / sum_qq, 0.0);
        }
        let loss = lost(&q, tried, from);
        if loss < best {
            (best, scale, minimum) = (loss, tried, from);
        }
    }
    (scale * greatest, -minimum * greatest)
}

fn q4_k(numbers: &[f32], bytes: &mut [u8]) -> Result<(), &'static str> {
    let (runs, _) = numbers.as_chunks::<32>();
    let mut found = [(0f32, 0f32); 8];
    for (found, run) in found.iter_mut().zip(runs) {
        *found = scale_and_minimum(run);
    }
    let scale = found.iter().fold(0f32, |most, (scale, _)| most.max(*scale));
    let minimum = found
        .iter()
        .fold(0f32, |most, (_, minimum)| most.max(*minimum));
    let d = put_half(bytes, 0, scale / 63.0)?;
    let e = put_half(bytes, 2, minimum / 63.0)?;
    let steps = |number: f32, most: f32| match most > 0.0 {
        true => nearest(number / most * 63.0, 0.0, 63.0) as u8,
        false => 0,
    };
    bytes[4..16].fill(0);
    for (at, (run, (found, least))) in runs.iter().zip(found).enumerate() {
        let (s, t) = (steps(found, scale), steps(least, minimum));
        let packed = &mut bytes[4..16];
        match at {
            0..4 => {
                packed[at] |= s;
                packed[at + 4] |= t;
            }
            _ => {
                packed[at + 4] = s & 15 | (t & 15) << 4;
                packed[at - 4] |= (s >> 4) << 6;
                packed[at] |= (t >> 4) << 6;
            }
        }
        // With the scales as they are held.
        let (scale, least) = (d * f32::from(s), e * f32::from(t));
        let inverse = inverse(scale);
        let halves = &mut bytes[16 + at / 2 * 32..][..32];
        for (byte, x) in halves.iter_mut().zip(run) {
            let q = nearest((x + least) * inverse, 0.0, 15.0) as u8;
            match at % 2 {
                0 => *byte = q,
                _ => *byte |= q << 4,
            }
        }
    }
    Ok(())
}

/// The best scale for 16 numbers in `-32..=31`: numbers count by their squares.
fn scale_of_16(numbers: &[f32; 16]) -> f32 {
    let extreme = extreme(numbers);
    if extreme == 0.0 {
        return 0.0;
    }
    // Squares neither overflow nor vanish.
    let numbers = &numbers.map(|x| x / extreme);
    let weights = numbers.map(|x| x * x);
    // What integers of a scale gain over none, and the best scale for them.
    let tried = |ends: f32| {
        let (mut sum_qx, mut sum_qq) = (0f32, 0f32);
        for at in 0..16 {
            let q = nearest(-ends * numbers[at], -32.0, 31.0);
            sum_qx += weights[at] * numbers[at] * q;
            sum_qq += weights[at] * q * q;
        }
        match sum_qq > 0.0 {
            true => (sum_qx * sum_qx / sum_qq, sum_qx / sum_qq),
            false => (0.0, 0.0),
        }
    };
    let mut best = tried(32.0);
    for step in (-9i8..=9).filter(|step| *step != 0) {
        let found = tried(32.0 + 0.1 * f32::from(step));
        if found.0 > best.0 {
            best = found;
        }
    }
    best.1 * extreme
}

fn q6_k(numbers: &[f32], bytes: &mut [u8]) -> Result<(), &'static str> {
    let (runs, _) = numbers.as_chunks::<16>();
    let mut scales = [0f32; 16];
    for (scale, run) in scales.iter_mut().zip(runs) {
        *scale = scale_of_16(run);
    }
    bytes.fill(0);
    let greatest = extreme(&scales);
    if greatest == 0.0 {
        return Ok(());
    }
    let d = put_half(bytes, 208, greatest / -128.0)?;
    for (at, (run, scale)) in runs.iter().zip(scales).enumerate() {
        let scale = nearest(scale / greatest * -128.0, -128.0, 127.0);
        bytes[192 + at] = scale as i8 as u8;
        let inverse = inverse(d * scale);
        for (place, x) in run.iter().enumerate() {
            let number = 16 * at + place;
            let q = (nearest(x * inverse, -32.0, 31.0) + 32.0) as u8;
            let (side, within) = (number / 128, number % 128);
            bytes[side * 64 + within % 64] |= (q & 15) << (4 * (within / 64));
            bytes[128 + side * 32 + within % 32] |= (q >> 4) << (2 * (within / 32));
        }
    }
    Ok(())
}
