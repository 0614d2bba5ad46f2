//! Kernels' gradients against burn's own operations on the same tensors.

use bunny_base::random::mix;
use burn::{
    backend::Autodiff,
    tensor::{DType, Tensor, TensorData, backend::AutodiffBackend},
};

use crate::ops::{
    self, Activation, AttentionMask, Mask, NewtonSchulz, Operands, Phase, attention, cross_entropy,
    flex::Flex, linear, norm, orthogonal, place::served, rope,
};

type B = Autodiff<Flex>;

/// Rounding in f32, over sums of some hundred products.
const TOLERANCE: f32 = 2e-5;

fn noise<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let draw = |at: usize| (mix(seed ^ mix(at as u64)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let values: Vec<f32> = (0..shape.iter().product()).map(draw).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// A tensor whose gradient is asked for.
fn leaf<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    noise(seed, shape).require_grad()
}

fn values<const D: usize>(tensor: &Tensor<B, D>) -> Vec<f32> {
    tensor.to_data().iter().collect()
}

/// The gradient that reaches a leaf.
fn gradient<const D: usize>(
    input: &Tensor<B, D>,
    found: &<B as AutodiffBackend>::Gradients,
) -> Vec<f32> {
    let gradient = input.grad(found).expect("a gradient reaches every input");
    gradient.into_data().iter().collect()
}

/// The gradients of a sum in which every element counts differently.
fn backward<const D: usize>(output: Tensor<B, D>) -> <B as AutodiffBackend>::Gradients {
    let weights = noise(99, output.dims());
    (output * weights).sum().backward()
}

/// Compares what two ways found: the output first, then the gradient of each input.
fn assert_near(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_within(TOLERANCE, what, found, expected);
}

fn assert_within(tolerance: f32, what: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let largest = expected
            .iter()
            .fold(0f32, |most, value| most.max(value.abs()));
        assert!(largest > 0.0, "{what}, {at}: nothing to compare");
        for (a, b) in found.iter().zip(expected) {
            let near = (a - b).abs() <= tolerance * largest;
            assert!(near, "{what}, {at}: {a} instead of {b}");
        }
    }
}

#[test]
fn products_have_burns_gradients() {
    type Way = fn(&Tensor<B, 2>, &Tensor<B, 2>, &Tensor<B, 1>) -> Tensor<B, 2>;
    let run = |way: Way| {
        // A graph is used up by its backward pass: each way has leaves of its own.
        let (x, w, b) = (leaf(1, [7, 33]), leaf(2, [19, 33]), leaf(3, [19]));
        let output = way(&x, &w, &b);
        let shown = values(&output);
        let found = backward(output);
        [
            shown,
            gradient(&x, &found),
            gradient(&w, &found),
            gradient(&b, &found),
        ]
    };
    let ours =
        run(|x, w, b| served(|| ops::linear(Phase::Whole, x.clone(), w.clone(), Some(b.clone()))));
    let burns = run(|x, w, b| linear::plain(x.clone(), w.clone(), Some(b.clone())));
    assert_near("linear", &ours, &burns);
}

#[test]
fn burns_operations_make_the_same_orthogonal_matrix() {
    let steps = NewtonSchulz::JORDAN;
    for shape in [[40, 17], [17, 40], [23, 23]] {
        let matrix = noise(1, shape).inner();
        let ours = ops::orthogonal(matrix.clone(), steps, Operands::F32);
        let burns = orthogonal::plain(matrix, steps, Operands::F32);
        let [ours, burns] = [ours, burns].map(|one| one.into_data().iter().collect());
        // A slope of 3.4, five times over, makes 3e-5 of a rounding of 6e-8.
        assert_within(1e-3, "orthogonal", &[ours], &[burns]);
    }
}

