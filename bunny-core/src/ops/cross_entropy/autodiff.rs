//! What a backend's own cross-entropy is, and how its gradient comes back.

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{backend::Backend, ops::FloatTensor},
};

use crate::ops::autodiff::{Tracked, record};

/// A backend's own cross-entropy of scores in f32.
pub trait CrossEntropyKernel: Backend {
    /// [`cross_entropy`](super::cross_entropy).
    fn forward(scores: FloatTensor<Self>, targets: &[u32]) -> FloatTensor<Self>;

    /// The same, and its gradient in the scores.
    fn forward_with_gradient(scores: FloatTensor<Self>, targets: &[u32]) -> [FloatTensor<Self>; 2];

    /// A gradient, `[rows, columns]`, times that of the sum, `[1]`.
    fn scale(gradient: FloatTensor<Self>, factor: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// [`cross_entropy`](super::cross_entropy) where gradients are kept: that of a sum of losses is known
/// as soon as they are.
pub fn cross_entropy<K: CrossEntropyKernel>(scores: Tracked<K>, targets: &[u32]) -> Tracked<K> {
    let [sum, gradient] = K::forward_with_gradient(scores.primitive, targets);
    let step = CrossEntropyStep.prepare([scores.node]);
    record::<K, _, 1>(step, || gradient, sum)
}

#[derive(Debug)]
struct CrossEntropyStep;

impl<K: CrossEntropyKernel> Backward<K, 1> for CrossEntropyStep {
    type State = FloatTensor<K>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let factor = grads.consume::<K>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        grads.register::<K>(node.id, K::scale(ops.state, factor));
    }
}
