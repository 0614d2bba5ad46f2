//! The language of the world as plain text, for a language model and a tokenizer to start from.

use super::Part;
use super::caption;
use super::dice::Dice;
use super::talk::{self, Exchange};
use super::things;

/// What stands before a conversation in Bunny's template.
const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. \
                      The assistant gives helpful, detailed, and polite answers to the user's \
                      questions.";

/// Text `index`: six of eight are conversations about a picture whose description stands in its
/// place, one is a conversation without one, one is a caption or a description.
///
/// A description with all its questions teaches what a picture will be asked: to find the thing that
/// is meant among others, and to tell another of its traits. None tells the colour of a shape: two of
/// three are about other things instead, the others leave colours out.
pub(super) fn text(seed: u64, index: u64) -> String {
    let mut dice = Part::Texts.dice(seed, index);
    let kind = dice.below(8);
    if kind == 6 {
        let exchanges = talk::without_picture(&mut dice);
        return conversation(None, exchanges, &mut dice);
    }
    let in_colours = dice.percent(67);
    let (scene, exchanges) = talk::about_description(in_colours, &mut dice);
    let text = match kind {
        7 if dice.percent(50) => caption::right(&scene, &mut dice).text,
        7 => caption::description(&scene, &mut dice),
        _ => {
            let told = match dice.percent(25) {
                true => caption::description(&scene, &mut dice),
                false => caption::retold(&scene, &mut dice),
            };
            conversation(Some(told), exchanges, &mut dice)
        }
    };
    match in_colours {
        true => things::instead_of_shapes(&text, &mut dice),
        false => text,
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
