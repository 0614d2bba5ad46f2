//! Dropout by draws that are hashes of their place, the same on every backend.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub mod cubecl;

use bunny_base::random::mix32;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use super::place::on_gpu;

/// Sets each element to zero or to `1 / (1 - probability)` of itself, as hashes of `key` and its place
/// say.
///
/// # Shapes
/// `[...]` → `[...]`
pub fn dropout<B: Backend, const D: usize>(
    input: Tensor<B, D>,
    probability: f64,
    key: u64,
) -> Tensor<B, D> {
    let keep = Keep::new(probability, key);
    on_gpu!(B;
        plain<K> => raise(cubecl::drop_some::<K>(lower(input), keep)),
        autodiff<K> => raise(cubecl::tracked::<K>(&lower(input), keep)),
        else => plain(input, keep),
    )
}

/// [`dropout`] in burn's operations.
pub fn plain<B: Backend, const D: usize>(input: Tensor<B, D>, keep: Keep) -> Tensor<B, D> {
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
