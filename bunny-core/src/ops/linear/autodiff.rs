//! What a backend's own products are, and how their gradients come back.

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, TensorMetadata, backend::Backend, ops::FloatTensor},
};

use super::Factors;
use crate::ops::{
    Phase,
    autodiff::{Tracked, is_wanted, record},
};

/// A backend's own products.
pub trait LinearKernel: Backend {
    /// Whether there are any for an input and a weight of these types.
    fn takes(input: DType, weight: DType) -> bool;

    /// Whether they give the gradient of a weight of this type.
    fn teaches(weight: DType) -> bool;

    /// [`plain`](super::plain).
    fn forward(
        phase: Phase,
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        factors: Factors,
    ) -> FloatTensor<Self>;

    /// `dy W`: `[rows, out]`, `[out, in]` → `[rows, in]`.
    fn input_gradient(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `dyᵀ x`, for a weight of this type: `[rows, out]`, `[rows, in]` → `[out, in]`.
    fn weight_gradient(
        gradient: FloatTensor<Self>,
        input: FloatTensor<Self>,
        weight: DType,
    ) -> FloatTensor<Self>;

    /// The sum of the rows: `[rows, out]` → `[out]`.
    fn bias_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Whether `K`'s products take this weight and, where it learns, give its gradient.
pub fn serves<K: LinearKernel>(input: DType, weight: &Tracked<K>) -> bool {
    let dtype = weight.primitive.dtype();
    K::takes(input, dtype) && (K::teaches(dtype) || !is_wanted::<K>(weight))
}

/// [`linear`](super::linear) where gradients are kept.
pub fn linear<K: LinearKernel>(
    input: &Tracked<K>,
    weight: &Tracked<K>,
    bias: Option<Tracked<K>>,
) -> Tracked<K> {
    let output = K::forward(
        Phase::Whole,
        input.primitive.clone(),
        weight.primitive.clone(),
        bias.as_ref().map(|bias| bias.primitive.clone()),
        Factors::Rounded,
    );
    let state = || LinearState::<K> {
        input: is_wanted::<K>(weight).then(|| input.primitive.clone()),
        weight: is_wanted::<K>(input).then(|| weight.primitive.clone()),
        weight_dtype: weight.primitive.dtype(),
    };
    // A bias that does not learn is no part of the graph.
    let [x, w] = [input, weight].map(|parent| parent.node.clone());
    match bias.filter(|bias| is_wanted::<K>(bias)) {
        Some(bias) => record::<K, _, 3>(LinearStep.prepare([x, w, bias.node]), state, output),
        None => record::<K, _, 2>(LinearStep.prepare([x, w]), state, output),
    }
}

/// What each gradient needs, where it is wanted.
#[derive(Debug, Clone)]
struct LinearState<K: Backend> {
    input: Option<FloatTensor<K>>,
    weight: Option<FloatTensor<K>>,
    weight_dtype: DType,
}

/// Its parents are the input, the weight and, where it learns, the bias.
#[derive(Debug)]
struct LinearStep;

impl<K: LinearKernel, const N: usize> Backward<K, N> for LinearStep {
    type State = LinearState<K>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let state = ops.state;
        let mut parents = ops.parents.into_iter();
        let mut parent = || parents.next().flatten().map(|node| node.id);
        let (input, weight, bias) = (parent(), parent(), parent());
        if let (Some(id), Some(weight)) = (input, state.weight) {
            grads.register::<K>(id, K::input_gradient(gradient.clone(), weight));
        }
        if let (Some(id), Some(input)) = (weight, state.input) {
            let of_weight = K::weight_gradient(gradient.clone(), input, state.weight_dtype);
            grads.register::<K>(id, of_weight);
        }
        if let Some(id) = bias {
            grads.register::<K>(id, K::bias_gradient(gradient));
        }
    }
}
