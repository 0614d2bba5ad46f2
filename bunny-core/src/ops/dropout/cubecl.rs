//! Dropout whose draws are made where they are used.

use bunny_base::random::MIX32;
use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::TensorMetadata,
};
use burn_cubecl::{
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::Keep;
use crate::ops::{
    autodiff::{Tracked, record},
    gpu::{
        Gpu,
        launch::{elementwise, empty, lanes, rows},
    },
};

/// [`dropout`](super::dropout) where gradients are kept.
pub fn tracked<K: Gpu>(input: &Tracked<K>, keep: Keep) -> Tracked<K> {
    let output = drop_some::<K>(input.primitive.clone(), keep);
    let step = DropoutStep.prepare([input.node.clone()]);
    record::<K, _, 1>(step, || keep, output)
}

#[derive(Debug)]
struct DropoutStep;

impl<K: Gpu> Backward<K, 1> for DropoutStep {
    type State = Keep;

    fn backward(self, ops: Ops<Keep, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        grads.register::<K>(node.id, drop_some::<K>(gradient, ops.state));
    }
}

/// [`dropout`](super::dropout): the same draws as anywhere.
pub fn drop_some<K: Gpu>(input: CubeTensor<K::Runtime>, keep: Keep) -> CubeTensor<K::Runtime> {
    let (dtype, shape) = (input.dtype, input.shape());
    let input = rows(input);
    let output = empty(&input.tensor, shape, dtype);
    let count = input.count * input.width;
    let lanes = lanes(&[&input]);
    let (cubes, threads) = elementwise(count / lanes);
    // SAFETY: no thread reads or writes beyond `count` elements.
    unsafe {
        dropout_kernel::launch_unchecked::<K::Runtime>(
            &output.client,
            cubes,
            threads,
            lanes,
            input.tensor.into_array_arg(),
            output.clone().into_array_arg(),
            count / lanes,
            input.width / lanes,
            input.stride / lanes,
            keep.keys[0],
            keep.keys[1],
            keep.bound,
            keep.scale,
            dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked)]
fn dropout_kernel<F: Float, N: Size>(
    input: &Array<Vector<F, N>>,
    output: &mut Array<Vector<F, N>>,
    count: usize,
    width: usize,
    stride: usize,
    key: u32,
    second_key: u32,
    bound: u32,
    scale: f32,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= count {
        terminate!();
    }
    let lanes = N::value().comptime();
    let x = input[at / width * stride + at % width];
    let mut y = Vector::<F, N>::empty();
    #[unroll]
    for lane in 0..lanes {
        let place = u32::cast_from(at * lanes + lane);
        let bits = mix32(mix32(place ^ key) ^ second_key);
        let mut kept = 0.0f32;
        if bits >= bound {
            kept = f32::cast_from(x[lane]) * scale;
        }
        y[lane] = F::cast_from(kept);
    }
    output[at] = y;
}

/// [`random::mix32`](bunny_base::random::mix32).
#[cube]
fn mix32(key: u32) -> u32 {
    let key = (key ^ (key >> 16)) * comptime!(MIX32[0]);
    let key = (key ^ (key >> 15)) * comptime!(MIX32[1]);
    key ^ (key >> 16)
}
