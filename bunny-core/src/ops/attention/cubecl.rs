//! Attention: by the device's own kernel where it has one, else as two products around a softmax that
//! scales and masks in its one pass.
//!
//! Scores are formed in f32, whatever they are formed of (Phi-2's overflow f16), and so is the
//! softmax; what comes of it is kept in the type of the activations.

pub mod single_query;
pub mod softmax;

use burn::tensor::{DType, Tensor};
use burn_cubecl::{kernel::into_contiguous, tensor::CubeTensor};

use self::{
    single_query::single_query,
    softmax::{Block, Reach, softmax, softmax_backward},
};
use super::{Mask, autodiff::AttentionKernel};
use crate::ops::{
    autodiff::{unwrap, wrap},
    gpu::{Gpu, product::product},
    linear::Factors,
    rows::cubecl::upload,
};

impl<K: Gpu> AttentionKernel for K {
    type State = State<K>;

    fn takes(_: [DType; 3]) -> bool {
        true
    }

    // What is computed with hangs on the tensors alone: nothing is rounded further.
    fn forward(
        inputs: [CubeTensor<K::Runtime>; 3],
        mask: &Mask,
        scale: f32,
        _: bool,
    ) -> CubeTensor<K::Runtime> {
        let [query, key, value] = &inputs;
        if let Some(output) = decode::<K>(query, key, value, mask, scale) {
            return output;
        }
        let reach = Reach::new::<K>(mask, &query.device);
        if let Some([seen, _]) = K::attend([query, key, value], &reach, scale) {
            return as_rows::<K>(seen);
        }
        let call = Call::<K>::new(inputs.map(wrap::<K, 4>), reach, scale, Factors::Exact);
        let outputs = call.chunks().map(|chunk| call.forward(&chunk).0);
        unwrap(call.join(outputs.collect()))
    }

    fn forward_to_learn(
        inputs: [CubeTensor<K::Runtime>; 3],
        mask: &Mask,
        scale: f32,
        _: bool,
    ) -> (CubeTensor<K::Runtime>, State<K>) {
        let reach = Reach::new::<K>(mask, &inputs[0].device);
        if let Some(outputs) = K::attend(inputs.each_ref(), &reach, scale) {
            let output = as_rows::<K>(outputs[0].clone());
            let state = Attended {
                inputs,
                outputs,
                reach,
                scale,
            };
            return (output, State::Attended(state));
        }
        let call = Call::<K>::new(inputs.map(wrap::<K, 4>), reach, scale, Factors::Rounded);
        let (outputs, shares) = call.chunks().map(|chunk| call.forward(&chunk)).unzip();
        let output = unwrap(call.join(outputs));
        (output, State::Products { call, shares })
    }

    fn backward(state: State<K>, gradient: CubeTensor<K::Runtime>) -> [CubeTensor<K::Runtime>; 3] {
        match state {
            State::Attended(attended) => attended.backward(gradient),
            State::Products { call, shares } => {
                call.backward(shares, wrap(gradient)).map(unwrap::<K, 4>)
            }
        }
    }
}

/// What the way back needs.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a graph holds one a layer, and moves it once"
)]
pub enum State<K: Gpu> {
    /// Of the device's own kernel.
    Attended(Attended<K>),
    /// Of two products around a softmax.
    Products {
        call: Call<K>,
        /// Of each chunk, `[batch, kv_heads, group * count, kv]`.
        shares: Vec<Tensor<K, 4>>,
    },
}

/// What a single query a row sees, where one kernel does it all.
fn decode<K: Gpu>(
    query: &CubeTensor<K::Runtime>,
    key: &CubeTensor<K::Runtime>,
    value: &CubeTensor<K::Runtime>,
    mask: &Mask,
    scale: f32,
) -> Option<CubeTensor<K::Runtime>> {
    let starts = match mask {
        _ if query.meta.shape()[2] != 1 => return None,
        Mask::Segments { .. } => return None,
        Mask::Causal { starts } if !starts.is_empty() => {
            let starts = starts.iter().map(|at| *at as i32).collect();
            Some(upload::<K>(starts, &query.device))
        }
        // The last position sees all before it.
        Mask::Full | Mask::Causal { .. } => None,
    };
    single_query(query, key, value, starts, scale)
}

/// What all heads saw, `[batch, heads, q, head_dim]`, as rows, `[batch, q, heads * head_dim]`.
fn as_rows<K: Gpu>(seen: CubeTensor<K::Runtime>) -> CubeTensor<K::Runtime> {
    let seen = wrap::<K, 4>(seen);
    let [batch, heads, queries, head_dim] = seen.dims();
    let rows = seen.swap_dims(1, 2);
    unwrap::<K, 3>(rows.reshape([batch, queries, heads * head_dim]))
}

/// Attention by the device's own kernel.
#[derive(Debug, Clone)]
pub struct Attended<K: Gpu> {
    inputs: [CubeTensor<K::Runtime>; 3],
    outputs: [CubeTensor<K::Runtime>; 2],
    reach: Reach<K::Runtime>,
    scale: f32,
}

impl<K: Gpu> Attended<K> {
    fn backward(&self, gradient: CubeTensor<K::Runtime>) -> [CubeTensor<K::Runtime>; 3] {
        let [batch, heads, queries, head_dim] =
            [0, 1, 2, 3].map(|dim| self.inputs[0].meta.shape()[dim]);
        let by_heads = wrap::<K, 3>(into_contiguous(gradient))
            .reshape([batch, queries, heads, head_dim])
            .swap_dims(1, 2);
        let gradients = K::attend_backward(
            self.inputs.each_ref(),
            &self.reach,
            self.scale,
            self.outputs.each_ref(),
            &unwrap(by_heads),
        );
        gradients.expect("rows side by side can be fetched")
    }
}

