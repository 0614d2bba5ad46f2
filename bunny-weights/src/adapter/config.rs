//! `adapter_config.json`, the part of it that describes plain LoRA on linear layers.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::ADAPTER_CONFIG;
use crate::error::{AdapterError, CheckpointError, one_line};
use bunny_base::write_atomic;

/// How a LoRA adapter was made.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rank of the matrices (`r`).
    pub rank: usize,
    /// What the product of the matrices is scaled by, before division by the rank.
    pub lora_alpha: f64,
    /// Share of the inputs dropped in training.
    pub lora_dropout: f64,
    /// Last components of the names of the layers that have an adapter.
    pub target_modules: Vec<String>,
    /// Divide by the square root of the rank, as rank-stabilised LoRA does.
    pub use_rslora: bool,
    /// The model that the adapter belongs to.
    pub base_model: Option<String>,
}

/// Fields that change nothing about what stored matrices mean: remarks, and choices that were made
/// when the matrices were.
const INERT: [&str; 12] = [
    "auto_mapping",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// Ways to start that leave the base model's weights alone; others make it another model.
const HARMLESS_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl AdapterConfig {
    /// What the product of the matrices is multiplied with.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.lora_alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or that asks for more than plain LoRA on linear layers: whatever
    /// this version does not know must be off, so that no adapter is applied half.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let text = fs::read(path).map_err(|fault| CheckpointError::Io {
            path: path.to_path_buf(),
            fault,
        })?;
        Self::parse(&text).map_err(|fault| CheckpointError::Adapter {
            path: path.to_path_buf(),
            fault,
        })
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, AdapterError> {
        let mut fields: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| AdapterError::Json {
                reason: one_line(&error.to_string()),
            })?;
        let mut take = |field: &'static str| Field {
            field,
            value: fields.remove(field).unwrap_or(Value::Null),
        };
        let config = Self {
            rank: take("r").read("give a rank from 1 to 65536", |value| {
                value
                    .as_u64()
                    .filter(|rank| (1..=1 << 16).contains(rank))
                    .map(|rank| rank as usize)
            })?,
            lora_alpha: take("lora_alpha").read("give a number", |value| {
                value.as_f64().filter(|alpha| alpha.is_finite())
            })?,
            lora_dropout: take("lora_dropout").read(
                "give a share from 0 to 1",
                |value| match value {
                    Value::Null => Some(0.0),
                    value => value.as_f64().filter(|share| (0.0..=1.0).contains(share)),
                },
            )?,
            target_modules: take("target_modules").read("list the layers' names", |value| {
                let names = value
                    .as_array()?
                    .iter()
                    .map(|name| name.as_str().map(str::to_string));
                names
                    .collect::<Option<Vec<_>>>()
                    .filter(|names| !names.is_empty())
            })?,
            use_rslora: take("use_rslora").read("give true or false", |value| match value {
                Value::Null => Some(false),
                value => value.as_bool(),
            })?,
            base_model: take("base_model_name_or_path").read(
                "give a name",
                |value| match value {
                    Value::Null => Some(None),
                    value => value.as_str().map(|name| Some(name.to_string())),
                },
            )?,
        };
        take("peft_type").read("only LORA adapters are supported", |value| {
            (value == "LORA").then_some(())
        })?;
        take("bias").read(
            "only adapters without biases (none) are supported",
            |value| (value.is_null() || value == "none").then_some(()),
        )?;
        take("init_lora_weights").read(
            "this start changes the base model's weights; convert the adapter with PEFT",
            |value| {
                let harmless = value
                    .as_str()
                    .is_some_and(|start| HARMLESS_STARTS.contains(&start));
                (value.is_null() || value.is_boolean() || harmless).then_some(())
            },
        )?;
        match fields
            .iter()
            .find(|(field, value)| !INERT.contains(&field.as_str()) && is_on(value))
        {
            None => Ok(config),
            Some((field, value)) => Err(AdapterError::Field {
                field: one_line(field),
                value: one_line(&value.to_string()),
                mend: "this is not supported; only plain LoRA on linear layers is",
            }),
        }
    }

    /// Writes `adapter_config.json` to a folder, with the fields that every version of PEFT knows.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let whole = self.lora_alpha.fract() == 0.0 && self.lora_alpha.abs() < 1e15;
        let mut fields = json!({
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": if whole { json!(self.lora_alpha as i64) } else { json!(self.lora_alpha) },
            "lora_dropout": self.lora_dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.rank,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
        });
        // A field that early versions do not know, so only where it is needed.
        if self.use_rslora {
            fields["use_rslora"] = json!(true);
        }
        write_atomic(folder.as_ref().join(ADAPTER_CONFIG), |file| {
            serde_json::to_writer_pretty(&mut *file, &fields)?;
            file.write_all(b"\n")
        })?;
        Ok(())
    }
}

/// Whether a field says anything: not null, false, or empty.
fn is_on(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

/// A field's value, null if it is missing.
struct Field {
    field: &'static str,
    value: Value,
}

impl Field {
    fn read<T>(
        self,
        mend: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, AdapterError> {
        read(&self.value).ok_or_else(|| AdapterError::Field {
            field: self.field.to_string(),
            value: one_line(&self.value.to_string()),
            mend,
        })
    }
}
