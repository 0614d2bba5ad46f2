//! Pictures made for a question: the answer is drawn first, so that every answer is as frequent as
//! the others, "no" and "none" among them.

use std::collections::BTreeSet;

use super::ask::{self, Known, Question, QuestionKind};
use super::compose::{Plan, Wanted, compose, draw};
use super::dice::Dice;
use super::scene::Scene;
use super::vocabulary::{Colour, Combination, Place, Shape, Size, Texture, WORDS, World};

/// A picture, a question about it, and the combination the question is about or that is beside it.
pub(super) struct Theme {
    pub scene: Scene,
    pub question: Question,
    pub combination: Combination,
}

/// How often a number or a word stands beside what a picture was made for.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    /// Four times in ten, mostly a number.
    Seldom,
    /// Seven times in ten, mostly a word.
    Often,
}

/// How many answers are drawn from; `None` for questions without a picture.
fn answers(kind: QuestionKind, world: World) -> Option<usize> {
    Some(match kind {
        QuestionKind::Colour => colours(world).len() + 1,
        QuestionKind::Shape => Shape::ALL.len() + 1,
        QuestionKind::Presence => 2,
        QuestionKind::Count => 6,
        QuestionKind::Position => Place::ALL.len() + 1,
        QuestionKind::Digits => 11,
        QuestionKind::Word => WORDS.len() + 1,
        QuestionKind::Compare => 7,
        QuestionKind::Relation => 4,
        QuestionKind::Texture => Texture::ALL.len() + 1,
        QuestionKind::Text => return None,
    })
}

/// Makes a picture for a question of a kind; the answers take turns. Attempts whose truth came out
/// otherwise, as where things got in each other's way, are thrown away. `None` for a kind that
/// needs no picture.
pub(super) fn theme(
    kind: QuestionKind,
    turn: u64,
    world: World,
    writing: Beside,
    dice: &Dice,
) -> Option<Theme> {
    let answer = (turn % answers(kind, world)? as u64) as usize;
    (0..).find_map(|attempt| {
        let mut maker = Maker {
            world,
            writing,
            dice: dice.part(attempt),
        };
        match kind {
            QuestionKind::Colour => maker.colour(answer),
            QuestionKind::Shape => maker.shape(answer),
            QuestionKind::Presence => maker.presence(answer == 0),
            QuestionKind::Count => maker.count(answer),
            QuestionKind::Position => maker.position(answer),
            QuestionKind::Digits => maker.digits(answer),
            QuestionKind::Word => maker.word(answer),
            QuestionKind::Compare if answer < 4 => maker.larger(answer),
            QuestionKind::Compare => maker.more(answer - 4),
            QuestionKind::Relation => maker.relation(answer),
            QuestionKind::Texture => maker.texture(answer),
            QuestionKind::Text => None,
        }
    })
}

/// The colours of what questions are about.
fn colours(world: World) -> BTreeSet<Colour> {
    world.subjects().map(|one| one.colour).collect()
}

struct Maker {
    world: World,
    writing: Beside,
    dice: Dice,
}

impl Maker {
    /// Something questions are about, of those that fit.
    fn subject(&mut self, fits: impl Fn(Combination) -> bool) -> Option<Combination> {
        let world = self.world;
        draw(world.subjects().filter(|one| fits(*one)), &mut self.dice)
    }

    /// Anything the world has, of those that fit.
    fn other(&mut self, fits: impl Fn(Combination) -> bool) -> Option<Combination> {
        let world = self.world;
        let fitting = Combination::all().filter(|one| world.has(*one) && fits(*one));
        draw(fitting, &mut self.dice)
    }

    fn scene(
        &mut self,
        wanted: Vec<Wanted>,
        extras: usize,
        may: &dyn Fn(Combination) -> bool,
        writing: Vec<String>,
    ) -> Scene {
        let plan = Plan {
            wanted,
            extras,
            may,
            writing,
        };
        compose(&plan, self.world, &mut self.dice)
    }

    /// How many more things are there, up to four: few more often than many, as in pictures that
    /// people take, and so that a learner meets things alone first of all.
    fn few(&mut self, most: usize) -> usize {
        const WEIGHTS: [usize; 5] = [10, 6, 4, 3, 2];
        self.dice.weighted(&WEIGHTS[..=most])
    }

    fn colour(&mut self, answer: usize) -> Option<Theme> {
        let asked = colours(self.world).into_iter().nth(answer);
        let combination = self.subject(|one| asked.is_none_or(|colour| one.colour == colour))?;
        let shape = match asked {
            Some(_) => combination.shape,
            None => self.other(|one| one.shape != combination.shape)?.shape,
        };
        let extras = self.few(4);
        let writing = self.some_writing();
        let scene = self.scene(
            vec![combination.into()],
            extras,
            &|one| one.shape != shape,
            writing,
        );
        let question = ask::colour(&scene, shape, &mut self.dice)?;
        Some(Theme {
            scene,
            question,
            combination,
        })
    }

