//! SigLIP's loss: every pair of a picture and a caption is told right or wrong by itself.

use bunny_core::ops::{self, Phase};
use burn::tensor::{DType, Tensor, TensorData, activation::log_sigmoid, backend::Backend};

/// The sigmoid loss of `[pairs, channels]` results of both towers (Zhai et al. 2023, "Sigmoid Loss
/// for Language Image Pre-Training", algorithm 1): with rows of length one, `t = exp(t')` and
/// `z` 1 on the diagonal and -1 elsewhere,
///
/// ```text
/// -1/n · Σᵢ Σⱼ log σ(z (t xᵢ · yⱼ + b))
/// ```
///
/// Both results are taken to f32 first, in which scale and bias learn: thousands of terms are added.
///
/// # Shapes
/// `[pairs, channels]` twice, `[1]` twice → `[1]`
pub fn sigmoid_loss<B: Backend>(
    pictures: Tensor<B, 2>,
    captions: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
    logit_bias: Tensor<B, 1>,
) -> Tensor<B, 1> {
    let [pairs, _] = pictures.dims();
    let device = pictures.device();
    let [pictures, captions] = [pictures, captions].map(|rows| rows.cast(DType::F32));
    let scale = logit_scale.exp().unsqueeze::<2>();
    let products = ops::linear(
        Phase::Whole,
        normalised(captions),
        normalised(pictures),
        None,
    );
    let logits = products * scale + logit_bias.unsqueeze::<2>(); // [captions, pictures]
    let signs = (0..pairs * pairs).map(|at| match at / pairs == at % pairs {
        true => 1f32,
        false => -1f32,
    });
    let signs = TensorData::new(signs.collect::<Vec<_>>(), [pairs, pairs]);
    let signs = Tensor::from_data(signs, (&device, DType::F32));
    log_sigmoid(logits * signs)
        .sum()
        .mul_scalar(-1.0 / pairs as f64)
}

/// Rows of length one.
fn normalised<B: Backend>(rows: Tensor<B, 2>) -> Tensor<B, 2> {
    let length = rows.clone().powi_scalar(2).sum_dim(1).sqrt();
    rows / length
}
