//! Scales for integers: those with which rounding loses least of what a product makes of a weight.
//!
//! Of a group of numbers `w` whose inputs have the mean squares `h`, `Σ h (w − s q)²` is what the output
//! loses. Some scales around the one that spans the group are tried; for the integers `q` of each, the
//! best scale is known, `Σ h w q / Σ h q²`, and so is what is lost with it. Twice that: numbers are
//! rounded anew with the scale that was found.

use half::f16;

use crate::nn::Bits;

/// Adding it to a number of up to a few millions, and taking it away, leaves the nearest integer.
const TO_INTEGER: f32 = 12_582_912.0;

/// Numbers that are summed side by side.
const LANES: usize = 8;

/// The integers that so many bits have here.
const fn bounds(bits: Bits) -> (f32, f32) {
    match bits {
        // One more below would be no use to a group of either sign.
        Bits::Eight => (-127.0, 127.0),
        Bits::Four => (-8.0, 7.0),
    }
}

/// Where the number of greatest magnitude lands among the integers that are tried.
fn candidates(bits: Bits) -> impl Iterator<Item = f32> {
    let (from, step, count) = match bits {
        Bits::Eight => (121.0, 1.5, 5),
        Bits::Four => (5.5, 0.2, 18),
    };
    (0..count).map(move |at| from + step * at as f32)
}

/// The scale of a group of numbers; infinite where f16 has none that large.
pub(super) fn best_scale(numbers: &[f32], weights: &[f32], bits: Bits) -> f16 {
    let greatest = numbers
        .iter()
        .fold(0f32, |most, number| most.max(number.abs()));
    if greatest == 0.0 {
        return f16::ZERO;
    }
    // Four bits reach further below zero than above: which end is whose is tried too.
    let signs: &[f32] = match bits {
        Bits::Eight => &[1.0],
        Bits::Four => &[1.0, -1.0],
    };
    // What integers of a scale gain over none, and the best scale for them.
    let tried = |scale: f32| {
        let (products, squares) = sums(numbers, weights, 1.0 / scale, bits);
        match squares > 0.0 {
            true => (products * products / squares, products / squares),
            false => (f32::NEG_INFINITY, scale),
        }
    };
    let better = |a: (f32, f32), b: (f32, f32)| if b.0 > a.0 { b } else { a };
    let all = signs
        .iter()
        .flat_map(|sign| candidates(bits).map(move |end| sign * greatest / end));
    let none = (f32::NEG_INFINITY, greatest / bounds(bits).1);
    let best = all.map(tried).fold(none, better);
    f16::from_f32(better(best, tried(best.1)).1)
}

/// `Σ h w q` and `Σ h q²`.
fn sums(numbers: &[f32], weights: &[f32], inverse: f32, bits: Bits) -> (f32, f32) {
    let (least, most) = bounds(bits);
    let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
    let (numbers, left) = numbers.as_chunks::<LANES>();
    let (weights, of_left) = weights.as_chunks::<LANES>();
    let mut add = |lane: usize, number: f32, weight: f32| {
        let integer = nearest(number * inverse, least, most);
        products[lane] += weight * number * integer;
        squares[lane] += weight * integer * integer;
    };
    for (numbers, weights) in numbers.iter().zip(weights) {
        for lane in 0..LANES {
            add(lane, numbers[lane], weights[lane]);
        }
    }
    for (lane, (number, weight)) in left.iter().zip(of_left).enumerate() {
        add(lane, *number, *weight);
    }
    (products.iter().sum(), squares.iter().sum())
}

/// The integer next to `x`, ties to even, within bounds.
#[inline(always)]
fn nearest(x: f32, least: f32, most: f32) -> f32 {
    ((x + TO_INTEGER) - TO_INTEGER).clamp(least, most)
}

/// The integers of a group, given its scale.
pub(super) fn integers(
    numbers: &[f32],
    scale: f16,
    bits: Bits,
) -> impl Iterator<Item = i8> + use<'_> {
    let (least, most) = bounds(bits);
    let inverse = match scale == f16::ZERO {
        true => 0.0,
        false => 1.0 / scale.to_f32(),
    };
    let numbers = numbers.iter();
    numbers.map(move |number| nearest(number * inverse, least, most) as i8)
}

#[cfg(test)]
mod tests {
    use bunny_base::random::mix_all;
    use bunny_kernels::{
        WeightRef,
        quantized::{Coding, dequantize_rows, quantize},
    };

    use super::*;

