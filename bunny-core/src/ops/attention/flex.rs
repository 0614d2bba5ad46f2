//! Attention by the CPU's kernels, heads read where they lie.

use bunny_kernels::{
    AttentionGradient, AttentionMask as KernelMask, AttentionShape, AttentionStrides, AttentionView,
};
use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::{Mask, autodiff::AttentionKernel};
use crate::ops::{
    autodiff::{unwrap, wrap},
    flex::{Flex, contiguous, dims, floats, heads, tensor, whole_rows},
};

impl AttentionKernel for Flex {
    type State = State;

    fn takes(inputs: [DType; 3]) -> bool {
        inputs == [DType::F32; 3]
    }

    fn forward(inputs: [FlexTensor; 3], mask: &Mask, scale: f32, rounds: bool) -> FlexTensor {
        compute(&inputs.map(whole_rows), mask, scale, rounds, None)
    }

    fn forward_to_learn(
        inputs: [FlexTensor; 3],
        mask: &Mask,
        scale: f32,
        rounds: bool,
    ) -> (FlexTensor, State) {
        let inputs = inputs.map(whole_rows);
        let [batch, query_heads, query_len, _] = dims(&inputs[0]);
        let mut lse = vec![0f32; batch * query_heads * query_len];
        let output = compute(&inputs, mask, scale, rounds, Some(&mut lse));
        let state = State {
            inputs,
            output: output.clone(),
            lse,
            scale,
            mask: mask.clone(),
            rounds,
        };
        (output, state)
    }

    fn backward(state: State, gradient: FlexTensor) -> [FlexTensor; 3] {
        let gradient = contiguous(gradient);
        let shape = shape(&state.inputs);
        let AttentionShape {
            batch,
            query_heads,
            kv_heads,
            query_len,
            kv_len,
            head_dim,
        } = shape;
        let strides = AttentionStrides::rows_first(query_heads, query_len, head_dim);
        let rows = |data| AttentionView { data, strides };
        let [q, k, v] = state.inputs.each_ref().map(heads);
        let mut segments = Vec::new();
        let call = AttentionGradient {
            q,
            k,
            v,
            out: rows(floats(&state.output)),
            lse: &state.lse,
            dout: rows(floats(&gradient)),
            shape,
            scale: state.scale,
            mask: kernel_mask(&state.mask, &mut segments),
            rounds: state.rounds,
        };
        let shapes = [
            [batch, query_len, query_heads, head_dim],
            [batch, kv_len, kv_heads, head_dim],
            [batch, kv_len, kv_heads, head_dim],
        ];
        let [mut dq, mut dk, mut dv] = shapes.map(|shape| vec![0f32; shape.iter().product()]);
        call.compute(&mut dq, &mut dk, &mut dv);
        let [of_query, of_key, of_value] = shapes;
        [(dq, of_query), (dk, of_key), (dv, of_value)].map(|(values, shape)| {
            // Heads as a view: behind the projection's own turn it lies as it is used.
            let heads = wrap::<Flex, 4>(tensor(values, shape)).swap_dims(1, 2);
            unwrap(heads)
        })
    }
}

/// What the way back needs.
#[derive(Debug, Clone)]
pub struct State {
    /// Queries, keys and values.
    inputs: [FlexTensor; 3],
    output: FlexTensor,
    /// The logarithm of each query's sum of exponentials.
    lse: Vec<f32>,
    scale: f32,
    mask: Mask,
    rounds: bool,
}

fn compute(
    inputs: &[FlexTensor; 3],
    mask: &Mask,
    scale: f32,
    rounds: bool,
    lse: Option<&mut [f32]>,
) -> FlexTensor {
    let shape = shape(inputs);
    let (queries, heads_each, head_dim) = (shape.query_len, shape.query_heads, shape.head_dim);
    let mut output = vec![0f32; shape.batch * queries * heads_each * head_dim];
    let mut segments = Vec::new();
    let [query, key, value] = inputs.each_ref().map(heads);
    bunny_kernels::attention(
        query,
        key,
        value,
        &mut output,
        AttentionStrides::rows_first(heads_each, queries, head_dim),
        shape,
        scale,
        kernel_mask(mask, &mut segments),
        rounds,
        lse,
    );
    tensor(output, [shape.batch, queries, heads_each * head_dim])
}

fn shape([query, key, _]: &[FlexTensor; 3]) -> AttentionShape {
    let ([batch, query_heads, query_len, head_dim], [_, kv_heads, kv_len, _]) =
        (dims(query), dims(key));
    AttentionShape {
        batch,
        query_heads,
        kv_heads,
        query_len,
        kv_len,
        head_dim,
    }
}

/// The kernels' form of a mask; `segments` is where packed texts' ids are laid end to end.
fn kernel_mask<'a>(mask: &'a Mask, segments: &'a mut Vec<u32>) -> KernelMask<'a> {
    match mask {
        Mask::Full => KernelMask::None,
        Mask::Causal { starts } => KernelMask::Causal {
            starts: (!starts.is_empty()).then_some(starts.as_slice()),
        },
        Mask::Segments { ids } => {
            *segments = ids.concat();
            KernelMask::Segments(segments)
        }
    }
}
