//! Each kernel against burn's operations on another backend, forward and back.
//!
//! On CUDA, and on whatever adapter wgpu finds (Mesa's software one will do).

use bunny_base::random::mix;
use burn::{
    backend::Autodiff,
    tensor::{DType, Tensor, TensorData, backend::Backend},
};
use burn_cubecl::CubeBackend;
use burn_flex::Flex;

use crate::{
    nn::{PackedWeight, Weight},
    ops::{
        self, Activation, Activations, AdamStep, AttentionMask, Bits, Mask, NewtonSchulz, Operands,
        Packing, Phase, adamw, attention, cross_entropy,
        dropout::{self, Keep},
        linear, norm,
        place::served,
        rope, rows, sum_of_squares,
    },
};

/// Numbers that look random, between -2 and 2.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let number = |at| (mix(seed << 32 | at as u64) >> 40) as f32 / (1 << 22) as f32 - 2.0;
    (0..count).map(number).collect()
}

/// An input, with its place in the graph.
fn input<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let data = TensorData::new(numbers(seed, shape.iter().product()), shape);
    Tensor::from_data(data, (&B::Device::default(), DType::F32))
}

/// A weight in integers.
fn packed<B: Backend>([out, inner]: [usize; 2], packing: Packing) -> Weight<B> {
    let numbers = numbers(7, out * inner);
    let packed = PackedWeight::rounded(
        bytemuck::cast_slice(&numbers),
        DType::F32,
        [out, inner],
        packing,
        Activations::F32,
        &Default::default(),
    );
    Weight::Packed(packed.expect("the numbers are finite"))
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Results, and gradients of what went in, for a given gradient of the results.
struct Run {
    results: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

/// [`ops::attention`] without rounding.
fn exact<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: &AttentionMask<B>,
    scale: f64,
) -> Tensor<B, 3> {
    served(|| ops::attention(query, key, value, mask, scale, Operands::F32))
}

/// Follows a computation on one backend, back from results weighted with numbers of their own.
macro_rules! run {
    ($b:ty, [$($name:ident: $d:literal = $shape:expr),+], $result:literal, $body:expr) => {{
        type B = Autodiff<$b>;
        let mut seed = 0;
        $(
            seed += 1;
            let $name: Tensor<B, $d> = input::<B, $d>(seed, $shape).require_grad();
        )+
        let leaves = ($($name.clone(),)+);
        let output: Tensor<B, $result> = $body;
        let weights = input::<B, $result>(99, output.dims());
        let results = values(output.clone());
        let mut graph = (output * weights).sum().backward();
        let ($($name,)+) = leaves;
        let gradients = vec![$({
            let gradient = $name.grad_remove(&mut graph).expect("a gradient");
            values(gradient)
        }),+];
        Run { results, gradients }
    }};
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(
            off <= tolerance * largest,
            "{what}: {found} instead of {expected} at {at}"
        );
    }
}

fn assert_same(what: &str, found: Run, expected: Run, tolerance: f32) {
    assert_near(what, &found.results, &expected.results, tolerance);
    for (at, (found, expected)) in found.gradients.iter().zip(&expected.gradients).enumerate() {
        assert_near(
            &format!("{what}, gradient {at}"),
            found,
            expected,
            tolerance,
        );
    }
}

/// Sums of hundreds of numbers in another order, and functions that are approximated.
const F32: f32 = 2e-5;

