//! What a configuration's model consists of, and how much of it there is; nothing is built for it.

use super::{Bunny, Decoder, Projector, VisionTower};
use crate::{
    config::{BunnyConfig, DecoderConfig, ProjectorConfig, VisionConfig},
    nn::{NameTable, ParameterSpec, Part, count, describe},
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
}

impl VisionConfig {
    /// Every parameter of the tower alone, in its order.
    pub fn describe(&self) -> Vec<ParameterSpec> {
        describe(&NameTable::SAME, |builder| VisionTower::new(self, builder))
    }

    /// How many parameters take part.
    pub fn parameters(&self) -> u64 {
        count(&self.describe())
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

    use crate::{
        config::presets::Preset,
        nn::{FusedRows, ParameterKind, Precision, WeightFormat, count},
    };

    use super::*;

    /// What the published files of whole models hold, counted from their bytes where these are known:
    /// language model, projector, and all together with the tower.
    const PUBLISHED: [(&str, u64, u64, u64); 7] = [
        (
            "bunny-phi-2-siglip",
            2_774_999_040,
            9_507_840,
            3_182_254_624,
        ),
        (
            "bunny-qwen1.5-1.8b-siglip",
            1_835_640_832,
            6_557_696,
            2_239_946_272,
        ),
        (
            "bunny-minicpm-siglip",
            2_724_880_896,
            7_967_232,
            3_161_073_728,
        ),
        (
            "bunny-phi-3-siglip",
            3_820_919_808,
            12_982_272,
            4_262_127_680,
        ),
        (
            "bunny-phi-3-siglip-s2",
            3_820_753_920,
            20_060_160,
            4_269_039_680,
        ),
        (
            "bunny-llama3-8b-siglip",
            8_030_261_248,
            21_504_000,
            8_479_990_848,
        ),
        (
            "bunny-llama3-8b-siglip-s2",
            8_030_261_248,
            30_941_184,
            8_489_428_032,
        ),
    ];

    #[test]
    fn published_models_have_their_published_numbers_of_parameters() {
        // All but the first two were published with a layer and a head that nothing reads.
        const UNREAD: u64 = 15_239_504 + 15_238_352;
        for (at, (name, language_model, projector, total)) in PUBLISHED.into_iter().enumerate() {
            let parameters = Preset::named(name).unwrap().config().parameters();
            assert_eq!(parameters.language_model, language_model, "{name}");
            assert_eq!(parameters.projector, projector, "{name}");
            assert_eq!(parameters.vision_tower, 397_747_744, "{name}");
            let unread = if at < 2 { 0 } else { UNREAD };
            assert_eq!(parameters.total() + unread, total, "{name}");
        }
        let specs = Preset::named("bunny-phi-2-siglip")
            .unwrap()
            .config()
            .describe();
        let first_layer = specs
            .iter()
            .filter(|spec| spec.part == Part::VisionTower && spec.layer == Some(0));
        assert_eq!(count(first_layer), 15_239_504);
    }

    #[test]
    fn adapters_stand_beside_products_as_they_are_published() {
        let of = |name: &str, rank: usize| {
            let specs = Preset::named(name).unwrap().config().describe();
            let targets = specs.iter().filter(|spec| spec.adapter_target().is_some());
            let ends: usize = targets.flat_map(|spec| &spec.shape).sum();
            rank * ends
        };
        assert_eq!(of("bunny-phi-2-siglip", 128), 188_743_680);
        assert_eq!(of("bunny-phi-3-siglip", 128), 201_326_592);
        assert_eq!(of("bunny-llama3-8b-siglip", 128), 335_544_320);
        assert_eq!(of("bunny-llama3-8b-siglip-s2", 256), 671_088_640);
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

    #[test]
    fn integers_take_a_share_of_the_bytes() {
        let specs = Preset::named("bunny-phi-2-siglip")
            .unwrap()
            .config()
            .describe();
        let float = Precision::weights_only(WeightFormat::F16);
        let count = count(&specs);
        // Norms and biases are in f32.
        let bytes = float.bytes(&specs) as f64;
        assert!(
            (1.0..1.002).contains(&(bytes / (2 * count) as f64)),
            "{bytes}"
        );
        let packed = float.packed(Some("int4".parse().unwrap())).bytes(&specs) as f64;
        // A half byte and a scale for 32 of the language model's; the rest as before.
        assert!(
            (0.3..0.5).contains(&(packed / bytes)),
            "{packed} of {bytes}"
        );
    }
}
