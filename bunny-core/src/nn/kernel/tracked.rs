//! The CPU kernels on tensors whose gradients are kept: flex within burn's `Autodiff`.
//!
//! Each function computes forward as without gradients, on the tensor within, and adds one step to
//! burn's graph whose way back is a kernel too. As elsewhere, a backend is asked what it is by its
//! float primitive; where it is another one, or a number type is not the kernels', `None` or the
//! input comes back and burn's own operations serve.

use bunny_kernels::{self as cpu, AttentionGradient, AttentionStrides, Rotation};
use burn::{
    backend::{
        Autodiff,
        autodiff::{
            NodeId,
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{
        DType, Tensor, TensorPrimitive,
        backend::{Backend, BackendTypes},
    },
};
use burn_flex::{Flex, FlexTensor};

use super::{
    dispatch::{
        attention_mask, contiguous, floats, heads, raise, rope, rounds_input, total, weight_ref,
    },
    primitive,
};
use crate::nn::{Activation, Mask};

/// A flex tensor with a place in the graph.
type Tracked = <Autodiff<Flex> as BackendTypes>::FloatTensorPrimitive;

/// The tracked tensor that `tensor` is, if the backend is flex within `Autodiff`.
fn lower<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Option<Tracked> {
    primitive::lower(tensor)
}

fn wrap<const D: usize>(primitive: FlexTensor) -> Tensor<Flex, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn unwrap<const D: usize>(tensor: Tensor<Flex, D>) -> FlexTensor {
    tensor.into_primitive().tensor()
}

/// Whether gradients are wanted of it.
macro_rules! wants {
    ($tracked:expr) => {
        !$tracked.node.requirement.is_none()
    };
}

/// Adds a step to the graph behind `output`, or none where no parent wants gradients; `state` is
/// only made when it is needed.
macro_rules! record {
    ($step:expr, [$($parent:expr),+], $state:expr, $output:expr) => {
        match $step
            .prepare::<NoCheckpointing>([$($parent.node.clone()),+])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(step) => step.finish($state, $output),
            OpsKind::UnTracked(step) => step.finish($output),
        }
    };
}

/// [`plain::linear`](super::plain::linear) with gradients.
pub fn linear<B: Backend>(
    input: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: Option<&Tensor<B, 1>>,
) -> Option<Tensor<B, 2>> {
    let (x, w) = (lower(input)?, lower(weight)?);
    // Gradients are f32, whatever the weight is.
    if input.dtype() != DType::F32 || (wants!(w) && weight.dtype() == DType::F16) {
        return None;
    }
    let b = match bias {
        Some(bias) => Some(lower(bias)?),
        None => None,
    };
    let output = super::linear(
        wrap(x.primitive.clone()),
        wrap(w.primitive.clone()),
        b.as_ref().map(|b| wrap::<1>(b.primitive.clone())),
    );
    let state = LinearState {
        input: wants!(w).then(|| x.primitive.clone()),
        weight: wants!(x).then(|| w.primitive.clone()),
        rounds: weight_ref(&w.primitive).is_some_and(|weight| rounds_input(&weight)),
    };
    let output = unwrap::<2>(output);
    // A bias that does not learn is no part of the graph.
    Some(primitive::raise(match b.filter(|b| wants!(b)) {
        Some(b) => record!(BiasedLinearStep, [x, w, b], state, output),
        None => record!(LinearStep, [x, w], state, output),
    }))
}

#[derive(Debug)]
struct LinearStep;

/// What each gradient needs, where it is wanted.
#[derive(Debug, Clone)]
struct LinearState {
    input: Option<FlexTensor>,
    weight: Option<FlexTensor>,
    /// Whether products round their operands to bf16.
    rounds: bool,
}

impl Backward<Flex, 2> for LinearStep {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [input, weight] = ops.parents.map(|parent| parent.map(|node| node.id));
        ops.state.backward(&gradient, input, weight, grads);
    }
}

#[derive(Debug)]
struct BiasedLinearStep;

impl Backward<Flex, 3> for BiasedLinearStep {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [input, weight, bias] = ops.parents.map(|parent| parent.map(|node| node.id));
        ops.state.backward(&gradient, input, weight, grads);
        if let Some(id) = bias {
            let [_, out] = wrap::<2>(gradient.clone()).dims();
            let mut db = vec![0f32; out];
            cpu::linear_backward_bias(floats(&gradient), &mut db);
            grads.register::<Flex>(id, unwrap(raise::<Flex, 1>(db, [out])));
        }
    }
}

