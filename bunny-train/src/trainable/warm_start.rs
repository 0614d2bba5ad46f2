//! The first weights of a vision tower: what it would otherwise take thousands of steps to find.
//!
//! Nearly all that differs between patches of pictures is how light they are; edges, by which one
//! shape differs from another, are a small rest. A tower of random weights reads colours at once and
//! is blind to shapes for long. Three things in its first weights end that:
//!
//! - Patches are whitened: the strongest waves of their cosine transform come with the same variance,
//!   the finest not at all. Convolutional networks are known to gain from the same (Jordan, "94% on
//!   CIFAR-10 in 3.29 Seconds on a Single GPU", 2024), with eigenvectors, which cosines stand in for
//!   here.
//! - Positions are sinusoids in two dimensions (Beyer, Zhai and Kolesnikov, "Better plain ViT
//!   baselines for ImageNet-1k", 2022), twice as large as whitened patches: attention has something to
//!   tell places apart by, and what comes out of the tower still tells where it is.
//! - What a layer adds is divided by the root of how many there are, as in GPT-2.
//!
//! All of them are ordinary weights afterwards, and learn.

use std::f32::consts::PI;

use bunny_core::{
    model::tower::{PatchEmbedding, Siglip, patches},
    ops::{self, Phase},
};
use burn::{
    module::Param,
    tensor::{DType, Tensor, TensorData, backend::Backend},
};

/// Pictures whose patches are looked at; at 64 patches a picture, 28 a wave of 14 × 14 × 3.
pub const PICTURES: usize = 256;

/// A tower of this many channels reads one wave at first. Of 128 channels, shapes of the picture world
/// were learnt faster from 40 waves than from 64, and from those faster than from 128.
const CHANNELS_PER_WAVE: usize = 3;

/// Added to the variance of every wave, as a share of their mean: waves of less are thought to be
/// noise.
const NOISE: f64 = 1e-3;

/// The root mean square of positions, where that of patches is 1: what a language model reads where
/// things are from, after all that the layers have added. Of 1, 5,000 steps of the contrastive stage
/// left 0.6 % of what differs between the patches on objects to the ninth of the picture that they
/// are in, and the projector learnt to leave it out. Shapes alone are learnt a little slower the
/// larger it is (500 steps of 64, supervised: 77 % right with 1, 74 % with 2).
const POSITIONS: f32 = 2.0;

/// Prepares the first weights of `tower`, drawn with LeCun's deviation, for pictures such as
/// `pixels`.
///
/// # Shapes
/// `[pictures, 3, size, size]`
pub fn warm_start<B: Backend>(mut tower: Siglip<B>, pixels: Tensor<B, 4>) -> Siglip<B> {
    let model = &mut tower.vision_model;
    let embeddings = &mut model.embeddings;
    embeddings.patch_embedding = whiten(embeddings.patch_embedding.clone(), pixels);
    let positions = &mut embeddings.position_embedding.weight;
    let [places, hidden] = positions.dims();
    let waves = sinusoids(places.isqrt(), hidden);
    *positions = replace(positions, |old| {
        Tensor::from_data(waves, (&old.device(), DType::F32))
    });
    // Each layer adds twice.
    let share = (2.0 * model.encoder.layers.len() as f32).sqrt().recip();
    for layer in &mut model.encoder.layers {
        for last in [&mut layer.self_attn.out_proj, &mut layer.mlp.fc2] {
            let weight = last.weight.clone();
            last.weight = weight.map_floats(|weight| weight.mul_scalar(share));
        }
    }
    tower
}

/// The same parameter with another value, in the type it had.
fn replace<B: Backend, const D: usize>(
    param: &Param<Tensor<B, D>>,
    with: impl FnOnce(Tensor<B, D>) -> Tensor<B, D>,
) -> Param<Tensor<B, D>> {
    let old = param.val();
    let dtype = old.dtype();
    Param::initialized(param.id, with(old.cast(DType::F32)).cast(dtype))
}

