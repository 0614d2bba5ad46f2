//! A LLaVA as transformers has it: its tensors under a Bunny's names, and back.
//!
//! ```text
//! transformers 4 (and what is written here)   transformers 5                  Bunny
//! language_model.model.*                      model.language_model.*          model.*
//! language_model.lm_head.weight               lm_head.weight                  lm_head.weight
//! vision_tower.vision_model.*                 model.vision_tower.*            model.vision_tower.vision_tower.vision_model.*
//! multi_modal_projector.linear_1.*            model.multi_modal_projector.*   model.mm_projector.0.*
//! multi_modal_projector.linear_2.*                                            model.mm_projector.2.*
//! ```

mod config;
mod write;

use std::path::Path;

use bunny_weights::{TensorFiles, folder::CONFIG};

use crate::{Error, Fields, nn::Part};

const PROJECTOR: &str = "multi_modal_projector.";
const TOWER: &str = "vision_tower.";
const LANGUAGE_MODEL: &str = "language_model.";
const VISION_MODEL: &str = "vision_model.";

/// The projector's products, as transformers and as Bunny calls them.
const PRODUCTS: [(&str, &str); 2] = [("linear_1.", "0."), ("linear_2.", "2.")];

/// Opens the weights of a model's folder under the names that a Bunny's are published with, whether it
/// is a Bunny's or a LLaVA's of transformers.
///
/// # Errors
/// As [`TensorFiles::open_folder`], and when a LLaVA's configuration cannot be used.
pub fn open_weights(folder: impl AsRef<Path>) -> Result<TensorFiles, Error> {
    let folder = folder.as_ref();
    let files = TensorFiles::open_folder(folder)?;
    let is_llava = |name: &str| {
        let name = name.strip_prefix("model.").unwrap_or(name);
        name.starts_with(PROJECTOR)
    };
    if !files.names().any(is_llava) {
        return Ok(files);
    }
    let fields = Fields::read_model(folder.join(CONFIG))?;
    let tower = fields.object("vision_config")?;
    let layers = match tower {
        Some(tower) => tower.count("num_hidden_layers", usize::MAX, usize::MAX)?,
        None => usize::MAX,
    };
    // Features may come from any layer; those behind the one after it are in nobody's way.
    let is_beyond = |name: &str| layer_of_tower(name).is_some_and(|layer| layer >= layers);
    let renamed = files.renamed(|name| {
        let name = as_bunny(name);
        (!is_beyond(&name)).then_some(name)
    })?;
    Ok(renamed)
}

/// The layer of the tower that a tensor of a Bunny belongs to.
fn layer_of_tower(name: &str) -> Option<usize> {
    let rest = name.strip_prefix(Part::VisionTower.prefix())?;
    let rest = rest.strip_prefix("vision_model.encoder.layers.")?;
    rest.split('.').next()?.parse().ok()
}

/// A tensor's name in a Bunny; what is none of a LLaVA's stays as it is.
fn as_bunny(name: &str) -> String {
    let inner = name.strip_prefix("model.").unwrap_or(name);
    if let Some(rest) = inner.strip_prefix(PROJECTOR) {
        for (theirs, ours) in PRODUCTS {
            if let Some(rest) = rest.strip_prefix(theirs) {
                return format!("{}{ours}{rest}", Part::Projector.prefix());
            }
        }
    }
    if let Some(rest) = inner.strip_prefix(TOWER) {
        // Newer ones have no such wrapper.
        let rest = rest.strip_prefix(VISION_MODEL).unwrap_or(rest);
        return format!("{}{VISION_MODEL}{rest}", Part::VisionTower.prefix());
    }
    match inner.strip_prefix(LANGUAGE_MODEL) {
        Some(rest) if rest.starts_with("lm_head.") || rest.starts_with("model.") => rest.to_owned(),
        Some(rest) => format!("model.{rest}"),
        None => name.to_owned(),
    }
}

/// A tensor's name in a LLaVA, and nothing for what a LLaVA does not hold.
fn as_llava(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix(Part::Projector.prefix()) {
        let mut products = PRODUCTS.iter();
        return products.find_map(|(theirs, ours)| {
            let rest = rest.strip_prefix(ours)?;
            Some(format!("{PROJECTOR}{theirs}{rest}"))
        });
    }
    match name.strip_prefix(Part::VisionTower.prefix()) {
        Some(rest) => {
            let inner = rest.strip_prefix(VISION_MODEL)?;
            // Pooled features, and numbers that follow from the sizes.
            let is_held = !inner.starts_with("head.") && inner != "embeddings.position_ids";
            is_held.then(|| format!("{TOWER}{rest}"))
        }
        None => Some(format!("{LANGUAGE_MODEL}{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (published, llava) in [
            (
                "model.layers.0.mlp.fc1.bias",
                "language_model.model.layers.0.mlp.fc1.bias",
            ),
            ("lm_head.weight", "language_model.lm_head.weight"),
            (
                "model.mm_projector.2.bias",
                "multi_modal_projector.linear_2.bias",
            ),
            (
                "model.vision_tower.vision_tower.vision_model.post_layernorm.bias",
                "vision_tower.vision_model.post_layernorm.bias",
            ),
        ] {
            assert_eq!(as_llava(published).as_deref(), Some(llava));
            assert_eq!(as_bunny(llava), published);
        }
        for (newer, published) in [
            ("model.language_model.norm.weight", "model.norm.weight"),
            ("lm_head.weight", "lm_head.weight"),
            (
                "model.vision_tower.embeddings.class_embedding",
                "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding",
            ),
            (
                "model.multi_modal_projector.linear_1.weight",
                "model.mm_projector.0.weight",
            ),
        ] {
            assert_eq!(as_bunny(newer), published);
        }
        for unread in [
            "model.vision_tower.vision_tower.vision_model.head.probe",
            "model.vision_tower.vision_tower.vision_model.embeddings.position_ids",
            "model.mm_projector.4.weight",
        ] {
            assert_eq!(as_llava(unread), None);
        }
    }
}
