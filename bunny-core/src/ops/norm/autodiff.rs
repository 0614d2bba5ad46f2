//! What a backend's own norms are, and how their gradients come back.

use std::fmt::Debug;

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, backend::Backend, ops::FloatTensor},
};

use super::Taken;
use crate::ops::autodiff::{Tracked, record};

/// A backend's own norms; weights and biases are f32.
pub trait NormKernel: Backend {
    /// What the way back would not like to compute anew.
    type Moments: Clone + Debug + Send + 'static;

    /// Whether they take inputs of this type.
    fn takes(input: DType) -> bool;

    /// [`layer_norm`](super::layer_norm) or [`rms_norm`](super::rms_norm).
    fn forward(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        taken: Taken,
    ) -> (FloatTensor<Self>, Self::Moments);

    /// The gradients of input, weight and bias, of those that are wanted.
    fn backward(
        state: NormState<Self>,
        gradient: FloatTensor<Self>,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<Self>>; 3];
}

/// What the way back needs.
#[derive(Debug, Clone)]
pub struct NormState<K: NormKernel> {
    /// What was normalised.
    pub input: FloatTensor<K>,
    /// What it was scaled with.
    pub weight: FloatTensor<K>,
    /// What was taken out.
    pub taken: Taken,
    /// What of that is known.
    pub moments: K::Moments,
}

/// Either norm where gradients are kept.
pub fn norm<K: NormKernel>(
    input: &Tracked<K>,
    weight: &Tracked<K>,
    bias: Option<Tracked<K>>,
    taken: Taken,
) -> Tracked<K> {
    let shift = bias.as_ref().map(|bias| bias.primitive.clone());
    let (x, w) = (input.primitive.clone(), weight.primitive.clone());
    let (output, moments) = K::forward(x, w, shift, taken);
    let state = || NormState::<K> {
        input: input.primitive.clone(),
        weight: weight.primitive.clone(),
        taken,
        moments,
    };
    let [x, w] = [input, weight].map(|parent| parent.node.clone());
    match bias {
        Some(bias) => record::<K, _, 3>(NormStep.prepare([x, w, bias.node]), state, output),
        None => record::<K, _, 2>(NormStep.prepare([x, w]), state, output),
    }
}

/// Its parents are the input, the weight and, where there is one, the bias.
#[derive(Debug)]
struct NormStep;

impl<K: NormKernel, const N: usize> Backward<K, N> for NormStep {
    type State = NormState<K>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let is_wanted = |at: usize| ops.parents.get(at).is_some_and(Option::is_some);
        let gradients = K::backward(ops.state, gradient, [0, 1, 2].map(is_wanted));
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<K>(node.id, gradient);
            }
        }
    }
}