impl LinearState {
    fn backward(
        self,
        gradient: &FlexTensor,
        input: Option<NodeId>,
        weight: Option<NodeId>,
        grads: &mut Gradients,
    ) {
        let [rows, out] = wrap::<2>(gradient.clone()).dims();
        let dy = floats(gradient);
        if let (Some(id), Some(weight)) = (input, self.weight) {
            let inner = wrap::<2>(weight.clone()).dims()[1];
            let weight = weight.to_contiguous();
            let elements = weight_ref(&weight).expect("the forward pass has read it");
            let mut dx = vec![0f32; rows * inner];
            let product = if self.rounds {
                cpu::linear_backward_input_bf16_dot
            } else {
                cpu::linear_backward_input
            };
            product(dy, elements, &mut dx, rows, inner, out);
            grads.register::<Flex>(id, unwrap(raise::<Flex, 2>(dx, [rows, inner])));
        }
        if let (Some(id), Some(input)) = (weight, self.input) {
            let inner = wrap::<2>(input.clone()).dims()[1];
            let input = contiguous(input);
            let mut dw = vec![0f32; out * inner];
            let product = if self.rounds {
                cpu::linear_backward_weight_bf16_dot
            } else {
                cpu::linear_backward_weight
            };
            product(dy, floats(&input), &mut dw, rows, inner, out, false);
            grads.register::<Flex>(id, unwrap(raise::<Flex, 2>(dw, [out, inner])));
        }
    }
}

/// [`plain::activate`](super::plain::activate) with gradients.
pub fn activate<B: Backend, const D: usize>(
    kind: Activation,
    input: &Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    let x = lower(input)?;
    if input.dtype() != DType::F32 {
        return None;
    }
    let output = super::activate(kind, wrap::<D>(x.primitive.clone()));
    let state = (kind, x.primitive.clone());
    Some(primitive::raise(record!(
        ActivationStep,
        [x],
        state,
        unwrap(output)
    )))
}

#[derive(Debug)]
struct ActivationStep;

impl Backward<Flex, 1> for ActivationStep {
    type State = (Activation, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [Some(node)] = ops.parents else { return };
        let (kind, input) = ops.state;
        let input = contiguous(input);
        let (x, dy) = (floats(&input), floats(&gradient));
        let mut dx = vec![0f32; x.len()];
        match kind {
            Activation::GeluTanh => cpu::gelu_tanh_backward(x, dy, &mut dx),
            Activation::Gelu => cpu::gelu_erf_backward(x, dy, &mut dx),
            Activation::Silu => cpu::silu_backward(x, dy, &mut dx),
        }
        grads.register::<Flex>(node.id, like(dx, &input));
    }
}

/// The numbers as a tensor of the shape of `other`.
fn like(values: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    let count = values.len();
    let flat = unwrap(raise::<Flex, 1>(values, [count]));
    flat.reshape(other.layout().shape().clone())
}

/// [`plain::layer_norm`](super::plain::layer_norm), or without a bias
/// [`plain::rms_norm`](super::plain::rms_norm), with gradients.
pub fn norm<B: Backend, const D: usize>(
    input: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    bias: Option<&Tensor<B, 1>>,
    epsilon: f64,
) -> Option<Tensor<B, D>> {
    let (x, w) = (lower(input)?, lower(weight)?);
    if input.dtype() != DType::F32 {
        return None;
    }
    let (inner, scale) = (
        wrap::<D>(x.primitive.clone()),
        wrap::<1>(w.primitive.clone()),
    );
    let state = NormState {
        input: x.primitive.clone(),
        weight: w.primitive.clone(),
        epsilon: epsilon as f32,
    };
    let output = match bias {
        Some(bias) => {
            let b = lower(bias)?;
            let shift = wrap::<1>(b.primitive.clone());
            let output = super::layer_norm(inner, scale, shift, epsilon);
            record!(LayerNormStep, [x, w, b], state, unwrap(output))
        }
        None => {
            let output = super::rms_norm(inner, scale, epsilon);
            record!(RmsNormStep, [x, w], state, unwrap(output))
        }
    };
    Some(primitive::raise(output))
}

#[derive(Debug, Clone)]
struct NormState {
    input: FlexTensor,
    weight: FlexTensor,
    epsilon: f32,
}

#[derive(Debug)]
struct LayerNormStep;

#[derive(Debug)]
struct RmsNormStep;

impl Backward<Flex, 3> for LayerNormStep {
    type State = NormState;