/// The drawn weights, applied to patches whose waves have one variance and whose mean is 0. Results
/// have the mean 0 and, over all channels, the variance 1.
fn whiten<B: Backend>(embedding: PatchEmbedding<B>, pixels: Tensor<B, 4>) -> PatchEmbedding<B> {
    let PatchEmbedding { weight, bias } = embedding;
    let [hidden, channels, side, _] = weight.dims();
    let inputs = channels * side * side;
    let device = pixels.device();
    let transform = TensorData::new(waves(side), [inputs, inputs]);
    let transform: Tensor<B, 2> = Tensor::from_data(transform, (&device, DType::F32));
    let seen: Tensor<B, 2> = patches(pixels.cast(DType::F32), side).flatten(0, 1);
    let mean = seen.clone().mean_dim(0); // [1, inputs]
    let spectrum = ops::linear(Phase::Whole, seen - mean.clone(), transform.clone(), None);
    let variance: Vec<f32> = spectrum.square().mean_dim(0).into_data().iter().collect();
    let (gain, left) = gains(&variance, hidden.div_ceil(CHANNELS_PER_WAVE));
    let gain = Tensor::from_data(TensorData::new(gain, [1, inputs]), (&device, DType::F32));
    // Drawn with variance 1 / inputs, a row gets what is left of the variances of all waves.
    let scale = (inputs as f32 / left).sqrt();
    let mut shift = None;
    let weight = weight.map_floats(|drawn| {
        let rows = drawn.reshape([hidden, inputs]) * gain.mul_scalar(scale);
        let rows = ops::linear(Phase::Whole, rows, transform.transpose(), None);
        shift = Some(
            ops::linear(Phase::Whole, rows.clone(), mean, None)
                .neg()
                .reshape([hidden]),
        );
        rows.reshape([hidden, channels, side, side])
    });
    let bias = bias.map(|bias| replace(&bias, |zero| shift.unwrap_or(zero)));
    PatchEmbedding { weight, bias }
}

/// What waves of these variances are multiplied with, nothing but the `kept` largest, and the sum of
/// their variances then.
fn gains(variance: &[f32], kept: usize) -> (Vec<f32>, f32) {
    let mut largest = variance.to_vec();
    largest.sort_unstable_by(|a, b| b.total_cmp(a));
    largest.truncate(kept);
    let sum: f64 = largest.iter().map(|variance| f64::from(*variance)).sum();
    // Pictures of one colour have no variance at all, and no use for gains.
    let noise = (NOISE * sum / largest.len() as f64).max(1e-12) as f32;
    let smallest = largest.last().copied().unwrap_or_default();
    let gain = |own: &f32| {
        let taken = *own >= smallest;
        f32::from(u8::from(taken)) * (own + noise).sqrt().recip()
    };
    let gains: Vec<f32> = variance.iter().map(gain).collect();
    let left = variance
        .iter()
        .zip(&gains)
        .map(|(own, gain)| own * gain * gain)
        .sum::<f32>();
    (gains, left.max(1e-6))
}

/// The orthonormal cosine transform of a patch of three colours: a row is a wave, a column a pixel,
/// in the kernel's order.
fn waves(side: usize) -> Vec<f32> {
    /// Light, and the two contrasts of colour at right angles to it.
    const COLOURS: [[f32; 3]; 3] = [[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]];
    let cosine = |wave: usize, pixel: usize| {
        let norm = if wave == 0 { 1.0 } else { 2.0 } / side as f32;
        norm.sqrt() * (PI * (pixel as f32 + 0.5) * wave as f32 / side as f32).cos()
    };
    let area = side * side;
    let squares = || (0..area).map(|at| (at / side, at % side));
    let mut rows = Vec::with_capacity(9 * area * area);
    for colour in COLOURS {
        let length = colour.iter().map(|share| share * share).sum::<f32>().sqrt();
        for (down, across) in squares() {
            for share in colour.map(|share| share / length) {
                rows.extend(squares().map(|(y, x)| share * cosine(down, y) * cosine(across, x)));
            }
        }
    }
    rows
}

