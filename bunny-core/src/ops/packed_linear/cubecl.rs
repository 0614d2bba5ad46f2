//! Packed weights on GPUs: for few rows the codes are read where they lie, for many they are opened into
//! floats first.
//!
//! Codes and scales lie in words of 32 bits, which every adapter reads; a row begins with a new word.
//! What is multiplied is not rounded to integers here.

mod few_rows;
mod open;

use burn::{
    backend::autodiff::{
        checkpoint::base::Checkpointer,
        grads::Gradients,
        ops::{Backward, Ops},
    },
    tensor::{Bytes, DType, Int, Tensor, TensorData, backend::Backend},
};
use burn_cubecl::{CubeRuntime, cubecl, cubecl::prelude::*, tensor::CubeTensor};

use self::{
    few_rows::{FEW, few_rows},
    open::{opened, opened_rows},
};
use super::{Bits, PackedTensors, Packing};
use crate::ops::{
    self, Phase,
    autodiff::{Tracked, record, unwrap, wrap},
    gpu::{Gpu, product::product},
    linear::Factors,
    place::{lower, lower_int, raise},
    rows::cubecl::upload,
};

/// Bytes of a word.
const WORD: usize = 4;

/// A packed weight's tensors as these kernels take them.
#[derive(Debug, Clone)]
struct Words<R: CubeRuntime> {
    /// `[out, words of a row]`.
    codes: CubeTensor<R>,
    /// f16, two to a word, `[out, words of a row]`.
    scales: CubeTensor<R>,
    inner: usize,
    packing: Packing,
}

impl<R: CubeRuntime> Words<R> {
    fn of<B: Backend>(weight: PackedTensors<B>) -> Self {
        Self {
            codes: lower_int(weight.codes),
            scales: lower_int(weight.scales),
            inner: weight.inner,
            packing: weight.packing,
        }
    }

    /// Numbers that share a scale; where the row is shorter, all of it.
    fn group(&self) -> usize {
        self.packing.group.min(self.inner)
    }
}

impl Bits {
    /// Numbers of a word.
    const fn a_word(self) -> usize {
        match self {
            Self::Eight => 4,
            Self::Four => 8,
        }
    }
}

/// Rows of bytes as rows of words.
pub fn words<B: Backend>(bytes: Bytes, rows: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    let width = bytes.len() / rows.max(1);
    let bytes = match width % WORD {
        0 => bytes,
        _ => {
            let mut padded = vec![0u8; rows * width.next_multiple_of(WORD)];
            let places = padded.chunks_exact_mut(width.next_multiple_of(WORD));
            for (place, row) in places.zip(bytes.chunks_exact(width)) {
                place[..width].copy_from_slice(row);
            }
            Bytes::from_bytes_vec(padded)
        }
    };
    let data = TensorData::from_bytes(bytes, [rows, width.div_ceil(WORD)], DType::I32);
    Tensor::from_data(data, (device, DType::I32))
}

fn forward<K: Gpu>(
    phase: Phase,
    input: CubeTensor<K::Runtime>,
    weight: &Words<K::Runtime>,
    bias: Option<CubeTensor<K::Runtime>>,
) -> CubeTensor<K::Runtime> {
    // While answers are written every row is summed alike, however many there are.
    if phase == Phase::Decode || input.meta.shape()[0] <= FEW {
        return few_rows(input, weight, bias);
    }
    let floats = wrap::<K, 2>(opened(weight, input.dtype));
    let bias = bias.map(wrap::<K, 1>);
    unwrap(ops::linear(phase, wrap::<K, 2>(input), floats, bias))
}

/// [`packed_linear`](super::packed_linear).
pub fn linear<B: Backend, K: Gpu>(
    phase: Phase,
    input: Tensor<B, 2>,
    weight: PackedTensors<B>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let weight = Words::<K::Runtime>::of(weight);
    raise(forward::<K>(phase, lower(input), &weight, bias.map(lower)))
}

/// The same where gradients are kept, and without a bias: that one may learn.
pub fn tracked_linear<B: Backend, K: Gpu>(
    phase: Phase,
    input: Tensor<B, 2>,
    weight: PackedTensors<B>,
) -> Tensor<B, 2> {
    let input: Tracked<K> = lower(input);
    let weight = Words::<K::Runtime>::of(weight);
    let output = forward::<K>(phase, input.primitive.clone(), &weight, None);
    let step = PackedStep.prepare([input.node]);
    raise(record::<K, _, 1>(step, || weight, output))
}

/// The numbers of some rows, f32.
pub fn rows<B: Backend, K: Gpu>(
    weight: PackedTensors<B>,
    rows: &[usize],
) -> CubeTensor<K::Runtime> {
    let weight = Words::<K::Runtime>::of(weight);
    let ids = rows.iter().map(|row| *row as i32).collect();
    let ids = upload::<K>(ids, &weight.codes.device);
    opened_rows(&weight, ids, DType::F32)
}

/// Its parent is the input; the weight is what it keeps.
#[derive(Debug)]
struct PackedStep;

impl<K: Gpu> Backward<K, 1> for PackedStep {
    type State = Words<K::Runtime>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<K>(&ops.node);
        let [Some(input)] = ops.parents else { return };
        let dtype = gradient.dtype;
        let floats = wrap::<K, 2>(opened(&ops.state, dtype));
        let gradient = wrap::<K, 2>(gradient);
        let dx = product(gradient, floats, Factors::Rounded, dtype);
        grads.register::<K>(input.id, unwrap(dx));
    }
}

/// What a code within a word stands for, before its scale.
#[cube]
fn code(word: u32, place: u32, #[comptime] bits: Bits) -> f32 {
    match bits {
        Bits::Four => f32::cast_from((word >> (place * 4)) & 15) - 8.0,
        // The sign bit turned is 128 more.
        Bits::Eight => f32::cast_from(((word >> (place * 8)) & 255) ^ 128) - 128.0,
    }
}

/// The scale of a row's group; adapters may have no f16.
#[cube]
fn scale(scales: &Array<u32>, row: usize, group: usize) -> f32 {
    let word = scales[row + group / 2];
    let half = (word >> (u32::cast_from(group % 2) * 16)) & 0xffff;
    let magnitude = half & 0x7fff;
    // Another bias of the exponent; below 2⁻¹⁴ there is none, and steps are 2⁻²⁴.
    let mut scale = f32::reinterpret((magnitude << 13) + 0x3800_0000);
    if magnitude < 0x400 {
        scale = f32::cast_from(magnitude) * 5.960_464_5e-8;
    }
    if half > 0x7fff {
        scale = -scale;
    }
    scale
}
