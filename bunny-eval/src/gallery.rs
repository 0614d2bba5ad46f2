//! A gallery: pictures, what was asked about each in one or several turns, and what was answered.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{EvalError, Result};
use crate::html::{escape, page};
use crate::picture::data_url;

/// A picture and what is asked about it, turn by turn.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Exhibit {
    /// What kind of question it is, for the heading.
    pub kind: String,
    /// The picture's file, from where the file of prompts is; none for talk without a picture.
    #[serde(default)]
    pub image: Option<String>,
    /// What the person says, one turn after another.
    pub turns: Vec<String>,
}

/// An exhibit and its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// What was asked.
    #[serde(flatten)]
    pub exhibit: Exhibit,
    /// What was answered, turn by turn.
    pub answers: Vec<String>,
    /// The picture, as it is encoded.
    #[serde(skip)]
    pub picture: Option<Vec<u8>>,
}

/// Reads a file of prompts: a list of `kind`, `image`, `turns`.
///
/// # Errors
/// When it cannot be read, or an exhibit has nothing to ask.
pub fn read(path: &Path) -> Result<Vec<Exhibit>> {
    let bytes = std::fs::read(path).map_err(EvalError::io(path, "read"))?;
    let exhibits: Vec<Exhibit> =
        serde_json::from_slice(&bytes).map_err(|source| EvalError::Json {
            path: path.to_owned(),
            line: None,
            expected: "a list of prompts (kind, image, turns)",
            source,
        })?;
    let nothing = |exhibit: &Exhibit| exhibit.turns.iter().all(|turn| turn.trim().is_empty());
    match exhibits.iter().position(nothing) {
        None => Ok(exhibits),
        Some(at) => {
            let what = format!("prompt {}: its `turns` ask nothing", at + 1);
            Err(EvalError::content(path, None, what))
        }
    }
}

/// A page that holds all, its pictures too.
pub fn written(model: &str, shown: &[Shown]) -> String {
    let mut body = String::new();
    for Shown {
        exhibit,
        answers,
        picture,
    } in shown
    {
        body.push_str("<article>");
        // Writing to a String cannot fail.
        if let Some(picture) = picture {
            let name = exhibit.image.as_deref().unwrap_or_default();
            let _ = write!(
                body,
                "<img alt=\"{}\" src=\"{}\">",
                escape(name),
                data_url(picture)
            );
        }
        let _ = write!(body, "<h2>{}</h2>", escape(&exhibit.kind));
        for (turn, answer) in exhibit.turns.iter().zip(answers) {
            let _ = write!(
                body,
                "<p><b>User:</b> {}</p><p><b>{}:</b> {}</p>",
                escape(turn),
                escape(model),
                escape(answer)
            );
        }
        body.push_str("</article>\n");
    }
    page(&format!("What {model} says"), &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_its_pictures_and_says_what_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts.json");
        std::fs::write(
            &path,
            r#"[{"kind": "Counting", "image": "a.png", "turns": ["How many <b>?", "Sure?"]}, {"kind": "Talk", "turns": ["Hello"]}]"#,
        )
        .unwrap();
        let exhibits = read(&path).unwrap();
        let shown: Vec<Shown> = exhibits
            .into_iter()
            .map(|exhibit| Shown {
                answers: exhibit
                    .turns
                    .iter()
                    .map(|_| "Two & two".to_owned())
                    .collect(),
                picture: exhibit
                    .image
                    .as_ref()
                    .map(|_| b"\x89PNG\r\n\x1a\n".to_vec()),
                exhibit,
            })
            .collect();
        let page = written("m<1>", &shown);
        assert_eq!(page.matches("data:image/png;base64,").count(), 1);
        assert_eq!(page.matches("<b>User:</b>").count(), 3);
        assert!(page.contains("How many &lt;b&gt;?") && page.contains("Two &amp; two"));
        assert!(page.contains("<b>m&lt;1&gt;:</b>"), "{page}");
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json[0]["answers"][1], "Two & two");

        std::fs::write(&path, r#"[{"kind": "", "turns": [" "]}]"#).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("prompt 1: its `turns` ask nothing"),
            "{error}"
        );
    }
}
