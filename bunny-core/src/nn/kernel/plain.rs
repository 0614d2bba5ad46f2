//! The layers' and the optimizer's computations in burn's operations: for any backend, with
//! gradients.

use bunny_base::random::mix32;
use bunny_kernels::{AdamStep, NewtonSchulz};
use burn::tensor::{
    Bool, DType, ElementConversion, Int, Tensor, TensorData, activation, backend::Backend,
};
use rayon::prelude::*;

use crate::nn::{Activation, AttentionMask};

/// `y = x Wᵀ + b`.
///
/// # Shapes
/// `[rows, in]`, `[out, in]`, `[out]` → `[rows, out]`
pub fn linear<B: Backend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let weight = weight.cast(input.dtype());
    let output = input.matmul(weight.transpose());
    match bias {
        Some(bias) => output + bias.unsqueeze(),
        None => output,
    }
}

/// Takes mean and variance out of each row, in f32.
pub fn layer_norm<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    weight: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let dtype = input.dtype();
    let input = input.cast(DType::F32);
    let centred = input.clone() - input.mean_dim(D - 1);
    let variance = centred.clone().powi_scalar(2).mean_dim(D - 1);
    let output = centred / variance.add_scalar(epsilon).sqrt() * weight.unsqueeze();
    (output + bias.unsqueeze()).cast(dtype)
}

/// Takes the root mean square out of each row, in f32.
pub fn rms_norm<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    weight: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let dtype = input.dtype();
    let input = input.cast(DType::F32);
    let square = input.clone().powi_scalar(2).mean_dim(D - 1);
    (input / square.add_scalar(epsilon).sqrt() * weight.unsqueeze()).cast(dtype)
}

/// Applies a nonlinearity to every element.
pub fn activate<B: Backend, const D: usize>(kind: Activation, input: Tensor<B, D>) -> Tensor<B, D> {
    match kind {
        // (1 + tanh(u)) / 2 = sigmoid(2u), which is cheaper and never overflows.
        Activation::GeluTanh => {
            const TWICE_ROOT: f64 = 1.595_769_121_605_730_8; // 2 * sqrt(2 / pi)
            let square = input.clone().powi_scalar(2);
            let twice = input.clone() * square.mul_scalar(0.044715).add_scalar(1.0);
            input * activation::sigmoid(twice.mul_scalar(TWICE_ROOT))
        }
        Activation::Gelu => activation::gelu(input),
        Activation::Silu => activation::silu(input),
    }
}

/// Rotates pairs of channels `(i, i + rotary_dim / 2)` of each head (half-split style); channels
/// beyond `rotary_dim` pass.
///
/// # Shapes
/// `[batch, heads, seq, head_dim]`, angles `[batch | 1, 1, seq, rotary_dim / 2]` (f32)
pub fn rotate<B: Backend>(
    input: Tensor<B, 4>,
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
) -> Tensor<B, 4> {
    let dtype = input.dtype();
    let head_dim = input.dims()[3];
    let half = cos.dims()[3];
    let part = |from: usize, to: usize| input.clone().narrow(3, from, to - from);
    let first = part(0, half).cast(DType::F32);
    let second = part(half, 2 * half).cast(DType::F32);
    let rotated = [
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos + first * sin,
    ];
    let mut parts: Vec<_> = rotated.into_iter().map(|part| part.cast(dtype)).collect();
    if 2 * half < head_dim {
        parts.push(part(2 * half, head_dim));
    }
    Tensor::cat(parts, 3)
}

/// Rotates pairs of channels `(2i, 2i + 1)` of each head: `x cos + turn(x) sin`, where
/// `turn(a, b) = (-b, a)`.
///
/// # Shapes
/// `[batch, heads, seq, head_dim]`, tables `[1, 1, seq, head_dim]`
pub fn rotate_pairs<B: Backend>(
    input: Tensor<B, 4>,
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
) -> Tensor<B, 4> {
    let [batch, heads, seq, width] = input.dims();
    let pairs: Tensor<B, 5> = input.clone().reshape([batch, heads, seq, width / 2, 2]);
    let (first, second) = (pairs.clone().narrow(4, 0, 1), pairs.narrow(4, 1, 1));
    let turned = Tensor::cat(vec![second.neg(), first], 4).reshape([batch, heads, seq, width]);
    input * cos + turned * sin
}

