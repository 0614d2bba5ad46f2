//! Who answers: a model through the engine, or a server.

mod engine;
mod fingerprint;
mod server;

use std::num::NonZeroUsize;

pub use engine::Local;
pub use fingerprint::{of_folder, of_model};
pub use server::Server;

/// How a model is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct AskArgs {
    /// Questions that are answered at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,
    /// The most tokens an answer may have [default: 128, and 1024 in ScienceQA, as the reference]
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<NonZeroUsize>,
    /// Ask a server that speaks OpenAI's chat completions instead, such as
    /// http://localhost:8000/v1; --model names its model. A key is read from OPENAI_API_KEY
    #[arg(long, value_name = "URL")]
    pub backend_url: Option<String>,
}

/// What rows and tables call a model: the last part of its path or its name on a hub.
pub fn short_name(model: &str) -> &str {
    let trimmed = model.trim_end_matches(['/', '\\']);
    match trimmed.rsplit(['/', '\\']).next() {
        Some("" | "." | "..") | None => model,
        Some(last) => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_by_the_last_part_of_its_name() {
        for (model, name) in [
            ("builtin", "builtin"),
            ("./out/bunny/", "bunny"),
            ("BAAI/Bunny-v1_0-3B", "Bunny-v1_0-3B"),
            ("..", ".."),
            ("/", "/"),
        ] {
            assert_eq!(short_name(model), name);
        }
    }
}
