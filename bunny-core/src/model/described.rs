//! What a configuration's model consists of, and how much of it there is; nothing is built for it.

use super::{Bunny, Decoder, Projector, VisionTower};
use crate::{
    config::{BunnyConfig, DecoderConfig, ProjectorConfig, VisionConfig},
    nn::{NameTable, ParameterKind, ParameterSpec, Part, count, describe},
};

/// Numbers of parameters of a Bunny's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartParameters {
    /// Embedding, decoder layers, final norm and head.
    pub language_model: u64,
    /// The vision tower, as far as its features need it.
    pub vision_tower: u64,
    /// The projector.
    pub projector: u64,
}

impl PartParameters {
    /// The sum of the parts.
    pub fn total(&self) -> u64 {
        self.language_model + self.vision_tower + self.projector
    }
}

impl BunnyConfig {
    /// Every parameter of the model, in its order.
    pub fn describe(&self) -> Vec<ParameterSpec> {
        describe(self.family.names(), |builder| Bunny::new(self, builder))
    }

    /// How many parameters the checkpoint holds, by its parts.
    pub fn parameters(&self) -> PartParameters {
        let specs = self.describe();
        let of = |part| count(specs.iter().filter(|spec| spec.part == part));
        PartParameters {
            language_model: of(Part::LanguageModel),
            vision_tower: of(Part::VisionTower),
            projector: of(Part::Projector),
        }
    }
}

impl DecoderConfig {
    /// Every parameter of the language model, in its order; `names` are those of its family.
    pub fn describe(&self, names: &NameTable) -> Vec<ParameterSpec> {
        describe(names, |builder| Decoder::new(self, builder))
    }

    /// How many parameters the model has, embedding and head included.
    pub fn parameters(&self) -> u64 {
        count(&self.describe(&NameTable::SAME))
    }

    /// Floating-point operations of one token's forward pass at a context of `context` tokens:
    /// two per parameter of every product (the embedding is a look-up), and two products of each
    /// query with every key and value.
    pub fn flops_per_token(&self, context: usize) -> u64 {
        let specs = self.describe(&NameTable::SAME);
        let mut tables = specs
            .iter()
            .filter(|spec| spec.kind == ParameterKind::Table);
        let looked_up = match self.tie_word_embeddings {
            true => 0,
            false => tables.next().map_or(0, ParameterSpec::count),
        };
        let products = count(&specs) - looked_up;
        2 * products + 4 * (self.num_hidden_layers * self.query_size() * context) as u64
    }
}

impl VisionConfig {
    /// How many parameters take part.
    pub fn parameters(&self) -> u64 {
        count(&describe(&NameTable::SAME, |builder| {
            VisionTower::new(self, builder)
        }))
    }
}

