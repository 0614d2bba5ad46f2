//! The language models that llama.cpp knows under names of their own, and what their keys say.

use bunny_weights::{
    gguf::{Metadata, Value},
    packed::RowOrder,
};
use serde_json::{Map, Value as Json, json};

use super::fields::shortest;
use crate::{
    ConfigError, Fields,
    config::{BunnyConfig, DecoderConfig, Family, NormKind},
    nn::Activation,
};

/// Which one, where they differ by more than names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Phi2,
    StableLm,
    Qwen2,
    MiniCpm,
    Phi3,
    Llama,
}

/// A kind of language model in llama.cpp.
#[derive(Debug)]
pub(super) struct Architecture {
    /// Which one.
    pub kind: Kind,
    /// `general.architecture`, which keys begin with.
    pub name: &'static str,
    /// What it is here.
    pub family: Family,
    /// Whether rotary angles turn neighbours against each other, and rows of queries and keys are laced
    /// accordingly; here, and in the others, they turn one half of a head against the other.
    pub is_laced: bool,
}

static ALL: [Architecture; 6] = {
    const fn of(kind: Kind, name: &'static str, family: Family, is_laced: bool) -> Architecture {
        Architecture {
            kind,
            name,
            family,
            is_laced,
        }
    }
    [
        of(Kind::Phi2, "phi2", Family::PHI, false),
        of(Kind::StableLm, "stablelm", Family::STABLELM, false),
        of(Kind::Qwen2, "qwen2", Family::QWEN2, false),
        of(Kind::MiniCpm, "minicpm", Family::MINICPM, true),
        of(Kind::Phi3, "phi3", Family::PHI3, false),
        of(Kind::Llama, "llama", Family::LLAMA, true),
    ]
};

/// Scales of MiniCPM's files from before they said them.
const MINICPM_SCALES: (f64, f64, usize) = (12.0, 1.4, 256);

