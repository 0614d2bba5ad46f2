//! `quantization_config`: which layers of a model are in integers, and how.

use serde_json::{Map, Value, json};

use crate::error::PackedError;

/// How integers lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegerFormat {
    /// `int-quantized`: bytes with sign.
    Bytes,
    /// `pack-quantized`: words of 32 bits.
    Words,
}

/// Layers whose weights are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedGroup {
    /// Bits of a number.
    pub bits: usize,
    /// Numbers that share a scale; none where all of a row do.
    pub group: Option<usize>,
    /// The layers: regular expressions from the start of their names on.
    pub layers: Vec<String>,
}

/// What a `quantization_config` says that files do not: which bits and groups there are.
///
/// Which layers are in integers, and which are left alone, is seen in the files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackedConfig {
    /// Bits of numbers.
    pub(super) bits: Vec<usize>,
    /// Sizes of groups.
    pub(super) groups: Vec<usize>,
}

/// The formats whose tensors are read: in `mixed-precision`, each group of layers names its own, and
/// `dense` is floats.
const FORMATS: [&str; 5] = [
    "pack-quantized",
    "int-quantized",
    "naive-quantized",
    "mixed-precision",
    "dense",
];

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> PackedError {
    PackedError::Config {
        field: field.into(),
        problem: problem.into(),
    }
}

fn note(known: &mut Vec<usize>, number: usize) {
    if !known.contains(&number) {
        known.push(number);
    }
}

/// Whether something is said under `field`.
fn says<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    let is_said = |value: &&Value| match value {
        Value::Null => false,
        Value::Object(object) => !object.is_empty(),
        _ => true,
    };
    object.get(field).filter(is_said)
}

impl PackedConfig {
    /// Reads a `quantization_config`.
    ///
    /// # Errors
    /// When it asks for anything but weights of four or eight bits in rows or groups.
    pub fn read(config: &Value) -> Result<Self, PackedError> {
        let Some(config) = config.as_object() else {
            return Err(wrong("quant_method", "is missing"));
        };
        match config.get("quant_method").and_then(Value::as_str) {
            Some("compressed-tensors") => {}
            Some(other) => {
                let problem = format!("is `{other}`, and only `compressed-tensors` is read");
                return Err(wrong("quant_method", problem));
            }
            None => return Err(wrong("quant_method", "is missing")),
        }
        Self::check_format("format", config)?;
        for field in ["kv_cache_scheme", "transform_config"] {
            if says(config, field).is_some() {
                return Err(wrong(field, "is set, which is not supported yet"));
            }
        }
        if let Some(format) =
            says(config, "sparsity_config").and_then(|sparse| sparse.get("format"))
            && format != "dense"
        {
            let problem = format!("is {format}: sparse weights are not supported yet");
            return Err(wrong("sparsity_config.format", problem));
        }
        let mut read = Self::default();
        let groups = config.get("config_groups").and_then(Value::as_object);
        for (name, group) in groups.into_iter().flatten() {
            read.add(&format!("config_groups.{name}"), group)?;
        }
        Ok(read)
    }

    fn check_format(field: &str, object: &Map<String, Value>) -> Result<(), PackedError> {
        match says(object, "format") {
            None => Ok(()),
            Some(format) if FORMATS.iter().any(|known| format == known) => Ok(()),
            Some(format) => {
                let known = FORMATS.join(", ");
                Err(wrong(
                    field,
                    format!("is {format}, which is none of {known}"),
                ))
            }
        }
    }

    /// Adds what one group of layers says.
    fn add(&mut self, name: &str, group: &Value) -> Result<(), PackedError> {
        let Some(group) = group.as_object() else {
            return Err(wrong(name, "must be an object"));
        };
        Self::check_format(&format!("{name}.format"), group)?;
        let Some(weights) = says(group, "weights") else {
            return Ok(());
        };
        let at = |field: &str| format!("{name}.weights.{field}");
        let of = |field: &str| weights.get(field).filter(|value| !value.is_null());
        match of("type").and_then(Value::as_str) {
            Some("int") | None => {}
            Some(other) => {
                let problem = format!("is `{other}`, and only `int` is read");
                return Err(wrong(at("type"), problem));
            }
        }
        match of("num_bits").and_then(Value::as_u64) {
            Some(bits @ (4 | 8)) => note(&mut self.bits, bits as usize),
            Some(other) => {
                let problem = format!("is {other}, and only 4 and 8 are read");
                return Err(wrong(at("num_bits"), problem));
            }
            None => return Err(wrong(at("num_bits"), "is missing")),
        }
        let size = of("group_size").and_then(Value::as_i64).unwrap_or(-1);
        let strategy = of("strategy").and_then(Value::as_str);
        match strategy.unwrap_or(if size > 0 { "group" } else { "channel" }) {
            "channel" | "tensor" => {}
            "group" if size > 0 => note(&mut self.groups, size as usize),
            "group" => {
                let problem = format!("is {size}, and groups have one number or more");
                return Err(wrong(at("group_size"), problem));
            }
            other => {
                let problem = format!("is `{other}`, which is none of tensor, channel, group");
                return Err(wrong(at("strategy"), problem));
            }
        }
        if of("dynamic").is_some_and(|dynamic| *dynamic != false) {
            return Err(wrong(at("dynamic"), "is on, and weights do not change"));
        }
        Ok(())
    }

    /// A `quantization_config` of symmetric weights in `groups`; `ignore` are the layers beside, as
    /// `targets` are, that stay in floats.
    pub fn write(format: IntegerFormat, groups: &[PackedGroup], ignore: &[String]) -> Value {
        let format = match format {
            IntegerFormat::Bytes => "int-quantized",
            IntegerFormat::Words => "pack-quantized",
        };
        let mut written = Map::new();
        for (at, group) in groups.iter().enumerate() {
            let weights = json!({
                "num_bits": group.bits,
                "type": "int",
                "symmetric": true,
                "strategy": if group.group.is_some() { "group" } else { "channel" },
                "group_size": group.group,
                "dynamic": false,
                "observer": "minmax",
                "observer_kwargs": {},
                "block_structure": null,
                "actorder": null,
            });
            let targets = group.layers.iter().map(|layer| format!("re:{layer}"));
            let group = json!({
                "targets": targets.collect::<Vec<_>>(),
                "weights": weights,
                "input_activations": null,
                "output_activations": null,
                "format": format,
            });
            written.insert(format!("group_{at}"), group);
        }
        json!({
            "quant_method": "compressed-tensors",
            "format": format,
            "quantization_status": "compressed",
            "config_groups": written,
            "ignore": ignore.iter().map(|layer| format!("re:{layer}")).collect::<Vec<_>>(),
            "kv_cache_scheme": null,
        })
    }
}
