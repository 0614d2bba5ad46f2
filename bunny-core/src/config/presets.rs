//! The models of the paper's Table 2, by name.

use crate::{
    config::{
        BunnyConfig, DecoderConfig, EvaClipConfig, Family, ProjectorConfig, SiglipConfig,
        VisionConfig,
    },
    input::image::Aspect,
};

/// A published combination of a language model and a vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The name of the combination.
    pub name: &'static str,
    /// The hub id of the language model it is trained from.
    pub language_model: &'static str,
    /// The hub id of its vision tower.
    pub vision_tower: &'static str,
    /// The hub id of its trained weights.
    pub weights: &'static str,
    language: Language,
    tower: Tower,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Phi15,
    Phi2,
    StableLm2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tower {
    Siglip,
    EvaClip,
}

/// The six combinations.
pub const PRESETS: [Preset; 6] = [
    preset(
        "bunny-phi-1.5-eva",
        Language::Phi15,
        Tower::EvaClip,
        "BoyaWu10/bunny-phi-1.5-eva-lora",
    ),
    preset(
        "bunny-stablelm-2-eva",
        Language::StableLm2,
        Tower::EvaClip,
        "BoyaWu10/bunny-stablelm-2-eva-lora",
    ),
    preset(
        "bunny-phi-2-eva",
        Language::Phi2,
        Tower::EvaClip,
        "BoyaWu10/bunny-phi-2-eva-lora",
    ),
    preset(
        "bunny-phi-1.5-siglip",
        Language::Phi15,
        Tower::Siglip,
        "BoyaWu10/bunny-phi-1.5-siglip-lora",
    ),
    preset(
        "bunny-stablelm-2-siglip",
        Language::StableLm2,
        Tower::Siglip,
        "BoyaWu10/bunny-stablelm-2-siglip-lora",
    ),
    preset(
        "bunny-phi-2-siglip",
        Language::Phi2,
        Tower::Siglip,
        "BAAI/Bunny-v1_0-3B",
    ),
];

const fn preset(
    name: &'static str,
    language: Language,
    tower: Tower,
    weights: &'static str,
) -> Preset {
    Preset {
        name,
        language_model: match language {
            Language::Phi15 => "microsoft/phi-1_5",
            Language::Phi2 => "microsoft/phi-2",
            Language::StableLm2 => "stabilityai/stablelm-2-1_6b",
        },
        vision_tower: match tower {
            Tower::Siglip => "google/siglip-so400m-patch14-384",
            Tower::EvaClip => "QuanSun/EVA-CLIP",
        },
        weights,
        language,
        tower,
    }
}

impl Preset {
    /// The combination called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Its configuration at the published size.
    pub fn config(&self) -> BunnyConfig {
        let (family, decoder, eos) = match self.language {
            Language::Phi15 => (Family::Phi, DecoderConfig::phi_1_5(), 50256),
            Language::Phi2 => (Family::Phi, DecoderConfig::phi_2(), 50256),
            Language::StableLm2 => (Family::StableLm, DecoderConfig::stablelm_2_1_6b(), 100_257),
        };
        let vision = match self.tower {
            Tower::Siglip => VisionConfig::Siglip(SiglipConfig::so400m_patch14_384()),
            Tower::EvaClip => VisionConfig::EvaClip(EvaClipConfig::eva02_l_14_336()),
        };
        BunnyConfig {
            family,
            projector: ProjectorConfig::mlp2x_gelu(vision.hidden_size(), decoder.hidden_size),
            vision,
            decoder,
            vision_tower: self.vision_tower.into(),
            image_aspect_ratio: Aspect::Pad,
            tokenizer_model_max_length: 2048,
            eos_token_id: Some(eos),
            unfreeze_vision_tower: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_sized_towers_give_the_published_number_of_features() {
        assert_eq!(SiglipConfig::so400m_patch14_384().tokens(), 729);
        assert_eq!(EvaClipConfig::eva02_l_14_336().tokens(), 576);
    }
}