/// Positions of a square of `side` patches: sines and cosines of the column in the first half of
/// `hidden` numbers, of the row in the second, of periods that grow to 100 times the shortest.
fn sinusoids(side: usize, hidden: usize) -> TensorData {
    let each = hidden.div_ceil(4);
    let amplitude = POSITIONS * 2f32.sqrt();
    let number = |place: usize, at: usize| {
        let along = if at < 2 * each {
            place % side
        } else {
            place / side
        };
        let (kind, wave) = ((at / each) % 2, at % each);
        let angle = along as f32 / 100f32.powf(wave as f32 / each as f32);
        amplitude * if kind == 0 { angle.sin() } else { angle.cos() }
    };
    let numbers = (0..side * side).flat_map(|place| (0..hidden).map(move |at| (place, at)));
    let numbers: Vec<f32> = numbers.map(|(place, at)| number(place, at)).collect();
    TensorData::new(numbers, [side * side, hidden])
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;

    use super::*;
    use crate::trainable::uniform;

    const SIDE: usize = 4;
    const INPUTS: usize = 3 * SIDE * SIDE;

    #[test]
    fn waves_are_orthonormal() {
        let waves = waves(SIDE);
        for (a, one) in waves.chunks(INPUTS).enumerate() {
            for (b, other) in waves.chunks(INPUTS).enumerate() {
                let product: f32 = one.iter().zip(other).map(|(x, y)| x * y).sum();
                // Sums of 48 products of numbers below 1.
                assert!(
                    (product - f32::from(u8::from(a == b))).abs() < 1e-5,
                    "{a} {b}: {product}"
                );
            }
        }
    }

    /// Pictures whose pixels mostly go with their neighbours, brighter than 0 on the whole.
    fn pictures(count: usize) -> Tensor<Flex, 4> {
        let noise = uniform(7, "pictures", count * 3 * 64, 1.0);
        let mut pixels = Vec::new();
        for picture in noise.chunks(64) {
            let level = 3.0 * picture[0] + 0.3;
            pixels.extend(picture.iter().map(|own| level + 0.5 * own));
        }
        Tensor::from_data(
            TensorData::new(pixels, [count, 3, 8, 8]),
            &Default::default(),
        )
    }

    #[test]
    fn results_are_centred_of_unit_variance_and_no_longer_of_one_wave() {
        let hidden = 64;
        let drawn = uniform(1, "weight", hidden * INPUTS, (3.0 / INPUTS as f32).sqrt());
        let device = Default::default();
        let drawn = TensorData::new(drawn, [hidden, 3, SIDE, SIDE]);
        let embedding = PatchEmbedding::<Flex> {
            weight: Param::from_tensor(Tensor::from_data(drawn, &device)).into(),
            bias: Some(Param::from_tensor(Tensor::zeros([hidden], &device))),
        };
        let pixels = pictures(500);
        // How the largest direction of results compares with the mean of all, by power iteration on
        // their covariance; and their mean and variance.
        let spread = |embedding: &PatchEmbedding<Flex>| {
            let weight = embedding.weight.floats().reshape([hidden, INPUTS]);
            let seen: Tensor<Flex, 2> = patches(pixels.clone(), SIDE).flatten(0, 1);
            let results = seen.matmul(weight.transpose())
                + embedding.bias.as_ref().unwrap().val().unsqueeze();
            let count = results.dims()[0] as f32;
            let mean = results.clone().mean_dim(0);
            let centred = results - mean.clone();
            let covariance = centred
                .clone()
                .transpose()
                .matmul(centred)
                .div_scalar(count);
            let trace: f32 = (0..hidden)
                .map(|at| {
                    covariance
                        .clone()
                        .slice([at..at + 1, at..at + 1])
                        .into_scalar()
                })
                .sum();
            let mut vector = Tensor::<Flex, 2>::ones([hidden, 1], &device);
            let mut largest = 0.0;
            for _ in 0..100 {
                vector = covariance.clone().matmul(vector);
                largest = vector.clone().square().sum().sqrt().into_scalar();
                vector = vector.div_scalar(largest);
            }
            let mean: f32 = mean.abs().max().into_scalar();
            (
                mean,
                trace / hidden as f32,
                largest / (trace / hidden as f32),
            )
        };
        let (_, _, before) = spread(&embedding);
        let (mean, variance, after) = spread(&whiten(embedding, pixels.clone()));
        assert!(mean < 1e-3, "{mean}");
        // 64 rows of 48 draws: the relative deviation of their squares' mean is below 2 in 100.
        assert!((variance - 1.0).abs() < 0.1, "{variance}");
        // Before, one wave of each colour has nearly all: 64 / 3. After, no direction has more than
        // random products of 22 waves give it: 64 / 22 · (1 + √(22 / 64))², the edge of Marchenko
        // and Pastur, and some.
        assert!(before > 15.0, "{before}");
        assert!(after < 9.0, "{after}");
    }

    #[test]
    fn positions_differ_and_have_their_size() {
        let numbers: Vec<f32> = sinusoids(8, 30).iter().collect();
        let rows: Vec<&[f32]> = numbers.chunks(30).collect();
        assert_eq!(rows.len(), 64);
        for (at, row) in rows.iter().enumerate() {
            for other in &rows[..at] {
                let apart: f32 = row.iter().zip(*other).map(|(x, y)| (x - y).powi(2)).sum();
                assert!(apart > 0.1, "{at}: {apart}");
            }
        }
        let square = numbers.iter().map(|x| x * x).sum::<f32>() / numbers.len() as f32;
        // 30 numbers are no whole pairs of sine and cosine, which alone have the size exactly.
        let size = square.sqrt() / POSITIONS;
        assert!((size - 1.0).abs() < 0.05, "{size}");
    }
}