macro_rules! tests {
    ($name:ident, $b:ty, $products:expr) => {
        mod $name {
            use super::*;

            type K = $b;
            /// Products may be TF32.
            const PRODUCTS: f32 = $products;

            #[test]
            fn activations() {
                for kind in Activation::ALL {
                    // 33 numbers a row: allocators pad them.
                    let found = run!(K, [x: 3 = [3, 7, 33]], 3, served(|| kind.apply(x.clone())));
                    let expected =
                        run!(Flex, [x: 3 = [3, 7, 33]], 3, kind.plain(x.clone()));
                    assert_same(kind.name(), found, expected, F32);
                }
            }

            #[test]
            fn gates() {
                for kind in Activation::ALL {
                    for width in [33, 64] {
                        let found = run!(K, [x: 3 = [3, 7, width], up: 3 = [3, 7, width]], 3,
                            served(|| kind.gate(x.clone(), up.clone())));
                        let expected = run!(Flex, [x: 3 = [3, 7, width], up: 3 = [3, 7, width]], 3,
                            kind.plain(x.clone()) * up.clone());
                        assert_same(kind.name(), found, expected, F32);
                    }
                }
            }

            #[test]
            fn norms() {
                for width in [33, 160, 2560] {
                    let found = run!(K, [x: 3 = [2, 150, width], w: 1 = [width], b: 1 = [width]], 3,
                        served(|| ops::layer_norm(x.clone(), w.clone(), Some(b.clone()), 1e-5)));
                    let expected = run!(Flex, [x: 3 = [2, 150, width], w: 1 = [width], b: 1 = [width]], 3,
                        norm::plain_layer_norm(x.clone(), w.clone(), Some(b.clone()), 1e-5));
                    assert_same("layer norm", found, expected, F32);
                    let found = run!(K, [x: 2 = [150, width], w: 1 = [width]], 2,
                        served(|| ops::layer_norm(x.clone(), w.clone(), None, 1e-5)));
                    let expected = run!(Flex, [x: 2 = [150, width], w: 1 = [width]], 2,
                        norm::plain_layer_norm(x.clone(), w.clone(), None, 1e-5));
                    assert_same("layer norm without a bias", found, expected, F32);
                    let found = run!(K, [x: 2 = [150, width], w: 1 = [width]], 2,
                        served(|| ops::rms_norm(x.clone(), w.clone(), 1e-5)));
                    let expected = run!(Flex, [x: 2 = [150, width], w: 1 = [width]], 2,
                        norm::plain_rms_norm(x.clone(), w.clone(), 1e-5));
                    assert_same("rms norm", found, expected, F32);
                }
            }

            #[test]
            fn linear() {
                // Of 2,048 rows the weight's gradient is summed in parts.
                for rows in [300, 2048] {
                    let found = run!(K, [x: 2 = [rows, 48], w: 2 = [33, 48], b: 1 = [33]], 2,
                        served(|| ops::linear(Phase::Whole, x.clone(), w.clone(), Some(b.clone()))));
                    let expected = run!(Flex, [x: 2 = [rows, 48], w: 2 = [33, 48], b: 1 = [33]], 2,
                        linear::plain(x.clone(), w.clone(), Some(b.clone())));
                    assert_same("linear", found, expected, PRODUCTS);
                }
                let found = run!(K, [x: 2 = [5, 48], w: 2 = [33, 48]], 2,
                    served(|| ops::linear(Phase::Whole, x.clone(), w.clone(), None)));
                let expected = run!(Flex, [x: 2 = [5, 48], w: 2 = [33, 48]], 2,
                    linear::plain(x.clone(), w.clone(), None));
                assert_same("linear without bias", found, expected, PRODUCTS);
            }

            #[test]
            fn weights_in_integers() {
                for bits in [Bits::Eight, Bits::Four] {
                    // Words that are not full, groups that are not, one group a row, and vectors.
                    for (sides, group) in [([33, 45], 32), ([40, 300], 64), ([7, 12], 32), ([70, 2560], 128)] {
                        let packing = Packing { bits, group };
                        // As the processor opens them, which is held against other readers of such files.
                        let floats = values(packed::<Flex>(sides, packing).floats());
                        let found = values(packed::<K>(sides, packing).floats());
                        // Between the scale's last bit and another order of factors nothing is rounded.
                        assert_near("opened", &found, &floats, 1e-7);
                        let named = values(packed::<K>(sides, packing).token_rows(&[6, 0, 6]));
                        assert_eq!(named[..sides[1]], found[6 * sides[1]..7 * sides[1]]);
                        for (rows, phase) in [(1, Phase::Decode), (3, Phase::Whole), (19, Phase::Decode), (40, Phase::Prefill)] {
                            let [out, inner] = sides;
                            let found = run!(K, [x: 2 = [rows, inner], b: 1 = [out]], 2, {
                                let weight = packed::<B>(sides, packing);
                                served(|| weight.linear(phase, x.clone(), Some(b.clone())))
                            });
                            let expected = run!(Flex, [x: 2 = [rows, inner], b: 1 = [out]], 2, {
                                let weight = TensorData::new(floats.clone(), sides);
                                let weight = Tensor::from_data(weight, &Default::default());
                                linear::plain(x.clone(), weight, Some(b.clone()))
                            });
                            let what = format!("{sides:?} {packing}, {rows} rows, {phase:?}");
                            assert_same(&what, found, expected, PRODUCTS);
                        }
                        // Some rows of the weight, wherever they begin: read where they lie, and opened.
                        for rows in [3, 40] {
                            let shape = [rows, sides[1]];
                            let part = packed::<K>(sides, packing).linear_rows(
                                Phase::Whole, 2..6, input::<K, 2>(1, shape), None);
                            let floats = floats[2 * sides[1]..6 * sides[1]].to_vec();
                            let floats = TensorData::new(floats, [4, sides[1]]);
                            let floats = Tensor::<Flex, 2>::from_data(floats, &Default::default());
                            let expected = linear::plain(input::<Flex, 2>(1, shape), floats, None);
                            assert_near("some rows", &values(part), &values(expected), PRODUCTS);
                        }
                    }
                }
            }

            #[test]
            fn answers_are_not_rounded() {
                fn of<B: Backend>() -> Vec<f32> {
                    let [x, w] = [1, 2].map(|seed| input::<B, 2>(seed, [128, 512]));
                    values(ops::linear(Phase::Whole, x, w, None))
                }
                assert_near("linear", &of::<K>(), &of::<Flex>(), F32);
            }

            #[test]
            fn rotation() {
                // Heads as a projection leaves them, and angles for all rows or for each.
                for rows in [1, 2] {
                    macro_rules! rotate {
                        ($k:ty, $rotate:expr) => {
                            run!($k, [x: 4 = [2, 9, 3, 20]], 4, {
                                let angles = input::<B, 4>(50, [rows, 1, 9, 4]);
                                let heads = x.clone().swap_dims(1, 2);
                                $rotate(heads, &angles.clone().cos(), &angles.sin())
                            })
                        };
                    }
                    assert_same("rotate", rotate!(K, ops::rotate), rotate!(Flex, rope::plain), F32);
                }
            }

            #[test]
            fn attention() {
                let masks = [
                    Mask::Full,
                    Mask::CAUSAL,
                    Mask::Causal { starts: vec![0, 3] },
                    Mask::Segments {
                        ids: (0..2).map(|row| (0..37).map(|at| (at + 5 * row) / 11).collect()).collect(),
                    },
                ];
                for mask in masks {
                    // A query within padding sees nothing, and its numbers mean nothing.
                    let most = if matches!(&mask, Mask::Causal { starts } if !starts.is_empty()) { 34 } else { 37 };
                    for (queries, kv_heads) in [(most, 4), (most, 2), (5, 4)] {
                        macro_rules! attend {
                            ($k:ty, $attention:expr) => {
                                run!($k, [q: 4 = [2, 4, queries, 16], k: 4 = [2, kv_heads, 37, 16],
                                    v: 4 = [2, kv_heads, 37, 16]], 3, {
                                    let mask = AttentionMask::<B>::new(
                                        mask.clone(), 2, queries, 37, &Default::default());
                                    $attention(q.clone(), k.clone(), v.clone(), &mask, 0.25)
                                })
                            };
                        }
                        let what = format!("{mask:?}, {queries} queries, {kv_heads} key heads");
                        let found = attend!(K, exact);
                        assert_same(&what, found, attend!(Flex, attention::plain), PRODUCTS);
                    }
                }
            }

            #[test]
            fn a_single_query_sees_as_many_do() {
                for starts in [vec![], vec![0, 3]] {
                    for kv_heads in [4, 2] {
                        fn seen<B: Backend>(
                            starts: &[usize],
                            kv_heads: usize,
                            attention: fn(Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>, &AttentionMask<B>, f64) -> Tensor<B, 3>,
                        ) -> Vec<f32> {
                            let query = input::<B, 4>(1, [2, 4, 1, 80]);
                            // Rows of a cache with room for more.
                            let [key, value] = [2, 3].map(|seed| {
                                input::<B, 4>(seed, [2, kv_heads, 700, 80]).narrow(2, 0, 611)
                            });
                            let mask = Mask::Causal { starts: starts.to_vec() };
                            let mask = AttentionMask::new(mask, 2, 1, 611, &Default::default());
                            values(attention(query, key, value, &mask, 0.1))
                        }
                        let found = seen::<K>(&starts, kv_heads, exact);
                        let expected = seen::<Flex>(&starts, kv_heads, attention::plain);
                        assert_near("attention", &found, &expected, F32);
                    }
                }
            }

            #[test]
            fn dropout_draws_the_same() {
                let found = run!(K, [x: 2 = [40, 33]], 2, served(|| ops::dropout(x.clone(), 0.3, 1 << 40 | 7)));
                let expected =
                    run!(Flex, [x: 2 = [40, 33]], 2, dropout::plain(x.clone(), Keep::new(0.3, 1 << 40 | 7)));
                assert!(expected.results.iter().filter(|value| **value == 0.0).count() > 300);
                assert_same("dropout", found, expected, 0.0);
            }

            #[test]
            fn cross_entropy() {
                for width in [5, 771] {
                    let targets: Vec<u32> = (0..60).map(|row| (7 * row) % width as u32).collect();
                    let found = run!(K, [x: 2 = [60, width]], 1,
                        served(|| ops::cross_entropy(x.clone().mul_scalar(9.0), &targets)));
                    let expected = run!(Flex, [x: 2 = [60, width]], 1,
                        cross_entropy::plain(x.clone().mul_scalar(9.0), &targets));
                    assert_same("cross-entropy", found, expected, F32);
                }
            }

            #[test]
            fn rows() {
                let from: Vec<Option<u32>> = vec![Some(4), None, Some(0), Some(299), None];
                let found = run!(K, [x: 2 = [300, 33]], 2, served(|| ops::pick_rows(x.clone(), &from)));
                let expected = run!(Flex, [x: 2 = [300, 33]], 2, rows::plain_pick_rows(x.clone(), &from));
                assert_same("picked rows", found, expected, 0.0);
                let ids: Vec<i32> = (0..200).map(|at| at * at % 17).collect();
                let found = run!(K, [x: 2 = [19, 33]], 2, served(|| ops::token_rows(x.clone(), &ids)));
                let expected = run!(Flex, [x: 2 = [19, 33]], 2, rows::plain_token_rows(x.clone(), &ids));
                assert_same("rows of tokens", found, expected, F32);
            }

            #[test]
            fn orthogonal() {
                let steps = NewtonSchulz::JORDAN;
                for shape in [[40, 17], [17, 40]] {
                    let found = ops::orthogonal(input::<K, 2>(1, shape), steps, Operands::F32);
                    let expected = ops::orthogonal(input::<Flex, 2>(1, shape), steps, Operands::F32);
                    // A slope of 3.4, five times over, makes 3e-5 of a rounding of 6e-8.
                    assert_near("orthogonal", &values(found), &values(expected), 1e-3);
                }
            }

            #[test]
            fn optimizer() {
                let step = AdamStep {
                    scale: 0.5,
                    beta1: 0.9,
                    beta2: 0.99,
                    decay: 0.999,
                    rate: 0.01,
                    root: 3.0,
                    epsilon: 1e-8,
                };
                fn take<B: Backend>(
                    step: AdamStep,
                    by: impl Fn(AdamStep, [Tensor<B, 1>; 4]) -> [Tensor<B, 1>; 3],
                ) -> Vec<f32> {
                    let [gradient, first, weight] = [1, 2, 3].map(|seed| input::<B, 1>(seed, [1000]));
                    let second = first.clone().square();
                    by(step, [gradient, first, second, weight]).map(values).concat()
                }
                let found = take::<K>(step, |step, [g, m, v, w]| served(|| ops::adamw(step, g, m, v, w)));
                let expected = take::<Flex>(step, |step, [g, m, v, w]| adamw::plain(step, g, m, v, w));
                assert_near("adamw", &found, &expected, F32);

                fn squares<B: Backend>(of: impl Fn(&[&Tensor<B, 1>]) -> f64) -> f64 {
                    let tensors = [3, 70_000, 300_000].map(|count| input::<B, 1>(8, [count]));
                    of(&tensors.each_ref())
                }
                let (found, expected) = (
                    squares::<K>(ops::sum_of_squares),
                    squares::<Flex>(sum_of_squares::plain),
                );
                assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
            }
        }
    };
}

