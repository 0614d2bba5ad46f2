//! The flex backend's tensors as slices, and [`bunny_kernels`] on them.
//!
//! Numbers are read in place, weights straight from the mapped file. Every other backend is sent on.

use bunny_kernels::{
    self as cpu, AdamStep, AttentionShape, AttentionStrides, AttentionView, NewtonSchulz,
    RopeShape, Rotation, WeightRef,
};
use burn::tensor::{Bytes, DType, Tensor, backend::Backend, bf16, f16};
use burn_flex::{FlexTensor, Layout};

use super::{primitive, tracked::Pairing};
use crate::nn::{Activation, Mask, Phase};

/// Whether `B` is the flex backend.
fn is_flex<B: Backend>() -> bool {
    primitive::is::<B, FlexTensor>()
}

/// The flex tensor that `tensor` is; `B` must be the flex backend.
fn lower<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FlexTensor {
    primitive::take(tensor)
}

/// The tensor that holds `values`; `B` must be the flex backend.
pub(super) fn raise<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
) -> Tensor<B, D> {
    let layout = Layout::contiguous(shape.into());
    let values = Bytes::from_elems(values);
    primitive::raise(FlexTensor::new(values, layout, DType::F32))
}

/// The numbers of a contiguous f32 tensor, which [`contiguous`] gives.
pub(super) fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor is contiguous and f32")
}

/// The same tensor with its numbers side by side.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.as_slice::<f32>().is_some() {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// A weight's numbers, in place.
pub(super) fn weight_ref(weight: &FlexTensor) -> Option<WeightRef<'_>> {
    match weight.dtype() {
        DType::F32 => weight.as_slice().map(WeightRef::F32),
        DType::F16 => weight.as_slice::<f16>().map(WeightRef::F16),
        DType::BF16 => weight.as_slice::<bf16>().map(WeightRef::Bf16),
        _ => None,
    }
}

/// Whether a product with this weight rounds its input to bf16 too: what bf16 models do elsewhere,
/// and twice as fast on processors that multiply such pairs.
pub(super) fn rounds_input(weight: &WeightRef<'_>) -> bool {
    matches!(weight, WeightRef::Bf16(_)) && cpu::has_bf16_dot()
}

/// [`plain::linear`](super::plain::linear), or `None` where burn's operations serve better.
pub fn linear<B: Backend>(
    input: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    bias: Option<&Tensor<B, 1>>,
    phase: Phase,
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
    let (x, rounds) = (floats(&input), rounds_input(&elements));
    match phase {
        Phase::Whole if rounds => {
            cpu::linear_bf16_dot(x, elements, bias, &mut output, rows, inner, out);
        }
        Phase::Whole => cpu::linear(x, elements, bias, &mut output, rows, inner, out),
        Phase::Prefill => {
            cpu::linear_packed(x, elements, bias, &mut output, (rows, inner, out), rounds);
        }
        Phase::Decode => cpu::linear_streamed(x, elements, bias, &mut output, rows, inner, out),
    }
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
            Ok(primitive::raise(tensor))
        }
        None => {
            let mut values = floats(&tensor).to_vec();
            apply(&mut values);
            Ok(raise(values, shape))
        }
    }
}

/// [`plain::layer_norm`](super::plain::layer_norm), or without a bias
/// [`plain::rms_norm`](super::plain::rms_norm); `None` where burn's operations serve better.
pub fn norm<B: Backend, const D: usize>(
    input: &Tensor<B, D>,
    weight: &Tensor<B, 1>,
    bias: Option<&Tensor<B, 1>>,
    epsilon: f64,
) -> Option<Tensor<B, D>> {
    if !is_flex::<B>() || input.dtype() != DType::F32 {
        return None;
    }
    let shape = input.dims();
    let input = contiguous(lower(input.clone()));
    let weight = contiguous(lower(weight.clone()));
    let mut output = vec![0f32; shape.iter().product()];
    let epsilon = epsilon as f32;
    match bias.map(|bias| contiguous(lower(bias.clone()))) {
        Some(bias) => {
            let bias = Some(floats(&bias));
            cpu::layer_norm(floats(&input), floats(&weight), bias, epsilon, &mut output);
        }
        None => cpu::rms_norm(floats(&input), floats(&weight), epsilon, &mut output),
    }
    Some(raise(output, shape))
}

/// [`plain::cross_entropy`](super::plain::cross_entropy), or `None` where burn's operations serve
/// better.
pub fn cross_entropy<B: Backend>(scores: &Tensor<B, 2>, targets: &[u32]) -> Option<Tensor<B, 1>> {
    if !is_flex::<B>() || scores.dtype() != DType::F32 {
        return None;
    }
    let scores = contiguous(lower(scores.clone()));
    let targets: Vec<i64> = targets.iter().map(|id| i64::from(*id)).collect();
    let mut losses = vec![0f32; targets.len()];
    cpu::cross_entropy(floats(&scores), &targets, &mut losses);
    Some(raise(vec![total(&losses)], [1]))
}

/// A sum that does not lose the small ones.
pub(super) fn total(losses: &[f32]) -> f32 {
    losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() as f32
}

