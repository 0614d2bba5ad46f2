//! A record as the model sees it: what is read, where pictures stand, and what is learnt.

use bunny_core::tokenizer::{Token, Tokenizer, TokenizerError};

use crate::labels::Sample;

/// A run of a sample's tokens of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// Words that are read.
    Read(String),
    /// Words that are learnt.
    Learnt(String),
    /// A picture, by its name.
    Picture(String),
}

/// What stands for the end of an answer.
const END: &str = "<end of text>";

/// The runs of a sample, in order.
///
/// # Errors
/// When ids cannot be turned to text.
pub fn spans(sample: &Sample, tokenizer: &Tokenizer) -> Result<Vec<Span>, TokenizerError> {
    let mut learnt = vec![false; sample.tokens.len()];
    for place in sample.answers.iter().cloned().flatten() {
        learnt[place] = true;
    }
    let places: Vec<(Token, bool)> = sample.tokens.iter().copied().zip(learnt).collect();
    let is_text = |token: &Token| matches!(token, Token::Text(_));
    let runs = places
        .chunk_by(|(a, a_learnt), (b, b_learnt)| is_text(a) && is_text(b) && a_learnt == b_learnt);
    let mut pictures = sample.pictures.iter();
    let mut spans = Vec::new();
    for run in runs {
        let (first, is_learnt) = run[0];
        if !is_text(&first) {
            spans.extend(pictures.next().map(|name| Span::Picture(name.clone())));
            continue;
        }
        let ids: Vec<u32> = run
            .iter()
            .filter_map(|(token, _)| match token {
                Token::Text(id) => Some(*id),
                Token::Picture(_) => None,
            })
            .collect();
        let text = text(&ids, tokenizer)?;
        spans.push(if is_learnt {
            Span::Learnt(text)
        } else {
            Span::Read(text)
        });
    }
    Ok(spans)
}

fn text(ids: &[u32], tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
    let end = tokenizer.special_tokens().eos;
    let is_end = |id: &u32| Some(*id) == end;
    let mut text = String::new();
    for part in ids.chunk_by(|a, b| !is_end(a) && !is_end(b)) {
        match is_end(&part[0]) {
            true => text.push_str(END),
            false => text.push_str(&tokenizer.decode(part)?),
        }
    }
    Ok(text)
}

/// Spans for a terminal: what is learnt in green, pictures in cyan; without colours, what is learnt
/// stands in `[…]`.
pub fn to_terminal(spans: &[Span], colours: bool) -> String {
    let paint = |text: &str, code: &str| match colours {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => format!("[{text}]"),
    };
    spans
        .iter()
        .map(|span| match span {
            Span::Read(text) => text.clone(),
            Span::Learnt(text) => paint(text, "32"),
            Span::Picture(name) => paint(&format!("picture {name}"), "36"),
        })
        .collect()
}

/// Spans as a piece of HTML: what is learnt in `<mark>`, pictures in `<em>`.
pub fn to_html(spans: &[Span]) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
    };
    let parts = spans.iter().map(|span| match span {
        Span::Read(text) => escape(text),
        Span::Learnt(text) => format!("<mark>{}</mark>", escape(text)),
        Span::Picture(name) => format!("<em>{}</em>", escape(name)),
    });
    format!("<pre>{}</pre>", parts.collect::<String>())
}

#[cfg(test)]
mod tests {
    use bunny_core::conversation::Template;
    use bunny_data::record::RecordFile;

    use super::*;
    use crate::testing::{model_folder, training_fixture};

    #[test]
    fn answers_are_marked_and_pictures_stand_in_their_places() {
        let tokenizer = Tokenizer::from_folder(model_folder("phi-siglip")).unwrap();
        let records = RecordFile::open(training_fixture("finetune.json")).unwrap();
        let record = records.get(0).unwrap();
        let sample = Sample::new(&record, Template::Bunny, &tokenizer).unwrap();
        let spans = spans(&sample, &tokenizer).unwrap();
        assert!(matches!(&spans[0], Span::Read(text) if text.ends_with("USER: ")));
        assert_eq!(spans[1], Span::Picture("00.png".into()));
        let learnt: Vec<_> = spans
            .iter()
            .filter_map(|span| match span {
                Span::Learnt(text) => Some(text.clone()),
                _ => None,
            })
            .collect();
        let answers = record.conversations.iter().skip(1).step_by(2);
        let answers: Vec<_> = answers
            .map(|turn| format!(" {}{END}", turn.value))
            .collect();
        assert_eq!(learnt, answers);
        let html = to_html(&spans);
        assert!(html.contains("<em>00.png</em>") && html.contains("&lt;end of text&gt;</mark>"));
        assert!(to_terminal(&spans, true).contains("\x1b[36mpicture 00.png\x1b[0m"));
    }
}
