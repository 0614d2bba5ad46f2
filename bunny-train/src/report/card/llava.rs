//! The card of a model that was written as a LLaVA of transformers.

use std::{fmt::Write, path::Path};

use bunny_core::{BunnyConfig, Fields, checkpoint::ModelSource};
use bunny_weights::folder::CONFIG;

use super::{
    head, is_hub_id, licence_of, linked, name_of, shown,
    told::{Told, card_of},
};
use crate::error::TrainError;

/// Where a model that was written anew came from.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Origin<'a> {
    /// Its files.
    Files(&'a ModelSource),
    /// The program that carries it; its card.
    Program(&'a str),
}

/// The card of the LLaVA in `folder`, written from `origin`: what it was made of, its licence, and how
/// transformers is asked.
///
/// # Errors
/// When the source's configuration cannot be read.
pub fn llava_card(
    config: &BunnyConfig,
    origin: Origin<'_>,
    folder: &Path,
) -> Result<String, TrainError> {
    let own_card = match origin {
        Origin::Files(source) => card_of(&source.model),
        Origin::Program(card) => card.to_owned(),
    };
    let told = Told::by(&own_card);
    let (base, licence) = match origin {
        Origin::Files(source) => {
            let own = source.base.as_deref().unwrap_or(&source.model);
            let said = Fields::read(source.model.join(CONFIG)).ok();
            let named = said
                .as_ref()
                .and_then(|said| said.string("_name_or_path").ok().flatten());
            let base = named.filter(|name| is_hub_id(name));
            let licence = told.licence.clone().or_else(|| licence_of(own));
            (base.map_or_else(|| shown(own), str::to_owned), licence)
        }
        Origin::Program(_) => ("the model that bunny carries".into(), told.licence.clone()),
    };
    let tower = config.vision_tower.as_str();
    let hub_ids = [&*base, tower].into_iter().filter(|name| is_hub_id(name));
    let bases = match told.bases.is_empty() {
        true => hub_ids.collect(),
        false => told.bases.clone(),
    };
    let mut card = head(licence.as_deref(), bases.into_iter());
    let name = name_of(folder);
    let base = match origin {
        Origin::Files(_) => linked(&base),
        Origin::Program(_) => base.clone(),
    };
    let rows = match told.rows.is_empty() {
        true => format!("| base | {base} |"),
        false => told.rows.join("\n"),
    };
    let licence = licence
        .as_deref()
        .unwrap_or("that of the base and of the data: neither is named where this was written");
    let _ = write!(
        card,
        "# {name}\n\n\
         A Bunny, written by bunny {version} as a LLaVA of transformers (4.57 and 5).\n\n\
         | | |\n|---|---|\n\
         {rows}\n\
         | vision tower | {tower} |\n\
         | licence | {licence} |\n\n\
         ```python\n\
         from PIL import Image\n\
         from transformers import AutoProcessor, LlavaForConditionalGeneration\n\n\
         folder = \"{name}\"\n\
         model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=\"auto\")\n\
         processor = AutoProcessor.from_pretrained(folder)\n\
         picture = {{\"type\": \"image\", \"image\": Image.open(\"picture.png\").convert(\"RGB\")}}\n\
         turns = [{{\"role\": \"user\", \"content\": [picture, {{\"type\": \"text\", \"text\": \"What is in the picture?\"}}]}}]\n\
         how = {{\"add_generation_prompt\": True, \"tokenize\": True, \"return_dict\": True, \"return_tensors\": \"pt\"}}\n\
         inputs = processor.apply_chat_template(turns, **how)\n\
         ids = model.generate(**inputs.to(model.dtype), max_new_tokens=128)\n\
         print(processor.decode(ids[0][inputs[\"input_ids\"].shape[1]:], skip_special_tokens=True).strip())\n\
         ```\n\n\
         Pixels that are resized by Pillow (`use_fast=False` in 4, `backend=\"pil\"` in 5) are those that the \
         model was trained on; torchvision's differ by one step of 255 in places. A Phi-2 in f16 overflows in \
         attention that is computed in f16: take bfloat16 or float32.\n",
        version = env!("CARGO_PKG_VERSION"),
        tower = linked(tower),
    );
    told.put_recipe(&mut card);
    Ok(card)
}

#[cfg(test)]
mod tests {
    use bunny_core::config::presets::Preset;

    use super::*;

    #[test]
    fn a_card_names_what_a_llava_was_made_of() {
        let above = tempfile::tempdir().unwrap();
        let model = above.path().join("mine");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("README.md"), "---\nlicense: mit\n---\n").unwrap();
        let said = "{\"_name_or_path\": \"org/base\"}";
        std::fs::write(model.join("config.json"), said).unwrap();
        let config = Preset::named("bunny-phi-2-siglip").unwrap().config();
        let source = ModelSource::merged(&model);
        let card =
            llava_card(&config, Origin::Files(&source), Path::new("out/mine-llava")).unwrap();
        assert!(card.starts_with("---\nlicense: mit\n"), "{card}");
        for said in [
            "- org/base\n",
            "- google/siglip-so400m-patch14-384\n",
            "# mine-llava\n",
            "folder = \"mine-llava\"",
            "| licence | mit |",
        ] {
            assert!(card.contains(said), "{said} in {card}");
        }
    }
}