#[test]
fn a_weight_in_bf16_learns_by_gradients_in_f32() {
    // Where the processor multiplies bf16, operands lose 2^-9 of their size each; sums hide some of it.
    const ROUNDED: f32 = 1.0 / 128.0;
    let weight = leaf(2, [19, 33]).inner().cast(DType::BF16);
    let run = |dtype, way: fn(&Tensor<B, 2>, &Tensor<B, 2>) -> Tensor<B, 2>| {
        let x = leaf(1, [40, 33]);
        let w = Tensor::from_inner(weight.clone().cast(dtype)).require_grad();
        let output = way(&x, &w);
        let shown = values(&output);
        let found = backward(output);
        let of_weight = w.grad(&found).expect("the weight learns");
        assert_eq!(of_weight.dtype(), DType::F32);
        [shown, gradient(&x, &found), gradient(&w, &found)]
    };
    let ours = run(DType::BF16, |x, w| {
        served(|| ops::linear(Phase::Whole, x.clone(), w.clone(), None))
    });
    let burns = run(DType::F32, |x, w| linear::plain(x.clone(), w.clone(), None));
    assert_within(ROUNDED, "linear in bf16", &ours, &burns);
}

#[test]
fn a_frozen_weight_in_16_bits_passes_gradients_on() {
    let half = noise(2, [19, 33]).cast(DType::F16);
    let run = |way: &dyn Fn(&Tensor<B, 2>) -> Tensor<B, 2>| {
        let x = leaf(1, [7, 33]);
        let output = way(&x);
        let shown = values(&output);
        [shown, gradient(&x, &backward(output))]
    };
    let ours = run(&|x| served(|| ops::linear(Phase::Whole, x.clone(), half.clone(), None)));
    let burns = run(&|x| linear::plain(x.clone(), half.clone().cast(DType::F32), None));
    assert_near("linear", &ours, &burns);
}

#[test]
fn activations_have_burns_gradients() {
    let run = |way: &dyn Fn(Tensor<B, 2>) -> Tensor<B, 2>| {
        let x = noise(1, [5, 37]).mul_scalar(4.0).require_grad();
        let output = way(x.clone());
        let shown = values(&output);
        [shown, gradient(&x, &backward(output))]
    };
    for kind in Activation::ALL {
        let ours = run(&|x| served(|| kind.apply(x)));
        let burns = run(&|x| kind.plain(x));
        assert_near(kind.name(), &ours, &burns);
    }
}

#[test]
fn gates_have_the_gradients_of_burns_nonlinearity_and_product() {
    type Way<'a> = &'a dyn Fn(Tensor<B, 2>, Tensor<B, 2>) -> Tensor<B, 2>;
    let run = |way: Way| {
        let x = noise(1, [5, 37]).mul_scalar(4.0).require_grad();
        let up = leaf(2, [5, 37]);
        let output = way(x.clone(), up.clone());
        let shown = values(&output);
        let found = backward(output);
        [shown, gradient(&x, &found), gradient(&up, &found)]
    };
    for kind in Activation::ALL {
        let ours = run(&|x, up| served(|| kind.gate(x, up)));
        let burns = run(&|x, up| kind.plain(x) * up);
        assert_near(kind.name(), &ours, &burns);
    }
}

#[test]
fn a_gate_that_nobody_keeps_a_graph_for_is_the_same() {
    let [x, up] = [1, 2].map(|seed| noise(seed, [5, 37]).mul_scalar(4.0).inner());
    let plain = Activation::Silu.plain(x.clone()) * up.clone();
    let held = x.clone();
    for gate in [x, held.clone() + 0.0] {
        let found = served(|| Activation::Silu.gate(gate, up.clone()));
        let [found, plain] = [found, plain.clone()].map(|one| one.into_data().iter().collect());
        assert_near("gate", &[found], &[plain]);
    }
    // What somebody else holds is not written into.
    let again: Vec<f32> = held.into_data().iter().collect();
    assert_eq!(again, values(&noise(1, [5, 37]).mul_scalar(4.0)));
}

#[test]
fn cross_entropy_has_burns_gradient() {
    let targets = [3, 0, 36, 7, 7];
    let run = |way: &dyn Fn(Tensor<B, 2>) -> Tensor<B, 1>| {
        let x = noise(1, [5, 37]).mul_scalar(4.0).require_grad();
        let output = way(x.clone());
        let shown = values(&output);
        [shown, gradient(&x, &backward(output))]
    };
    let ours = run(&|x| served(|| ops::cross_entropy(x, &targets)));
    let burns = run(&|x| cross_entropy::plain(x, &targets));
    assert_near("cross-entropy", &ours, &burns);
}