impl Architecture {
    /// That of a family.
    pub fn of(family: Family) -> Option<&'static Self> {
        ALL.iter().find(|known| known.family == family)
    }

    /// The one that a file names.
    pub fn named(fields: &Fields) -> Result<&'static Self, ConfigError> {
        const KEY: &str = "general.architecture";
        let name = fields.string(KEY)?;
        let name = name.ok_or_else(|| fields.invalid(KEY, "is missing"))?;
        ALL.iter().find(|known| known.name == name).ok_or_else(|| {
            let known: Vec<&str> = ALL.iter().map(|known| known.name).collect();
            let problem = format!("is `{name}`, which is none of {}", known.join(", "));
            fields.invalid(KEY, problem)
        })
    }

    /// The key of this name.
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    /// Why a decoder is none of these, if it is not: llama.cpp takes much for granted.
    pub fn refuses(&self, decoder: &DecoderConfig) -> Option<String> {
        let activation = match self.kind {
            Kind::Phi2 => Activation::GeluTanh,
            _ => Activation::Silu,
        };
        if decoder.activation != activation {
            let (has, takes) = (decoder.activation.name(), activation.name());
            return Some(format!(
                "the language model's activation is {has}, and llama.cpp's {} takes {takes}",
                self.name
            ));
        }
        let is_laced_even = decoder.head_dim.is_multiple_of(2);
        (self.is_laced && !is_laced_even).then(|| {
            format!(
                "heads are {} wide, and llama.cpp turns pairs",
                decoder.head_dim
            )
        })
    }

    fn eps(decoder: &DecoderConfig) -> &'static str {
        match decoder.norm {
            NormKind::LayerNorm => "attention.layer_norm_epsilon",
            NormKind::RmsNorm => "attention.layer_norm_rms_epsilon",
        }
    }

    /// Whether heads share the width of the stream, as llama.cpp takes it unless it is said.
    fn shares_stream(decoder: &DecoderConfig) -> bool {
        decoder.query_size() == decoder.hidden_size
    }

    /// What a file says of the language model.
    pub fn keys(&self, decoder: &DecoderConfig) -> Metadata {
        let count = |count: usize| Value::U32(count as u32);
        let number = |number: f64| Value::F32(number as f32);
        let mut keys = vec![
            ("context_length", count(decoder.max_position_embeddings)),
            ("embedding_length", count(decoder.hidden_size)),
            ("block_count", count(decoder.num_hidden_layers)),
            ("feed_forward_length", count(decoder.intermediate_size)),
            ("attention.head_count", count(decoder.num_attention_heads)),
            (
                "attention.head_count_kv",
                count(decoder.num_key_value_heads),
            ),
            (Self::eps(decoder), number(decoder.norm_eps)),
            ("rope.dimension_count", count(decoder.rotary_dim)),
            ("rope.freq_base", number(decoder.rope_theta)),
        ];
        if !Self::shares_stream(decoder) {
            keys.push(("attention.key_length", count(decoder.head_dim)));
            keys.push(("attention.value_length", count(decoder.head_dim)));
        }
        match self.kind {
            Kind::StableLm => keys.push(("use_parallel_residual", false.into())),
            Kind::Phi3 => {
                let positions = count(decoder.max_position_embeddings);
                let window = decoder.sliding_window.unwrap_or(0);
                keys.push(("rope.scaling.original_context_length", positions));
                keys.push(("attention.sliding_window", count(window)));
            }
            Kind::MiniCpm => {
                keys.push(("embedding_scale", number(decoder.embedding_scale)));
                keys.push(("residual_scale", number(decoder.residual_scale())));
                keys.push(("logit_scale", number(decoder.logits_divisor())));
            }
            _ => {}
        }
        let keys = keys.into_iter();
        let mut keys: Metadata = keys.map(|(name, value)| (self.key(name), value)).collect();
        keys.insert("general.architecture".into(), self.name.into());
        keys
    }

    /// The language model's fields of `config.json`, from what a file says; `has` tells which tensors it
    /// holds.
    pub fn config_json(
        &self,
        said: &Fields,
        rows: usize,
        has: impl Fn(&str) -> bool,
    ) -> Result<Map<String, Json>, ConfigError> {
        let key = |name: &str| self.key(name);
        let needed = |name: &str| said.needed(&key(name), 1 << 24);
        let number = |name: &str, default: f64| said.number(&key(name), default).map(shortest);
        if let Some(kind) = said
            .string(&key("rope.scaling.type"))?
            .filter(|kind| *kind != "none")
        {
            return Err(ConfigError::NotSupported {
                file: said.file().into(),
                feature: format!("`{}` `{kind}`", key("rope.scaling.type")),
            });
        }
        if said.boolean(&key("use_parallel_residual"), false)? && self.kind == Kind::StableLm {
            return Err(ConfigError::NotSupported {
                file: said.file().into(),
                feature: format!("`{}`", key("use_parallel_residual")),
            });
        }
        let (hidden, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
        if !hidden.is_multiple_of(heads) {
            let problem = format!("is {heads}, which does not divide the width of {hidden}");
            return Err(said.invalid(&key("attention.head_count"), problem));
        }
        let width = said.count(&key("attention.key_length"), hidden / heads, 1 << 16)?;
        let values = said.count(&key("attention.value_length"), width, 1 << 16)?;
        let rotary = said.count(&key("rope.dimension_count"), width, width)?;
        if values != width || !self.says_width() && width != hidden / heads {
            let problem = format!("is {values}, and heads are {} wide here", hidden / heads);
            return Err(said.invalid(&key("attention.value_length"), problem));
        }
        if !self.says_rotary() && rotary != width {
            let problem =
                format!("is {rotary}, and all {width} channels of a head are turned here");
            return Err(said.invalid(&key("rope.dimension_count"), problem));
        }
        let layers = needed("block_count")?;
        let (eps_key, eps_field) = match self.kind {
            Kind::Phi2 | Kind::StableLm => ("attention.layer_norm_epsilon", "layer_norm_eps"),
            _ => ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
        };
        let mut json = json!({
            "model_type": self.family.model_type(),
            "architectures": [self.family.architecture()],
            "vocab_size": rows,
            "hidden_size": hidden,
            "intermediate_size": needed("feed_forward_length")?,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": said.count(&key("attention.head_count_kv"), heads, heads)?,
            "hidden_act": match self.kind {
                Kind::Phi2 => Activation::GeluTanh.name(),
                _ => Activation::Silu.name(),
            },
            "max_position_embeddings": said.count(&key("context_length"), 2048, 1 << 24)?,
            eps_field: number(eps_key, 1e-5)?,
            "rope_theta": number("rope.freq_base", 10_000.0)?,
            "tie_word_embeddings": !has("output.weight"),
        });
        if self.says_rotary() {
            json["partial_rotary_factor"] = share(rotary, width).into();
        }
        if self.says_width() {
            json["head_dim"] = width.into();
        }
        match self.kind {
            Kind::StableLm => json["use_qkv_bias"] = has("blk.0.attn_q.bias").into(),
            Kind::Llama | Kind::MiniCpm => {
                json["attention_bias"] = has("blk.0.attn_output.bias").into();
                if self.kind == Kind::Llama {
                    json["mlp_bias"] = has("blk.0.ffn_up.bias").into();
                }
            }
            Kind::Phi3 => {
                let window = said.number(&key("attention.sliding_window"), 0.0)?;
                if window != 0.0 {
                    json["sliding_window"] = said
                        .needed(&key("attention.sliding_window"), 1 << 24)?
                        .into();
                }
            }
            _ => {}
        }
        if self.kind == Kind::MiniCpm {
            let (embedding, depth, width) = MINICPM_SCALES;
            let root = (layers as f64).sqrt();
            let residual = said.number(&key("residual_scale"), depth / root)?;
            let divisor = number("logit_scale", hidden as f64 / width as f64)?;
            json["scale_emb"] = number("embedding_scale", embedding)?.into();
            json["scale_depth"] = shortest(residual * root).into();
            if divisor.is_nan() || divisor <= 0.0 {
                let problem = format!("is {divisor}, must be above 0");
                return Err(said.invalid(&key("logit_scale"), problem));
            }
            json["dim_model_base"] = ((hidden as f64 / divisor).round() as u64).into();
        }
        match json {
            Json::Object(fields) => Ok(fields),
            _ => Ok(Map::new()),
        }
    }

    /// How the rows of a parameter of the language model lie in its file.
    pub fn order_of(&self, decoder: &DecoderConfig, local: &str) -> RowOrder {
        let is_of = |part: &str| local.contains(&format!(".self_attn.{part}."));
        let heads = match self.is_laced {
            true if is_of("q_proj") => decoder.num_attention_heads,
            true if is_of("k_proj") => decoder.num_key_value_heads,
            _ => return RowOrder::Same,
        };
        RowOrder::Laced { heads }
    }

    /// Whether `config.json` says how wide a head is.
    fn says_width(&self) -> bool {
        matches!(self.kind, Kind::Llama | Kind::MiniCpm | Kind::Qwen2)
    }

    /// Whether `config.json` says how much of a head is turned.
    fn says_rotary(&self) -> bool {
        matches!(self.kind, Kind::Phi2 | Kind::StableLm | Kind::Phi3)
    }

    /// Where a model says that its tokens end.
    pub fn end_of_text(config: &BunnyConfig) -> &'static str {
        config.family.template().end_of_text().unwrap_or_default()
    }
}

/// The share of `whole` of which `part` is what is left without a fraction.
fn share(part: usize, whole: usize) -> f64 {
    let share = part as f64 / whole as f64;
    match (share * whole as f64) as usize == part {
        true => share,
        false => share.next_up(),
    }
}
