//! A record as the model sees it: what is read, where pictures stand, and what is learnt.

use std::ops::Range;

use bunny_base::escape::lines_for_terminal;
use bunny_core::input::tokenizer::{Token, Tokenizer, TokenizerError};

use crate::data::{Layout, Sample};

/// A run of a sample's tokens of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Span {
    /// Words that are read.
    Read(String),
    /// Words that are learnt.
    Learnt(String),
    /// A picture.
    Picture {
        /// Its name.
        name: String,
        /// The positions that its features take, as many of them as the cut leaves.
        positions: Range<usize>,
    },
    /// What lies beyond the cut at [`Layout::max_length`], words and names of pictures: neither
    /// read nor learnt.
    Cut(String),
}

/// What stands for the end of an answer.
const END: &str = "<end of text>";

/// What becomes of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Read,
    Learnt,
    Picture(usize),
    Cut,
}

/// The runs of a sample, in order, as `layout` lays it out.
///
/// # Errors
/// When ids cannot be turned to text.
pub fn spans(
    sample: &Sample,
    tokenizer: &Tokenizer,
    layout: Layout,
) -> Result<Vec<Span>, TokenizerError> {
    let mut places = Vec::with_capacity(sample.tokens.len());
    let mut learnt = sample.answers.iter().cloned().flatten().peekable();
    let mut length = 0;
    for (place, token) in sample.tokens.iter().enumerate() {
        let is_learnt = learnt.next_if_eq(&place).is_some();
        let (fate, takes) = match token {
            _ if length >= layout.max_length => (Fate::Cut, 0),
            Token::Picture(_) => (Fate::Picture(length), layout.tokens_per_picture),
            Token::Text(_) if is_learnt => (Fate::Learnt, 1),
            Token::Text(_) => (Fate::Read, 1),
        };
        places.push((*token, fate));
        length += takes;
    }
    let name = |picture: u32| sample.pictures.get(picture as usize).cloned();
    let mut spans = Vec::new();
    for run in places.chunk_by(|(_, a), (_, b)| a == b) {
        let (first, fate) = run[0];
        if let (Token::Picture(picture), Fate::Picture(start)) = (first, fate) {
            let end = layout.max_length.min(start + layout.tokens_per_picture);
            spans.extend(name(picture).map(|name| Span::Picture {
                name,
                positions: start..end,
            }));
            continue;
        }
        let mut words = String::new();
        for part in run.chunk_by(|(a, _), (b, _)| is_text(a) && is_text(b)) {
            match part[0].0 {
                Token::Picture(picture) => {
                    words.push_str(&format!("<{}>", name(picture).unwrap_or_default()));
                }
                Token::Text(_) => words.push_str(&text(part, tokenizer)?),
            }
        }
        spans.push(match fate {
            Fate::Learnt => Span::Learnt(words),
            Fate::Cut => Span::Cut(words),
            Fate::Read | Fate::Picture(_) => Span::Read(words),
        });
    }
    Ok(spans)
}

fn is_text(token: &Token) -> bool {
    matches!(token, Token::Text(_))
}

fn text(run: &[(Token, Fate)], tokenizer: &Tokenizer) -> Result<String, TokenizerError> {
    let ids: Vec<u32> = run
        .iter()
        .filter_map(|(token, _)| match token {
            Token::Text(id) => Some(*id),
            Token::Picture(_) => None,
        })
        .collect();
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

/// Spans for a terminal: what is learnt in green, pictures in cyan, what is cut in grey; without
/// colours these stand in `[…]`.
pub fn to_terminal(spans: &[Span], colours: bool) -> String {
    let paint = |text: &str, code: &str| {
        let text = lines_for_terminal(text);
        match colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => format!("[{text}]"),
        }
    };
    spans
        .iter()
        .map(|span| match span {
            Span::Read(text) => lines_for_terminal(text),
            Span::Learnt(text) => paint(text, "32"),
            Span::Picture { name, positions } => paint(&picture(name, positions), "36"),
            Span::Cut(text) => paint(&format!("cut: {text}"), "90"),
        })
        .collect()
}

/// A picture's name with the positions that it takes, the last one included.
fn picture(name: &str, positions: &Range<usize>) -> String {
    let last = positions.end.saturating_sub(1);
    format!("picture {name}, positions {} to {last}", positions.start)
}

/// Spans as a piece of HTML: what is learnt in `<mark>`, pictures in `<em>`, what is cut in `<del>`.
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
        Span::Picture { name, positions } => {
            format!("<em>{}</em>", escape(&picture(name, positions)))
        }
        Span::Cut(text) => format!("<del>{}</del>", escape(text)),
    });
    format!("<pre>{}</pre>", parts.collect::<String>())
}

#[cfg(test)]
mod tests {
    use bunny_core::input::conversation::Template;
    use bunny_data::record::{Record, RecordFile};

    use super::*;
    use crate::testing::{model_folder, training_fixture};

    const LAYOUT: Layout = Layout {
        tokens_per_picture: 9,
        max_length: 2048,
    };

    fn first_sample() -> (Record, Sample, Tokenizer) {
        let tokenizer = Tokenizer::from_folder(model_folder("phi-siglip")).unwrap();
        let records = RecordFile::open(training_fixture("finetune.json")).unwrap();
        let record = records.get(0).unwrap();
        let sample = Sample::new(&record, Template::Bunny, &tokenizer).unwrap();
        (record, sample, tokenizer)
    }

    #[test]
    fn answers_are_marked_and_pictures_stand_in_their_places() {
        let (record, sample, tokenizer) = first_sample();
        let spans = spans(&sample, &tokenizer, LAYOUT).unwrap();
        assert!(matches!(&spans[0], Span::Read(text) if text.ends_with("USER: ")));
        let start = sample.tokens.iter().take_while(|token| is_text(token));
        let start = start.count();
        let picture = Span::Picture {
            name: "00.png".into(),
            positions: start..start + 9,
        };
        assert_eq!(spans[1], picture);
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
        assert!(
            html.contains("<em>picture 00.png, ") && html.contains("&lt;end of text&gt;</mark>")
        );
        let shown = format!(
            "\x1b[36mpicture 00.png, positions {start} to {}\x1b[0m",
            start + 8
        );
        assert!(to_terminal(&spans, true).contains(&shown));
    }

    #[test]
    fn what_is_beyond_the_cut_is_shown_as_lost() {
        let (_, sample, tokenizer) = first_sample();
        let start = sample.tokens.iter().take_while(|token| is_text(token));
        let start = start.count();
        // Four of the picture's nine features are left.
        let cut = Layout {
            max_length: start + 4,
            ..LAYOUT
        };
        let spans = spans(&sample, &tokenizer, cut).unwrap();
        assert!(matches!(&spans[..], [
            Span::Read(_),
            Span::Picture { positions, .. },
            Span::Cut(lost),
        ] if *positions == (start..start + 4) && lost.ends_with(END)));
        assert!(to_terminal(&spans, false).contains("[cut: "));
    }
}