#[test]
fn norms_have_burns_gradients() {
    type Way = fn(&Tensor<B, 3>, &Tensor<B, 1>, &Tensor<B, 1>) -> Tensor<B, 3>;
    let run = |way: Way| {
        let (x, w, b) = (leaf(1, [2, 5, 40]), leaf(2, [40]), leaf(3, [40]));
        let output = way(&x, &w, &b);
        let shown = values(&output);
        let found = backward(output);
        [
            shown,
            gradient(&x, &found),
            gradient(&w, &found),
            gradient(&b, &found),
        ]
    };
    let ours =
        run(|x, w, b| served(|| ops::layer_norm(x.clone(), w.clone(), Some(b.clone()), 1e-5)));
    let burns = run(|x, w, b| norm::plain_layer_norm(x.clone(), w.clone(), Some(b.clone()), 1e-5));
    assert_near("layer norm", &ours, &burns);

    let ours = run(|x, w, b| {
        served(|| ops::layer_norm(x.clone(), w.clone(), None, 1e-5)) + b.clone().unsqueeze()
    });
    let burns = run(|x, w, b| {
        norm::plain_layer_norm(x.clone(), w.clone(), None, 1e-5) + b.clone().unsqueeze()
    });
    assert_near("layer norm without a bias", &ours, &burns);

    type WayOfTwo = fn(&Tensor<B, 3>, &Tensor<B, 1>) -> Tensor<B, 3>;
    let run = |way: WayOfTwo| {
        let (x, w) = (leaf(1, [2, 5, 40]), leaf(2, [40]));
        let output = way(&x, &w);
        let shown = values(&output);
        let found = backward(output);
        [shown, gradient(&x, &found), gradient(&w, &found)]
    };
    let ours = run(|x, w| served(|| ops::rms_norm(x.clone(), w.clone(), 1e-5)));
    let burns = run(|x, w| norm::plain_rms_norm(x.clone(), w.clone(), 1e-5));
    assert_near("RMS norm", &ours, &burns);
}

#[test]
fn rotations_have_burns_gradients() {
    let run = |way: &dyn Fn(Tensor<B, 4>) -> Tensor<B, 4>| {
        let x = leaf(1, [2, 3, 5, 16]);
        let output = way(x.clone());
        let shown = values(&output);
        [shown, gradient(&x, &backward(output))]
    };
    let [cos, sin] = [2, 3].map(|seed| noise(seed, [1, 1, 5, 4]));
    let ours = run(&|x| served(|| ops::rotate(x, &cos, &sin)));
    let burns = run(&|x| rope::plain(x, &cos, &sin));
    assert_near("rotation", &ours, &burns);
    let [cos, sin] = [2, 3].map(|seed| noise(seed, [1, 1, 5, 16]));
    let ours = run(&|x| served(|| ops::rotate_pairs(x, &cos, &sin)));
    let burns = run(&|x| rope::plain_pairs(x, &cos, &sin));
    assert_near("rotation of pairs", &ours, &burns);
}

#[test]
fn attention_has_burns_gradients() {
    let run = |way: &dyn Fn([&Tensor<B, 4>; 3]) -> Tensor<B, 3>| {
        let (q, k, v) = (
            leaf(1, [2, 4, 6, 8]),
            leaf(2, [2, 2, 6, 8]),
            leaf(3, [2, 2, 6, 8]),
        );
        let output = way([&q, &k, &v]);
        let shown = values(&output);
        let found = backward(output);
        [
            shown,
            gradient(&q, &found),
            gradient(&k, &found),
            gradient(&v, &found),
        ]
    };
    let packed = vec![vec![0, 0, 1, 1, 1, 1], vec![0, 1, 1, 2, 2, 2]];
    for mask in [Mask::Full, Mask::CAUSAL, Mask::Segments { ids: packed }] {
        let shown = AttentionMask::new(mask.clone(), 2, 6, 6, &Default::default());
        let ours = run(&|[q, k, v]| {
            let [q, k, v] = [q, k, v].map(Clone::clone);
            served(|| ops::attention(q, k, v, &shown, 0.3, Operands::F32))
        });
        let burns =
            run(&|[q, k, v]| attention::plain(q.clone(), k.clone(), v.clone(), &shown, 0.3));
        assert_near(&format!("{mask:?}"), &ours, &burns);
    }
}
