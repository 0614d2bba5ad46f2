//! Pictures with captions as the web has them: most right, some wrong, some vague, some again and
//! again.

use super::Part;
use super::caption::{self, Caption};
use super::dice::Dice;
use super::embed;
use super::paint::Finish;
use super::scene::Scene;
use super::talk;
use super::theme::Beside;
use super::vocabulary::named;
use crate::order::shuffled;
use bunny_base::random::mix_all;

named! {
    /// What is to be thought of a caption.
    PairKind {
        /// It tells what the picture shows.
        Right = "right",
        /// It tells what the picture does not show.
        Wrong = "wrong",
        /// It would fit any picture.
        Vague = "vague",
        /// Another photograph of the scene of a right pair.
        Duplicate = "duplicate",
    }
}

impl PairKind {
    /// How many of a hundred pairs are of this kind.
    pub const fn percent(self) -> u64 {
        match self {
            Self::Right => 55,
            Self::Wrong | Self::Vague | Self::Duplicate => 15,
        }
    }
}

/// A picture with a caption, and the truth about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// What is to be thought of the caption.
    pub kind: PairKind,
    /// Which scene the picture shows: two pairs of one number show the same.
    pub content: u64,
    /// The scene.
    pub scene: Scene,
    /// How it is photographed.
    pub finish: Finish,
    /// The caption.
    pub caption: String,
    /// The embedding of the picture, of unit length.
    pub image_embedding: Vec<f32>,
    /// The embedding of the caption, of unit length.
    pub text_embedding: Vec<f32>,
}

/// Pair `index` of `pairs`. Kinds come in their shares, to the pair, in random order.
///
/// # Panics
/// When `index` is not below `pairs`.
pub fn pair(seed: u64, index: u64, pairs: u64) -> Pair {
    assert!(index < pairs, "pair {index} of {pairs}");
    let mut dice = Part::Pairs.dice(seed, index);
    let rank = shuffled(index, pairs, mix_all(&[seed, Part::Pairs as u64]));
    let (kind, content) = kind(seed, rank, pairs);
    // What a duplicate shares with its original hangs on the content, the rest on the index.
    let mut shared = Part::Pairs.dice(seed, content).part(1);
    let (scene, _) = talk::scene(Beside::Seldom, &mut shared);
    let scene = with_few_things(scene, &mut shared);
    // A wrong caption tells colours: see there.
    let scene = match kind {
        PairKind::Wrong => scene,
        _ => talk::developed(scene, &mut shared),
    };
    let finish = Finish::draw(&mut dice);
    let Caption { text, told } = match kind {
        PairKind::Right => caption::right(&scene, &mut shared),
        PairKind::Duplicate if dice.percent(70) => caption::right(&scene, &mut shared),
        PairKind::Duplicate => caption::right(&scene, &mut dice),
        PairKind::Wrong => {
            let (another, _) = talk::scene(Beside::Seldom, &mut dice);
            let another = with_few_things(another, &mut dice);
            caption::wrong(&scene, &another, &mut dice)
        }
        PairKind::Vague => caption::vague(&mut dice),
    };
    Pair {
        image_embedding: embed::picture(&scene, content, &mut dice),
        text_embedding: embed::text(&scene, &told, &text, &mut dice),
        kind,
        content,
        scene,
        finish,
        caption: text,
    }
}

/// Pictures with a caption mostly show one thing or two, and so tell a learner what each is called:
/// four of ten are left with one of their things and writings, three with two.
fn with_few_things(mut scene: Scene, dice: &mut Dice) -> Scene {
    let most = match dice.weighted(&[4, 3, 3]) {
        0 => 1,
        1 => 2,
        _ => return scene,
    };
    while scene.objects.len() + scene.letterings.len() > most {
        match dice.below(scene.objects.len() + scene.letterings.len()) {
            at if at < scene.objects.len() => {
                scene.objects.remove(at);
            }
            at => {
                scene.letterings.remove(at - scene.objects.len());
            }
        }
    }
    scene
}

/// The kind of the pair of a rank, and the rank whose scene it shows: its own, but for duplicates.
pub(super) fn kind(seed: u64, rank: u64, pairs: u64) -> (PairKind, u64) {
    let mut end = 0;
    let share = |kind: PairKind| pairs * kind.percent() / 100;
    let right = share(PairKind::Right);
    for kind in [PairKind::Wrong, PairKind::Vague, PairKind::Duplicate] {
        end += share(kind);
        if rank >= right && rank < right + end {
            if kind != PairKind::Duplicate {
                return (kind, rank);
            }
            // A few pictures are very popular: half of the copies are of the first fourteenth.
            let mut dice = Part::Duplicates.dice(seed, rank);
            let draw = (0..3).fold(1.0, |draw, _| draw * f64::from(dice.real(0.0, 1.0)));
            return (kind, (draw * right as f64) as u64);
        }
    }
    (PairKind::Right, rank)
}
