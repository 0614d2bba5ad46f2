//! A model's card: the `README.md` that says what a merged model was made of.

mod llava;
mod told;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use bunny_core::{Fields, checkpoint::ModelSource};
use bunny_weights::folder::CONFIG;
use serde_json::Value;

use crate::{
    error::TrainError,
    run::{
        checkpoint::{self, RunState},
        metrics,
    },
};

pub use llava::{Origin, llava_card};
pub use told::with_origin;

use told::card_of;

/// The file's name in a model's folder.
pub const CARD: &str = "README.md";

/// Keys of a recipe that say where things are on one machine, or how a run was watched, and nothing
/// of the model.
const NOT_TOLD: [&str; 7] = [
    "dataloader_num_workers",
    "image_folder",
    "init_adapter",
    "pretrain_mm_mlp_adapter",
    "report_to",
    "save_steps",
    "save_total_limit",
];

/// The card of what a run in `source.model` has learnt, merged and written to `folder`: base, data,
/// recipe and figures, as far as the run's folder tells, and the licence that the base's card names.
///
/// # Errors
/// When what the folder holds cannot be read.
pub fn merged_card(source: &ModelSource, folder: &Path) -> Result<String, TrainError> {
    let fields = match source.model.join(CONFIG) {
        own if own.exists() => Some(Fields::read(own)?),
        _ => None,
    };
    let tower = match &fields {
        Some(fields) => fields.string("mm_vision_tower")?,
        None => None,
    };
    let tower = tower.unwrap_or("the base's");
    // A file in GGUF has no checkpoints beside it.
    let mut steps = match source.model.is_dir() {
        true => checkpoint::list(&source.model)?,
        false => Vec::new(),
    };
    let state = match steps.pop() {
        Some((_, last)) => Some(checkpoint::state(&last)?),
        None => None,
    };
    let recipe = state.as_ref().map(|state| &state.recipe);
    let key = |name: &str| {
        recipe
            .and_then(|recipe| recipe.get(name))
            .and_then(Value::as_str)
    };
    let own = source.base.as_deref().unwrap_or(&source.model);
    let base = key("model_name_or_path").map_or_else(|| shown(own), str::to_owned);
    // Where all has learnt, the run's folder is the model, and its base is the recipe's.
    let licence = licence_of(own).or_else(|| licence_of(Path::new(&base)));

    let mut card = head(
        licence.as_deref(),
        [&*base, tower].into_iter().filter(|name| is_hub_id(name)),
    );
    let _ = writeln!(card, "# {}\n", name_of(folder));
    let _ = writeln!(
        card,
        "A Bunny, merged by bunny {} into one folder: it is talked with by `bunny-cli chat --model FOLDER`.\n",
        env!("CARGO_PKG_VERSION")
    );
    let _ = writeln!(card, "| | |\n|---|---|");
    let _ = writeln!(card, "| base | {} |", linked(&base));
    let _ = writeln!(card, "| vision tower | {} |", linked(tower));
    for (what, name) in [("data", "data_path"), ("held out", "eval_data_path")] {
        if let Some(path) = key(name) {
            let _ = writeln!(card, "| {what} | `{}` |", name_of(Path::new(path)));
        }
    }
    if let Some(state) = &state {
        let records = state.records.map(|count| format!(", {count} records"));
        let _ = writeln!(
            card,
            "| stage | {}, {} steps{} |",
            state.stage,
            state.step,
            records.unwrap_or_default()
        );
        let _ = writeln!(card, "| weights | {} |", whose_weights(state));
    }
    let _ = writeln!(
        card,
        "| licence | {} |",
        licence
            .as_deref()
            .unwrap_or("that of the base and of the data: neither is named where this was merged")
    );
    figures(&mut card, &source.model)?;
    if let Some(recipe) = recipe {
        let _ = writeln!(card, "\n## Recipe\n\n```toml");
        for (key, value) in recipe
            .iter()
            .filter(|(key, _)| !NOT_TOLD.contains(&key.as_str()))
        {
            let nothing = value.is_null() || value == "";
            match value {
                _ if nothing => {}
                Value::String(path) if key.ends_with("_path") && Path::new(path).is_absolute() => {
                    let _ = writeln!(card, "{key} = {:?}", name_of(Path::new(path)));
                }
                value => {
                    let _ = writeln!(card, "{key} = {value}");
                }
            }
        }
        let _ = writeln!(card, "```");
    }
    Ok(card)
}