/// Queries handled at a time: bounds the scores held at once.
const QUERY_CHUNK: usize = 512;

/// Softmax of scaled scores, times the values; scores and softmax in f32.
///
/// # Shapes
/// queries `[batch, heads, q, head_dim]`, keys and values `[batch, kv_heads, kv, head_dim]` →
/// `[batch, q, heads * head_dim]`
pub fn attention<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    mask: &AttentionMask<B>,
    scale: f64,
) -> Tensor<B, 3> {
    attention_hiding(query, key, value, mask.hidden(), scale)
}

/// [`attention`] to all keys but those that are `hidden`, `[batch | 1, 1, q, kv]`.
pub fn attention_hiding<B: Backend>(
    query: Tensor<B, 4>,
    key: Tensor<B, 4>,
    value: Tensor<B, 4>,
    hidden: Option<Tensor<B, 4, Bool>>,
    scale: f64,
) -> Tensor<B, 3> {
    let dtype = query.dtype();
    let [batch, heads, queries, head_dim] = query.dims();
    let [_, kv_heads, keys, _] = key.dims();
    let group = heads / kv_heads;
    // Scores that overflow a half (Phi-2's do) must not be formed in one.
    let key = key.cast(DType::F32).swap_dims(2, 3); // [batch, kv_heads, head_dim, kv]
    let value = value.cast(DType::F32);
    let query = query.cast(DType::F32).mul_scalar(scale);
    let chunks = (0..queries).step_by(QUERY_CHUNK).map(|first| {
        let count = QUERY_CHUNK.min(queries - first);
        // Each key head serves its group of query heads as more rows of one product.
        let query = query.clone().narrow(2, first, count).reshape([
            batch,
            kv_heads,
            group * count,
            head_dim,
        ]);
        let mut scores = query
            .matmul(key.clone())
            .reshape([batch, heads, count, keys]);
        if let Some(hidden) = &hidden {
            let hidden = hidden.clone().narrow(2, first, count);
            scores = scores.mask_fill(hidden.expand([batch, heads, count, keys]), f32::MIN);
        }
        activation::softmax(scores, 3)
            .reshape([batch, kv_heads, group * count, keys])
            .matmul(value.clone())
            .reshape([batch, heads, count, head_dim])
    });
    let outputs = Tensor::cat(chunks.collect(), 2); // [batch, heads, q, head_dim]
    outputs
        .swap_dims(1, 2)
        .reshape([batch, queries, heads * head_dim])
        .cast(dtype)
}

/// The sum over rows of `ln Σ e^scores - scores[target]`.
///
/// # Shapes
/// `[rows, columns]`, a target a row → `[1]`
pub fn cross_entropy<B: Backend>(scores: Tensor<B, 2>, targets: &[u32]) -> Tensor<B, 1> {
    let ids: Vec<i32> = targets.iter().map(|id| *id as i32).collect();
    let ids = TensorData::new(ids, [targets.len(), 1]);
    let ids: Tensor<B, 2, Int> = Tensor::from_data(ids, &scores.device());
    let log_shares = activation::log_softmax(scores, 1);
    log_shares.gather(1, ids).sum().neg()
}

/// See [`orthogonal`](super::orthogonal).
pub fn orthogonal<B: Backend>(
    matrix: Tensor<B, 2>,
    steps: NewtonSchulz,
    rounds: bool,
) -> Tensor<B, 2> {
    let factor = |x: &Tensor<B, 2>| match rounds {
        true => x.clone().cast(DType::BF16),
        false => x.clone(),
    };
    // `a bᵀ`.
    let product = |a: &Tensor<B, 2>, b: &Tensor<B, 2>| {
        super::linear(factor(a), factor(b), None).cast(DType::F32)
    };
    let [rows, columns] = matrix.dims();
    let turn = |x: Tensor<B, 2>| match rows < columns {
        true => x.transpose(),
        false => x,
    };
    let tall = turn(matrix);
    let norm = tall.clone().square().sum().sqrt();
    let mut x = tall / norm.clamp_min(steps.smallest_norm).reshape([1, 1]);
    let [a, b, c] = steps.coefficients;
    for _ in 0..steps.iterations {
        let across = x.clone().transpose();
        let gram = product(&across, &across); // [short, short], symmetric
        let square = product(&gram, &gram);
        x = x.clone() * a + product(&x, &(gram * b + square * c));
    }
    turn(x)
}

