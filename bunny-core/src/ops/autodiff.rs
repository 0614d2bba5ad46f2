//! Steps of burn's graph whose way back is a kernel.
//!
//! Each operation has one step, whichever backend lies within `Autodiff`: it computes forward on the
//! tensors within, as without gradients, and keeps what the kernel of the way back needs.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::strategy::NoCheckpointing,
            ops::{Backward, OpsKind, OpsPrep},
        },
    },
    tensor::{
        Tensor, TensorPrimitive,
        backend::{Backend, BackendTypes},
        ops::FloatTensor,
    },
};

/// A tensor of `K` with a place in the graph.
pub type Tracked<K> = <Autodiff<K> as BackendTypes>::FloatTensorPrimitive;

/// Whether a gradient is wanted of a tensor, or of what it was made of.
pub fn is_wanted<K: Backend>(tensor: &Tracked<K>) -> bool {
    !tensor.node.requirement.is_none()
}

/// Adds a step to the graph behind `output`, or none where no parent wants gradients; `state` is
/// only made when it is needed.
pub fn record<K: Backend, S: Backward<K, N>, const N: usize>(
    step: OpsPrep<S, K, S::State, NoCheckpointing, N>,
    state: impl FnOnce() -> S::State,
    output: FloatTensor<K>,
) -> Tracked<K> {
    match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(state(), output),
        OpsKind::UnTracked(step) => step.finish(output),
    }
}

/// A primitive as a tensor, for burn's operations on it.
pub fn wrap<K: Backend, const D: usize>(primitive: FloatTensor<K>) -> Tensor<K, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A tensor's primitive.
pub fn unwrap<K: Backend, const D: usize>(tensor: Tensor<K, D>) -> FloatTensor<K> {
    tensor.into_primitive().tensor()
}