    fn draw(seed: u64, count: usize) -> Vec<f32> {
        let uniform = |at| (mix_all(&[seed, at]) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        // Three of them are a bell.
        let number = |at| (0..3).map(|part| uniform(3 * at + part)).sum();
        (0..count as u64).map(number).collect()
    }

    fn lost(numbers: &[f32], weights: &[f32], scale: f16, bits: Bits) -> f64 {
        let integers = integers(numbers, scale, bits);
        let terms = integers.zip(numbers).zip(weights);
        terms
            .map(|((integer, number), weight)| {
                let off = f64::from(*number) - f64::from(scale.to_f32()) * f64::from(integer);
                f64::from(*weight) * off * off
            })
            .sum()
    }

    #[test]
    fn no_other_scale_is_much_better() {
        for bits in [Bits::Four, Bits::Eight] {
            let mut excess = 0.0;
            for seed in 0..40 {
                let numbers = draw(seed, 32);
                let weights: Vec<f32> = draw(1000 + seed, 32).iter().map(|x| x * x).collect();
                let scale = best_scale(&numbers, &weights, bits);
                let found = lost(&numbers, &weights, scale, bits);
                let greatest = numbers.iter().fold(0f32, |most, x| most.max(x.abs()));
                let (_, end) = bounds(bits);
                // Every scale there may be, in small steps, of either sign.
                let tried = (-2000i32..=2000).filter(|at| at.abs() > 1000);
                let scales = tried.map(|at| greatest / end * at as f32 / 1500.0);
                let losses =
                    scales.map(|scale| lost(&numbers, &weights, f16::from_f32(scale), bits));
                let least = losses.fold(f64::INFINITY, f64::min);
                excess += (found / least).ln() / 40.0;
                // A few numbers decide here, and steps between the scales that are tried may suit them.
                assert!(found < 2.0 * least, "{bits:?}, {seed}: {found} and {least}");
            }
            // What a search a hundred times as long would bring; of eight bits, which lose little, five
            // scales are tried alone.
            let most = if bits == Bits::Four { 0.15 } else { 0.25 };
            assert!(excess < most, "{bits:?}: {excess}");
        }
    }

    #[test]
    fn less_is_lost_than_by_rounding_to_what_spans_the_group() {
        for (bits, coding) in [(Bits::Four, Coding::Int4), (Bits::Eight, Coding::Int8)] {
            let (numbers, ones) = (draw(7, 64 * 32), [1.0; 32]);
            let plain = quantize(WeightRef::F32(&numbers), [64, 32], coding, 32).unwrap();
            let mut opened = vec![0.0; numbers.len()];
            let rows: Vec<usize> = (0..64).collect();
            dequantize_rows(plain.view(), &rows, &mut opened);
            let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            let plain: f64 = opened.iter().zip(&numbers).map(square).sum();
            let groups = numbers.chunks(32);
            let searched: f64 = groups
                .map(|group| lost(group, &ones, best_scale(group, &ones, bits), bits))
                .sum();
            assert!(searched < 0.95 * plain, "{bits:?}: {searched} and {plain}");
        }
    }

    #[test]
    fn integers_are_found_again() {
        for (bits, all) in [(Bits::Four, -8..=7), (Bits::Eight, -127..=127)] {
            let integers: Vec<i8> = all.collect();
            let scale = 0.0078125;
            let numbers: Vec<f32> = integers.iter().map(|q| scale * f32::from(*q)).collect();
            let weights = vec![1.0; numbers.len()];
            let found = best_scale(&numbers, &weights, bits);
            assert_eq!(found.to_f32(), scale, "{bits:?}");
            let again: Vec<i8> = super::integers(&numbers, found, bits).collect();
            assert_eq!(again, integers);
        }
        assert_eq!(best_scale(&[0.0; 5], &[1.0; 5], Bits::Four), f16::ZERO);
        assert_eq!(
            super::integers(&[0.0; 2], f16::ZERO, Bits::Four).sum::<i8>(),
            0
        );
    }

    #[test]
    fn numbers_whose_inputs_are_large_count_more() {
        // Two steps that no scale has both of: the one that is multiplied decides.
        let numbers = [1.0, 0.07, -0.02, 0.9];
        for (weights, at) in [([1.0, 1e6, 0.0, 0.0], 1), ([1e6, 1.0, 0.0, 0.0], 0)] {
            let scale = best_scale(&numbers, &weights, Bits::Four);
            let codes: Vec<i8> = integers(&numbers, scale, Bits::Four).collect();
            let off = (numbers[at] - scale.to_f32() * f32::from(codes[at])).abs();
            assert!(off < 2e-3 * numbers[at], "{at}: {off}");
        }
    }
}