    fn shape(&mut self, answer: usize) -> Option<Theme> {
        let asked = Shape::ALL.get(answer);
        let combination = self.subject(|one| asked.is_none_or(|shape| one.shape == *shape))?;
        let colour = match asked {
            Some(_) => combination.colour,
            None => self.other(|one| one.colour != combination.colour)?.colour,
        };
        let extras = self.few(4);
        let writing = self.some_writing();
        let scene = self.scene(
            vec![combination.into()],
            extras,
            &|one| one.colour != colour,
            writing,
        );
        let question = ask::shape(&scene, colour, &mut self.dice)?;
        Some(Theme {
            scene,
            question,
            combination,
        })
    }

    /// Things of the same shape and of the same colour stand beside it, or in its place.
    fn presence(&mut self, yes: bool) -> Option<Theme> {
        let combination = self.subject(|_| true)?;
        let mut wanted: Vec<Wanted> = Vec::new();
        if yes {
            wanted.push(combination.into());
        }
        if self.dice.percent(60) {
            let like = self.other(|one| one.shape == combination.shape && one != combination);
            wanted.extend(like.map(Wanted::from));
        }
        if self.dice.percent(60) {
            let like = self.other(|one| one.colour == combination.colour && one != combination);
            wanted.extend(like.map(Wanted::from));
        }
        let extras = self.few(3).max(usize::from(wanted.is_empty()));
        let writing = self.some_writing();
        let scene = self.scene(wanted, extras, &|one| one != combination, writing);
        Some(Theme {
            question: ask::presence(&scene, combination.into(), &mut self.dice),
            scene,
            combination,
        })
    }

    fn count(&mut self, count: usize) -> Option<Theme> {
        let combination = self.subject(|_| true)?;
        let any = usize::from(count > 0);
        let weights = match self.world {
            // All shapes are soon counted; those of a colour are not.
            World::Train => [3, 5, 3, any],
            World::Test => [1, 1, 1, any],
        };
        let known = match self.dice.weighted(&weights) {
            0 => Known::from(combination.shape),
            1 => Known::from(combination.colour),
            2 => Known::from(combination),
            _ => Known::ANY,
        };
        let combination = match count {
            0 => self.subject(|one| !known.fits(one))?,
            _ => combination,
        };
        let mut wanted: Vec<Wanted> = vec![combination.into()];
        for _ in 1..count {
            wanted.push(self.other(|one| known.fits(one))?.into());
        }
        let room = 6 - wanted.len();
        let extras = self.few(room.min(4));
        let scene = self.scene(wanted, extras, &|one| !known.fits(one), Vec::new());
        Some(Theme {
            question: ask::count(&scene, known, &mut self.dice),
            scene,
            combination,
        })
    }

    fn position(&mut self, answer: usize) -> Option<Theme> {
        let asked = self.subject(|_| true)?;
        let known = match self.dice.percent(40) {
            true => Known::from(asked.shape),
            false => Known::from(asked),
        };
        let place = Place::ALL.get(answer).copied();
        let combination = match place {
            Some(_) => asked,
            None => self.subject(|one| !known.fits(one))?,
        };
        let wanted = Wanted {
            place,
            ..combination.into()
        };
        let extras = self.few(4);
        let writing = self.some_writing();
        let scene = self.scene(vec![wanted], extras, &|one| !known.fits(one), writing);
        let question = ask::position(&scene, known, &mut self.dice)?;
        Some(Theme {
            scene,
            question,
            combination,
        })
    }

    fn digits(&mut self, answer: usize) -> Option<Theme> {
        let writing = if answer < 10 {
            vec![self.number(answer).to_string()]
        } else if self.dice.percent(30) {
            vec![(*self.dice.pick(WORDS)).to_owned()]
        } else {
            Vec::new()
        };
        let (scene, combination) = self.with_writing(writing)?;
        Some(Theme {
            question: ask::number(&scene, &mut self.dice),
            scene,
            combination,
        })
    }

    fn word(&mut self, answer: usize) -> Option<Theme> {
        let writing = match WORDS.get(answer) {
            Some(word) => vec![(*word).to_owned()],
            None if self.dice.percent(30) => vec![self.number(0).to_string()],
            None => Vec::new(),
        };
        let (scene, combination) = self.with_writing(writing)?;
        Some(Theme {
            question: ask::word(&scene, &mut self.dice),
            scene,
            combination,
        })
    }

    fn with_writing(&mut self, writing: Vec<String>) -> Option<(Scene, Combination)> {
        let combination = self.subject(|_| true)?;
        let extras = self.few(2);
        let scene = self.scene(vec![combination.into()], extras, &|_| true, writing);
        Some((scene, combination))
    }

