//! Which backend is at hand, and how its tensors are seen as slices.
//!
//! The one place that knows backends by name. A [`Backend`]'s float primitive is `'static`, so it
//! can be asked what it is: on the flex backend a tensor's numbers are read in place, weights
//! straight from the mapped file, and the kernels of [`cpu`](super::cpu) run on them. Every other
//! backend gets burn's own operations.

use std::any::{Any, TypeId};

use burn::tensor::{Bytes, DType, Tensor, TensorPrimitive, backend::Backend, bf16, f16};
use burn_flex::{FlexTensor, Layout};

use super::cpu::{self, AttentionShape, AttentionStrides, AttentionView, WeightRef};
use crate::nn::{Activation, Mask};

/// Whether `B` is the flex backend.
fn is_flex<B: Backend>() -> bool {
    TypeId::of::<B::FloatTensorPrimitive>() == TypeId::of::<FlexTensor>()
}

/// The flex tensor that `tensor` is; `B` must be the flex backend.
fn lower<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FlexTensor {
    let mut primitive = Some(tensor.into_primitive().tensor());
    let primitive: &mut dyn Any = &mut primitive;
    primitive
        .downcast_mut::<Option<FlexTensor>>()
        .and_then(Option::take)
        .expect("the backend is flex")
}

/// The tensor that holds `values`; `B` must be the flex backend.
fn raise<B: Backend, const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<B, D> {
    let layout = Layout::contiguous(shape.into());
    raise_flex(FlexTensor::new(
        Bytes::from_elems(values),
        layout,
        DType::F32,
    ))
}

fn raise_flex<B: Backend, const D: usize>(tensor: FlexTensor) -> Tensor<B, D> {
    let mut tensor = Some(tensor);
    let tensor: &mut dyn Any = &mut tensor;
    let primitive = tensor
        .downcast_mut::<Option<B::FloatTensorPrimitive>>()
        .and_then(Option::take)
        .expect("the backend is flex");
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The numbers of a contiguous f32 tensor, which [`contiguous`] gives.
fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor is contiguous and f32")
}

/// The same tensor with its numbers side by side.
fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A weight's numbers, in place.
fn weight_ref(weight: &FlexTensor) -> Option<WeightRef<'_>> {
    match weight.dtype() {
        DType::F32 => weight.as_slice().map(WeightRef::F32),
        DType::F16 => weight.as_slice::<f16>().map(WeightRef::F16),
        DType::BF16 => weight.as_slice::<bf16>().map(WeightRef::Bf16),
        _ => None,
    }
}

/// [`plain::linear`](super::plain::linear), or `None` where burn's operations serve better.
pub fn linear<B: Backend>(
    input: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: Option<&Tensor<B, 1>>,
) -> Option<Tensor<B, 2>> {
    if !is_flex::<B>() || input.dtype() != DType::F32 {
        return None;
    }
    let weight = lower(weight.clone());
    let elements = weight_ref(&weight)?;
    let ([rows, inner], out) = (input.dims(), weight.layout().shape()[0]);
    let input = contiguous(lower(input.clone()));
    let bias = bias.map(|bias| contiguous(lower(bias.clone())));
    let mut output = vec![0f32; rows * out];
    let bias = bias.as_ref().map(floats);
    cpu::linear(
        floats(&input),
        elements,
        bias,
        &mut output,
        rows,
        inner,
        out,
    );
    Some(raise(output, [rows, out]))
}

/// [`plain::activate`](super::plain::activate), in place where nobody else holds the tensor.
///
/// # Errors
/// Gives the input back where burn's operations serve better.
pub fn activate<B: Backend, const D: usize>(
    kind: Activation,
    input: Tensor<B, D>,
) -> Result<Tensor<B, D>, Tensor<B, D>> {
    if !is_flex::<B>() || input.dtype() != DType::F32 {
        return Err(input);
    }
    let shape = input.dims();
    let count = shape.iter().product::<usize>();
    let mut tensor = contiguous(lower(input));
    let apply = |values: &mut [f32]| match kind {
        Activation::GeluTanh => cpu::gelu_tanh(values),
        Activation::Gelu => cpu::gelu_erf(values),
        Activation::Silu => cpu::silu(values),
    };
    let whole = tensor.layout().start_offset() == 0;
    match tensor
        .try_storage_mut::<f32>()
        .filter(|values| whole && values.len() == count)
    {
        Some(values) => {
            apply(values);
            Ok(raise_flex(tensor))
        }
        None => {
            let mut values = floats(&tensor).to_vec();
            apply(&mut values);
            Ok(raise(values, shape))
        }
    }
}

/// Heads of a `[batch, heads, rows, head_dim]` tensor where they lie; `None` when the numbers of a
/// row do not lie side by side.
fn heads(tensor: &FlexTensor) -> Option<AttentionView<'_>> {
    let layout = tensor.layout();
    let strides: Vec<usize> = layout
        .strides()
        .iter()
        .map(|&stride| usize::try_from(stride).ok())
        .collect::<Option<_>>()?;
    let [batch, head, row, 1] = strides[..] else {
        return None;
    };
    Some(AttentionView {
        data: &tensor.storage::<f32>()[layout.start_offset()..],
        strides: AttentionStrides { batch, head, row },
    })
}

/// [`plain::attention`](super::plain::attention), or `None` where burn's operations serve better.
pub fn attention<B: Backend>(
    query: &Tensor<B, 4>,
    key: &Tensor<B, 4>,
    value: &Tensor<B, 4>,
    mask: &Mask,
    scale: f64,
) -> Option<Tensor<B, 3>> {
    if !is_flex::<B>()
        || [query, key, value]
            .iter()
            .any(|part| part.dtype() != DType::F32)
    {
        return None;
    }
    let ([batch, query_heads, query_len, head_dim], [_, kv_heads, kv_len, _]) =
        (query.dims(), key.dims());
    let [query, key, value] = [query, key, value].map(|part| lower(part.clone()));
    let segments: Vec<u32>;
    let mask = match mask {
        Mask::Full => cpu::AttentionMask::None,
        Mask::Causal { starts } => cpu::AttentionMask::Causal {
            starts: (!starts.is_empty()).then_some(starts.as_slice()),
        },
        Mask::Segments { ids } => {
            segments = ids.concat();
            cpu::AttentionMask::Segments(&segments)
        }
    };
    let shape = AttentionShape {
        batch,
        query_heads,
        kv_heads,
        query_len,
        kv_len,
        head_dim,
    };
    let mut output = vec![0f32; batch * query_len * query_heads * head_dim];
    cpu::attention(
        heads(&query)?,
        heads(&key)?,
        heads(&value)?,
        &mut output,
        AttentionStrides::rows_first(query_heads, query_len, head_dim),
        shape,
        scale as f32,
        mask,
        None,
    );
    Some(raise(output, [batch, query_len, query_heads * head_dim]))
}
