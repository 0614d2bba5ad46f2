use super::*;
use crate::linear::STREAMED_ROWS;
use crate::simd::testing::{at_every_level, at_every_level_of_quads};
use crate::testing::{mix, noise};
use half::bf16;

/// Rows, inner and out: whole registers and not, one row and more than stream, one block and several.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (1, 2730, 19),
    (2, 32, 5),
    (5, 77, 21),
    (STREAMED_ROWS, 640, 33),
    (STREAMED_ROWS + 1, 256, 50),
    (37, 1304, 70),
    (70, 515, 100),
];

const CODINGS: [Coding; 4] = [
    Coding::Int8,
    Coding::Int4,
    Coding::Int4Zeros,
    Coding::Int4Minima,
];

/// Half a unit in the last place.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// Parts that no rounding made: any codes, scales of either sign.
struct Parts {
    coding: Coding,
    codes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<u8>,
    minima: Vec<f32>,
    sides: [usize; 2],
    group: usize,
}

impl Parts {
    fn new(coding: Coding, [out, inner]: [usize; 2], group: usize, seed: u64) -> Self {
        let row_bytes = match coding {
            Coding::Int8 => inner,
            _ => inner.div_ceil(8) * 4,
        };
        let groups = out * inner.div_ceil(group);
        let halves = |seed| -> Vec<f32> {
            noise(groups, seed)
                .into_iter()
                .map(|x| f16::from_f32(x * 0.01).to_f32())
                .collect()
        };
        Self {
            coding,
            codes: (0..out * row_bytes)
                .map(|at| mix(seed, at as u64) as u8)
                .collect(),
            scales: halves(seed + 1),
            zeros: (0..groups)
                .map(|at| mix(seed + 2, at as u64) as u8 & 15)
                .collect(),
            minima: halves(seed + 3),
            sides: [out, inner],
            group,
        }
    }

    /// With scales and minima of each type.
    fn for_each_type(&self, mut check: impl FnMut(QuantizedRef<'_>)) {
        let half = |of: &[f32]| -> Vec<f16> { of.iter().map(|x| f16::from_f32(*x)).collect() };
        let brain = |of: &[f32]| -> Vec<bf16> { of.iter().map(|x| bf16::from_f32(*x)).collect() };
        let (half_scales, half_minima) = (half(&self.scales), half(&self.minima));
        let (brain_scales, brain_minima) = (brain(&self.scales), brain(&self.minima));
        for (scales, minima) in [
            (WeightRef::F32(&self.scales), WeightRef::F32(&self.minima)),
            (WeightRef::F16(&half_scales), WeightRef::F16(&half_minima)),
            (
                WeightRef::Bf16(&brain_scales),
                WeightRef::Bf16(&brain_minima),
            ),
        ] {
            let codes = match self.coding {
                Coding::Int8 => Codes::Int8(&self.codes),
                Coding::Int4 => Codes::Int4(&self.codes, Zeros::Eight),
                Coding::Int4Zeros => Codes::Int4(&self.codes, Zeros::Integers(&self.zeros)),
                Coding::Int4Minima => Codes::Int4(&self.codes, Zeros::Minima(minima)),
            };
            let weight = QuantizedRef::new(codes, scales, self.sides, self.group);
            check(weight.expect("parts that fit"));
        }
    }
}

fn element(floats: WeightRef<'_>, at: usize) -> f64 {
    match floats {
        WeightRef::F32(floats) => f64::from(floats[at]),
        WeightRef::F16(floats) => floats[at].to_f64(),
        WeightRef::Bf16(floats) => floats[at].to_f64(),
    }
}

/// What a code is, and what is made of it: `(code − zero) · scale + minimum`.
struct Plain {
    code: i32,
    zero: i32,
    scale: f64,
    minimum: f64,
}

impl Plain {
    fn at(w: &QuantizedRef<'_>, row: usize, at: usize) -> Self {
        let group = row * w.inner.div_ceil(w.group) + at / w.group;
        let (code, zero, minimum) = match w.codes {
            Codes::Int8(bytes) => (i32::from(bytes[row * w.inner + at] as i8), 0, 0.0),
            Codes::Int4(bytes, zeros) => {
                let byte = bytes[row * w.inner.div_ceil(8) * 4 + at / 2];
                let code = if at.is_multiple_of(2) {
                    byte & 15
                } else {
                    byte >> 4
                };
                let (zero, minimum) = match zeros {
                    Zeros::Eight => (8, 0.0),
                    Zeros::Integers(zeros) => (zeros[group].into(), 0.0),
                    Zeros::Minima(minima) => (0, element(minima, group)),
                };
                (code.into(), zero, minimum)
            }
        };
        Self {
            code,
            zero,
            scale: element(w.scales, group),
            minimum,
        }
    }

