//! The chat template that other programs find with an exported model, in Jinja: the conversation as this
//! model's were in training.
//!
//! Pictures come before the words of their turn, each on a line of its own; nothing stands between the end
//! of an answer and the next turn. Programs hand a turn over as parts, or, llama-server, as one text with a
//! marker for each picture in it.
//!
//! It begins with the token that the tokenizer puts before every text: vLLM and mistral.rs have it put none
//! before what a template made, transformers not a second one, and llama.cpp takes one of two away. The
//! names of the speakers are put together from two texts: llama.cpp, where it does not run the template,
//! looks for names in it, and would take Vicuna's for it in silence.

use serde_json::json;

use crate::input::conversation::{IMAGE_PLACEHOLDER, Template};

/// What all of them say, by the values that stand before it.
const RULE: &str = include_str!("chat_template.jinja");

/// The template of a family, for a tokenizer that puts `beginning` before every text. `marker` is how the
/// place of a picture begins in a turn that is one text; `""` where such a turn is words alone.
pub(super) fn chat_template(template: Template, beginning: &str, marker: &str) -> String {
    let values = [
        ("BEGINNING", beginning),
        ("SYSTEM", template.system()),
        ("IMAGE", IMAGE_PLACEHOLDER),
        ("MARKER", marker),
        ("END", template.end_of_text().unwrap_or_default()),
    ];
    // A text in JSON is one in Jinja.
    let values = values.map(|(name, text)| format!("{{%- set {name} = {} -%}}\n", json!(text)));
    format!("{}{RULE}", values.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_differ_in_the_values_before_their_rule_alone() {
        for template in Template::ALL {
            let parts = chat_template(template, "<s>", "");
            let texts = chat_template(template, "<s>", "<__media_");
            let marker = "{%- set MARKER = \"<__media_\" -%}";
            assert_eq!(
                texts.replace(marker, "{%- set MARKER = \"\" -%}"),
                parts,
                "{template}"
            );
            assert_ne!(texts, parts);
            // llama.cpp knows Vicuna's by these.
            for name in ["USER: ", "ASSISTANT: "] {
                assert!(!texts.contains(name), "{template}: {name}");
            }
        }
    }
}
