//! What a backend's own attention is, and how its gradients come back.

use std::fmt::Debug;

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, backend::Backend, ops::FloatTensor},
};

use super::Mask;
use crate::ops::autodiff::{Tracked, record};

/// A backend's own attention. Inputs are queries, keys and values.
pub trait AttentionKernel: Backend {
    /// What the way back needs.
    type State: Clone + Debug + Send + 'static;

    /// Whether it takes queries, keys and values of these types.
    fn takes(inputs: [DType; 3]) -> bool;

    /// [`attention`](super::attention).
    fn forward(
        inputs: [FloatTensor<Self>; 3],
        mask: &Mask,
        scale: f32,
        rounds: bool,
    ) -> FloatTensor<Self>;

    /// The same, and what the way back needs.
    fn forward_to_learn(
        inputs: [FloatTensor<Self>; 3],
        mask: &Mask,
        scale: f32,
        rounds: bool,
    ) -> (FloatTensor<Self>, Self::State);

    /// The gradients of the inputs, given that of the output.
    fn backward(state: Self::State, gradient: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

/// [`attention`](super::attention) where gradients are kept.
pub fn attention<K: AttentionKernel>(
    inputs: [&Tracked<K>; 3],
    mask: &Mask,
    scale: f32,
    rounds: bool,
) -> Tracked<K> {
    let primitives = inputs.map(|input| input.primitive.clone());
    let (output, state) = K::forward_to_learn(primitives, mask, scale, rounds);
    let parents = inputs.map(|input| input.node.clone());
    record::<K, _, 3>(AttentionStep.prepare(parents), || state, output)
}

#[derive(Debug)]
struct AttentionStep;

impl<K: AttentionKernel> Backward<K, 3> for AttentionStep {
    type State = K::State;

    fn backward(self, ops: Ops<K::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let gradients = K::backward(ops.state, gradient);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<K>(node.id, gradient);
            }
        }
    }
}
