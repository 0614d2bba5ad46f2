//! The recipes themselves, as they lie in `recipes/`; links in this package lead there, so that its archive has them.

use anyhow::{Result, bail};
use bunny_base::{escape::for_terminal, nearest};

/// What a recipe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Stages of training.
    Training,
    /// A training file made of several.
    Mix,
    /// Pictures with captions to what is worth learning from.
    Condense,
}

impl Kind {
    /// The verb that follows it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Training => "train",
            Self::Mix => "data mix",
            Self::Condense => "data condense",
        }
    }
}

/// A recipe that this program carries.
#[derive(Debug)]
pub struct Carried {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub kind: Kind,
    /// All of it.
    pub text: &'static str,
}

impl Carried {
    /// All of it but the line that tells an editor where its schema lies, which is in the repository
    /// alone.
    pub fn to_copy(&self) -> &'static str {
        match self.text.strip_prefix("#:schema ") {
            Some(rest) => {
                let own = rest.split_once('\n').map_or("", |(_, own)| own);
                own.strip_prefix("#\n").unwrap_or(own)
            }
            None => self.text,
        }
    }

    /// The first sentence of its own description, behind the line with the command.
    pub fn about(&self) -> String {
        let comment = self.to_copy().lines();
        let comment = comment.take_while(|line| line.starts_with('#'));
        let words = comment.map(|line| line.trim_start_matches('#').trim());
        let words: Vec<&str> = words.skip_while(|line| !line.is_empty()).skip(1).collect();
        let text = words.join(" ");
        let ends = [": ", ". "]
            .into_iter()
            .flat_map(|end| text.match_indices(end));
        let first = ends.map(|(at, _)| at).filter(|at| *at > 20).min();
        text[..first.unwrap_or(text.len())]
            .trim_end_matches('.')
            .to_owned()
    }
}

macro_rules! carried {
    ($($kind:ident $folder:literal: $($name:literal)*;)*) => {
        &[$($(Carried {
            name: $name,
            kind: Kind::$kind,
            text: include_str!(concat!("../../", $folder, "/", $name, ".toml")),
        }),*),*]
    };
}

/// All of them.
pub const ALL: &[Carried] = carried! {
    Training "recipes":
        "bunny-llama3-8b-siglip" "bunny-llama3-8b-siglip-s2"
        "bunny-llama3-8b-siglip-s2-unfrozen" "bunny-llama3-8b-siglip-unfrozen"
        "bunny-minicpm-siglip" "bunny-phi-1.5-eva" "bunny-phi-1.5-siglip" "bunny-phi-2-eva"
        "bunny-phi-2-siglip" "bunny-phi-3-siglip" "bunny-phi-3-siglip-s2"
        "bunny-phi-3-siglip-s2-unfrozen" "bunny-phi-3-siglip-unfrozen"
        "bunny-qwen1.5-1.8b-siglip" "bunny-stablelm-2-eva" "bunny-stablelm-2-siglip"
        "own-pictures" "picture-world" "tiny";
    Mix "recipes/mixes":
        "bunny-695k" "bunny-allava-1.3m" "bunny-llava-1.4m" "bunny-llava-allava-2m" "llava-v1.5-mix665k";
    Condense "recipes/condense":
        "condense-tiny" "laion-2m";
};

/// The recipe of a name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static Carried> {
    let plain = name.strip_suffix(".toml").unwrap_or(name);
    match ALL.iter().find(|recipe| recipe.name == plain) {
        Some(recipe) => Ok(recipe),
        None => {
            let near = nearest(name, ALL.iter().map(|recipe| recipe.name));
            let near = near.map(|near| format!("; the nearest known one is `{near}`"));
            bail!(
                "no recipe `{}`{}; `bunny-cli recipe list` has them all",
                for_terminal(name),
                near.unwrap_or_default()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use bunny_data::mix::MixRecipe;
    use bunny_train::recipe::Recipe;

    use super::*;
    use crate::data::condense::CondenseRecipe;

    #[test]
    fn every_recipe_is_carried_and_can_be_followed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
        for (kind, folder) in [
            (Kind::Training, folder.clone()),
            (Kind::Mix, folder.join("mixes")),
            (Kind::Condense, folder.join("condense")),
        ] {
            let mut names: Vec<String> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            let carried: Vec<&Carried> = ALL.iter().filter(|recipe| recipe.kind == kind).collect();
            assert_eq!(
                carried.iter().map(|recipe| recipe.name).collect::<Vec<_>>(),
                names
            );
            for recipe in carried {
                match kind {
                    Kind::Training => drop(Recipe::parse(recipe.name, recipe.text, &[]).unwrap()),
                    Kind::Mix => drop(MixRecipe::parse(recipe.name, recipe.text).unwrap()),
                    Kind::Condense => {
                        let name = Path::new(recipe.name);
                        drop(CondenseRecipe::parse(name, recipe.text).unwrap());
                    }
                }
                let copy = recipe.to_copy();
                assert!(
                    copy.starts_with("# ") && !copy.contains("#:schema"),
                    "{}",
                    recipe.name
                );
                let about = recipe.about();
                assert!((20..200).contains(&about.len()), "{}: {about}", recipe.name);
                assert!(!about.contains("bunny-cli"), "{}: {about}", recipe.name);
            }
        }
    }

    #[test]
    fn a_name_is_known_with_its_ending_and_missed_by_a_letter() {
        assert_eq!(find("tiny.toml").unwrap().name, "tiny");
        let error = find("bunny-phi-2-sigclip").unwrap_err().to_string();
        assert!(error.contains("`bunny-phi-2-siglip`"), "{error}");
    }
}
