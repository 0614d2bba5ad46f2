//! The language of the world as plain text, for a language model and a tokenizer to start from.

use super::Part;
use super::caption;
use super::dice::Dice;
use super::talk::{self, Exchange};

/// What stands before a conversation in Bunny's template.
const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. \
                      The assistant gives helpful, detailed, and polite answers to the user's \
                      questions.";

/// Text `index`: six of eight are conversations about a picture whose description stands in its
/// place, one is a conversation without one, one is a caption or a description.
///
/// A description with all its questions teaches what a picture will be asked: to find the thing that
/// is meant among others, and to tell another of its traits.
pub(super) fn text(seed: u64, index: u64) -> String {
    let mut dice = Part::Texts.dice(seed, index);
    match dice.below(8) {
        0..6 => {
            let (scene, exchanges) = talk::about_description(&mut dice);
            let told = match dice.percent(25) {
                true => caption::description(&scene, &mut dice),
                false => caption::retold(&scene, &mut dice),
            };
            conversation(Some(told), exchanges, &mut dice)
        }
        6 => {
            let exchanges = talk::without_picture(&mut dice);
            conversation(None, exchanges, &mut dice)
        }
        _ => {
            let (scene, _) = talk::scene(&mut dice);
            match dice.percent(50) {
                true => caption::right(&scene, &mut dice).text,
                false => caption::description(&scene, &mut dice),
            }
        }
    }
}

/// As Bunny's template has it, half of them with the system's words before it.
fn conversation(told: Option<String>, exchanges: Vec<Exchange>, dice: &mut Dice) -> String {
    let system = if dice.percent(50) { SYSTEM } else { "" };
    let mut told = told.map_or_else(String::new, |told| told + "\n");
    let turns = exchanges.into_iter().map(|(asked, answered)| {
        let told = std::mem::take(&mut told);
        format!("USER: {told}{asked} ASSISTANT: {answered}")
    });
    let text = std::iter::once(system.to_owned()).chain(turns);
    text.collect::<Vec<_>>().join(" ").trim_start().to_owned()
}
