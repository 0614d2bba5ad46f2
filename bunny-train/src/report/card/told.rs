//! What the card in a model's folder tells of where the model comes from, for the cards of what is made
//! of it.

use std::{fmt::Write, path::Path};

use super::{CARD, Origin, head, licence_in, licence_of};

/// Rows of a card that tell where a model comes from.
const ROWS: [&str; 5] = ["base", "data", "held out", "stage", "weights"];

/// What a card tells: all empty where there is none, or where it tells nothing.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    /// The licence.
    pub licence: Option<String>,
    /// The models on a hub that it was made of.
    pub bases: Vec<&'a str>,
    /// Lines of its table.
    pub rows: Vec<&'a str>,
    /// The part with the recipe.
    pub recipe: Option<&'a str>,
}

impl<'a> Told<'a> {
    pub(super) fn by(card: &'a str) -> Self {
        let (head, text) = match card.strip_prefix("---\n") {
            Some(rest) => rest.split_once("\n---\n").unwrap_or(("", rest)),
            None => ("", card),
        };
        let list = head.split("base_model:\n").nth(1).unwrap_or_default();
        let is_told = |line: &&str| {
            let name = line
                .strip_prefix("| ")
                .and_then(|line| line.split(" |").next());
            name.is_some_and(|name| ROWS.contains(&name))
        };
        Self {
            licence: licence_in(card),
            bases: list
                .lines()
                .map_while(|line| line.strip_prefix("- "))
                .collect(),
            rows: text.lines().filter(is_told).collect(),
            recipe: text
                .split_once("\n## Recipe\n")
                .map(|(_, recipe)| recipe.split("\n## ").next().unwrap_or(recipe).trim()),
        }
    }

    /// Puts the recipe at the end of a card.
    pub(super) fn put_recipe(&self, card: &mut String) {
        if let Some(recipe) = self.recipe {
            let _ = write!(card, "\n## Recipe\n\n{recipe}\n");
        }
    }
}

/// The card in `folder`, or nothing.
pub(super) fn card_of(folder: &Path) -> String {
    std::fs::read_to_string(folder.join(CARD)).unwrap_or_default()
}

/// `card`, which says how to use what was made of `origin`, with what the card of `origin` tells of where
/// it comes from: licence, base, data and recipe.
pub fn with_origin(card: &str, origin: Origin<'_>) -> String {
    let (own, base) = match origin {
        Origin::Files(source) => (card_of(&source.model), source.base.as_deref()),
        Origin::Program(own) => (own.to_owned(), None),
    };
    let told = Told::by(&own);
    let licence = told.licence.clone().or_else(|| licence_of(base?));
    let mut whole = head(licence.as_deref(), told.bases.iter().copied());
    whole += card;
    if licence.is_some() || !told.rows.is_empty() {
        whole += "\n## Where it comes from\n\n| | |\n|---|---|\n";
        told.rows.iter().for_each(|row| {
            let _ = writeln!(whole, "{row}");
        });
        if let Some(licence) = licence {
            let _ = writeln!(whole, "| licence | {licence} |");
        }
    }
    told.put_recipe(&mut whole);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "---\nlicense: mit\ntags:\n- bunny\nbase_model:\n- org/base\n- org/tower\n---\n\n# mine\n\n\
        | | |\n|---|---|\n| base | `base` |\n| vision tower | `t` |\n| data | `d.json` |\n\n\
        ## Figures\n\n| step | loss | eval_loss |\n|---:|---:|---:|\n| 1 | 2.0 | |\n\n\
        ## Recipe\n\n```toml\nlora_r = 8\n```\n";

    #[test]
    fn a_card_tells_where_a_model_comes_from() {
        let told = Told::by(CARD);
        assert_eq!(told.licence.as_deref(), Some("mit"));
        assert_eq!(told.bases, ["org/base", "org/tower"]);
        assert_eq!(told.rows, ["| base | `base` |", "| data | `d.json` |"]);
        assert_eq!(told.recipe, Some("```toml\nlora_r = 8\n```"));
        let nothing = Told::by("# A model");
        assert!(nothing.licence.is_none() && nothing.rows.is_empty() && nothing.recipe.is_none());
    }

    #[test]
    fn what_is_told_goes_along() {
        let card = with_origin("# mine in GGUF\n", Origin::Program(CARD));
        assert!(card.starts_with("---\nlicense: mit\n"), "{card}");
        for said in [
            "- org/tower\n---\n\n# mine in GGUF\n\n## Where it comes from\n",
            "| data | `d.json` |\n| licence | mit |\n",
            "\n## Recipe\n\n```toml\nlora_r = 8\n```\n",
        ] {
            assert!(card.contains(said), "{said} in {card}");
        }
    }
}