    /// In the steps in which kernels that open a weight come to it, in `f32`.
    fn opened(&self, w: &QuantizedRef<'_>) -> f32 {
        let (scale, minimum) = (self.scale as f32, self.minimum as f32);
        let (code, zero) = (self.code as f32, self.zero as f32);
        match w.codes {
            Codes::Int4(_, Zeros::Minima(_)) => code * scale + minimum,
            Codes::Int4(_, Zeros::Integers(_)) => (code - 8.0) * scale + (8.0 - zero) * scale,
            Codes::Int4(_, Zeros::Eight) => (code - 8.0) * scale,
            Codes::Int8(_) => code * scale,
        }
    }

    fn value(&self) -> f64 {
        f64::from(self.code - self.zero) * self.scale + self.minimum
    }

    /// No less than any number on the way to a product.
    fn magnitude(&self) -> f64 {
        (f64::from(self.code.abs()) + 16.0) * self.scale.abs() + self.minimum.abs()
    }
}

/// The weight's numbers, and what bounds those on the way to them.
fn plain(w: &QuantizedRef<'_>) -> (Vec<f64>, Vec<f64>) {
    let numbers = (0..w.out * w.inner).map(|at| Plain::at(w, at / w.inner, at % w.inner));
    numbers
        .map(|number| (number.value(), number.magnitude()))
        .unzip()
}

/// `a [m, k] · b [n, k]ᵀ`.
fn product(a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    a.chunks_exact(k)
        .flat_map(|a| b.chunks_exact(k).map(move |b| dot(a, b)))
        .collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

fn magnitudes(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.abs()).collect()
}

/// For each number the greatest magnitude of the 32 of its row that it is rounded with.
fn greatest_of_32(x: &[f32], inner: usize) -> Vec<f64> {
    let rows = x.chunks_exact(inner).flat_map(|x| x.chunks(GRAIN));
    rows.flat_map(|x| {
        let greatest = x.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        vec![f64::from(greatest); x.len()]
    })
    .collect()
}

fn assert_within(got: &[f32], expected: &[f64], bounds: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, ((got, expected), bound)) in got.iter().zip(expected).zip(bounds).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(
            error <= *bound,
            "{what}: at {at} got {got}, expected {expected}, {error:e} off where {bound:e} may be"
        );
    }
}

