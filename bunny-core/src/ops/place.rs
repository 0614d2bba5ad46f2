//! Which backend is this: asked once, in [`Place::of`], whatever the operation.
//!
//! A [`Backend`]'s float primitive is `'static`, so it can be asked whether it is a type known here,
//! and taken as that type; nothing is copied on the way in or out. No trait of ours is in the way of
//! a backend that is not known: burn's operations serve it.

use std::any::{Any, TypeId};

#[cfg(any(feature = "flex", feature = "cuda", feature = "wgpu"))]
use burn::backend::Autodiff;
#[cfg(any(feature = "flex", feature = "cuda", feature = "wgpu"))]
use burn::tensor::Int;
use burn::tensor::{Tensor, TensorPrimitive, backend::Backend};

#[cfg(feature = "flex")]
use super::flex::Flex;
#[cfg(feature = "cuda")]
use super::gpu::Cuda;
#[cfg(feature = "wgpu")]
use super::gpu::Wgpu;

/// A backend that has kernels here, alone or within burn's `Autodiff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "flex")]
    FlexAutodiff,
    #[cfg(feature = "cuda")]
    Cuda,
    #[cfg(feature = "cuda")]
    CudaAutodiff,
    #[cfg(feature = "wgpu")]
    Wgpu,
    #[cfg(feature = "wgpu")]
    WgpuAutodiff,
    /// Any other, or fused tensors, which are of a kind of their own.
    Other,
}

impl Place {
    /// The place whose tensors those of `B` are.
    pub fn of<B: Backend>() -> Self {
        let known: &[(TypeId, Self)] = &[
            #[cfg(feature = "flex")]
            (tensors_of::<Flex>(), Self::Flex),
            #[cfg(feature = "flex")]
            (tensors_of::<Autodiff<Flex>>(), Self::FlexAutodiff),
            #[cfg(feature = "cuda")]
            (tensors_of::<Cuda>(), Self::Cuda),
            #[cfg(feature = "cuda")]
            (tensors_of::<Autodiff<Cuda>>(), Self::CudaAutodiff),
            #[cfg(feature = "wgpu")]
            (tensors_of::<Wgpu>(), Self::Wgpu),
            #[cfg(feature = "wgpu")]
            (tensors_of::<Autodiff<Wgpu>>(), Self::WgpuAutodiff),
        ];
        let own = tensors_of::<B>();
        known
            .iter()
            .find(|(tensors, _)| *tensors == own)
            .map_or(Self::Other, |(_, place)| *place)
    }
}

fn tensors_of<B: Backend>() -> TypeId {
    TypeId::of::<B::FloatTensorPrimitive>()
}

/// Computes with the kernels of whichever backend `B` is:
///
/// ```text
/// at_place!(B;
///     plain<K> if … => …,      K is flex, CUDA's or wgpu's backend, and B's tensors are K's
///     autodiff<K> if … => …,   the same, and B's tensors are those of Autodiff<K>
///     else => …                every other backend, and what a condition turned away
/// )
/// ```
///
/// Arms may be left out, and so may conditions. Within them [`lower`] and [`view`] give K's tensors,
/// and [`raise`] gives them back.
macro_rules! at_place {
    (
        $b:ty;
        $(plain<$k:ident> $(if $serves:expr)? => $plain:expr,)?
        $(autodiff<$a:ident> $(if $tracks:expr)? => $tracked:expr,)?
        else => $other:expr $(,)?
    ) => {{
        use $crate::ops::place::Place;
        #[allow(clippy::match_single_binding, reason = "a build may have no such backend")]
        match Place::of::<$b>() {
            $(
                #[cfg(feature = "flex")]
                Place::Flex $(if $crate::ops::place::about!($k, flex::Flex, $serves))? => {
                    $crate::ops::place::serve!($k, flex::Flex, $plain)
                }
                #[cfg(feature = "cuda")]
                Place::Cuda $(if $crate::ops::place::about!($k, gpu::Cuda, $serves))? => {
                    $crate::ops::place::serve!($k, gpu::Cuda, $plain)
                }
                #[cfg(feature = "wgpu")]
                Place::Wgpu $(if $crate::ops::place::about!($k, gpu::Wgpu, $serves))? => {
                    $crate::ops::place::serve!($k, gpu::Wgpu, $plain)
                }
            )?
            $(
                #[cfg(feature = "flex")]
                Place::FlexAutodiff $(if $crate::ops::place::about!($a, flex::Flex, $tracks))? => {
                    $crate::ops::place::serve!($a, flex::Flex, $tracked)
                }
                #[cfg(feature = "cuda")]
                Place::CudaAutodiff $(if $crate::ops::place::about!($a, gpu::Cuda, $tracks))? => {
                    $crate::ops::place::serve!($a, gpu::Cuda, $tracked)
                }
                #[cfg(feature = "wgpu")]
                Place::WgpuAutodiff $(if $crate::ops::place::about!($a, gpu::Wgpu, $tracks))? => {
                    $crate::ops::place::serve!($a, gpu::Wgpu, $tracked)
                }
            )?
            _ => $other,
        }
    }};
}

