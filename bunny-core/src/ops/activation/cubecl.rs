//! The nonlinearities, one pass forward and one back.

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
use crate::nn::Activation;

/// [`plain::activate`](crate::nn::kernel::plain::activate).
pub fn activate<B: Backend, K: Gpu, const D: usize>(
    kind: Activation,
    input: &Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    if let Some(input) = plain::<B, K, D>(input) {
        return Some(raise(forward(kind, input)));
    }
    let input = tracked::<B, K, D>(input)?;
    let output = forward(kind, input.primitive.clone());
    let state = (kind, input.primitive.clone());
    Some(raise(record!(K, ActivationStep, [input], state, output)))
}

#[derive(Debug)]
struct ActivationStep;

impl<K: Gpu> Backward<K, 1> for ActivationStep {
    type State = (Activation, CubeTensor<K::Runtime>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [Some(node)] = ops.parents else { return };
        let (kind, input) = ops.state;
        grads.register::<K>(node.id, backward(kind, input, gradient));
    }
}

fn forward<R: CubeRuntime>(kind: Activation, input: CubeTensor<R>) -> CubeTensor<R> {
    let (dtype, shape) = (input.dtype, input.shape());
    let input = rows(input);
    let output = empty(&input.tensor, shape, dtype);
    let count = input.count * input.width;
    let lanes = lanes(&[&input]);
    let (cubes, threads) = elementwise(count / lanes);
    // SAFETY: no thread reads or writes beyond `count` elements.
    unsafe {
        activation_kernel::launch_unchecked::<R>(
            &output.client,
            cubes,
            threads,
            lanes,
            input.tensor.into_array_arg(),
            output.clone().into_array_arg(),
            count / lanes,
            input.width / lanes,
            input.stride / lanes,
            kind,
            dtype.into(),
        );
    }
    output
}

fn backward<R: CubeRuntime>(
    kind: Activation,
    input: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let (dtype, shape) = (input.dtype, input.shape());
    let (input, gradient) = (rows(input), rows(gradient));
    let output = empty(&input.tensor, shape, dtype);
    let count = input.count * input.width;
    let lanes = lanes(&[&input, &gradient]);
    let (cubes, threads) = elementwise(count / lanes);
    // SAFETY: no thread reads or writes beyond `count` elements.
    unsafe {
        activation_backward_kernel::launch_unchecked::<R>(
            &output.client,
            cubes,
            threads,
            lanes,
            input.tensor.into_array_arg(),
            gradient.tensor.into_array_arg(),
            output.clone().into_array_arg(),
            count / lanes,
            input.width / lanes,
            input.stride / lanes,
            gradient.stride / lanes,
            kind,
            dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked)]
fn activation_kernel<F: Float, N: Size>(
    input: &Array<Vector<F, N>>,
    output: &mut Array<Vector<F, N>>,
    count: usize,
    width: usize,
    stride: usize,
    #[comptime] kind: Activation,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= count {
        terminate!();
    }
    let lanes = N::value().comptime();
    let inputs = input[at / width * stride + at % width];
    let mut outputs = Vector::<F, N>::empty();
    #[unroll]
    for lane in 0..lanes {
        outputs[lane] = F::cast_from(activated(f32::cast_from(inputs[lane]), kind));
    }
    output[at] = outputs;
}

#[cube]
fn activated(x: f32, #[comptime] kind: Activation) -> f32 {
    match kind {
        Activation::GeluTanh => x * sigmoid(twice_tanh_argument(x)),
        Activation::Gelu => 0.5 * x * (1.0 + error_function::<f32>(x * ROOT_HALF)),
        Activation::Silu => x * sigmoid(x),
    }
}

#[cube(launch_unchecked)]
fn activation_backward_kernel<F: Float, N: Size>(
    input: &Array<Vector<F, N>>,
    gradient: &Array<Vector<F, N>>,
    output: &mut Array<Vector<F, N>>,
    count: usize,
    width: usize,
    input_stride: usize,
    gradient_stride: usize,
    #[comptime] kind: Activation,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= count {
        terminate!();
    }
    let (row, column) = (at / width, at % width);
    let lanes = N::value().comptime();
    let x = input[row * input_stride + column];
    let dy = gradient[row * gradient_stride + column];
    let mut dx = Vector::<F, N>::empty();
    #[unroll]
    for lane in 0..lanes {
        let slope = slope(f32::cast_from(x[lane]), kind);
        dx[lane] = F::cast_from(f32::cast_from(dy[lane]) * slope);
    }
    output[at] = dx;
}

#[cube]
fn slope(x: f32, #[comptime] kind: Activation) -> f32 {
    match kind {
        Activation::GeluTanh => {
            let s = sigmoid(twice_tanh_argument(x));
            let inner = TWICE_ROOT * (1.0 + 3.0 * CUBIC * x * x);
            s + x * s * (1.0 - s) * inner
        }
        Activation::Gelu => {
            let density = ROOT_HALF_OVER_PI * f32::exp(-0.5 * x * x);
            0.5 * (1.0 + error_function::<f32>(x * ROOT_HALF)) + x * density
        }
        Activation::Silu => {
            let s = sigmoid(x);
            s * (1.0 + x * (1.0 - s))
        }
    }
}

const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// `1 / √(2π)`
const ROOT_HALF_OVER_PI: f32 = 0.398_942_3;
/// `2 √(2/π)`
const TWICE_ROOT: f32 = 1.595_769_2;
const CUBIC: f32 = 0.044715;

/// `2u`, where GELU is `x (1 + tanh u) / 2`.
#[cube]
fn twice_tanh_argument(x: f32) -> f32 {
    TWICE_ROOT * x * (1.0 + CUBIC * x * x)
}

/// Named so that it is not taken for one that the standard library may get.
#[cube]
fn error_function<F: Float>(x: F) -> F {
    F::erf(x)
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + f32::exp(-x))
}
