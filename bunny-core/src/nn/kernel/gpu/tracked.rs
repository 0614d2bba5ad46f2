//! Steps of burn's graph whose way back is a kernel.

use burn::tensor::{Tensor, TensorPrimitive};
use burn_cubecl::tensor::CubeTensor;

use super::Gpu;

/// A primitive as a tensor, for burn's operations on it.
pub fn wrap<K: Gpu, const D: usize>(primitive: CubeTensor<K::Runtime>) -> Tensor<K, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A tensor's primitive.
pub fn unwrap<K: Gpu, const D: usize>(tensor: Tensor<K, D>) -> CubeTensor<K::Runtime> {
    tensor.into_primitive().tensor()
}

/// Whether gradients are wanted of a tracked tensor.
macro_rules! wants {
    ($tracked:expr) => {
        !$tracked.node.requirement.is_none()
    };
}

/// Adds a step to the graph behind `output`, or none where no parent wants gradients; `state` is
/// only made when it is needed.
macro_rules! record {
    ($backend:ty, $step:expr, [$($parent:expr),+], $state:expr, $output:expr) => {{
        use burn::backend::autodiff::{
            checkpoint::strategy::NoCheckpointing,
            ops::{Backward, OpsKind},
        };
        match Backward::<$backend, _>::prepare::<NoCheckpointing>($step, [$($parent.node.clone()),+])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(step) => step.finish($state, $output),
            OpsKind::UnTracked(step) => step.finish($output),
        }
    }};
}

pub(super) use {record, wants};