/// One step of AdamW; gives both moments and the weight.
///
/// # Shapes
/// `[...]` four times → `[...]` three times
pub fn adamw<B: Backend>(
    step: AdamStep,
    gradient: Tensor<B, 1>,
    first: Tensor<B, 1>,
    second: Tensor<B, 1>,
    weight: Tensor<B, 1>,
) -> [Tensor<B, 1>; 3] {
    let gradient = gradient.mul_scalar(step.scale);
    let square = gradient.clone().powi_scalar(2);
    let first = first.mul_scalar(step.beta1) + gradient.mul_scalar(1.0 - step.beta1);
    let second = second.mul_scalar(step.beta2) + square.mul_scalar(1.0 - step.beta2);
    let root = second.clone().sqrt().mul_scalar(step.root);
    let direction = first.clone() / root.add_scalar(step.epsilon);
    let weight = weight.mul_scalar(step.decay) - direction.mul_scalar(step.rate);
    [first, second, weight]
}

/// Which elements a dropout keeps: those whose hash is at least `bound`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keep {
    /// What is hashed with an element's place.
    pub keys: [u32; 2],
    /// Below it, an element is dropped.
    pub bound: u32,
    /// What the others are multiplied with.
    pub scale: f32,
}

impl Keep {
    /// Drops a share `probability` of all elements.
    pub fn new(probability: f64, key: u64) -> Self {
        Self {
            keys: [key as u32, (key >> 32) as u32],
            bound: (probability * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - probability)) as f32,
        }
    }

    /// What the element at `place` is multiplied with.
    pub fn factor(self, place: u32) -> f32 {
        match mix32(mix32(place ^ self.keys[0]) ^ self.keys[1]) < self.bound {
            true => 0.0,
            false => self.scale,
        }
    }
}

/// Sets each element to zero or to `1 / (1 - probability)` of itself.
pub fn dropout<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    probability: f64,
    key: u64,
) -> Tensor<B, D> {
    let keep = Keep::new(probability, key);
    let shape = input.dims();
    let factors: Vec<f32> = (0..shape.iter().product::<usize>() as u32)
        .into_par_iter()
        .with_min_len(1 << 14)
        .map(|place| keep.factor(place))
        .collect();
    let factors = TensorData::new(factors, shape);
    let factors = Tensor::from_data(factors, (&input.device(), input.dtype()));
    input * factors
}

/// Rows of `source` by number; zeros where there is no number.
pub fn pick_rows<B: Backend>(source: Tensor<B, 2>, from: &[Option<u32>]) -> Tensor<B, 2> {
    let [rows, channels] = source.dims();
    let (dtype, device) = (source.dtype(), source.device());
    let ids: Vec<i32> = from
        .iter()
        .map(|row| row.map_or(rows as i32, |row| row as i32))
        .collect();
    let count = ids.len();
    let ids = Tensor::from_data(TensorData::new(ids, [count]), &device);
    let source = match from.contains(&None) {
        true => Tensor::cat(
            vec![source, Tensor::zeros([1, channels], (&device, dtype))],
            0,
        ),
        false => source,
    };
    source.select(0, ids)
}

/// Rows of a table by number.
pub fn token_rows<B: Backend>(table: Tensor<B, 2>, ids: &[i32]) -> Tensor<B, 2> {
    let ids = TensorData::new(ids.to_vec(), [ids.len()]);
    let ids: Tensor<B, 1, Int> = Tensor::from_data(ids, &table.device());
    table.select(0, ids)
}

/// The sum of the squares of all elements of some tensors.
pub fn sum_of_squares<B: Backend>(tensors: &[&Tensor<B, 1>]) -> f64 {
    // One number a tensor on the device, and one read-back for all of them.
    let squares: Vec<Tensor<B, 1>> = tensors
        .iter()
        .map(|tensor| (*tensor).clone().powi_scalar(2).sum())
        .collect();
    if squares.is_empty() {
        return 0.0;
    }
    let squares = Tensor::cat(squares, 0).into_data();
    squares
        .iter::<f32>()
        .map(|square| square.elem::<f64>())
        .sum()
}
