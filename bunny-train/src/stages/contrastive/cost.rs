//! What a step of a pair of towers costs.

use bunny_core::config::{SiglipConfig, VisionConfig};

use crate::recipe::ContrastiveRecipe;

/// Operations of so many pairs' forward pass and of its way back ([`bunny_core::model::ModelFlops`]
/// says what is counted): both towers, all of which learn, what makes one vector of each, and the
/// products of all pictures with all captions.
pub fn pair_flops(recipe: &ContrastiveRecipe, vision: &SiglipConfig, pairs: usize) -> u64 {
    let (hidden, wide) = (vision.hidden_size as u64, vision.intermediate_size as u64);
    let (patches, text) = (vision.tokens() as u64, &recipe.text);
    // A tower in a Bunny leaves out its last layer; here all of them take part.
    let last = vision.layer_flops(vision.tokens());
    // One query over all patches, then an MLP.
    let head =
        2 * hidden * hidden * (2 + 2 * patches) + 4 * patches * hidden + 2 * 2 * hidden * wide;
    let layers = text.layers(vision.layer_norm_eps);
    let caption = text.num_hidden_layers as u64 * layers.layer_flops(text.max_position_embeddings)
        + 2 * text.hidden_size as u64 * hidden;
    let tower = VisionConfig::Siglip(vision.clone()).flops();
    let pairs = pairs as u64;
    let products = 2 * pairs * pairs * hidden;
    pairs * (tower.forward() + tower.backward() + 3 * (last + head + caption)) + 3 * products
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{TextSizes, VisionSizes};

    #[test]
    fn the_operations_of_pairs_are_counted_as_by_hand() {
        let recipe = ContrastiveRecipe {
            vision: VisionSizes {
                hidden_size: 6,
                intermediate_size: 12,
                num_hidden_layers: 3,
                num_attention_heads: 2,
                image_size: 28,
                patch_size: 14,
                ..VisionSizes::default()
            },
            text: TextSizes {
                hidden_size: 4,
                intermediate_size: 8,
                num_hidden_layers: 1,
                num_attention_heads: 2,
                max_position_embeddings: 3,
            },
            ..ContrastiveRecipe::default()
        };
        // Four patches of 3·14·14 numbers to 6 channels, 2 each; nobody asks for a picture's gradient.
        let patches = 28_224;
        // A layer: 2·4·(4·36 + 2·72) in products, 4·16·6 in attention.
        let layers = 3 * 2_688;
        // One query: 2·36·(1 + 4 + 4 + 1) in products, 4·4·6 over the patches, 2·2·6·12 in the MLP.
        let head = 720 + 96 + 288;
        // Three places: 2·3·(4·16 + 2·32), 4·9·4, and one vector of 4 to 6 channels.
        let caption = 768 + 144 + 48;
        // Two pictures with two captions.
        let products = 2 * 2 * 2 * 6;
        let vision = recipe.vision.siglip_config().unwrap();
        assert_eq!(
            pair_flops(&recipe, &vision, 2),
            2 * (2 * patches + 3 * (layers + head + caption)) + 3 * products
        );
    }
}