/// Queries that are handled together.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    first: usize,
    count: usize,
}

/// One attention.
#[derive(Debug, Clone)]
pub struct Call<K: Gpu> {
    /// `[batch, heads, q, head_dim]`.
    query: Tensor<K, 4>,
    /// `[batch, kv_heads, kv, head_dim]`.
    key: Tensor<K, 4>,
    /// The same.
    value: Tensor<K, 4>,
    reach: Reach<K::Runtime>,
    scale: f32,
    factors: Factors,
}

impl<K: Gpu> Call<K> {
    fn new(
        [query, key, value]: [Tensor<K, 4>; 3],
        reach: Reach<K::Runtime>,
        scale: f32,
        factors: Factors,
    ) -> Self {
        Self {
            query,
            key,
            value,
            reach,
            scale,
            factors,
        }
    }

    /// As many queries at a time as scores may be held at once.
    fn chunks(&self) -> impl Iterator<Item = Chunk> + use<K> {
        let [batch, heads, queries, _] = self.query.dims();
        let keys = self.key.dims()[2];
        let page = {
            let query = self.query.clone().into_primitive().tensor();
            query.client.properties().memory.max_page_size as usize
        };
        let held = (page / 8).min(1 << 30) / (batch * heads * keys).max(1);
        let step = held.clamp(1, queries.max(1));
        (0..queries).step_by(step).map(move |first| Chunk {
            first,
            count: step.min(queries - first),
        })
    }

    /// What is seen by the queries of a chunk, `[batch, heads, count, head_dim]`, and how much each
    /// of them looks at each key.
    fn forward(&self, chunk: &Chunk) -> (Tensor<K, 4>, Tensor<K, 4>) {
        let [batch, heads, queries, head_dim] = self.query.dims();
        let dtype = self.query.dtype();
        let query = self.folded(self.query.clone(), chunk);
        let key = self.key.clone().swap_dims(2, 3); // [batch, kv_heads, head_dim, kv]
        let scores = product(query, key, self.factors, DType::F32);
        let block = Block {
            queries: chunk.count,
            heads,
            first_position: self.key.dims()[2] - queries + chunk.first,
        };
        let shares = softmax(scores, &self.reach, block, self.scale, dtype);
        let seen = product(shares.clone(), self.value.clone(), self.factors, dtype);
        (seen.reshape([batch, heads, chunk.count, head_dim]), shares)
    }

    /// The queries of a chunk; each key head serves its group of query heads as more rows of one
    /// product: `[batch, kv_heads, group * count, head_dim]`.
    fn folded(&self, all: Tensor<K, 4>, chunk: &Chunk) -> Tensor<K, 4> {
        let [batch, heads, queries, head_dim] = all.dims();
        let kv_heads = self.key.dims()[1];
        let part = match chunk.count == queries {
            true => all,
            false => all.narrow(2, chunk.first, chunk.count),
        };
        if heads == kv_heads {
            return part;
        }
        part.reshape([batch, kv_heads, heads / kv_heads * chunk.count, head_dim])
    }

    /// All chunks' outputs as rows, `[batch, q, heads * head_dim]`.
    fn join(&self, mut outputs: Vec<Tensor<K, 4>>) -> Tensor<K, 3> {
        let [batch, heads, queries, head_dim] = self.query.dims();
        let all = match outputs.len() {
            1 => outputs.remove(0),
            _ => Tensor::cat(outputs, 2),
        };
        all.swap_dims(1, 2)
            .reshape([batch, queries, heads * head_dim])
    }

    /// Gradients of queries, keys and values, given that of the output.
    fn backward(&self, shares: Vec<Tensor<K, 4>>, gradient: Tensor<K, 3>) -> [Tensor<K, 4>; 3] {
        let [batch, heads, queries, head_dim] = self.query.dims();
        let gradient = gradient
            .reshape([batch, queries, heads, head_dim])
            .swap_dims(1, 2); // [batch, heads, q, head_dim]
        let dtype = gradient.dtype();
        let value = self.value.clone().swap_dims(2, 3);
        let mut of_queries = Vec::with_capacity(shares.len());
        let mut of_keys: Option<[Tensor<K, 4>; 2]> = None;
        for (chunk, shares) in self.chunks().zip(shares) {
            let gradient = self.folded(gradient.clone(), &chunk);
            let query = self.folded(self.query.clone(), &chunk);
            let turned = shares.clone().swap_dims(2, 3);
            let dv = product(turned, gradient.clone(), self.factors, dtype);
            let dp = product(gradient, value.clone(), self.factors, dtype);
            let ds = softmax_backward(shares, dp, self.scale);
            let dk = product(ds.clone().swap_dims(2, 3), query, self.factors, dtype);
            let dq = product(ds, self.key.clone(), self.factors, dtype);
            of_queries.push(dq.reshape([batch, heads, chunk.count, head_dim]));
            of_keys = Some(match of_keys {
                None => [dk, dv],
                Some([keys, values]) => [keys + dk, values + dv],
            });
        }
        let of_queries = match of_queries.len() {
            1 => of_queries.remove(0),
            _ => Tensor::cat(of_queries, 2),
        };
        let [of_keys, of_values] = of_keys.expect("there is a chunk");
        [of_queries, of_keys, of_values]
    }
}
