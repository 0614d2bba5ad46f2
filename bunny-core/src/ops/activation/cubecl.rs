//! The nonlinearities, one pass forward and one back.

use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::{
    CubeRuntime,
    cubecl::{self, ir::StorageType, prelude::*},
    tensor::CubeTensor,
};

use super::{Activation, STEEPNESS, autodiff::ActivationKernel};
use crate::ops::gpu::{
    Gpu,
    launch::{Rows, elementwise, empty, lanes, rows},
};

impl<K: Gpu> ActivationKernel for K {
    fn takes(_: DType) -> bool {
        true
    }

    fn forward(kind: Activation, input: CubeTensor<K::Runtime>) -> CubeTensor<K::Runtime> {
        let (dtype, shape) = (input.dtype, input.shape());
        let input = rows(input);
        let output = empty(&input.tensor, shape, dtype);
        let Launch {
            lanes,
            count,
            width,
        } = Launch::over(&[&input]);
        let (cubes, threads) = elementwise(count);
        // SAFETY: no thread reads or writes beyond `count` vectors.
        unsafe {
            activation_kernel::launch_unchecked::<K::Runtime>(
                &output.client,
                cubes,
                threads,
                lanes,
                input.tensor.into_array_arg(),
                output.clone().into_array_arg(),
                count,
                width,
                input.stride / lanes,
                kind,
                dtype.into(),
            );
        }
        output
    }

    fn backward(
        kind: Activation,
        input: CubeTensor<K::Runtime>,
        gradient: CubeTensor<K::Runtime>,
    ) -> CubeTensor<K::Runtime> {
        let (dtype, shape) = (input.dtype, input.shape());
        let (input, gradient) = (rows(input), rows(gradient));
        let output = empty(&input.tensor, shape, dtype);
        let Launch {
            lanes,
            count,
            width,
        } = Launch::over(&[&input, &gradient]);
        let (cubes, threads) = elementwise(count);
        // SAFETY: no thread reads or writes beyond `count` vectors.
        unsafe {
            activation_backward_kernel::launch_unchecked::<K::Runtime>(
                &output.client,
                cubes,
                threads,
                lanes,
                input.tensor.into_array_arg(),
                gradient.tensor.into_array_arg(),
                output.clone().into_array_arg(),
                count,
                width,
                input.stride / lanes,
                gradient.stride / lanes,
                kind,
                dtype.into(),
            );
        }
        output
    }

    fn gates(_: Activation, _: DType) -> bool {
        true
    }

    fn gate(
        kind: Activation,
        gate: CubeTensor<K::Runtime>,
        up: CubeTensor<K::Runtime>,
    ) -> CubeTensor<K::Runtime> {
        let (dtype, shape) = (gate.dtype, gate.shape());
        let (gate, up) = (rows(gate), rows(up));
        let output = empty(&gate.tensor, shape, dtype);
        let Launch {
            lanes,
            count,
            width,
        } = Launch::over(&[&gate, &up]);
        let (cubes, threads) = elementwise(count);
        // SAFETY: no thread reads or writes beyond `count` vectors.
        unsafe {
            gate_kernel::launch_unchecked::<K::Runtime>(
                &output.client,
                cubes,
                threads,
                lanes,
                gate.tensor.into_array_arg(),
                up.tensor.into_array_arg(),
                output.clone().into_array_arg(),
                count,
                width,
                gate.stride / lanes,
                up.stride / lanes,
                kind,
                dtype.into(),
            );
        }
        output
    }

