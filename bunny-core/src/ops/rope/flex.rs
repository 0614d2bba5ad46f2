//! Rotations by the CPU's kernels, in place where nobody else holds the heads.

use bunny_kernels::{RopeShape, Rotation};
use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::{Pairing, autodiff::RotationKernel};
use crate::ops::flex::{Flex, change_heads, contiguous, dims, floats};

impl RotationKernel for Flex {
    fn takes(_: Pairing, types: [DType; 3]) -> bool {
        types == [DType::F32; 3]
    }

    fn turn(
        input: FlexTensor,
        angles: [FlexTensor; 2],
        pairing: Pairing,
        rotation: Rotation,
    ) -> FlexTensor {
        let [batch, heads, rows, _] = dims(&input);
        let [tables, _, _, width] = dims(&angles[0]);
        let angles = angles.map(contiguous);
        let [cos, sin] = angles.each_ref().map(floats);
        let shape = |rotary_dim| RopeShape {
            batch,
            heads,
            rows,
            rotary_dim,
        };
        change_heads(input, |values, strides| match pairing {
            Pairing::Halves => {
                // One table for all rows of the batch, or one for each.
                let first = |batch| if tables == 1 { 0 } else { batch * rows };
                let places: Vec<usize> = (0..batch)
                    .flat_map(|batch| (0..rows).map(move |row| first(batch) + row))
                    .collect();
                let shape = shape(2 * width);
                bunny_kernels::rope(values, strides, shape, &places, cos, sin, rotation);
            }
            Pairing::Neighbours => {
                bunny_kernels::rope_interleaved(values, strides, shape(width), cos, sin, rotation);
            }
        })
    }
}
