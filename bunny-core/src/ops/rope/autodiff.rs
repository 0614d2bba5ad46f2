//! What a backend's own rotations are, and how their gradients come back.

use bunny_kernels::Rotation;
use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{DType, backend::Backend, ops::FloatTensor},
};

use super::Pairing;
use crate::ops::autodiff::{Tracked, record};

/// A backend's own rotations.
pub trait RotationKernel: Backend {
    /// Whether there is one of this kind for heads, cosines and sines of these types.
    fn takes(pairing: Pairing, types: [DType; 3]) -> bool;

    /// Turns heads by angles, whose cosines and sines are given.
    fn turn(
        input: FloatTensor<Self>,
        angles: [FloatTensor<Self>; 2],
        pairing: Pairing,
        rotation: Rotation,
    ) -> FloatTensor<Self>;
}

/// [`RotationKernel::turn`] where gradients are kept; the angles have none.
pub fn turn<K: RotationKernel>(
    input: Tracked<K>,
    angles: [&Tracked<K>; 2],
    pairing: Pairing,
) -> Tracked<K> {
    let angles = angles.map(|table| table.primitive.clone());
    let output = K::turn(input.primitive, angles.clone(), pairing, Rotation::Forward);
    let step = RotationStep.prepare([input.node]);
    record::<K, _, 1>(step, || (pairing, angles), output)
}

#[derive(Debug)]
struct RotationStep;

impl<K: RotationKernel> Backward<K, 1> for RotationStep {
    type State = (Pairing, [FloatTensor<K>; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        let (pairing, angles) = ops.state;
        let turned = K::turn(gradient, angles, pairing, Rotation::Inverse);
        grads.register::<K>(node.id, turned);
    }
}
