//! `adapter_config.json`, as far as LoRA and what PEFT adds to it is known here.

use std::path::Path;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value, json};

use super::ADAPTER_CONFIG;
use crate::error::{AdapterError, CheckpointError, one_line};
use bunny_base::{files, write_atomic};

/// How a LoRA adapter was made.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rank of the matrices (`r`).
    pub rank: usize,
    /// What the product of the matrices is scaled by, before division by the rank.
    pub lora_alpha: f64,
    /// Share of the inputs dropped in training.
    pub lora_dropout: f64,
    /// The layers that have an adapter.
    pub target_modules: TargetModules,
    /// Divide by the square root of the rank, as rank-stabilised LoRA does.
    pub use_rslora: bool,
    /// The model that the adapter belongs to.
    pub base_model: Option<String>,
    /// Other ranks for some layers, by a pattern that the end of their names matches.
    pub rank_pattern: Vec<(String, usize)>,
    /// Other strengths for some layers, in the same way.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Last components of the names of layers that were trained as a whole.
    pub modules_to_save: Vec<String>,
    /// Biases of the base were trained (`bias` is `all` or `lora_only`).
    pub has_biases: bool,
    /// The merged rows have lengths of their own, as DoRA gives them.
    pub use_dora: bool,
}

/// Which layers have an adapter. Of a stored one the matrices say so themselves.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TargetModules {
    /// Those whose names end so.
    Names(Vec<String>),
    /// Those whose names this regular expression matches, or `all-linear`.
    Pattern(String),
}

/// Fields that change nothing about what stored matrices mean: remarks, and choices that were made
/// when the matrices were.
const INERT: [&str; 14] = [
    "auto_mapping",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    // The bias that it adds is a tensor, and the whole base's tables are, too.
    "lora_bias",
    "ensure_weight_tying",
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
    /// Plain LoRA on the layers whose names end so.
    pub fn plain(rank: usize, lora_alpha: f64, target_modules: Vec<String>) -> Self {
        Self {
            rank,
            lora_alpha,
            lora_dropout: 0.0,
            target_modules: TargetModules::Names(target_modules),
            use_rslora: false,
            base_model: None,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            modules_to_save: Vec::new(),
            has_biases: false,
            use_dora: false,
        }
    }

    /// What the product of the matrices is multiplied with, where no pattern says otherwise.
    pub fn scale(&self) -> f64 {
        self.scaled(self.lora_alpha, self.rank)
    }

    fn scaled(&self, alpha: f64, rank: usize) -> f64 {
        let rank = rank as f64;
        alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// What the product of a layer's matrices, of this rank, is multiplied with.
    pub fn scale_of(&self, target: &str, rank: usize) -> f64 {
        let alpha = matched(&self.alpha_pattern, target).unwrap_or(self.lora_alpha);
        self.scaled(alpha, rank)
    }

    /// The rank of a layer's matrices.
    pub fn rank_of(&self, target: &str) -> usize {
        matched(&self.rank_pattern, target).unwrap_or(self.rank)
    }

    /// Whether all layers have one rank and strength.
    pub fn is_uniform(&self) -> bool {
        self.rank_pattern.is_empty() && self.alpha_pattern.is_empty() && !self.use_dora
    }

    /// Whether a layer was trained as a whole.
    pub fn saves(&self, layer: &str) -> bool {
        let ends = |name: &String| {
            let before = layer.strip_suffix(name.as_str());
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        };
        // Of a module of several layers the name stands within.
        let within = |name: &String| layer.contains(&format!(".{name}."));
        self.modules_to_save
            .iter()
            .any(|name| ends(name) || within(name))
    }

    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or that asks for more than plain LoRA on linear layers: whatever
    /// this version does not know must be off, so that no adapter is applied half.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let text = files::read(path).map_err(|fault| CheckpointError::Io {
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
        // Before what only such adapters have.
        take("peft_type").read("only LORA adapters are supported", |value| {
            (value == "LORA").then_some(())
        })?;
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
            target_modules: take("target_modules").read(
                "list the layers' names, or give a regular expression",
                |value| match value {
                    Value::String(pattern) => Some(TargetModules::Pattern(pattern.clone())),
                    value => names(value)
                        .filter(|names| !names.is_empty())
                        .map(TargetModules::Names),
                },
            )?,
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
            rank_pattern: take("rank_pattern").read("give ranks from 1 to 65536", |value| {
                patterns(value, |rank| {
                    let rank = rank.as_u64().filter(|rank| (1..=1 << 16).contains(rank));
                    rank.map(|rank| rank as usize)
                })
            })?,
            alpha_pattern: take("alpha_pattern").read("give numbers", |value| {
                patterns(value, |alpha| {
                    alpha.as_f64().filter(|alpha| alpha.is_finite())
                })
            })?,
            modules_to_save: take("modules_to_save").read(
                "list layers' names",
                |value| match value {
                    Value::Null => Some(Vec::new()),
                    value => names(value),
                },
            )?,
            has_biases: take("bias").read("give none, all or lora_only", |value| match value {
                Value::Null => Some(false),
                value => match value.as_str()? {
                    "none" => Some(false),
                    "all" | "lora_only" => Some(true),
                    _ => None,
                },
            })?,
            use_dora: take("use_dora").read("give true or false", |value| match value {
                Value::Null => Some(false),
                value => value.as_bool(),
            })?,
        };
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
                mend: "this is not supported; merge the adapter with PEFT",
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
            "target_modules": match &self.target_modules {
                TargetModules::Names(names) => json!(names),
                TargetModules::Pattern(pattern) => json!(pattern),
            },
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

/// A list of texts.
fn names(value: &Value) -> Option<Vec<String>> {
    let names = value.as_array()?.iter();
    names
        .map(|name| name.as_str().map(str::to_string))
        .collect()
}

/// Patterns, in the order of the file, each with what it stands for.
fn patterns<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<(String, T)>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Object(fields) => fields
            .iter()
            .map(|(pattern, value)| {
                whole_end(pattern)?;
                Some((pattern.clone(), read(value)?))
            })
            .collect(),
        _ => None,
    }
}

/// The expression that a layer's name matches where PEFT takes `pattern` for it: the whole name, or its
/// end behind a dot.
fn whole_end(pattern: &str) -> Option<Regex> {
    let whole = format!(r"^(?:.*\.)?(?:{pattern})$");
    RegexBuilder::new(&whole).size_limit(1 << 20).build().ok()
}

/// What the first pattern that matches a layer's name stands for.
fn matched<T: Copy>(patterns: &[(String, T)], target: &str) -> Option<T> {
    let mut patterns = patterns.iter();
    let found = patterns.find(|(pattern, _)| {
        whole_end(pattern).is_some_and(|expression| expression.is_match(target))
    });
    found.map(|(_, value)| *value)
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
