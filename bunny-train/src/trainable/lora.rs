//! Adapters beside the language model's products: attached new or from PEFT's files.

use bunny_core::{
    Bunny,
    nn::{Linear, Lora},
};
use bunny_weights::{
    StoredTensor,
    adapter::{Adapter, AdapterConfig},
    convert::to_f32,
};
use burn::{
    module::{Param, ParamId},
    tensor::{DType, Tensor, TensorData, backend::Backend},
};

use crate::{draw, error::TrainError};

/// The size and strength of new adapters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraConfig {
    /// Rank of the matrices.
    pub rank: usize,
    /// What the product is scaled by, before division by the rank.
    pub alpha: f64,
    /// Share of the inputs dropped in training.
    pub dropout: f64,
}

impl LoraConfig {
    /// What stands in PEFT's `adapter_config.json` for adapters of `model`.
    pub fn to_adapter_config<B: Backend>(
        self,
        model: &Bunny<B>,
        base_model: Option<String>,
    ) -> AdapterConfig {
        let names = model.config().family.names();
        let mut target_modules: Vec<String> = products(model)
            .map(|(name, _)| {
                let name = names.published(&name);
                let last = name.rsplit_once('.').map_or(&*name, |(_, last)| last);
                last.to_owned()
            })
            .collect();
        target_modules.sort();
        target_modules.dedup();
        AdapterConfig {
            rank: self.rank,
            lora_alpha: self.alpha,
            lora_dropout: self.dropout,
            target_modules,
            use_rslora: false,
            base_model,
        }
    }
}

/// Adapters start so that they change nothing: A as PEFT draws it (`kaiming_uniform` with `a = √5`,
/// which is uniform within `1/√in`), B zero. The same seed draws the same adapters anywhere.
pub fn attach_new<B: Backend>(
    model: &mut Bunny<B>,
    config: LoraConfig,
    seed: u64,
    device: &B::Device,
) {
    let dtype = model.precision().compute;
    let LoraConfig { rank, dropout, .. } = config;
    for (place, (name, linear)) in products_mut(model).into_iter().enumerate() {
        let [output, input] = linear.weight.val().dims();
        let bound = (input as f32).sqrt().recip();
        let a = draw::uniform(seed, &name, rank * input, bound);
        linear.lora = Some(Lora {
            lora_a: parameter(a, [rank, input], dtype, device),
            lora_b: parameter(vec![0.0; output * rank], [output, rank], dtype, device),
            scale: config.alpha / rank as f64,
            dropout,
            place: dropout_place(place),
        });
    }
}

/// Whether an adapter is of the size and strength `wanted`.
///
/// # Errors
/// When its rank or its scale is another.
pub fn check(found: &AdapterConfig, wanted: LoraConfig) -> Result<(), TrainError> {
    let scale = wanted.alpha / wanted.rank as f64;
    match found.rank == wanted.rank && found.scale() == scale {
        true => Ok(()),
        false => Err(TrainError::Adapter {
            problem: format!(
                "its rank is {} and its scale {}, lora_r and lora_alpha give {} and {scale}",
                found.rank,
                found.scale(),
                wanted.rank,
            ),
        }),
    }
}

/// Attaches the adapters of a PEFT folder, to learn on under the settings of `wanted`.
///
/// # Errors
/// Those of [`check`], and when the folder has an adapter for a layer that the model lacks, none
/// for a layer that it has, or one of another shape.
pub fn attach<B: Backend>(
    model: &mut Bunny<B>,
    adapter: &Adapter,
    wanted: LoraConfig,
    device: &B::Device,
) -> Result<(), TrainError> {
    let names = model.config().family.names();
    let dtype = model.precision().compute;
    let config = adapter.config();
    check(config, wanted)?;
    let mut left: Vec<&str> = adapter.targets().collect();
    for (place, (name, linear)) in products_mut(model).into_iter().enumerate() {
        let name = names.published(&name);
        let Some([a, b]) = adapter.get(&name) else {
            return Err(TrainError::Adapter {
                problem: format!("it has no matrices for `{name}`"),
            });
        };
        left.retain(|target| *target != name);
        let [output, input] = linear.weight.val().dims();
        let rank = config.rank;
        linear.lora = Some(Lora {
            lora_a: parameter(numbers(&a, [rank, input])?, [rank, input], dtype, device),
            lora_b: parameter(numbers(&b, [output, rank])?, [output, rank], dtype, device),
            scale: config.scale(),
            dropout: wanted.dropout,
            place: dropout_place(place),
        });
    }
    match left.first() {
        None => Ok(()),
        Some(target) => Err(TrainError::Adapter {
            problem: format!("it has matrices for `{target}`, which this model lacks"),
        }),
    }
}

