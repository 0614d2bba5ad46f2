//! The published models, by name.

use crate::{
    config::{
        BunnyConfig, DecoderConfig, EvaClipConfig, Family, MultiscaleConfig, ProjectorConfig,
        SiglipConfig, VisionConfig,
    },
    input::image::Aspect,
};

/// A published combination of a language model and a vision tower.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name of the combination.
    pub name: &'static str,
    /// The hub id of the language model it is trained from.
    pub language_model: &'static str,
    /// The hub id of its vision tower.
    pub vision_tower: &'static str,
    /// The hub id of its trained weights.
    pub weights: &'static str,
    base: &'static Base,
    tower: fn() -> VisionConfig,
    /// Positions of a row in training.
    max_length: usize,
    /// The tower learnt too, at least on one of the ways that led to the model.
    unfrozen: bool,
}

/// A language model that Bunnies are trained from.
#[derive(Debug)]
struct Base {
    hub_id: &'static str,
    family: Family,
    decoder: fn() -> DecoderConfig,
    bos: Option<u32>,
    eos: u32,
}

const PHI_1_5: Base = Base {
    hub_id: "microsoft/phi-1_5",
    family: Family::PHI,
    decoder: DecoderConfig::phi_1_5,
    bos: None,
    eos: 50_256,
};

const PHI_2: Base = Base {
    hub_id: "microsoft/phi-2",
    decoder: DecoderConfig::phi_2,
    ..PHI_1_5
};

const STABLELM_2: Base = Base {
    hub_id: "stabilityai/stablelm-2-1_6b",
    family: Family::STABLELM,
    decoder: DecoderConfig::stablelm_2_1_6b,
    bos: None,
    eos: 100_257,
};

const QWEN1_5: Base = Base {
    hub_id: "Qwen/Qwen1.5-1.8B",
    family: Family::QWEN2,
    decoder: DecoderConfig::qwen1_5_1_8b,
    bos: None,
    eos: 151_643,
};

/// Its weights after 280,000 steps, in a revision of their own.
const MINICPM: Base = Base {
    hub_id: "openbmb/MiniCPM-2B-history",
    family: Family::MINICPM,
    decoder: DecoderConfig::minicpm_2b,
    bos: Some(1),
    eos: 2,
};

const PHI_3: Base = Base {
    hub_id: "microsoft/Phi-3-mini-4k-instruct",
    family: Family::PHI3,
    decoder: DecoderConfig::phi_3_mini,
    bos: Some(1),
    eos: 32_000,
};

/// With the tokenizer of April 2024, which had more tokens and began every text with one.
const PHI_3_APRIL: Base = Base {
    decoder: || DecoderConfig {
        vocab_size: 32_038,
        ..DecoderConfig::phi_3_mini()
    },
    ..PHI_3
};

const LLAMA_3: Base = Base {
    hub_id: "meta-llama/Meta-Llama-3-8B-Instruct",
    family: Family::LLAMA,
    decoder: DecoderConfig::llama_3_8b,
    bos: Some(128_000),
    eos: 128_001,
};

const SIGLIP: &str = "google/siglip-so400m-patch14-384";

/// A model with SigLIP.
const fn siglip(name: &'static str, base: &'static Base, weights: &'static str) -> Preset {
    Preset {
        name,
        language_model: base.hub_id,
        vision_tower: SIGLIP,
        weights,
        base,
        tower: || VisionConfig::Siglip(SiglipConfig::so400m_patch14_384()),
        max_length: 2048,
        unfrozen: false,
    }
}

/// A model with EVA-CLIP.
const fn eva(name: &'static str, base: &'static Base, weights: &'static str) -> Preset {
    Preset {
        vision_tower: "QuanSun/EVA-CLIP",
        tower: || VisionConfig::EvaClip(EvaClipConfig::eva02_l_14_336()),
        ..siglip(name, base, weights)
    }
}

/// A model with SigLIP over three sizes of pictures, which learnt too.
const fn multiscale(name: &'static str, base: &'static Base, weights: &'static str) -> Preset {
    Preset {
        tower: || VisionConfig::Multiscale(MultiscaleConfig::so400m_1152()),
        max_length: 4096,
        unfrozen: true,
        ..siglip(name, base, weights)
    }
}

/// The six combinations of the paper, and the models published since.
pub static PRESETS: &[Preset] = &[
    eva(
        "bunny-phi-1.5-eva",
        &PHI_1_5,
        "BoyaWu10/bunny-phi-1.5-eva-lora",
    ),
    eva(
        "bunny-stablelm-2-eva",
        &STABLELM_2,
        "BoyaWu10/bunny-stablelm-2-eva-lora",
    ),
    eva("bunny-phi-2-eva", &PHI_2, "BoyaWu10/bunny-phi-2-eva-lora"),
    siglip(
        "bunny-phi-1.5-siglip",
        &PHI_1_5,
        "BoyaWu10/bunny-phi-1.5-siglip-lora",
    ),
    siglip(
        "bunny-stablelm-2-siglip",
        &STABLELM_2,
        "BoyaWu10/bunny-stablelm-2-siglip-lora",
    ),
    siglip("bunny-phi-2-siglip", &PHI_2, "BAAI/Bunny-v1_0-3B"),
    siglip(
        "bunny-qwen1.5-1.8b-siglip",
        &QWEN1_5,
        "BAAI/Bunny-v1_0-2B-zh",
    ),
    siglip("bunny-minicpm-siglip", &MINICPM, "BAAI/Bunny-v1_0-3B-zh"),
    Preset {
        max_length: 4096,
        unfrozen: true,
        ..siglip("bunny-phi-3-siglip", &PHI_3_APRIL, "BAAI/Bunny-v1_0-4B")
    },
    multiscale("bunny-phi-3-siglip-s2", &PHI_3, "BAAI/Bunny-v1_1-4B"),
    Preset {
        unfrozen: true,
        ..siglip(
            "bunny-llama3-8b-siglip",
            &LLAMA_3,
            "BAAI/Bunny-Llama-3-8B-V",
        )
    },
    multiscale(
        "bunny-llama3-8b-siglip-s2",
        &LLAMA_3,
        "BAAI/Bunny-v1_1-Llama-3-8B-V",
    ),
];

/// The names of all of them, for errors.
pub fn preset_names() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    names.join(", ")
}

impl Preset {
    /// The combination called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Its configuration at the published size.
    pub fn config(&self) -> BunnyConfig {
        let (decoder, vision) = ((self.base.decoder)(), (self.tower)());
        BunnyConfig {
            family: self.base.family,
            projector: ProjectorConfig::mlp2x_gelu(vision.hidden_size(), decoder.hidden_size),
            vision,
            decoder,
            vision_tower: self.vision_tower.into(),
            image_aspect_ratio: Aspect::Pad,
            tokenizer_model_max_length: self.max_length,
            eos_token_ids: vec![self.base.eos],
            bos_token_id: self.base.bos,
            unfreeze_vision_tower: self.unfrozen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClipConfig;

    #[test]
    fn the_reference_sized_towers_give_the_published_number_of_features() {
        assert_eq!(SiglipConfig::so400m_patch14_384().tokens(), 729);
        assert_eq!(EvaClipConfig::eva02_l_14_336().tokens(), 576);
        assert_eq!(VisionConfig::Clip(ClipConfig::vit_l_14_336()).tokens(), 576);
        let s2 = VisionConfig::Multiscale(MultiscaleConfig::so400m_1152());
        assert_eq!(
            [s2.tokens(), s2.hidden_size(), s2.passes()],
            [729, 3456, 14]
        );
    }
}
