//! A decoder layer's attention: products of their own for queries, keys and values, or one for all.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};

use super::{CachedLayer, ForwardContext};
use crate::{
    config::DecoderConfig,
    nn::{Builder, Linear, Mode, Operands, attention, cached_attention, split_heads},
};

/// Multi-head attention with rotary positions and, where configured, shared key and value heads.
#[derive(Module, Debug)]
pub struct SelfAttention<B: Backend> {
    /// Queries, keys and values.
    pub inputs: AttentionInputs<B>,
    /// Back to the residual stream, `[hidden, heads * head_dim]`.
    pub o_proj: Linear<B>,
    head_dim: usize,
    kv_heads: usize,
    #[module(skip)]
    operands: Operands,
}

/// The products that give queries, keys and values, as they are published.
#[allow(
    clippy::large_enum_variant,
    reason = "a model holds few, and none is moved"
)]
#[derive(Module, Debug)]
pub enum AttentionInputs<B: Backend> {
    /// One each.
    Apart(ThreeProducts<B>),
    /// One for all, `[(heads + 2 * kv_heads) * head_dim, hidden]`, in this order.
    Fused(Linear<B>),
}

/// A product each for queries, keys and values.
#[derive(Module, Debug)]
pub struct ThreeProducts<B: Backend> {
    /// Queries, `[heads * head_dim, hidden]`.
    pub q_proj: Linear<B>,
    /// Keys, `[kv_heads * head_dim, hidden]`.
    pub k_proj: Linear<B>,
    /// Values, `[kv_heads * head_dim, hidden]`.
    pub v_proj: Linear<B>,
}

impl<B: Backend> AttentionInputs<B> {
    fn new(config: &DecoderConfig, builder: &Builder<'_, B>) -> Self {
        let product = |name: &str, size| {
            let builder = builder.child(name);
            Linear::new(&builder, config.hidden_size, size, config.qkv_bias)
        };
        let (query, key_value) = (config.query_size(), config.key_value_size());
        match config.fused_products {
            true => Self::Fused(product("qkv_proj", query + 2 * key_value)),
            false => Self::Apart(ThreeProducts {
                q_proj: product("q_proj", query),
                k_proj: product("k_proj", key_value),
                v_proj: product("v_proj", key_value),
            }),
        }
    }

    pub(super) fn products_mut(&mut self) -> Vec<&mut Linear<B>> {
        match self {
            Self::Apart(apart) => vec![&mut apart.q_proj, &mut apart.k_proj, &mut apart.v_proj],
            Self::Fused(fused) => vec![fused],
        }
    }

    /// Queries, keys and values, `[batch, seq, channels]` each; of the latter two `key_value` channels.
    fn forward(&self, input: Tensor<B, 3>, key_value: usize, mode: &Mode) -> [Tensor<B, 3>; 3] {
        match self {
            Self::Apart(apart) => [
                apart.q_proj.forward(input.clone(), mode),
                apart.k_proj.forward(input.clone(), mode),
                apart.v_proj.forward(input, mode),
            ],
            Self::Fused(fused) => {
                let all = fused.forward(input, mode);
                let query = all.dims()[2] - 2 * key_value;
                let part = |from, count| all.clone().narrow(2, from, count);
                [
                    part(0, query),
                    part(query, key_value),
                    part(query + key_value, key_value),
                ]
            }
        }
    }
}

impl<B: Backend> SelfAttention<B> {
    pub(super) fn new(config: &DecoderConfig, builder: &Builder<'_, B>) -> Self {
        Self {
            inputs: AttentionInputs::new(config, builder),
            o_proj: Linear::new(
                &builder.child("o_proj"),
                config.query_size(),
                config.hidden_size,
                config.output_bias,
            ),
            head_dim: config.head_dim,
            kv_heads: config.num_key_value_heads,
            operands: builder.operands(),
        }
    }

    /// # Shapes
    /// `[batch, seq, hidden]` → the same
    pub fn forward(
        &self,
        input: Tensor<B, 3>,
        cached: Option<CachedLayer<'_, B>>,
        context: &ForwardContext<'_, B>,
    ) -> Tensor<B, 3> {
        let mode = context.mode;
        let key_value = self.kv_heads * self.head_dim;
        let inputs = self.inputs.forward(input, key_value, mode);
        let [query, key, value] = inputs.map(|all| split_heads(all, self.head_dim));
        let query = context.rope.apply(query);
        let key = context.rope.apply(key);
        let attended = match cached {
            Some(CachedLayer { layer, pass }) => {
                let window = context.mask.window();
                let heads = [query, key, value];
                cached_attention(heads, layer, pass, window, mode.phase, self.operands)
            }
            None => attention(query, key, value, &context.mask, self.operands),
        }; // [batch, seq, heads * head_dim]
        self.o_proj.forward(attended, mode)
    }
}