/// Every product of the decoder's layers, by its name here.
fn products<B: Backend>(model: &Bunny<B>) -> impl Iterator<Item = (String, &Linear<B>)> {
    let layers = model.language_model.model.layers.iter().enumerate();
    layers.flat_map(|(at, layer)| {
        let (attention, mlp) = (&layer.self_attn, &layer.mlp);
        [
            ("self_attn.q_proj", Some(&attention.q_proj)),
            ("self_attn.k_proj", Some(&attention.k_proj)),
            ("self_attn.v_proj", Some(&attention.v_proj)),
            ("self_attn.o_proj", Some(&attention.o_proj)),
            ("mlp.gate_proj", mlp.gate_proj.as_ref()),
            ("mlp.up_proj", Some(&mlp.up_proj)),
            ("mlp.down_proj", Some(&mlp.down_proj)),
        ]
        .into_iter()
        .filter_map(move |(name, linear)| Some((format!("model.layers.{at}.{name}"), linear?)))
    })
}

/// As [`products`], to be changed.
fn products_mut<B: Backend>(model: &mut Bunny<B>) -> Vec<(String, &mut Linear<B>)> {
    let layers = model.language_model.model.layers.iter_mut().enumerate();
    layers
        .flat_map(|(at, layer)| {
            let (attention, mlp) = (&mut layer.self_attn, &mut layer.mlp);
            [
                ("self_attn.q_proj", Some(&mut attention.q_proj)),
                ("self_attn.k_proj", Some(&mut attention.k_proj)),
                ("self_attn.v_proj", Some(&mut attention.v_proj)),
                ("self_attn.o_proj", Some(&mut attention.o_proj)),
                ("mlp.gate_proj", mlp.gate_proj.as_mut()),
                ("mlp.up_proj", Some(&mut mlp.up_proj)),
                ("mlp.down_proj", Some(&mut mlp.down_proj)),
            ]
            .into_iter()
            .filter_map(move |(name, linear)| Some((format!("model.layers.{at}.{name}"), linear?)))
        })
        .collect()
}

/// Adapters' dropouts draw apart from those of the residual stream, whose places count up from 0.
fn dropout_place(product: usize) -> u64 {
    (1 << 32) + product as u64
}

fn parameter<B: Backend>(
    values: Vec<f32>,
    shape: [usize; 2],
    dtype: DType,
    device: &B::Device,
) -> Param<Tensor<B, 2>> {
    let tensor = Tensor::<B, 2>::from_data(TensorData::new(values, shape), (device, DType::F32));
    Param::initialized(ParamId::new(), tensor.cast(dtype))
}

/// The numbers of a stored matrix.
fn numbers(stored: &StoredTensor, shape: [usize; 2]) -> Result<Vec<f32>, TrainError> {
    if stored.shape != shape {
        return Err(TrainError::Adapter {
            problem: format!(
                "`{}` is {:?}, expected {shape:?}",
                stored.name, stored.shape
            ),
        });
    }
    to_f32(&stored.bytes, stored.dtype).ok_or_else(|| TrainError::Adapter {
        problem: format!(
            "`{}` holds {} numbers, no floats",
            stored.name,
            stored.dtype.name()
        ),
    })
}
