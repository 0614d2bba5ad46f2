//! The language of the world as plain text, for a language model and a tokenizer to start from.

use super::Part;
use super::caption;
use super::dice::Dice;
use super::talk::{self, Exchange};

/// What stands before a conversation in Bunny's template.
const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. \
                      The assistant gives helpful, detailed, and polite answers to the user's \
                      questions.";

/// Text `index`: half of them a description in the place of a picture with a question about it, a
/// quarter a question without a picture, an eighth captions, an eighth descriptions.
pub(super) fn text(seed: u64, index: u64) -> String {
    let mut dice = Part::Texts.dice(seed, index);
    match dice.below(8) {
        0..4 => {
            let (scene, exchanges) = talk::about_picture(&mut dice);
            let exchange = dice.pick(&exchanges).clone();
            let told = if dice.percent(50) {
                caption::description(&scene, &mut dice)
            } else {
                format!(
                    "{} {}",
                    caption::summary(&scene, &mut dice),
                    caption::description(&scene, &mut dice)
                )
            };
            exchanged(Some(told), exchange, &mut dice)
        }
        4..6 => {
            let exchanges = talk::without_picture(&mut dice);
            let exchange = dice.pick(&exchanges).clone();
            exchanged(None, exchange, &mut dice)
        }
        6 => {
            let (scene, _) = talk::scene(&mut dice);
            caption::right(&scene, &mut dice).text
        }
        _ => {
            let (scene, _) = talk::scene(&mut dice);
            caption::description(&scene, &mut dice)
        }
    }
}

/// As Bunny's template has it, half of them with the system's words before it.
fn exchanged(told: Option<String>, (asked, answered): Exchange, dice: &mut Dice) -> String {
    let system = if dice.percent(50) { SYSTEM } else { "" };
    let told = told.map_or_else(String::new, |told| told + "\n");
    format!("{system} USER: {told}{asked} ASSISTANT: {answered}")
        .trim_start()
        .to_owned()
}
