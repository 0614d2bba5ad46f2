//! Where drafts come from.

use std::str::FromStr;

/// Tokens that are drafted at a time: `prompt`, or `prompt:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draft(pub usize);

/// Tokens that are drafted unless told otherwise: as many rows as cost little beside one.
const USUAL: usize = 4;

/// The most: twelve rows go through a model with the sums of one.
const MOST: usize = 11;

impl FromStr for Draft {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, count) = match text.split_once(':') {
            Some((source, count)) => (source, count.parse().ok()),
            None => (text, Some(USUAL)),
        };
        match (source, count) {
            ("prompt", Some(count)) if (1..=MOST).contains(&count) => Ok(Self(count)),
            _ => Err(format!(
                "expected prompt, or prompt:N with N from 1 to {MOST}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_has_a_source_and_a_length() {
        assert_eq!("prompt".parse(), Ok(Draft(USUAL)));
        assert_eq!("prompt:11".parse(), Ok(Draft(11)));
        for wrong in ["", "prompt:", "prompt:0", "prompt:12", "model:3", "4"] {
            assert!(wrong.parse::<Draft>().is_err(), "{wrong}");
        }
    }
}
