//! New weights, as transformers and torch initialise them.

use bunny_base::random::mix;
use burn::{
    module::{Module, ModuleMapper, Param, ParamId},
    tensor::{Tensor, backend::Backend},
};

/// The deviation with which bunny-core draws every weight of a new model.
const DRAWN: f32 = 0.02;

/// Gives the weights of a model that was drawn at random other deviations: that of a tensor of
/// `shape` is what `deviation` says, vectors and single numbers being left alone.
pub fn reinitialize<B: Backend, M: Module<B>>(model: M, deviation: impl Fn(&[usize]) -> f32) -> M {
    struct Scale<F>(F);

    impl<B: Backend, F: Fn(&[usize]) -> f32> ModuleMapper<B> for Scale<F> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            if D < 2 {
                return param;
            }
            let id: ParamId = param.id;
            let value = param.into_value();
            let factor = (self.0)(&value.dims()) / DRAWN;
            Param::initialized(id, value.mul_scalar(factor))
        }
    }

    model.map(&mut Scale(deviation))
}

/// `count` numbers, uniform within `±bound`: the same for the same seed and name anywhere.
pub fn uniform(seed: u64, name: &str, count: usize, bound: f32) -> Vec<f32> {
    let key = name
        .bytes()
        .fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)));
    (0..count as u64)
        .map(|at| {
            // 24 bits, which an f32 holds exactly, on [-1, 1).
            let bits = mix(key ^ mix(at)) >> 40;
            (bits as f32 / (1 << 23) as f32 - 1.0) * bound
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_fill_their_bounds_evenly_and_differ_by_name() {
        let draws = uniform(1, "a", 100_000, 0.5);
        assert!(draws.iter().all(|draw| (-0.5..0.5).contains(draw)));
        let count = draws.len() as f64;
        let mean = draws.iter().map(|draw| f64::from(*draw)).sum::<f64>() / count;
        let square = draws
            .iter()
            .map(|draw| f64::from(*draw).powi(2))
            .sum::<f64>()
            / count;
        // Five deviations of the mean of so many draws; the variance is 0.5² / 3.
        assert!(mean.abs() < 5.0 * (0.25 / 3.0 / count).sqrt(), "{mean}");
        assert!((square - 0.25 / 3.0).abs() < 1e-3, "{square}");
        assert_ne!(draws[..10], uniform(1, "b", 10, 0.5)[..]);
        assert_ne!(draws[..10], uniform(2, "a", 10, 0.5)[..]);
    }
}
