//! What a backend's tensor is underneath.
//!
//! A [`Backend`]'s float primitive is `'static`, so it can be asked whether it is a type known here;
//! nothing is copied on the way in or out.

use std::any::{Any, TypeId};

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use burn::tensor::Int;
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};

/// Whether the float tensors of `B` are `P`.
pub(super) fn is<B: Backend, P: 'static>() -> bool {
    TypeId::of::<B::FloatTensorPrimitive>() == TypeId::of::<P>()
}

/// The primitive of `tensor`, if it is a `P`.
pub(super) fn lower<B: Backend, P: 'static, const D: usize>(tensor: &Tensor<B, D>) -> Option<P> {
    is::<B, P>().then(|| take(tensor.clone()))
}

/// [`lower`] without leaving a second holder behind.
///
/// # Panics
/// When the tensors of `B` are none.
pub(super) fn take<B: Backend, P: 'static, const D: usize>(tensor: Tensor<B, D>) -> P {
    convert(tensor.into_primitive().tensor())
}

/// The primitive of whole numbers, which are a `P` as those of floats are.
///
/// # Panics
/// When the tensors of `B` are none.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) fn take_int<B: Backend, P: 'static, const D: usize>(tensor: Tensor<B, D, Int>) -> P {
    convert(tensor.into_primitive())
}

/// The tensor that a primitive of `B` is.
///
/// # Panics
/// When the tensors of `B` are no `P`.
pub(super) fn raise<B: Backend, P: 'static, const D: usize>(primitive: P) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(convert(primitive)))
}

/// A value as the type that it has.
fn convert<From: 'static, To: 'static>(value: From) -> To {
    let mut value = Some(value);
    let value: &mut dyn Any = &mut value;
    value
        .downcast_mut::<Option<To>>()
        .and_then(Option::take)
        .expect("the backend's tensors are of this type")
}
