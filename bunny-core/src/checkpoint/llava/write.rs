//! A model written as a LLaVA of transformers, a block of a tensor at a time.
//!
//! What is written is what `LlavaForConditionalGeneration` opens: `<image>` is a token, with a row in
//! table and head, since its code embeds all ids and puts the features of pictures over some of them
//! afterwards. Scales that its classes do not have, a MiniCPM's, are multiplied into weights.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use bunny_weights::{
    CheckpointError, ModelFolder, StoredDtype, convert,
    folder::{CONFIG, GENERATION_CONFIG, PREPROCESSOR_CONFIG, PROCESSOR_CONFIG},
    writer::{MAX_SHARD_SIZE, PlannedTensor, TensorSink},
};
use burn::tensor::DType;
use serde_json::{Value, json};

use super::{as_llava, config::LlavaTokens};
use crate::{
    Error,
    checkpoint::{OpenModel, chat_template::chat_template, folder::float_to_write},
    config::BunnyConfig,
    input::conversation::IMAGE_PLACEHOLDER,
    nn::{Part, Weights},
};

/// Numbers that are in memory at a time.
const BLOCK: usize = 1 << 24;

const TABLE: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// A tensor of the LLaVA, and the one of the model that it is made of.
#[derive(Debug)]
struct Made {
    from: String,
    /// What its numbers are multiplied with.
    factor: f32,
    /// The row behind its own.
    more: Option<MoreRow>,
}

/// The row of `<image>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MoreRow {
    /// What is overwritten.
    Zeros,
    /// The mean of all others, whose score is their mean: it is never the largest.
    Mean,
}

impl OpenModel {
    /// Writes the model into `folder` as `LlavaForConditionalGeneration` of transformers reads it:
    /// adapters folded in, weights in integers as the floats that they stand for, processor, tokenizer
    /// and chat template beside. A block of a tensor is in memory at a time.
    ///
    /// Gives the files written.
    ///
    /// # Errors
    /// [`Error::Unexportable`] where a LLaVA computes something else; when `dtype` is no float, a tensor
    /// is missing or cannot be read, an adapter has no weight to go to, or a file cannot be written.
    pub fn write_llava(
        &self,
        folder: impl AsRef<Path>,
        dtype: StoredDtype,
    ) -> Result<Vec<PathBuf>, Error> {
        let config = &self.config;
        config.require_llava()?;
        let float = float_to_write(folder.as_ref(), dtype)?;
        let (tokenizer, image) = self.tokenizer.with_special_token(IMAGE_PLACEHOLDER)?;
        let rows = tokenizer.vocab_size();
        let grows = rows > config.decoder.vocab_size;
        let is_trimmed = !self.weights.has_any(&last_layer(config));

        let (plan, made) = self.llava_plan(dtype, rows, grows, is_trimmed)?;
        let special = tokenizer.special_tokens();
        let template = config.family.template_for(&tokenizer);
        let beginning = tokenizer.beginning()?;
        let first = beginning
            .as_deref()
            .and_then(|text| tokenizer.token_to_id(text));
        let ends = template.end_of_text();
        let tokens = LlavaTokens {
            image,
            rows,
            eos: ends
                .and_then(|token| tokenizer.token_to_id(token))
                .or(special.eos)
                .or(config.eos_token_id()),
            bos: first.or(special.bos).or(config.bos_token_id),
        };
        let length = config.tokenizer_model_max_length;
        let files = ModelFolder::new()
            .with_json(CONFIG, config.llava_json(dtype, tokens, is_trimmed))
            .with_json(GENERATION_CONFIG, generation_json(tokens, length))
            .with_json(PREPROCESSOR_CONFIG, self.image_processor.llava_config())
            .with_json(
                PROCESSOR_CONFIG,
                config.llava_processor_json(IMAGE_PLACEHOLDER),
            )
            .with_bytes("tokenizer.json", tokenizer.to_json()?)
            .with_json(
                "tokenizer_config.json",
                tokenizer.transformers_config([tokens.bos, tokens.eos], IMAGE_PLACEHOLDER, length),
            )
            .with_bytes(
                "chat_template.jinja",
                chat_template(template, &beginning.unwrap_or_default(), ""),
            );
        files
            .write_in_blocks(folder, &plan, MAX_SHARD_SIZE, |planned, sink| {
                self.write_made(&made[&planned.name], planned, dtype, float, sink)
            })
            .map_err(Error::from)
    }