    fn backward(self, ops: Ops<NormState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [input, weight, bias] = ops.parents;
        let NormState {
            input: x,
            weight: w,
            epsilon,
        } = ops.state;
        let (x, w) = (contiguous(x), contiguous(w));
        let width = floats(&w).len();
        let mut dx = vec![0f32; floats(&x).len()];
        let mut dw = weight.is_some().then(|| vec![0f32; width]);
        let mut db = bias.is_some().then(|| vec![0f32; width]);
        cpu::layer_norm_backward(
            floats(&x),
            floats(&w),
            epsilon,
            floats(&gradient),
            &mut dx,
            dw.as_deref_mut(),
            db.as_deref_mut(),
        );
        if let Some(node) = input {
            grads.register::<Flex>(node.id, like(dx, &x));
        }
        for (node, values) in [(weight, dw), (bias, db)] {
            if let (Some(node), Some(values)) = (node, values) {
                grads.register::<Flex>(node.id, like(values, &w));
            }
        }
    }
}

impl Backward<Flex, 2> for RmsNormStep {
    type State = NormState;

    fn backward(self, ops: Ops<NormState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let [input, weight] = ops.parents;
        let NormState {
            input: x,
            weight: w,
            epsilon,
        } = ops.state;
        let (x, w) = (contiguous(x), contiguous(w));
        let mut dx = vec![0f32; floats(&x).len()];
        let mut dw = weight.is_some().then(|| vec![0f32; floats(&w).len()]);
        cpu::rms_norm_backward(
            floats(&x),
            floats(&w),
            epsilon,
            floats(&gradient),
            &mut dx,
            dw.as_deref_mut(),
        );
        if let Some(node) = input {
            grads.register::<Flex>(node.id, like(dx, &x));
        }
        if let (Some(node), Some(dw)) = (weight, dw) {
            grads.register::<Flex>(node.id, like(dw, &w));
        }
    }
}

/// [`plain::cross_entropy`](super::plain::cross_entropy) with gradients.
pub fn cross_entropy<B: Backend>(scores: &Tensor<B, 2>, targets: &[u32]) -> Option<Tensor<B, 1>> {
    let x = lower(scores)?;
    if scores.dtype() != DType::F32 {
        return None;
    }
    // The gradient of a sum of losses is known as soon as they are.
    let mut gradient = floats(&contiguous(x.primitive.clone())).to_vec();
    let targets: Vec<i64> = targets.iter().map(|id| i64::from(*id)).collect();
    let mut losses = vec![0f32; targets.len()];
    cpu::cross_entropy_with_gradient(&mut gradient, &targets, 1.0, &mut losses);
    let sum = unwrap(raise::<Flex, 1>(vec![total(&losses)], [1]));
    let state = unwrap(raise::<Flex, 2>(gradient, scores.dims()));
    Some(primitive::raise(record!(CrossEntropyStep, [x], state, sum)))
}

#[derive(Debug)]
struct CrossEntropyStep;

impl Backward<Flex, 1> for CrossEntropyStep {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let factor = contiguous(grads.consume::<Flex>(&ops.node));
        let [Some(node)] = ops.parents else { return };
        let scaled = wrap::<2>(ops.state).mul_scalar(floats(&factor)[0]);
        grads.register::<Flex>(node.id, unwrap(scaled));
    }
}

/// How channels are paired when heads are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// `(i, i + rotary_dim / 2)`: [`plain::rotate`](super::plain::rotate).
    Halves,
    /// `(2i, 2i + 1)`: [`plain::rotate_pairs`](super::plain::rotate_pairs).
    Neighbours,
}

