//! A small world of pictures whose truth is known, and what there is to say about them.
//!
//! A scene holds up to six shapes (eight forms, twelve colours, four patterns, two sizes), numbers
//! and words in five fonts, on a plain, graded or cloudy ground; a picture of it is blurred, noisy
//! and compressed, some 104 to 152 pixels long, with sides from 3:4 to 4:3. In half of the
//! pictures or more that are learnt from, colours are others than those with a name, or none
//! ([`Palette`]).
//! All of it is legible when the picture is shrunk to 112 pixels: shapes are 16 pixels across or
//! more, letters 20 high or more. Questions, answers and captions follow from the scene, never from
//! the pixels.
//!
//! ```text
//!           ┌ theme: a question and its answer are drawn, then a scene that gives that answer
//! seed, i ──┤
//!           └► scene ──► paint ──► JPEG
//!                └─────► captions, questions, conversations
//! ```
//!
//! There are two worlds ([`World`]). Of the 96 combinations of shape and colour, eleven occur in
//! the test alone, and so does a sixth of the numbers of two and three digits and of the sums; every
//! question of the test about a picture is about such a combination, or about something beside one.
//!
//! Everything hangs on a seed and an index alone. The same seed gives the same bytes, whatever the
//! machine and its number of threads: drawing uses no function that IEEE 754 leaves open.
//!
//! [`write_world`] writes it all as data to learn from; [`open_test`], [`Tally`] and [`wilson`] tell
//! how well it was learned.

mod ask;
mod caption;
mod compose;
mod dice;
mod embed;
mod exam;
mod general;
mod glyphs;
mod grade;
mod letters;
mod outline;
mod paint;
mod pairs;
mod palette;
mod scene;
mod talk;
#[cfg(test)]
mod tests;
mod texts;
mod theme;
mod things;
mod vocabulary;
mod write;

pub use ask::{Question, QuestionKind};
pub use exam::{TestQuestion, open_test};
pub use grade::{Score, Tally, is_right, normalise, other_pictures, wilson};
pub use paint::{Finish, Picture, paint};
pub use pairs::{Pair, PairKind, pair};
pub use palette::{Fill, Halves, Palette};
pub use scene::{Background, Font, Lettering, Object, Scene};
pub use vocabulary::{Colour, Combination, Place, Shape, Size, Texture, WORDS, World};
pub use write::{Manifest, WorldOptions, write_world};

use dice::Dice;

/// Keeps the draws of each part of the data apart.
#[derive(Clone, Copy)]
enum Part {
    Pairs = 1,
    Duplicates,
    Conversations,
    Test,
    Texts,
    Blind,
}

impl Part {
    fn dice(self, seed: u64, index: u64) -> Dice {
        Dice::new(&[0x5049_4354, seed, self as u64, index])
    }
}