/// [`plain::adamw`](super::plain::adamw), the moments in place where nobody else holds them.
///
/// # Errors
/// Gives the moments back where burn's operations serve better.
pub fn adamw<B: Backend>(
    step: AdamStep,
    gradient: &Tensor<B, 1>,
    moments: [Tensor<B, 1>; 2],
    weight: &Tensor<B, 1>,
) -> Result<[Tensor<B, 1>; 3], [Tensor<B, 1>; 2]> {
    let single = |tensor: &Tensor<B, 1>| tensor.dtype() == DType::F32;
    let all_single = moments.iter().chain([gradient, weight]).all(single);
    if !is_flex::<B>() || !all_single {
        return Err(moments);
    }
    let [gradient, weight] = [gradient, weight].map(|part| contiguous(lower(part.clone())));
    let own = |tensor| contiguous(lower(tensor)).into_data().into_vec::<f32>();
    let [mut first, mut second] = moments.map(|moment| own(moment).expect("moments are f32"));
    let mut updated = vec![0f32; first.len()];
    let (g, w) = (floats(&gradient), floats(&weight));
    cpu::adamw(step, g, &mut first, &mut second, w, &mut updated);
    let count = updated.len();
    Ok([first, second, updated].map(|values| raise(values, [count])))
}

/// [`plain::orthogonal`](super::plain::orthogonal), or `None` where burn's operations serve better.
pub fn orthogonal<B: Backend>(
    matrix: &Tensor<B, 2>,
    steps: NewtonSchulz,
    rounds: bool,
) -> Option<Tensor<B, 2>> {
    if !is_flex::<B>() || matrix.dtype() != DType::F32 {
        return None;
    }
    let [rows, columns] = matrix.dims();
    let mut values = floats(&contiguous(lower(matrix.clone()))).to_vec();
    let rounds = rounds && cpu::has_bf16_dot();
    cpu::orthogonal(&mut values, rows, columns, steps, rounds);
    Some(raise(values, [rows, columns]))
}

/// How the heads of a `[batch, heads, rows, head_dim]` tensor lie; `None` when the numbers of a row
/// do not lie side by side.
fn strides(tensor: &FlexTensor) -> Option<AttentionStrides> {
    match *tensor.layout().strides() {
        [batch, head, row, 1] => Some(AttentionStrides {
            batch: usize::try_from(batch).ok()?,
            head: usize::try_from(head).ok()?,
            row: usize::try_from(row).ok()?,
        }),
        _ => None,
    }
}

/// Heads where they lie; `None` when the numbers of a row do not lie side by side.
pub(super) fn heads(tensor: &FlexTensor) -> Option<AttentionView<'_>> {
    Some(AttentionView {
        strides: strides(tensor)?,
        data: &tensor.storage::<f32>()[tensor.layout().start_offset()..],
    })
}

/// Changes the heads of a tensor where they lie, copying them first where somebody else holds them.
fn change_heads<B: Backend>(
    input: Tensor<B, 4>,
    change: impl FnOnce(&mut [f32], AttentionStrides),
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    if !is_flex::<B>() || input.dtype() != DType::F32 {
        return Err(input);
    }
    let mut tensor = lower(input);
    if !tensor.is_unique() || strides(&tensor).is_none() {
        tensor = tensor.to_contiguous();
    }
    let strides = strides(&tensor).expect("a contiguous tensor has its rows in one piece");
    let first = tensor.layout().start_offset();
    change(&mut tensor.storage_mut::<f32>()[first..], strides);
    Ok(primitive::raise(tensor))
}

/// Rotates heads, in place where nobody else holds the tensor.
///
/// # Errors
/// Gives the input back where burn's operations serve better.
pub(super) fn rope<B: Backend>(
    input: Tensor<B, 4>,
    cos: &Tensor<B, 4>,
    sin: &Tensor<B, 4>,
    pairing: Pairing,
    rotation: Rotation,
) -> Result<Tensor<B, 4>, Tensor<B, 4>> {
    let [batch, heads, rows, _] = input.dims();
    let [tables, _, _, width] = cos.dims();
    change_heads(input, |values, strides| {
        let [cos, sin] = [cos, sin].map(|table| contiguous(lower(table.clone())));
        let (cos, sin) = (floats(&cos), floats(&sin));
        let shape = |rotary_dim| RopeShape {
            batch,
            heads,
            rows,
            rotary_dim,
        };
        match pairing {
            Pairing::Halves => {
                let row_of =
                    |batch: usize, row: usize| if tables == 1 { row } else { batch * rows + row };
                let places: Vec<usize> = (0..batch)
                    .flat_map(|batch| (0..rows).map(move |row| row_of(batch, row)))
                    .collect();
                cpu::rope(
                    values,
                    strides,
                    shape(2 * width),
                    &places,
                    cos,
                    sin,
                    rotation,
                );
            }
            Pairing::Neighbours => {
                cpu::rope_interleaved(values, strides, shape(width), cos, sin, rotation);
            }
        }
    })
}

/// The kernels' form of a mask; `segments` is where packed texts' ids are laid end to end.
pub(super) fn attention_mask<'a>(
    mask: &'a Mask,
    segments: &'a mut Vec<u32>,
) -> cpu::AttentionMask<'a> {
    match mask {
        Mask::Full => cpu::AttentionMask::None,
        Mask::Causal { starts } => cpu::AttentionMask::Causal {
            starts: (!starts.is_empty()).then_some(starts.as_slice()),
        },
        Mask::Segments { ids } => {
            *segments = ids.concat();
            cpu::AttentionMask::Segments(segments)
        }
    }
}

/// [`plain::attention`](super::plain::attention), or `None` where burn's operations serve better.
pub fn attention<B: Backend>(
    query: &Tensor<B, 4>,
    key: &Tensor<B, 4>,
    value: &Tensor<B, 4>,
    mask: &Mask,
    scale: f64,
    rounds: bool,
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
    let mut segments = Vec::new();
    let mask = attention_mask(mask, &mut segments);
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
        rounds,
        None,
    );
    Some(raise(output, [batch, query_len, query_heads * head_dim]))
}