/// Rotates heads, with gradients, in place where nobody else holds them; the angles have none.
///
/// # Errors
/// Gives the input back where burn's operations serve better.
pub fn rotate<B: Backend>(
    input: Tensor<B, 4>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
    pairing: Pairing,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let (Some(cos), Some(sin)) = (lower(cos), lower(sin)) else {
        return Err(input);
    };
    if input.dtype() != DType::F32 {
        return Err(input);
    }
    let [cos, sin] = [cos, sin].map(|table| wrap::<4>(table.primitive));
    let x: Tracked = primitive::take(input);
    let heads = wrap::<4>(x.primitive);
    let output = rope(heads, &cos, &sin, pairing, Rotation::Forward)
        .expect("flex rotates numbers in single precision");
    let state = (pairing, cos, sin);
    let output = unwrap(output);
    Ok(primitive::raise(
        match RotationStep
            .prepare::<NoCheckpointing>([x.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(step) => step.finish(state, output),
            OpsKind::UnTracked(step) => step.finish(output),
        },
    ))
}

#[derive(Debug)]
struct RotationStep;

impl Backward<Flex, 1> for RotationStep {
    type State = (Pairing, Tensor<Flex, 4>, Tensor<Flex, 4>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = wrap::<4>(grads.consume::<Flex>(&ops.node));
        let [Some(node)] = ops.parents else { return };
        let (pairing, cos, sin) = ops.state;
        let turned = rope(gradient, &cos, &sin, pairing, Rotation::Inverse)
            .expect("a gradient is of the kind of its tensor");
        grads.register::<Flex>(node.id, unwrap(turned));
    }
}

/// [`plain::attention`](super::plain::attention) with gradients.
pub fn attention<B: Backend>(
    query: &Tensor<B, 4>,
    key: &Tensor<B, 4>,
    value: &Tensor<B, 4>,
    mask: &Mask,
    scale: f64,
    rounds: bool,
) -> Option<Tensor<B, 3>> {
    let (q, k, v) = (lower(query)?, lower(key)?, lower(value)?);
    if [query, key, value]
        .iter()
        .any(|part| part.dtype() != DType::F32)
    {
        return None;
    }
    let ([batch, query_heads, query_len, head_dim], [_, kv_heads, kv_len, _]) =
        (query.dims(), key.dims());
    let shape = cpu::AttentionShape {
        batch,
        query_heads,
        kv_heads,
        query_len,
        kv_len,
        head_dim,
    };
    let mut output = vec![0f32; batch * query_len * query_heads * head_dim];
    let mut lse = vec![0f32; batch * query_heads * query_len];
    let mut segments = Vec::new();
    let inner = [&q, &k, &v].map(|part| part.primitive.clone());
    cpu::attention(
        heads(&inner[0])?,
        heads(&inner[1])?,
        heads(&inner[2])?,
        &mut output,
        AttentionStrides::rows_first(query_heads, query_len, head_dim),
        shape,
        scale as f32,
        attention_mask(mask, &mut segments),
        rounds,
        Some(&mut lse),
    );
    let output = raise::<Flex, 3>(output, [batch, query_len, query_heads * head_dim]);
    let output = unwrap(output);
    let state = AttentionState {
        inner,
        output: output.clone(),
        lse,
        shape,
        scale: scale as f32,
        mask: mask.clone(),
        rounds,
    };
    Some(primitive::raise(record!(
        AttentionStep,
        [q, k, v],
        state,
        output
    )))
}

#[derive(Debug)]
struct AttentionStep;

#[derive(Debug, Clone)]
struct AttentionState {
    inner: [FlexTensor; 3],
    output: FlexTensor,
    lse: Vec<f32>,
    shape: cpu::AttentionShape,
    scale: f32,
    mask: Mask,
    rounds: bool,
}

impl Backward<Flex, 3> for AttentionStep {
    type State = AttentionState;

    fn backward(self, ops: Ops<AttentionState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(grads.consume::<Flex>(&ops.node));
        let state = ops.state;
        let cpu::AttentionShape {
            batch,
            query_heads,
            kv_heads,
            query_len,
            kv_len,
            head_dim,
        } = state.shape;
        let strides = AttentionStrides::rows_first(query_heads, query_len, head_dim);
        let rows = |data| cpu::AttentionView { data, strides };
        let [q, k, v] = &state.inner;
        let [q, k, v] = [q, k, v].map(|part| heads(part).expect("the forward pass has read it"));
        let mut segments = Vec::new();
        let call = AttentionGradient {
            q,
            k,
            v,
            out: rows(floats(&state.output)),
            lse: &state.lse,
            dout: rows(floats(&gradient)),
            shape: state.shape,
            scale: state.scale,
            mask: attention_mask(&state.mask, &mut segments),
            rounds: state.rounds,
        };
        let shapes = [
            [batch, query_len, query_heads, head_dim],
            [batch, kv_len, kv_heads, head_dim],
            [batch, kv_len, kv_heads, head_dim],
        ];
        let mut gradients = shapes.map(|shape| vec![0f32; shape.iter().product()]);
        let [dq, dk, dv] = &mut gradients;
        call.compute(dq, dk, dv);
        for ((node, values), shape) in ops.parents.into_iter().zip(gradients).zip(shapes) {
            if let Some(node) = node {
                // Heads as a view: behind the projection's own turn it lies as it is used.
                let heads = raise::<Flex, 4>(values, shape).swap_dims(1, 2);
                grads.register::<Flex>(node.id, unwrap(heads));
            }
        }
    }
}

#[cfg(test)]
mod tests;
