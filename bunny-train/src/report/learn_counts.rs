//! How many parameters of a stage learn, before it starts.

use bunny_core::{BunnyConfig, nn::ParameterSpec};
use serde::Serialize;

use crate::recipe::BunnyRecipe;

/// Numbers of parameters that learn, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LearnCounts {
    /// The projector.
    pub projector: u64,
    /// Adapters.
    pub lora: u64,
    /// The language model.
    pub language: u64,
    /// The vision tower.
    pub tower: u64,
}

impl LearnCounts {
    /// What learns of `config` under `recipe`.
    pub fn new(config: &BunnyConfig, recipe: &BunnyRecipe) -> Self {
        let learning = recipe.trainable_parts();
        let (parts, specs) = (config.parameters(), config.describe());
        let take = |learns: bool, count: u64| if learns { count } else { 0 };
        Self {
            projector: take(learning.projector, parts.projector),
            lora: take(learning.lora, lora_parameters(&specs, recipe.lora_r)),
            language: take(learning.language, parts.language_model),
            tower: take(learning.tower, parts.vision_tower),
        }
    }

    /// The sum of the parts.
    pub fn total(&self) -> u64 {
        self.projector + self.lora + self.language + self.tower
    }
}

/// Parameters of adapters of rank `rank` beside every product of the layers of the language model that
/// `specs` describe.
pub fn lora_parameters(specs: &[ParameterSpec], rank: usize) -> u64 {
    let targets = specs.iter().filter(|spec| spec.adapter_target().is_some());
    // Each product from `in` to `out` gets `rank * (in + out)`.
    let ends: usize = targets.flat_map(|spec| &spec.shape).sum();
    (rank * ends) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use bunny_core::config::presets::Preset;

    #[test]
    fn adapters_of_rank_128_on_phi_2_have_the_published_size() {
        // 377.5 MB in 16 bits on the hub.
        let config = Preset::named("bunny-phi-2-siglip").unwrap().config();
        assert_eq!(lora_parameters(&config.describe(), 128), 188_743_680);
    }
}
