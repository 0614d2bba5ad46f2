//! What a backend's own nonlinearities are, and how their gradients come back.

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, backend::Backend, ops::FloatTensor},
};

use super::Activation;
use crate::ops::autodiff::{Tracked, record};

/// A backend's own nonlinearities.
pub trait ActivationKernel: Backend {
    /// Whether they take numbers of this type.
    fn takes(dtype: DType) -> bool;

    /// [`Activation::apply`].
    fn forward(kind: Activation, input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `dy f'(x)`, given `x` and `dy`.
    fn backward(
        kind: Activation,
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Whether there is a gate of this kind for numbers of this type.
    fn gates(kind: Activation, dtype: DType) -> bool;

    /// [`Activation::gate`].
    fn gate(kind: Activation, gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `dy f'(gate) up` and `dy f(gate)`.
    fn gate_backward(
        kind: Activation,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2];
}

/// [`Activation::apply`] where gradients are kept.
pub fn activate<K: ActivationKernel>(kind: Activation, input: &Tracked<K>) -> Tracked<K> {
    let output = K::forward(kind, input.primitive.clone());
    let state = || (kind, input.primitive.clone());
    record::<K, _, 1>(ActivationStep.prepare([input.node.clone()]), state, output)
}

#[derive(Debug)]
struct ActivationStep;

impl<K: ActivationKernel> Backward<K, 1> for ActivationStep {
    type State = (Activation, FloatTensor<K>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        let (kind, input) = ops.state;
        grads.register::<K>(node.id, K::backward(kind, input, gradient));
    }
}

/// [`Activation::gate`] where gradients are kept.
pub fn gate<K: ActivationKernel>(
    kind: Activation,
    gate: &Tracked<K>,
    up: &Tracked<K>,
) -> Tracked<K> {
    let output = K::gate(kind, gate.primitive.clone(), up.primitive.clone());
    let state = || (kind, gate.primitive.clone(), up.primitive.clone());
    let parents = [gate, up].map(|parent| parent.node.clone());
    record::<K, _, 2>(GateStep.prepare(parents), state, output)
}

#[derive(Debug)]
struct GateStep;

impl<K: ActivationKernel> Backward<K, 2> for GateStep {
    type State = (Activation, FloatTensor<K>, FloatTensor<K>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let (kind, gate, up) = ops.state;
        let gradients = K::gate_backward(kind, gate, up, gradient);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<K>(node.id, gradient);
            }
        }
    }
}