impl ProjectorConfig {
    /// How many parameters the projector has.
    pub fn parameters(&self) -> u64 {
        count(&describe(&NameTable::SAME, |builder| {
            Projector::new(self, builder)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::{config::presets::Preset, nn::FusedRows};

    use super::*;

    #[test]
    fn the_published_3b_has_its_published_number_of_parameters() {
        let parameters = Preset::named("bunny-phi-2-siglip")
            .unwrap()
            .config()
            .parameters();
        assert_eq!(parameters.language_model, 2_774_999_040);
        assert_eq!(parameters.vision_tower, 397_747_744);
        assert_eq!(parameters.projector, 9_507_840);
        assert_eq!(parameters.total(), 3_182_254_624);
    }

    #[test]
    fn the_other_language_models_count_right_too() {
        assert_eq!(DecoderConfig::phi_1_5().parameters(), 1_414_512_640);
        assert_eq!(DecoderConfig::stablelm_2_1_6b().parameters(), 1_644_515_328);
    }

    #[test]
    fn a_phi_is_published_under_its_own_names() {
        let specs = Preset::named("bunny-phi-2-siglip")
            .unwrap()
            .config()
            .describe();
        for (here, published) in [
            (
                "model.layers.3.self_attn.o_proj.weight",
                "model.layers.3.self_attn.dense.weight",
            ),
            (
                "model.layers.3.mlp.up_proj.bias",
                "model.layers.3.mlp.fc1.bias",
            ),
            ("model.norm.weight", "model.final_layernorm.weight"),
            (
                "model.layers.0.self_attn.q_proj.weight",
                "model.layers.0.self_attn.q_proj.weight",
            ),
            ("model.mm_projector.0.weight", "model.mm_projector.0.weight"),
            // The tower's MLP is called as Phi's is published.
            (
                "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
                "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
            ),
        ] {
            let local = specs.iter().find(|spec| spec.local == here).unwrap();
            assert_eq!(local.published, published);
            let mut named = specs.iter().filter(|spec| spec.published == published);
            assert_eq!(named.next().unwrap().local, here);
            assert_eq!(named.next(), None);
        }
    }

    #[test]
    fn what_each_parameter_is_for_is_said() {
        let stablelm = Preset::named("bunny-stablelm-2-eva").unwrap().config();
        let specs = stablelm.describe();
        let of = |name: &str| {
            let spec = specs.iter().find(|spec| spec.published == name);
            let spec = spec.unwrap_or_else(|| panic!("{name}"));
            (spec.kind, spec.part, spec.layer, spec.shape.as_slice())
        };
        use ParameterKind::*;
        use Part::*;
        for (name, expected) in [
            (
                "model.embed_tokens.weight",
                (Table, LanguageModel, None, &[100_352, 2048][..]),
            ),
            (
                "model.layers.23.self_attn.q_proj.bias",
                (Bias, LanguageModel, Some(23), &[2048]),
            ),
            (
                "model.layers.2.mlp.down_proj.weight",
                (Product, LanguageModel, Some(2), &[2048, 5632]),
            ),
            ("model.norm.bias", (Norm, LanguageModel, None, &[2048])),
            (
                "lm_head.weight",
                (Table, LanguageModel, None, &[100_352, 2048]),
            ),
            (
                "model.vision_tower.vision_tower.model.cls_token",
                (Addend, VisionTower, None, &[1, 1, 1024]),
            ),
            (
                "model.vision_tower.vision_tower.model.patch_embed.proj.weight",
                (Product, VisionTower, None, &[1024, 3, 14, 14]),
            ),
            (
                "model.vision_tower.vision_tower.model.blocks.22.attn.v_bias",
                (Bias, VisionTower, Some(22), &[1024]),
            ),
            (
                "model.mm_projector.2.weight",
                (Product, Projector, None, &[2048, 2048]),
            ),
        ] {
            assert_eq!(of(name), expected, "{name}");
        }
        let targets: Vec<&str> = specs
            .iter()
            .filter_map(ParameterSpec::adapter_target)
            .collect();
        assert_eq!(targets.len(), 24 * 7);
        let layer = "q k v o"
            .split(' ')
            .map(|name| format!("model.layers.0.self_attn.{name}_proj"));
        let mlp = ["gate", "up", "down"].map(|name| format!("model.layers.0.mlp.{name}_proj"));
        assert_eq!(targets[..7], layer.chain(mlp).collect::<Vec<_>>());
    }

    #[test]
    fn the_rows_of_fused_tensors_are_counted_within_each() {
        static FUSED: NameTable = NameTable {
            renames: &[],
            fused: &[FusedRows {
                published: "self_attn.qkv_proj",
                parts: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            }],
            unused: &[],
        };
        let config = DecoderConfig {
            num_hidden_layers: 2,
            num_key_value_heads: 8,
            ..DecoderConfig::phi_2()
        };
        let specs = config.describe(&FUSED);
        for layer in 0..2 {
            for (projection, rows) in [("q", 0..2560), ("k", 2560..3200), ("v", 3200..3840)] {
                for parameter in ["weight", "bias"] {
                    let at =
                        |name: &str| format!("model.layers.{layer}.self_attn.{name}.{parameter}");
                    let local = at(&format!("{projection}_proj"));
                    let spec = specs.iter().find(|spec| spec.local == local).unwrap();
                    assert_eq!(spec.published, at("qkv_proj"));
                    assert_eq!(spec.rows, Some(rows.clone()));
                }
            }
        }
        assert_eq!(count(&specs), config.parameters());
    }

    #[test]
    fn a_model_is_described_in_no_time_and_without_its_weights() {
        let config = Preset::named("bunny-phi-2-siglip").unwrap().config();
        // The best of many: other work must not count.
        let best = (0..50).map(|_| {
            let started = Instant::now();
            assert!(config.describe().len() > 800);
            started.elapsed()
        });
        let best = best.min().unwrap();
        assert!(best < Duration::from_millis(10), "{best:?}");
    }
}
