//! Figures of the paper and of the reference's README.

use serde::{Deserialize, Serialize};

use super::Label;
use crate::error::{EvalError, Result};

/// A published model and its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The model.
    pub name: String,
    /// Its vision tower, where it is one of the paper's combinations.
    pub vision_tower: Option<String>,
    /// Its language model, likewise.
    pub language_model: Option<String>,
    /// Where the figures stand.
    pub source: String,
    /// Which tables of the paper have it.
    pub tables: Vec<u8>,
    /// The figures, column by column.
    pub figures: Vec<Option<f64>>,
    /// The columns, from 0, that the paper's authors measured themselves.
    pub measured_by_the_authors: Vec<usize>,
}

#[derive(Deserialize)]
struct File {
    rows: Vec<Published>,
}

/// Every published model that is known here.
pub fn published() -> Vec<Published> {
    let file: serde_json::Result<File> = serde_json::from_str(include_str!("published.json"));
    // The file is part of the program, and a test reads it.
    file.map(|file| file.rows).unwrap_or_default()
}

/// The published model of that name.
pub(super) fn named(name: &str) -> Result<Published> {
    let found = published().into_iter().find(|model| model.name == name);
    found.ok_or_else(|| EvalError::UnknownPublished {
        name: name.to_owned(),
        names: published().into_iter().map(|model| model.name).collect(),
    })
}

/// The published model of the same parts: the first that has them.
pub(super) fn of_parts(label: &Label) -> Option<Published> {
    let (tower, language) = (label.vision_tower.as_ref()?, label.language_model.as_ref()?);
    published().into_iter().find(|model| {
        model.vision_tower.as_ref() == Some(tower)
            && model.language_model.as_ref() == Some(language)
    })
}

/// Where a combination stands in Table 2; others behind.
pub(super) fn place(label: &Label) -> usize {
    let combinations = published()
        .into_iter()
        .filter(|model| model.tables.contains(&2));
    let parts =
        |tower: &Option<String>, language: &Option<String>| (tower.clone(), language.clone());
    let own = parts(&label.vision_tower, &label.language_model);
    let mut places = combinations.map(|model| parts(&model.vision_tower, &model.language_model));
    places.position(|other| other == own).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::COLUMNS;
    use super::*;

    #[test]
    fn every_published_row_has_a_figure_a_column() {
        let all = published();
        assert_eq!(
            all.iter().filter(|model| model.tables.contains(&2)).count(),
            6
        );
        for model in &all {
            assert_eq!(model.figures.len(), COLUMNS.len(), "{}", model.name);
            assert!(
                model
                    .measured_by_the_authors
                    .iter()
                    .all(|at| *at < COLUMNS.len())
            );
        }
        let bunny = named("Bunny-v1_0-3B").unwrap();
        // Of the paper's abstract and Table 1.
        assert_eq!(bunny.figures[0], Some(1488.8));
        assert_eq!(bunny.figures[10], Some(86.8));
        assert!(
            named("Bunny-3")
                .unwrap_err()
                .to_string()
                .contains("Bunny-v1_0-3B")
        );
    }
}
