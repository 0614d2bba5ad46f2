//! Files that people write in TOML, read as types: what is wrong is told with its line, and an unknown key
//! with the known one that is nearest to it.

use std::path::Path;

use bunny_base::nearest;
use serde::de::DeserializeOwned;

use crate::error::{DataError, Result};

/// Reads a `T` from the text of a TOML file; `path` is named in errors.
///
/// # Errors
/// [`DataError::Toml`] with the line.
pub fn parse_toml<T: DeserializeOwned>(path: impl AsRef<Path>, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| DataError::Toml {
        path: path.as_ref().to_owned(),
        line: error.span().map_or(1, |span| {
            1 + text[..span.start.min(text.len())].matches('\n').count()
        }),
        what: suggest(error.message()),
    })
}

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a message with the nearest one.
fn suggest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let known = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let (true, Some(unknown)) = (known, quoted.next()) else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    match nearest(unknown, known.iter().copied()) {
        Some(nearest) => format!("unknown key `{unknown}`; the nearest known one is `{nearest}`"),
        None if known.is_empty() => message.to_owned(),
        None => format!(
            "unknown key `{unknown}`; known are `{}`",
            known.join("`, `")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_with_the_nearest_or_with_all_there_are() {
        let said = |unknown: &str| {
            suggest(&format!(
                "unknown field `{unknown}`, expected one of `name`, `take`, `repeat`"
            ))
        };
        assert_eq!(
            said("repaet"),
            "unknown key `repaet`; the nearest known one is `repeat`"
        );
        assert_eq!(
            said("sample"),
            "unknown key `sample`; known are `name`, `take`, `repeat`"
        );
        assert_eq!(suggest("missing field `name`"), "missing field `name`");
    }
}