    /// The tensors of the LLaVA, and what each is made of.
    fn llava_plan(
        &self,
        dtype: StoredDtype,
        rows: usize,
        grows: bool,
        is_trimmed: bool,
    ) -> Result<(Vec<PlannedTensor>, BTreeMap<String, Made>), CheckpointError> {
        let config = &self.config;
        let factors = factors(config);
        let last = last_layer(config);
        let (mut plan, mut made) = (Vec::new(), BTreeMap::new());
        let mut add = |from: &str, name: &str, shape: &[usize], factor: f32| {
            let Some(held) = as_llava(name) else { return };
            let mut shape = shape.to_vec();
            let more = match name {
                TABLE => Some(MoreRow::Zeros),
                HEAD => Some(MoreRow::Mean),
                _ => None,
            };
            if more.is_some() {
                shape[0] = rows;
            }
            let planned = PlannedTensor {
                name: held.clone(),
                dtype,
                shape,
            };
            plan.push(planned);
            let more = more.filter(|_| grows);
            made.insert(
                held,
                Made {
                    from: from.to_owned(),
                    factor,
                    more,
                },
            );
        };
        let head = 1.0 / config.decoder.logits_divisor() as f32;
        for planned in self.weights.merged_plan(config, dtype)? {
            let name = &planned.name;
            if is_trimmed && name.starts_with(&last) {
                continue;
            }
            add(
                name,
                name,
                &planned.shape,
                factors.get(name).copied().unwrap_or(1.0),
            );
            if name == TABLE && config.decoder.tie_word_embeddings {
                add(name, HEAD, &planned.shape, head);
            }
        }
        Ok((plan, made))
    }

    fn write_made(
        &self,
        made: &Made,
        planned: &PlannedTensor,
        dtype: StoredDtype,
        float: DType,
        sink: &mut TensorSink<'_>,
    ) -> Result<(), CheckpointError> {
        let stored = self
            .weights
            .take(&made.from)
            .ok_or_else(|| CheckpointError::NoWeights {
                folder: self.weights.place().into(),
                hint: "",
            })?;
        let columns: usize = planned.shape.iter().skip(1).product();
        let all = planned.shape.first().copied().unwrap_or(1);
        let own = all - usize::from(made.more.is_some());
        let read =
            |range: Range<usize>, as_type| self.weights.rows(&stored, range, columns, as_type);
        let mut sums = vec![
            0f64;
            if made.more == Some(MoreRow::Mean) {
                columns
            } else {
                0
            }
        ];
        let at_once = (BLOCK / columns.max(1)).max(1);
        for first in (0..own).step_by(at_once) {
            let range = first..own.min(first + at_once);
            if made.factor == 1.0 && sums.is_empty() {
                sink.put(&read(range, float)?)?;
                continue;
            }
            let bytes = read(range, DType::F32)?;
            let mut values = convert::to_f32(&bytes, StoredDtype::F32).unwrap_or_default();
            values.iter_mut().for_each(|value| *value *= made.factor);
            if !sums.is_empty() {
                for row in values.chunks_exact(columns) {
                    let pairs = sums.iter_mut().zip(row);
                    pairs.for_each(|(sum, value)| *sum += f64::from(*value));
                }
            }
            sink.put(&rounded(&values, dtype))?;
        }
        match made.more {
            None => Ok(()),
            Some(MoreRow::Zeros) => sink.put(&rounded(&vec![0.0; columns], dtype)),
            Some(MoreRow::Mean) => {
                let mean = sums.iter().map(|sum| (sum / own.max(1) as f64) as f32);
                sink.put(&rounded(&mean.collect::<Vec<f32>>(), dtype))
            }
        }
    }
}

fn rounded(values: &[f32], dtype: StoredDtype) -> Vec<u8> {
    convert::from_f32(values, dtype).expect("models are made of floats")
}

/// How the names of the tensors of the tower's last layer start, which is not read.
fn last_layer(config: &BunnyConfig) -> String {
    let (tower, layer) = (Part::VisionTower.prefix(), config.vision.layers_used());
    format!("{tower}vision_model.encoder.layers.{layer}.")
}

/// What weights are multiplied with, by their published names, so that a model without scales of its
/// own computes the same: the stream's where it begins, in words and in pictures, and both branches'.
fn factors(config: &BunnyConfig) -> BTreeMap<String, f32> {
    let decoder = &config.decoder;
    let [embedding, branch, head] = [
        decoder.embedding_scale,
        decoder.residual_scale(),
        1.0 / decoder.logits_divisor(),
    ];
    let of = |local: &str| {
        let (layer, _parameter) = local.rsplit_once('.')?;
        let last_product = format!("{}2", Part::Projector.prefix());
        match layer {
            "model.embed_tokens" => Some(embedding),
            "lm_head" => Some(head),
            _ if layer == last_product => Some(embedding),
            _ if layer.ends_with(".self_attn.o_proj") || layer.ends_with(".mlp.down_proj") => {
                Some(branch)
            }
            _ => None,
        }
    };
    let specs = config.describe().into_iter();
    let specs = specs.filter(|spec| spec.part != Part::VisionTower);
    specs
        .filter_map(|spec| {
            let factor = of(&spec.local).filter(|factor| *factor != 1.0)?;
            Some((spec.published, factor as f32))
        })
        .collect()
}

fn generation_json(tokens: LlavaTokens, length: usize) -> Value {
    json!({
        "bos_token_id": tokens.bos,
        "do_sample": false,
        "eos_token_id": tokens.eos,
        "max_length": length,
        "pad_token_id": tokens.eos,
    })
}
