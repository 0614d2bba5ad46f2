//! New weights, as transformers initialises them.

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