    fn gate_backward(
        kind: Activation,
        gate: CubeTensor<K::Runtime>,
        up: CubeTensor<K::Runtime>,
        gradient: CubeTensor<K::Runtime>,
    ) -> [CubeTensor<K::Runtime>; 2] {
        let (dtype, shape) = (gate.dtype, gate.shape());
        let (gate, up, gradient) = (rows(gate), rows(up), rows(gradient));
        let outputs = [(); 2].map(|()| empty(&gate.tensor, shape.clone(), dtype));
        let [of_gate, of_up] = outputs.clone();
        let Launch {
            lanes,
            count,
            width,
        } = Launch::over(&[&gate, &up, &gradient]);
        let (cubes, threads) = elementwise(count);
        // SAFETY: no thread reads or writes beyond `count` vectors.
        unsafe {
            gate_backward_kernel::launch_unchecked::<K::Runtime>(
                &outputs[0].client,
                cubes,
                threads,
                lanes,
                gate.tensor.into_array_arg(),
                up.tensor.into_array_arg(),
                gradient.tensor.into_array_arg(),
                of_gate.into_array_arg(),
                of_up.into_array_arg(),
                count,
                width,
                gate.stride / lanes,
                up.stride / lanes,
                gradient.stride / lanes,
                kind,
                dtype.into(),
            );
        }
        outputs
    }
}

/// How rows that are as many and as long are handled, a vector of numbers a thread.
struct Launch {
    /// Numbers of a vector.
    lanes: usize,
    /// Vectors of all rows.
    count: usize,
    /// Vectors of a row.
    width: usize,
}

impl Launch {
    fn over<R: CubeRuntime>(all: &[&Rows<R>]) -> Self {
        let lanes = lanes(all);
        let (count, width) = (all[0].count, all[0].width);
        let alike = all
            .iter()
            .all(|rows| (rows.count, rows.width) == (count, width));
        assert!(alike, "rows of one shape");
        Self {
            lanes,
            count: count * width / lanes,
            width: width / lanes,
        }
    }
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
        Activation::QuickGelu => x * sigmoid(STEEPNESS * x),
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

#[cube(launch_unchecked)]
fn gate_kernel<F: Float, N: Size>(
    gate: &Array<Vector<F, N>>,
    up: &Array<Vector<F, N>>,
    output: &mut Array<Vector<F, N>>,
    count: usize,
    width: usize,
    gate_stride: usize,
    up_stride: usize,
    #[comptime] kind: Activation,
    #[define(F)] _dtype: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at >= count {
        terminate!();
    }
    let (row, column) = (at / width, at % width);
    let lanes = N::value().comptime();
    let x = gate[row * gate_stride + column];
    let factor = up[row * up_stride + column];
    let mut y = Vector::<F, N>::empty();
    #[unroll]
    for lane in 0..lanes {
        let opened = activated(f32::cast_from(x[lane]), kind);
        y[lane] = F::cast_from(opened * f32::cast_from(factor[lane]));
    }
    output[at] = y;
}

#[cube(launch_unchecked)]
fn gate_backward_kernel<F: Float, N: Size>(
    gate: &Array<Vector<F, N>>,
    up: &Array<Vector<F, N>>,
    gradient: &Array<Vector<F, N>>,
    of_gate: &mut Array<Vector<F, N>>,
    of_up: &mut Array<Vector<F, N>>,
    count: usize,
    width: usize,
    gate_stride: usize,
    up_stride: usize,
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
    let gates = gate[row * gate_stride + column];
    let factors = up[row * up_stride + column];
    let dy = gradient[row * gradient_stride + column];
    let mut dgate = Vector::<F, N>::empty();
    let mut dup = Vector::<F, N>::empty();
    #[unroll]
    for lane in 0..lanes {
        let x = f32::cast_from(gates[lane]);
        let dy = f32::cast_from(dy[lane]);
        dgate[lane] = F::cast_from(dy * f32::cast_from(factors[lane]) * slope(x, kind));
        dup[lane] = F::cast_from(dy * activated(x, kind));
    }
    of_gate[at] = dgate;
    of_up[at] = dup;
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
        Activation::QuickGelu => {
            let s = sigmoid(STEEPNESS * x);
            s * (1.0 + STEEPNESS * x * (1.0 - s))
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