/// Every coding and grouping of a weight with these sides, with its name; scales take turns to be of
/// each type.
fn for_each_weight(sides: [usize; 2], mut check: impl FnMut(QuantizedRef<'_>, &str)) {
    let mut turn = 0;
    for coding in CODINGS {
        for group in [32, 64, 128, 384, 1 << 20] {
            let name = format!("{coding:?} {group} {sides:?}");
            let mut of_type = 0;
            Parts::new(coding, sides, group, 7).for_each_type(|w| {
                if of_type == turn % 3 {
                    check(w, &name);
                }
                of_type += 1;
            });
            turn += 1;
        }
    }
}

#[test]
fn few_rows_are_products_with_the_numbers_that_codes_stand_for() {
    at_every_level(2, || {
        for (rows, inner, out) in SHAPES {
            let rows = rows.min(STREAMED_ROWS);
            let (x, bias) = (noise(rows * inner, 1), noise(out, 2));
            for_each_weight([out, inner], |w, name| {
                let (numbers, bounds) = plain(&w);
                let mut expected = product(&wide(&x), &numbers, inner);
                let mut bounds = product(&greatest_of_32(&x, inner), &bounds, inner);
                for at in 0..expected.len() {
                    expected[at] += f64::from(bias[at % out]);
                    // A sum of as many terms, each of a few steps; input may be rounded to integers of 24
                    // bits, beside the greatest of 32.
                    bounds[at] =
                        (bounds[at] + f64::from(bias[at % out]).abs()) * (inner + 16) as f64 * UNIT;
                }
                let mut y = vec![f32::NAN; rows * out];
                linear_streamed(&x, w, Some(&bias), &mut y, rows);
                assert_within(&y, &expected, &bounds, name);
            });
        }
    });
}

#[test]
fn many_rows_are_products_with_the_numbers_that_codes_stand_for_and_so_are_gradients() {
    let to_bf16 = |x: &[f64]| -> Vec<f64> {
        x.iter()
            .map(|x| bf16::from_f32(*x as f32).to_f64())
            .collect()
    };
    at_every_level(2, || {
        for (rows, inner, out) in SHAPES {
            let (x, dy, bias) = (noise(rows * inner, 1), noise(rows * out, 3), noise(out, 2));
            for_each_weight([out, inner], |w, name| {
                let at = |at| f64::from(Plain::at(&w, at / inner, at % inner).opened(&w));
                let numbers: Vec<f64> = (0..out * inner).map(at).collect();
                for rounds in [false, true] {
                    let of = |x: &[f64]| if rounds { to_bf16(x) } else { x.to_vec() };
                    let narrow = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
                    let numbers = of(&numbers);
                    let turned: Vec<f64> = (0..out * inner)
                        .map(|at| numbers[at % out * inner + at / out])
                        .collect();
                    let bounds = |x: &[f64], w: &[f64], depth| -> Vec<f64> {
                        product(&magnitudes(x), &magnitudes(w), depth)
                            .into_iter()
                            .map(|most| (most + 1.0) * (depth + 16) as f64 * UNIT)
                            .collect()
                    };
                    let x = of(&wide(&x));
                    let mut expected = product(&x, &numbers, inner);
                    for at in 0..expected.len() {
                        expected[at] += f64::from(bias[at % out]);
                    }
                    let mut y = vec![f32::NAN; rows * out];
                    let activations = match rounds {
                        true => Activations::Bf16,
                        false => Activations::F32,
                    };
                    linear_packed(&narrow(&x), w, Some(&bias), &mut y, rows, activations);
                    assert_within(&y, &expected, &bounds(&x, &numbers, inner), name);

                    let dy = of(&wide(&dy));
                    let expected = product(&dy, &turned, out);
                    let mut dx = vec![f32::NAN; rows * inner];
                    linear_backward_input(&narrow(&dy), w, &mut dx, rows, rounds);
                    let name = format!("{name} gradient");
                    assert_within(&dx, &expected, &bounds(&dy, &turned, out), &name);
                }
            });
        }
    });
}

/// Codes of input or weight and their scale, for 256 numbers.
type Block = (Vec<i32>, f32);

fn rounded_input(x: &[f32]) -> Block {
    let greatest = x.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
    let inverse = 127.0 / greatest;
    let codes = x.iter().map(|x| (x * inverse).round_ties_even() as i32);
    (codes.collect(), greatest / 127.0)
}

fn rounded_weight(w: &QuantizedRef<'_>, row: usize, part: Range<usize>) -> Block {
    let numbers: Vec<Plain> = part.clone().map(|at| Plain::at(w, row, at)).collect();
    let one_scale = part.start / w.group == (part.end - 1) / w.group;
    let int8 = matches!(w.codes, Codes::Int8(_));
    let minima = matches!(w.codes, Codes::Int4(_, Zeros::Minima(_)));
    if one_scale && !minima {
        let codes = numbers.iter().map(|number| number.code - number.zero);
        return (codes.collect(), numbers[0].scale as f32);
    }
    if int8 {
        let of = |number: &Plain| number.scale as f32;
        let greatest = numbers
            .iter()
            .fold(0.0, |most: f32, n| most.max(of(n).abs()));
        let code = |number: &Plain| {
            let rounded = (number.code as f32 * (of(number) / greatest)).round_ties_even();
            rounded.min(127.0) as i32
        };
        return (numbers.iter().map(code).collect(), greatest);
    }
    let ends = numbers
        .iter()
        .flat_map(|number| [0, 15].map(|code| Plain { code, ..*number }.opened(w)));
    let greatest = ends.fold(0.0, |most: f32, end| most.max(end.abs()));
    let inverse = 127.0 / greatest;
    let code = |number: &Plain| (number.opened(w) * inverse).round_ties_even() as i32;
    (numbers.iter().map(code).collect(), greatest / 127.0)
}

#[test]
fn integer_products_are_the_same_bits_as_plain_loops_at_every_level_on_any_threads() {
    for (rows, inner, out) in SHAPES {
        let (x, bias) = (noise(rows * inner, 1), noise(out, 2));
        for_each_weight([out, inner], |w, name| {
            let parts: Vec<Range<usize>> = (0..inner)
                .step_by(256)
                .map(|at| at..inner.min(at + 256))
                .collect();
            let of_rows: Vec<Vec<Block>> = x
                .chunks_exact(inner)
                .map(|x| {
                    parts
                        .iter()
                        .map(|part| rounded_input(&x[part.clone()]))
                        .collect()
                })
                .collect();
            let of_columns: Vec<Vec<Block>> = (0..out)
                .map(|row| {
                    let block = |part: &Range<usize>| rounded_weight(&w, row, part.clone());
                    parts.iter().map(block).collect()
                })
                .collect();
            let mut expected = Vec::new();
            for row in &of_rows {
                for (column, bias) in of_columns.iter().zip(&bias) {
                    let mut total = 0.0_f32;
                    for ((a, a_scale), (b, b_scale)) in row.iter().zip(column) {
                        let sum: i32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                        total += sum as f32 * b_scale * a_scale;
                    }
                    expected.push((total + bias).to_bits());
                }
            }
            for threads in [1, 3] {
                at_every_level_of_quads(threads, || {
                    let mut y = vec![f32::NAN; rows * out];
                    linear_packed(&x, w, Some(&bias), &mut y, rows, Activations::Int8);
                    let bits: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
                    assert!(bits == expected, "{name} {rows}");
                });
            }
        });
    }
}

#[test]
fn rounding_the_input_costs_no_more_than_half_a_step_of_either_side() {
    for (rows, inner, out) in SHAPES {
        let x = noise(rows * inner, 1);
        for_each_weight([out, inner], |w, name| {
            let (numbers, _) = plain(&w);
            let exact = product(&wide(&x), &numbers, inner);
            let mut bounds = vec![1e-6; rows * out];
            for part in (0..inner).step_by(256).map(|at| at..inner.min(at + 256)) {
                for row in 0..rows {
                    let x = &x[row * inner..][part.clone()];
                    let (_, a_scale) = rounded_input(x);
                    let a_sum: f64 = x.iter().map(|x| f64::from(x.abs())).sum();
                    for column in 0..out {
                        let (codes, b_scale) = rounded_weight(&w, column, part.clone());
                        let [a_scale, b_scale] = [a_scale, b_scale.abs()].map(f64::from);
                        let b_sum: f64 = codes.iter().map(|b| f64::from(b.abs()) * b_scale).sum();
                        // Where the weight keeps its codes, the first is nothing; here a bound is enough.
                        bounds[row * out + column] +=
                            1.001 * (b_scale / 2.0 * a_sum + a_scale / 2.0 * b_sum);
                    }
                }
            }
            let mut y = vec![f32::NAN; rows * out];
            linear_packed(&x, w, None, &mut y, rows, Activations::Int8);
            assert_within(&y, &exact, &bounds, name);
        });
    }
}

#[test]
fn a_rows_product_is_the_same_bits_in_any_company() {
    const ROWS: usize = STREAMED_ROWS + 3;
    let (inner, out) = (700, 45);
    let x = noise(ROWS * inner, 1);
    type Form = fn(&[f32], QuantizedRef<'_>, &mut [f32], usize);
    let forms: [Form; 4] = [
        |x, w, y, rows| linear_streamed(x, w, None, y, rows),
        |x, w, y, rows| linear_packed(x, w, None, y, rows, Activations::F32),
        |x, w, y, rows| linear_packed(x, w, None, y, rows, Activations::Bf16),
        |x, w, y, rows| linear_packed(x, w, None, y, rows, Activations::Int8),
    ];
    for coding in CODINGS {
        let parts = Parts::new(coding, [out, inner], 64, 3);
        parts.for_each_type(|w| {
            for form in forms {
                let run = |threads| {
                    at_every_level(threads, || {
                        let mut together = vec![f32::NAN; ROWS * out];
                        form(&x, w, &mut together, ROWS);
                        for some in [1, 2, 3, 4, 5, 12] {
                            let apart = x.chunks(some * inner).flat_map(|x| {
                                let mut y = vec![f32::NAN; x.len() / inner * out];
                                form(x, w, &mut y, x.len() / inner);
                                y
                            });
                            assert!(together.iter().copied().eq(apart), "{coding:?} {some}");
                        }
                        together
                    })
                };
                assert!(run(1) == run(3), "{coding:?}");
            }
        });
    }
}

#[test]
fn several_products_at_once_are_the_products_one_by_one() {
    at_every_level(2, || {
        for rows in [1, 5] {
            let (x, z) = (noise(rows * 300, 1), noise(rows * 70, 2));
            let a = Parts::new(Coding::Int4, [900, 300], 32, 1);
            let b = Parts::new(Coding::Int8, [33, 70], 128, 2);
            let bias = noise(33, 3);
            a.for_each_type(|a| {
                b.for_each_type(|b| {
                    let cases = [(&x, a, None), (&z, b, Some(&bias[..]))];
                    let one_by_one = cases.map(|(x, w, bias)| {
                        let mut y = vec![f32::NAN; rows * w.out];
                        linear(x, w, bias, &mut y, rows, Activations::Int8);
                        y
                    });
                    let mut at_once = cases.map(|(_, w, _)| vec![f32::NAN; rows * w.out]);
                    let mut products: Vec<QuantizedLinear<'_>> = cases
                        .iter()
                        .zip(&mut at_once)
                        .map(|(&(x, w, bias), y)| QuantizedLinear { x, w, bias, y })
                        .collect();
                    stream_many(rows, &mut products);
                    assert!(at_once == one_by_one);
                });
            });
        }
    });
}

#[test]
fn rows_open_to_the_numbers_that_codes_stand_for() {
    for_each_weight([21, 77], |w, name| {
        let wanted = [3, 0, 20, 3];
        let expected: Vec<f32> = wanted
            .iter()
            .flat_map(|row| (0..77).map(|at| Plain::at(&w, *row, at).opened(&w)))
            .collect();
        let of_levels = at_every_level(2, || {
            let mut rows = vec![f32::NAN; 4 * 77];
            dequantize_rows(w, &wanted, &mut rows);
            rows
        });
        for rows in &of_levels {
            assert_eq!(rows, &expected, "{name}");
        }
        let mut one = vec![f32::NAN; 77];
        dequantize_rows(w.rows(2..5), &[1], &mut one);
        assert_eq!(one, of_levels[0][..77], "{name}");
    });
}

#[test]
fn numbers_are_rounded_by_half_a_step_at_most() {
    for (out, inner, group) in [(5, 77, 32), (3, 640, 128), (4, 2730, 4096)] {
        for coding in CODINGS {
            let w = noise(out * inner, 9);
            let runs = at_every_level(2, || {
                quantize(WeightRef::F32(&w), [out, inner], coding, group).expect("finite numbers")
            });
            assert!(runs.iter().all(|run| *run == runs[0]), "{coding:?}");
            let packed = runs[0].view();
            for (row, w) in w.chunks_exact(inner).enumerate() {
                for (at, w) in w.iter().enumerate() {
                    let number = Plain::at(&packed, row, at);
                    let w = f64::from(*w);
                    let step = number.scale.abs();
                    // The f16 of scale and minimum, sixteen steps from each other, and a zero between codes.
                    let clipped = match coding {
                        Coding::Int8 => 127.0 / 4096.0,
                        Coding::Int4 if w / number.scale > 7.0 => 0.501,
                        Coding::Int4 => 0.0,
                        _ => 0.52,
                    };
                    let error = (w - number.value()).abs();
                    assert!(
                        error <= step * (0.5001 + clipped),
                        "{coding:?} {group}: {w} became {} in steps of {step}",
                        number.value()
                    );
                }
            }
        }
    }
}

#[test]
fn codes_scales_and_zeros_are_those_of_the_definitions() {
    let quantize = |w: &[f32], coding| {
        let sides = [1, w.len()];
        quantize(WeightRef::F32(w), sides, coding, 32).expect("finite numbers")
    };
    let int8 = quantize(&[127.0, -127.0, 1.4, -0.5, 2.5], Coding::Int8);
    assert_eq!(int8.codes, [127, 129, 1, 0, 2]);
    assert_eq!(int8.scales, [f16::ONE]);
    // Low bits first, in words of eight codes.
    let int4 = quantize(&[-8.0, 7.0, 8.0, 1.0, 0.0], Coding::Int4);
    assert_eq!(int4.scales, [f16::from_f32(-1.0)]);
    assert_eq!(int4.codes, [0x1F, 0x70, 0x08, 0x00].map(|x: u8| x));
    let int4 = quantize(&[-8.0, 7.0, 3.0, 1.0, 0.0], Coding::Int4);
    assert_eq!(int4.scales, [f16::ONE]);
    assert_eq!(int4.codes, [0xF0, 0x9B, 0x08, 0x00]);
    let zeros = quantize(&[-4.0, 11.0, 3.0], Coding::Int4Zeros);
    assert_eq!((zeros.scales[0], zeros.zeros[0]), (f16::ONE, 4));
    assert_eq!(zeros.codes, [0xF0, 0x07, 0, 0]);
    let minima = quantize(&[2.0, 9.5, 3.0], Coding::Int4Minima);
    assert_eq!(minima.scales, [f16::from_f32(0.5)]);
    assert_eq!(minima.minima, [f16::from_f32(2.0)]);
    assert_eq!(minima.codes, [0xF0, 0x02, 0, 0]);
}

#[test]
fn extremes_are_kept_or_refused() {
    let quantize = |w: &[f32], coding| quantize(WeightRef::F32(w), [1, w.len()], coding, 32);
    for coding in CODINGS {
        for w in [vec![0.0; 40], vec![0.75; 40], vec![-0.75; 40]] {
            let packed = quantize(&w, coding).expect("finite numbers");
            let mut opened = vec![f32::NAN; 40];
            dequantize_rows(packed.view(), &[0], &mut opened);
            for (got, expected) in opened.iter().zip(&w) {
                assert!(
                    (got - expected).abs() <= 0.001,
                    "{coding:?} {got} {expected}"
                );
            }
        }
        // One far outside: it stays, and the others are no numbers but zero.
        let mut w = vec![0.01; 40];
        w[3] = 1e4;
        let packed = quantize(&w, coding).expect("finite numbers");
        let mut opened = vec![f32::NAN; 40];
        dequantize_rows(packed.view(), &[0], &mut opened);
        assert!((opened[3] - 1e4).abs() <= 5.0 && opened[4].abs() <= 0.02);
        assert!(
            (opened[35] - 0.01).abs() <= 0.001,
            "the next group has its own"
        );
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            w[35] = wrong;
            let found = quantize(&w, coding);
            assert_eq!(found, Err(QuantizedError::NotFinite { row: 0 }));
        }
        w[35] = 3e7;
        assert_eq!(
            quantize(&w, coding),
            Err(QuantizedError::TooLarge { row: 0 })
        );
    }
    // The code that has no negative.
    let codes = [128_u8; 300];
    let weight = QuantizedRef::new(Codes::Int8(&codes), WeightRef::F32(&[1.0]), [1, 300], 300);
    let weight = weight.expect("parts that fit");
    let x = vec![-1.0; 300];
    at_every_level_of_quads(1, || {
        let mut y = [0.0; 1];
        linear_streamed(&x, weight, None, &mut y, 1);
        assert_eq!(y, [38400.0]);
        linear_packed(&x, weight, None, &mut y, 1, Activations::Int8);
        assert!((y[0] - 38400.0).abs() < 0.01, "{y:?}");
    });
    // Input that is no number has no result, and its neighbours do.
    let mut x = vec![0.5; 2 * 300];
    x[299] = f32::INFINITY;
    for activations in [Activations::F32, Activations::Int8] {
        let mut y = [0.0; 2];
        linear_packed(&x, weight, None, &mut y, 2, activations);
        assert!(!y[0].is_finite() && y[1].is_finite(), "{y:?}");
    }
    for parts in CODINGS.map(|coding| Parts::new(coding, [1, 300], 64, 1)) {
        parts.for_each_type(|weight| {
            let mut y = [0.0; 2];
            linear_streamed(&x, weight, None, &mut y, 2);
            assert!(!y[0].is_finite() && y[1].is_finite(), "{y:?}");
        });
    }
}

#[test]
fn a_product_over_nothing_is_the_bias() {
    let weight = QuantizedRef::new(Codes::Int8(&[]), WeightRef::F32(&[]), [2, 0], 32);
    let weight = weight.expect("parts that fit");
    for activations in [Activations::F32, Activations::Int8] {
        for rows in [1, 20] {
            let mut y = vec![f32::NAN; 2 * rows];
            linear(&[], weight, Some(&[1.0, 2.0]), &mut y, rows, activations);
            assert_eq!(y, [1.0, 2.0].repeat(rows));
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let (bytes, scales) = ([0; 64], [1.0; 4]);
    let of = |codes, scales: usize, sides, group| {
        let scales = WeightRef::F32(&[1.0; 8][..scales]);
        QuantizedRef::new(codes, scales, sides, group).map(|w| w.sides())
    };
    let int4 = |n: usize| Codes::Int4(&bytes[..n], Zeros::Eight);
    assert_eq!(of(int4(40), 4, [2, 40], 32), Ok([2, 40]));
    assert_eq!(of(Codes::Int8(&bytes[..40]), 2, [1, 40], 32), Ok([1, 40]));
    for (codes, scales, sides, group, message) in [
        (
            int4(40),
            3,
            [2, 40],
            32,
            "3 scales where 2 rows of 40 numbers have 4",
        ),
        (
            int4(20),
            4,
            [2, 40],
            32,
            "20 codes where 2 rows of 40 numbers have 40",
        ),
        (
            Codes::Int8(&bytes),
            4,
            [2, 40],
            32,
            "64 codes where 2 rows of 40 numbers have 80",
        ),
        (
            Codes::Int4(&bytes[..40], Zeros::Integers(&bytes[..3])),
            4,
            [2, 40],
            32,
            "3 zero points where 2 rows of 40 numbers have 4",
        ),
        (
            Codes::Int4(&bytes[..40], Zeros::Minima(WeightRef::F32(&[0.0; 4][..2]))),
            4,
            [2, 40],
            32,
            "2 minima where 2 rows of 40 numbers have 4",
        ),
        (
            int4(40),
            6,
            [2, 40],
            16,
            "groups of 16 numbers in rows of 40: a group is a multiple of 32, or the row",
        ),
        (
            int4(40),
            6,
            [2, 40],
            0,
            "groups of 0 numbers in rows of 40: a group is a multiple of 32, or the row",
        ),
    ] {
        let wrong = of(codes, scales, sides, group).expect_err("parts that do not fit");
        assert_eq!(wrong.to_string(), message);
    }
    let wrong = quantize(WeightRef::F32(&scales), [2, 3], Coding::Int8, 32);
    let message = "4 numbers where 2 rows of 3 numbers have 6";
    assert_eq!(wrong.expect_err("a row short").to_string(), message);
}
