//! Adapters beside the language model's products: attached new or from PEFT's files.

use bunny_core::{
    Bunny,
    model::decoder::DecoderLayer,
    nn::{Linear, Lora, ParameterSpec},
};
use bunny_weights::{
    StoredTensor,
    adapter::{Adapter, AdapterConfig, AdapterLayer, TargetModules},
    convert::to_f32,
};
use burn::{
    module::{Param, ParamId},
    tensor::{DType, Tensor, TensorData, backend::Backend},
};

use super::uniform;
use crate::error::TrainError;

/// The size and strength of new adapters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraConfig {
    /// Rank of the matrices.
    pub rank: usize,
    /// What the product is scaled by, before division by the rank.
    pub alpha: f64,
    /// Share of the inputs dropped in training.
    pub dropout: f64,
    /// Divide by the root of the rank instead.
    pub use_rslora: bool,
}

impl LoraConfig {
    /// What the product of the matrices is multiplied with.
    pub fn scale(self) -> f64 {
        AdapterConfig::from(self).scale()
    }

    /// What stands in PEFT's `adapter_config.json` for adapters of `model`.
    pub fn to_adapter_config<B: Backend>(
        self,
        model: &Bunny<B>,
        base_model: Option<String>,
    ) -> AdapterConfig {
        let specs = model.config().describe();
        let targets = specs.iter().filter_map(ParameterSpec::adapter_target);
        let mut target_modules: Vec<String> = targets
            .map(|name| name.rsplit_once('.').map_or(name, |(_, last)| last))
            .map(str::to_owned)
            .collect();
        target_modules.sort();
        target_modules.dedup();
        AdapterConfig {
            target_modules: TargetModules::Names(target_modules),
            base_model,
            ..self.into()
        }
    }
}

impl From<LoraConfig> for AdapterConfig {
    fn from(config: LoraConfig) -> Self {
        Self {
            lora_dropout: config.dropout,
            use_rslora: config.use_rslora,
            ..Self::plain(config.rank, config.alpha, Vec::new())
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
    let specs = model.config().describe();
    let LoraConfig { rank, dropout, .. } = config;
    for (place, target) in targets_mut(model, &specs).enumerate() {
        let Target {
            local,
            output,
            input,
            linear,
            ..
        } = target;
        let bound = (input as f32).sqrt().recip();
        let a = uniform(seed, local, rank * input, bound);
        linear.lora = Some(Lora {
            lora_a: parameter(a, [rank, input], dtype, device),
            lora_b: parameter(vec![0.0; output * rank], [output, rank], dtype, device),
            scale: config.scale(),
            dropout,
            place: dropout_place(place),
        });
    }
}

/// Whether an adapter is of the size and strength `wanted`.
///
/// # Errors
/// When it is more than plain LoRA, or its rank or its scale is another.
pub fn check(adapter: &Adapter, wanted: LoraConfig) -> Result<(), TrainError> {
    let found = adapter.config();
    if !adapter.is_plain() {
        return Err(misfit(
            adapter,
            "it is more than plain LoRA: merge it, and begin from what comes of it",
        ));
    }
    let scale = wanted.scale();
    match found.rank == wanted.rank && found.scale() == scale {
        true => Ok(()),
        false => Err(misfit(
            adapter,
            format!(
                "its rank is {} and its scale {}, and lora_r, lora_alpha and use_rslora give {} and \
                 {scale}",
                found.rank,
                found.scale(),
                wanted.rank,
            ),
        )),
    }
}

fn misfit(adapter: &Adapter, problem: impl Into<String>) -> TrainError {
    TrainError::Adapter {
        path: adapter.folder().to_path_buf(),
        problem: problem.into(),
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
    let dtype = model.precision().compute;
    let specs = model.config().describe();
    let config = adapter.config();
    check(adapter, wanted)?;
    let mut left: Vec<&str> = adapter.targets().collect();
    for (place, target) in targets_mut(model, &specs).enumerate() {
        let Target {
            published,
            output,
            input,
            linear,
            ..
        } = target;
        let Some(AdapterLayer { a, b, .. }) = adapter.get(published) else {
            return Err(misfit(
                adapter,
                format!(
                    "it has no matrices for `{published}`: merge it, and begin from what comes of it"
                ),
            ));
        };
        left.retain(|target| *target != published);
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
        Some(target) => Err(misfit(
            adapter,
            format!("it has matrices for `{target}`, which this model lacks"),
        )),
    }
}

/// A layer that an adapter stands beside.
struct Target<'a, B: Backend> {
    /// What it is called here and in files.
    local: &'a str,
    published: &'a str,
    output: usize,
    input: usize,
    linear: &'a mut Linear<B>,
}

/// Every layer of a model, described by `specs`, that an adapter stands beside.
fn targets_mut<'a, B: Backend>(
    model: &'a mut Bunny<B>,
    specs: &'a [ParameterSpec],
) -> impl Iterator<Item = Target<'a, B>> {
    let layers = &mut model.language_model.model.layers;
    let products = layers.iter_mut().flat_map(DecoderLayer::products_mut);
    let targets = specs
        .iter()
        .filter_map(|spec| Some((spec, spec.adapter_target()?)));
    targets
        .zip(products)
        .map(|((spec, published), linear)| Target {
            local: spec.local.trim_end_matches(".weight"),
            published,
            output: spec.shape[0],
            input: spec.shape[1],
            linear,
        })
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
            path: stored.file.to_path_buf(),
            problem: format!(
                "`{}` is {:?}, expected {shape:?}",
                stored.name, stored.shape
            ),
        });
    }
    to_f32(&stored.bytes, stored.dtype).ok_or_else(|| TrainError::Adapter {
        path: stored.file.to_path_buf(),
        problem: format!(
            "`{}` holds {} numbers, no floats",
            stored.name,
            stored.dtype.name()
        ),
    })
}