#[cfg(feature = "cuda")]
#[test]
fn products_of_all_sizes_and_layouts_agree_on_cuda() {
    type K = CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u8>;
    use crate::ops::{gpu::product::product, linear::Factors};
    // Few columns, few rows, a vector, a tower's, and one of 3.2e10 operations, for which kernels are
    // tried against each other.
    let sizes = [
        [1500, 640, 128],
        [128, 1536, 640],
        [1, 48, 200],
        [729, 288, 288],
        [2520, 2528, 2528],
    ];
    // Factors that fit bf16 exactly; a turned operand lies column by column.
    fn factor<B: Backend>(seed: u64, shape: [usize; 2], turned: bool) -> Tensor<B, 2> {
        let [rows, columns] = shape;
        let tensor = match turned {
            false => input::<B, 2>(seed, shape).cast(DType::BF16),
            true => input::<B, 2>(seed, [columns, rows]).cast(DType::BF16),
        };
        if turned { tensor.transpose() } else { tensor }
    }
    for [m, k, n] in sizes {
        for turned in [[false, false], [false, true], [true, false]] {
            let [left, right] = [(1, [m, k], turned[0]), (2, [k, n], turned[1])]
                .map(|(seed, shape, turned)| factor::<Flex>(seed, shape, turned).cast(DType::F32));
            let expected = values(left.matmul(right));
            for (dtype, tolerance) in [(DType::F32, 1e-3), (DType::BF16, 4e-3)] {
                let left = factor::<K>(1, [m, k], turned[0]).cast(dtype);
                let right = factor::<K>(2, [k, n], turned[1]).cast(dtype);
                let found = values(product(left, right, Factors::Rounded, dtype));
                let what = format!("{m} x {k} x {n} {turned:?} {dtype:?}");
                // In bf16 results are rounded to 8 bits.
                assert_near(&what, &found, &expected, tolerance);
            }
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn weights_in_integers_beside_sixteen_bits_agree_on_cuda() {
    type K = CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u8>;
    for bits in [Bits::Eight, Bits::Four] {
        // Rows that are read in vectors, and rows that are not.
        for (sides, group) in [([70, 2560], 128), ([40, 300], 64), ([33, 45], 32)] {
            let packing = Packing { bits, group };
            let [out, inner] = sides;
            let floats = values(packed::<Flex>(sides, packing).floats());
            let floats =
                Tensor::<Flex, 2>::from_data(TensorData::new(floats, sides), &Default::default());
            let weight = packed::<K>(sides, packing);
            for rows in [1, 3, 19] {
                let x = input::<K, 2>(1, [rows, inner]).cast(DType::BF16);
                let b = input::<K, 1>(2, [out]).cast(DType::BF16);
                let found = weight.linear(Phase::Decode, x, Some(b)).cast(DType::F32);
                let x = input::<Flex, 2>(1, [rows, inner]).cast(DType::BF16);
                let b = input::<Flex, 1>(2, [out]).cast(DType::BF16);
                let (x, b) = (x.cast(DType::F32), b.cast(DType::F32));
                let expected = linear::plain(x, floats.clone(), Some(b));
                let what = format!("{sides:?} {packing}, {rows} rows");
                // Sums are f32, and results rounded to 8 bits.
                assert_near(&what, &values(found), &values(expected), 4e-3);
            }
        }
    }
}

/// What comes of numbers that are rounded to bf16's 8 bits on the way, several times.
#[cfg(feature = "cuda")]
const BF16: f32 = 1.5e-2;

#[cfg(feature = "cuda")]
#[test]
fn adapters_in_sixteen_bits_agree_on_cuda() {
    type K = CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u8>;
    let (scale, (share, key)) = (0.5, (0.25, 1 << 40 | 9));
    // Full and partly filled tiles, few and many rows to sum gradients over.
    for [rows, inner, outer, rank] in [
        [640, 512, 256, 128],
        [100, 200, 328, 8],
        [4096, 64, 136, 16],
    ] {
        let found = run!(K, [x: 2 = [rows, inner], a: 2 = [rank, inner], b: 2 = [outer, rank]], 2, {
            let weight = input::<B, 2>(60, [outer, inner]).cast(DType::BF16);
            let bias = input::<B, 1>(61, [outer]).cast(DType::BF16);
            let adapter = ops::Adapter {
                lora_a: a.clone(),
                lora_b: b.clone(),
                scale,
                dropout: Some((share, key)),
            };
            let input = x.clone().cast(DType::BF16);
            ops::adapted_linear(Phase::Whole, input, weight, Some(bias), adapter).cast(DType::F32)
        });
        let expected = run!(Flex, [x: 2 = [rows, inner], a: 2 = [rank, inner], b: 2 = [outer, rank]], 2, {
            let weight = input::<B, 2>(60, [outer, inner]);
            let bias = input::<B, 1>(61, [outer]);
            let dropped = dropout::plain(x.clone(), Keep::new(share, key));
            let low = linear::plain(dropped, a.clone(), None).mul_scalar(scale);
            linear::plain(x.clone(), weight, Some(bias)) + linear::plain(low, b.clone(), None)
        });
        assert_same(
            &format!("{rows} x {inner} x {outer}, rank {rank}"),
            found,
            expected,
            BF16,
        );
    }
}

#[cfg(feature = "cuda")]
#[test]
fn attention_in_sixteen_bits_agrees_on_cuda() {
    type K = CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u8>;
    let masks = [
        Mask::Full,
        Mask::CAUSAL,
        Mask::Causal { starts: vec![0, 3] },
        Mask::Segments {
            ids: (0..2)
                .map(|row| (0..150).map(|at| (at + 5 * row) / 41).collect())
                .collect(),
        },
    ];
    for mask in masks {
        let most = if matches!(&mask, Mask::Causal { starts } if !starts.is_empty()) {
            147
        } else {
            150
        };
        for (queries, kv_heads, head_dim) in
            [(most, 4, 80), (most, 2, 64), (130, 4, 72), (20, 4, 80)]
        {
            macro_rules! attend {
                ($k:ty, $dtype:expr, $attention:expr) => {
                    run!($k, [q: 4 = [2, queries, 4, head_dim], k: 4 = [2, 150, kv_heads, head_dim],
                        v: 4 = [2, 150, kv_heads, head_dim]], 3, {
                        let mask = AttentionMask::<B>::new(mask.clone(), 2, queries, 150, &Default::default());
                        // As a projection leaves them.
                        let [q, k, v] = [q.clone(), k.clone(), v.clone()]
                            .map(|part| part.cast($dtype).swap_dims(1, 2));
                        $attention(q, k, v, &mask, 0.1).cast(DType::F32)
                    })
                };
            }
            let what = format!("{mask:?}, {queries} queries, {kv_heads} key heads of {head_dim}");
            let found = attend!(K, DType::BF16, exact);
            assert_same(
                &what,
                found,
                attend!(Flex, DType::F32, attention::plain),
                BF16,
            );
        }
    }
}

#[cfg(feature = "cuda")]
tests!(cuda, CubeBackend<burn_cubecl::cubecl::cuda::CudaRuntime, f32, i32, u8>, 2e-3);
#[cfg(feature = "wgpu")]
tests!(wgpu, CubeBackend<burn_cubecl::cubecl::wgpu::WgpuRuntime, f32, i32, u32>, 2e-5);
