//! Dropout whose draws are made where they are used.

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{Tensor, TensorMetadata, backend::Backend},
};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::{
    Gpu,
    launch::{elementwise, empty, lanes, rows},
    plain,
    primitive::raise,
    tracked,
    tracked::record,
};
use crate::nn::kernel::plain::Keep;
use bunny_base::random::MIX32;

/// [`plain::dropout`](crate::nn::kernel::plain::dropout): the same draws.
pub fn dropout<B: Backend, K: Gpu, const D: usize>(
    input: &Tensor<B, D>,
    probability: f64,
    key: u64,
) -> Option<Tensor<B, D>> {
    let keep = Keep::new(probability, key);
    if let Some(input) = plain::<B, K, D>(input) {
        return Some(raise(drop_some(input, keep)));
    }
    let x = tracked::<B, K, D>(input)?;
    let output = drop_some(x.primitive.clone(), keep);
    Some(raise(record!(K, DropoutStep, [x], keep, output)))
}

#[derive(Debug)]
struct DropoutStep;

impl<K: Gpu> Backward<K, 1> for DropoutStep {
    type State = Keep;

    fn backward(self, ops: Ops<Keep, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        grads.register::<K>(node.id, drop_some(gradient, ops.state));
    }
}

pub fn drop_some<R: CubeRuntime>(input: CubeTensor<R>, keep: Keep) -> CubeTensor<R> {
    let (dtype, shape) = (input.dtype, input.shape());
    let input = rows(input);
    let output = empty(&input.tensor, shape, dtype);
    let count = input.count * input.width;
    let lanes = lanes(&[&input]);
    let (cubes, threads) = elementwise(count / lanes);
    // SAFETY: no thread reads or writes beyond `count` elements.
    unsafe {
        dropout_kernel::launch_unchecked::<R>(
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
