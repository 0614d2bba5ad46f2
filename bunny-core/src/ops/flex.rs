//! The flex backend's tensors as slices: numbers are read in place, weights straight from the mapped
//! file.

use bunny_kernels::{AttentionStrides, AttentionView};
use burn::tensor::{Bytes, DType, Shape, TensorMetadata};
use burn_flex::{FlexTensor, Layout};

/// The backend whose tensors these are.
pub type Flex = burn_flex::Flex;

/// A tensor of these numbers.
pub fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    let layout = Layout::contiguous(shape.into());
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// The numbers as a tensor of the shape of `other`.
pub fn like(values: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    tensor(values, other.shape())
}

/// The sides of a tensor of `D` dimensions.
pub fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|dim| shape[dim])
}

/// The numbers of a contiguous f32 tensor, which [`contiguous`] gives.
pub fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("the tensor is contiguous and f32")
}

/// The same tensor with its numbers side by side.
pub fn contiguous(tensor: FlexTensor) -> FlexTensor {
    match tensor.is_contiguous() {
        true => tensor,
        false => tensor.to_contiguous(),
    }
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

/// The same heads with each row's numbers side by side.
pub fn whole_rows(tensor: FlexTensor) -> FlexTensor {
    match strides(&tensor) {
        Some(_) => tensor,
        None => tensor.to_contiguous(),
    }
}

/// Heads where they lie, which [`whole_rows`] gives.
pub fn heads(tensor: &FlexTensor) -> AttentionView<'_> {
    AttentionView {
        strides: strides(tensor).expect("the tensor has its rows in one piece"),
        data: &tensor.storage::<f32>()[tensor.layout().start_offset()..],
    }
}

/// Changes heads where they lie, copying them first where somebody else holds them.
pub fn change_heads(
    mut tensor: FlexTensor,
    change: impl FnOnce(&mut [f32], AttentionStrides),
) -> FlexTensor {
    if !tensor.is_unique() || strides(&tensor).is_none() {
        tensor = tensor.to_contiguous();
    }
    let strides = strides(&tensor).expect("the tensor has its rows in one piece");
    let first = tensor.layout().start_offset();
    change(&mut tensor.storage_mut::<f32>()[first..], strides);
    tensor
}
