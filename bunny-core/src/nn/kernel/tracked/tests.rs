//! Kernels' gradients against burn's own operations on the same tensors.

use burn::tensor::TensorData;

use super::super::plain;
use super::*;
use crate::{nn::AttentionMask, random::mix};

type B = Autodiff<Flex>;

/// Rounding in f32, over sums of some hundred products.
const TOLERANCE: f32 = 2e-5;

fn noise<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let draw = |at: usize| (mix(seed ^ mix(at as u64)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let values: Vec<f32> = (0..shape.iter().product()).map(draw).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default()).require_grad()
}

/// The gradients of `inputs` through `output`, weighted so that every element counts differently.
fn gradients<const D: usize, const N: usize, const O: usize>(
    output: Tensor<B, O>,
    inputs: [&Tensor<B, D>; N],
) -> Vec<Vec<f32>> {
    let weights = noise(99, output.dims()).detach();
    let gradients = (output * weights).sum().backward();
    let gradient = |input: &Tensor<B, D>| {
        let gradient = input
            .grad(&gradients)
            .expect("a gradient reaches every input");
        gradient.into_data().iter::<f32>().collect()
    };
    inputs.into_iter().map(gradient).collect()
}

fn assert_near(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>]) {
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let largest = expected
            .iter()
            .fold(0f32, |most, value| most.max(value.abs()));
        for (a, b) in found.iter().zip(expected) {
            let near = (a - b).abs() <= TOLERANCE * largest;
            assert!(near, "{what}, input {at}: {a} instead of {b}");
        }
    }
}

fn values<const D: usize>(tensor: &Tensor<B, D>) -> Vec<Vec<f32>> {
    vec![tensor.to_data().iter().collect()]
}

#[test]
fn products_have_burns_gradients() {
    let (x, w) = (noise(1, [7, 33]), noise(2, [19, 33]));
    let bias = noise(3, [19]);
    let ours = linear(&x, &w, Some(&bias)).expect("the kernel serves");
    let burns = plain::linear(x.clone(), w.clone(), Some(bias.clone()));
    assert_near("output", &values(&ours), &values(&burns));
    assert_near(
        "linear",
        &gradients(ours.clone(), [&x, &w]),
        &gradients(burns.clone(), [&x, &w]),
    );
    assert_near(
        "bias",
        &gradients(ours, [&bias]),
        &gradients(burns, [&bias]),
    );
}

#[test]
fn a_frozen_weight_in_16_bits_passes_gradients_on() {
    let (x, w) = (noise(1, [7, 33]), noise(2, [19, 33]).detach());
    let half = w.clone().cast(DType::F16);
    let ours = linear(&x, &half, None).expect("the kernel serves");
    let burns = plain::linear(x.clone(), half, None);
    assert_near("linear", &gradients(ours, [&x]), &gradients(burns, [&x]));
}

#[test]
fn activations_have_burns_gradients() {
    let x = noise(1, [5, 37]).mul_scalar(4.0).detach().require_grad();
    for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
        let ours = activate(kind, &x).expect("the kernel serves");
        let burns = plain::activate(kind, x.clone());
        assert_near("output", &values(&ours), &values(&burns));
        assert_near(kind.name(), &gradients(ours, [&x]), &gradients(burns, [&x]));
    }
}

#[test]
fn norms_have_burns_gradients() {
    let (x, w, b) = (noise(1, [2, 5, 40]), noise(2, [40]), noise(3, [40]));
    let ours = norm(&x, &w, Some(&b), 1e-5).expect("the kernel serves");
    let burns = plain::layer_norm(x.clone(), w.clone(), b.clone(), 1e-5);
    assert_near(
        "layer norm",
        &gradients(ours.clone(), [&x]),
        &gradients(burns.clone(), [&x]),
    );
    assert_near(
        "its vectors",
        &gradients(ours, [&w, &b]),
        &gradients(burns, [&w, &b]),
    );
    let ours = norm(&x, &w, None, 1e-5).expect("the kernel serves");
    let burns = plain::rms_norm(x.clone(), w.clone(), 1e-5);
    assert_near(
        "RMS norm",
        &gradients(ours.clone(), [&x]),
        &gradients(burns.clone(), [&x]),
    );
    assert_near(
        "its weight",
        &gradients(ours, [&w]),
        &gradients(burns, [&w]),
    );
}

#[test]
fn rotations_have_burns_gradients() {
    let x = noise(1, [2, 3, 5, 16]);
    for (pairing, width) in [(Pairing::Halves, 4), (Pairing::Neighbours, 16)] {
        let tables = [2, 3].map(|seed| noise(seed, [1, 1, 5, width]).detach());
        let [cos, sin] = &tables;
        let ours = rotate(&x, cos, sin, pairing).expect("the kernel serves");
        let [cos, sin] = tables;
        let burns = match pairing {
            Pairing::Halves => plain::rotate(x.clone(), cos, sin),
            Pairing::Neighbours => plain::rotate_pairs(x.clone(), cos, sin),
        };
        assert_near("output", &values(&ours), &values(&burns));
        assert_near("rotation", &gradients(ours, [&x]), &gradients(burns, [&x]));
    }
}

#[test]
fn attention_has_burns_gradients() {
    let (q, k, v) = (
        noise(1, [2, 4, 6, 8]),
        noise(2, [2, 2, 6, 8]),
        noise(3, [2, 2, 6, 8]),
    );
    for mask in [
        Mask::Full,
        Mask::CAUSAL,
        Mask::Segments {
            ids: vec![vec![0, 0, 1, 1, 1, 1], vec![0, 1, 1, 2, 2, 2]],
        },
    ] {
        let ours = attention(&q, &k, &v, &mask, 0.3).expect("the kernel serves");
        let shown = AttentionMask::new(mask.clone(), 2, 6, 6, &Default::default());
        let burns = plain::attention(q.clone(), k.clone(), v.clone(), &shown, 0.3);
        assert_near("output", &values(&ours), &values(&burns));
        let (ours, burns) = (
            gradients(ours, [&q, &k, &v]),
            gradients(burns, [&q, &k, &v]),
        );
        assert_near(&format!("{mask:?}"), &ours, &burns);
    }
}