/// The card of an average of models.
pub fn average_card(models: &[(PathBuf, f64)], folder: &Path) -> String {
    let licence = models.iter().find_map(|(model, _)| licence_of(model));
    let mut card = head(licence.as_deref(), std::iter::empty());
    let _ = writeln!(card, "# {}\n", name_of(folder));
    let _ = writeln!(
        card,
        "The average of {} models, made by bunny {}.\n\n| model | weight |\n|---|---:|",
        models.len(),
        env!("CARGO_PKG_VERSION")
    );
    for (model, weight) in models {
        let _ = writeln!(card, "| `{}` | {weight} |", name_of(model));
    }
    let licence = licence
        .as_deref()
        .unwrap_or("that of the models it is made of");
    let _ = writeln!(card, "\nLicence: {licence}.");
    card
}

/// What hubs read of a card.
fn head<'a>(licence: Option<&str>, bases: impl Iterator<Item = &'a str>) -> String {
    let mut head = "---\n".to_owned();
    if let Some(licence) = licence {
        let _ = writeln!(head, "license: {licence}");
    }
    head += "pipeline_tag: image-text-to-text\ntags:\n- bunny\n";
    let bases: Vec<&str> = bases.collect();
    if !bases.is_empty() {
        head += "base_model:\n";
        bases.iter().for_each(|base| {
            let _ = writeln!(head, "- {base}");
        });
    }
    head + "---\n\n"
}

/// After which step the weights were as a run left them whose last checkpoint is of this state.
fn whose_weights(last: &RunState) -> String {
    let keeps_best = last.recipe.get("load_best_model_at_end") == Some(&Value::Bool(true));
    match last.best.filter(|_| keeps_best) {
        Some(best) => format!(
            "of step {}, whose evaluation was the best (eval_loss {:.4})",
            best.step, best.eval_loss
        ),
        None => format!("of step {}, the last", last.step),
    }
}

/// Losses of the run in `folder`, if it has left any.
fn figures(card: &mut String, folder: &Path) -> Result<(), TrainError> {
    let file = folder.join(metrics::METRICS_FILE);
    if !file.exists() {
        return Ok(());
    }
    let lines = metrics::read(&file)?;
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
        return Ok(());
    };
    let _ = writeln!(
        card,
        "\n## Figures\n\n| step | loss | eval_loss |\n|---:|---:|---:|"
    );
    let evaluated = lines.iter().filter(|line| line.eval_loss.is_some());
    let best = evaluated.min_by(|a, b| {
        a.eval_loss
            .partial_cmp(&b.eval_loss)
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut shown: Vec<_> = [Some(first), best, Some(last)]
        .into_iter()
        .flatten()
        .collect();
    shown.sort_by_key(|line| line.step);
    shown.dedup_by_key(|line| line.step);
    for line in shown {
        let eval_loss = line.eval_loss.map(|loss| format!("{loss:.4}"));
        let _ = writeln!(
            card,
            "| {} | {:.4} | {} |",
            line.step,
            line.loss,
            eval_loss.unwrap_or_default()
        );
    }
    Ok(())
}

/// The licence that the card of a model's folder names.
fn licence_of(model: &Path) -> Option<String> {
    licence_in(&card_of(model))
}

/// The licence that a card names.
fn licence_in(card: &str) -> Option<String> {
    let head = card.strip_prefix("---")?.split("\n---").next()?;
    let licence = head
        .lines()
        .find_map(|line| line.strip_prefix("license:"))?;
    let licence = licence.trim().trim_matches(['"', '\'']);
    (!licence.is_empty()).then(|| licence.to_owned())
}

/// The last part of a path: the rest is of one machine alone.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether a name is one on a hub, and no folder here.
fn is_hub_id(name: &str) -> bool {
    !Path::new(name).exists() && !name.starts_with(['.', '/', '~']) && name.split('/').count() == 2
}

fn linked(name: &str) -> String {
    match is_hub_id(name) {
        true => format!("[{name}](https://huggingface.co/{name})"),
        false => format!("`{}`", name_of(Path::new(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_the_one_that_a_card_names() {
        let folder = tempfile::tempdir().unwrap();
        let card = folder.path().join(CARD);
        for (text, expected) in [
            ("---\nlicense: mit\ntags: []\n---\n# A model", Some("mit")),
            ("---\nlicense: \"apache-2.0\"\n---\n", Some("apache-2.0")),
            ("---\ntags: []\n---\nlicense: mit", None),
            ("# A model\nlicense: mit", None),
        ] {
            std::fs::write(&card, text).unwrap();
            assert_eq!(licence_of(folder.path()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_average_names_its_models_and_their_weights() {
        let models = [("runs/a".into(), 0.25), ("runs/b".into(), 0.75)];
        let card = average_card(&models, Path::new("out/ab"));
        assert!(
            card.contains("# ab\n") && card.contains("| `b` | 0.75 |"),
            "{card}"
        );
    }
}