/// [`at_place`] for what is faster on GPUs alone.
macro_rules! on_gpu {
    (
        $b:ty;
        $(plain<$k:ident> $(if $serves:expr)? => $plain:expr,)?
        $(autodiff<$a:ident> $(if $tracks:expr)? => $tracked:expr,)?
        else => $other:expr $(,)?
    ) => {{
        use $crate::ops::place::Place;
        #[allow(clippy::match_single_binding, reason = "a build may have no such backend")]
        match Place::of::<$b>() {
            $(
                #[cfg(feature = "cuda")]
                Place::Cuda $(if $crate::ops::place::about!($k, gpu::Cuda, $serves))? => {
                    $crate::ops::place::serve!($k, gpu::Cuda, $plain)
                }
                #[cfg(feature = "wgpu")]
                Place::Wgpu $(if $crate::ops::place::about!($k, gpu::Wgpu, $serves))? => {
                    $crate::ops::place::serve!($k, gpu::Wgpu, $plain)
                }
            )?
            $(
                #[cfg(feature = "cuda")]
                Place::CudaAutodiff $(if $crate::ops::place::about!($a, gpu::Cuda, $tracks))? => {
                    $crate::ops::place::serve!($a, gpu::Cuda, $tracked)
                }
                #[cfg(feature = "wgpu")]
                Place::WgpuAutodiff $(if $crate::ops::place::about!($a, gpu::Wgpu, $tracks))? => {
                    $crate::ops::place::serve!($a, gpu::Wgpu, $tracked)
                }
            )?
            _ => $other,
        }
    }};
}

/// What the backend `$k` computes.
macro_rules! serve {
    ($k:ident, $room:ident::$backend:ident, $expression:expr) => {{
        #[cfg(test)]
        $crate::ops::place::count_kernel();
        $crate::ops::place::about!($k, $room::$backend, $expression)
    }};
}

/// An expression about the backend `$k`.
macro_rules! about {
    ($k:ident, $room:ident::$backend:ident, $expression:expr) => {{
        #[allow(unused_imports, reason = "not every arm needs all of them")]
        use $crate::ops::place::{lower, raise, view};
        #[allow(dead_code, reason = "nor does every condition")]
        type $k = $crate::ops::$room::$backend;
        $expression
    }};
}

pub(super) use {about, at_place, on_gpu, serve};

#[cfg(test)]
thread_local! {
    static SERVED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Notes that a kernel was chosen.
#[cfg(test)]
pub fn count_kernel() {
    SERVED.set(SERVED.get() + 1);
}

/// What `work` gives, when a kernel has part in it.
#[cfg(test)]
pub fn served<T>(work: impl FnOnce() -> T) -> T {
    let before = SERVED.get();
    let output = work();
    assert!(SERVED.get() > before, "a kernel serves");
    output
}

/// The primitive that `tensor` is, whose only holder it may be.
///
/// # Panics
/// When the tensors of `B` are no `P`.
pub fn lower<B: Backend, P: 'static, const D: usize>(tensor: Tensor<B, D>) -> P {
    convert(tensor.into_primitive().tensor())
}

/// [`lower`] beside a tensor that stays.
///
/// # Panics
/// When the tensors of `B` are no `P`.
pub fn view<B: Backend, P: 'static, const D: usize>(tensor: &Tensor<B, D>) -> P {
    lower(tensor.clone())
}

/// The primitive of whole numbers, which are of the same kind.
///
/// # Panics
/// When the tensors of `B` are no `P`.
#[cfg(any(feature = "flex", feature = "cuda", feature = "wgpu"))]
pub fn lower_int<B: Backend, P: 'static, const D: usize>(tensor: Tensor<B, D, Int>) -> P {
    convert(tensor.into_primitive())
}

/// The tensor that a primitive of `B` is.
///
/// # Panics
/// When the tensors of `B` are no `P`.
pub fn raise<B: Backend, P: 'static, const D: usize>(primitive: P) -> Tensor<B, D> {
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
