//! The chat template that a GGUF file carries, in Jinja.
//!
//! llama-server hands a turn with a picture over as one text, whatever its parts were, with a marker in it;
//! other programs hand parts over. Here as there, pictures come before the words of their turn, each on a
//! line of its own. The names of the speakers are put together from two texts: a program that does not run
//! the template looks for names in it, and would take Vicuna's for it in silence.
//!
//! The token that every text begins with is in the template too, as others' templates have it: mistral.rs
//! puts none before what a template has made, and llama.cpp takes one of two away.

use crate::input::conversation::Template;

const TEXT: &str = include_str!("chat_template.jinja");

/// The template of a family, for a tokenizer that puts `beginning` before every text.
pub(super) fn chat_template(template: Template, beginning: &str) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let end = template.end_of_text().unwrap_or_default();
    TEXT.replacen("BEGINNING", &quoted(beginning), 1)
        .replacen("SYSTEM", &quoted(template.system()), 1)
        .replacen("END", &quoted(end), 1)
}