    /// Half of the numbers have one digit, a third two, the others three.
    fn number(&mut self, digit: usize) -> usize {
        let length = self.dice.weighted(&[50, 35, 15]);
        loop {
            let number = match length {
                0 => return digit,
                1 => self.dice.whole(10, 99),
                _ => self.dice.whole(100, 999),
            };
            if self.world.has_number(number) {
                return number;
            }
        }
    }

    /// Now and then a number or a word stands by.
    fn some_writing(&mut self) -> Vec<String> {
        let words = match self.writing {
            Beside::Seldom => 3..4,
            Beside::Often => 3..7,
        };
        match self.dice.below(10) {
            0..3 => {
                let digit = self.dice.below(10);
                vec![self.number(digit).to_string()]
            }
            at if words.contains(&at) => vec![(*self.dice.pick(WORDS)).to_owned()],
            _ => Vec::new(),
        }
    }

    /// Even answers: the subject; odd ones: the other. Below 2 the larger is asked for.
    fn larger(&mut self, answer: usize) -> Option<Theme> {
        let combination = self.subject(|_| true)?;
        let other = self.other(|one| one != combination)?;
        let larger = answer < 2;
        let (large, small) = if answer.is_multiple_of(2) == larger {
            (combination, other)
        } else {
            (other, combination)
        };
        let sized = |one: Combination, size| Wanted {
            size: Some(size),
            ..one.into()
        };
        let wanted = vec![sized(large, Size::Large), sized(small, Size::Small)];
        let extras = self.few(2);
        let scene = self.scene(
            wanted,
            extras,
            &|one| one != combination && one != other,
            Vec::new(),
        );
        let mut pair = [combination, other];
        self.dice.shuffle(&mut pair);
        let question = ask::larger(&scene, pair.map(Known::from), larger, &mut self.dice)?;
        Some(Theme {
            scene,
            question,
            combination,
        })
    }

    /// 0: more of the subject's kind than of the other; 1: fewer; 2: as many.
    fn more(&mut self, answer: usize) -> Option<Theme> {
        let combination = self.subject(|_| true)?;
        let by_shape = self.dice.percent(50);
        let (one, other) = if by_shape {
            let other = self.other(|other| other.shape != combination.shape)?;
            (Known::from(combination.shape), Known::from(other.shape))
        } else {
            let other = self.other(|other| other.colour != combination.colour)?;
            (Known::from(combination.colour), Known::from(other.colour))
        };
        let (ones, others) = match answer {
            0 => {
                let ones = self.dice.whole(1, 4);
                (ones, self.dice.below(ones.min(3)))
            }
            1 => {
                let others = self.dice.whole(2, 4);
                (self.dice.whole(1, (others - 1).min(2)), others)
            }
            _ => {
                let ones = self.dice.whole(1, 3);
                (ones, ones)
            }
        };
        let mut wanted: Vec<Wanted> = vec![combination.into()];
        for _ in 1..ones {
            wanted.push(self.other(|each| one.fits(each))?.into());
        }
        for _ in 0..others {
            wanted.push(self.other(|each| other.fits(each))?.into());
        }
        let extras = self.dice.below(2).min(6 - wanted.len());
        let scene = self.scene(
            wanted,
            extras,
            &|each| !one.fits(each) && !other.fits(each),
            Vec::new(),
        );
        Some(Theme {
            question: ask::more(&scene, one, other, &mut self.dice),
            scene,
            combination,
        })
    }

    fn relation(&mut self, answer: usize) -> Option<Theme> {
        let combination = self.subject(|_| true)?;
        let other = self.other(|one| one != combination)?;
        let (place, beside) = (*self.dice.pick(Place::ALL), *self.dice.pick(Place::ALL));
        let at = |one: Combination, place| Wanted {
            place: Some(place),
            ..one.into()
        };
        if place == beside {
            return None;
        }
        let wanted = vec![at(combination, place), at(other, beside)];
        let extras = self.few(2);
        let scene = self.scene(
            wanted,
            extras,
            &|one| one != combination && one != other,
            Vec::new(),
        );
        let question = ask::relation(
            &scene,
            [combination, other].map(Known::from),
            &mut self.dice,
        )?;
        let expected = ["left", "right", "above", "below"][answer];
        (question.short == expected).then_some(Theme {
            scene,
            question,
            combination,
        })
    }

    fn texture(&mut self, answer: usize) -> Option<Theme> {
        let combination = self.subject(|_| true)?;
        let texture = Texture::ALL.get(answer).copied();
        let known = match texture {
            Some(_) => combination,
            None => self.other(|one| one != combination)?,
        };
        let wanted = Wanted {
            size: texture.map(|_| Size::Large),
            texture,
            ..combination.into()
        };
        let extras = self.few(2);
        let scene = self.scene(vec![wanted], extras, &|one| one != known, Vec::new());
        let question = ask::texture(&scene, known.into(), &mut self.dice)?;
        Some(Theme {
            scene,
            question,
            combination,
        })
    }
}
