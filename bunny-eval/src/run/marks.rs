//! What tells how a question was asked from how it is asked now.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Job, Model, Options, row, short};
use crate::error::Result;
use crate::question::{PicturePlace, PictureRef, Question};

/// What rows are asked with. A picture is hashed once, however many questions are about it.
pub(super) struct Marks {
    options: String,
    model: String,
    pictures: HashMap<PicturePlace, String>,
}

impl Marks {
    pub(super) fn new(job: &Job<'_>, model: &Model) -> Self {
        Self {
            options: job.options.told(),
            model: short(model.fingerprint.as_bytes()),
            pictures: HashMap::new(),
        }
    }

    /// The mark of a question; `picture` gives the bytes of one by its number.
    pub(super) fn of(
        &mut self,
        question: &Question,
        prompt: &str,
        picture: impl Fn(usize) -> Result<Arc<[u8]>>,
    ) -> Result<row::Mark> {
        let mut pictures = Vec::with_capacity(question.pictures.len());
        for (at, PictureRef { place, .. }) in question.pictures.iter().enumerate() {
            pictures.push(match self.pictures.get(place) {
                Some(known) => known.clone(),
                None => {
                    let hash = short(&picture(at)?);
                    self.pictures.insert(place.clone(), hash.clone());
                    hash
                }
            });
        }
        Ok(row::Mark {
            prompt: short(prompt.as_bytes()),
            pictures: pictures.join("+"),
            options: self.options.clone(),
            model: self.model.clone(),
        })
    }
}

impl Options {
    /// All of them as a text.
    fn told(&self) -> String {
        let more = self
            .more
            .iter()
            .map(|(name, value)| format!(" {name}={value}"));
        format!(
            "max_new_tokens={}{}",
            self.max_new_tokens,
            more.collect::<String>()
        )
    }
}
