//! Whether answers are right, and how sure a share of right answers is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Part;
use super::exam::TestQuestion;
use super::vocabulary::word_number;

/// An answer as it is compared: in small letters, without a full stop at its end, with single spaces,
/// without an article before it, and with the words for numbers up to twenty as digits.
///
/// ```
/// use bunny_data::picture_world::normalise;
///
/// assert_eq!(normalise(" The red  Star.\n"), "red star");
/// assert_eq!(normalise("Three"), normalise("3"));
/// ```
pub fn normalise(answer: &str) -> String {
    let lower = answer.to_lowercase();
    let plain = lower.trim();
    let plain = plain.strip_suffix('.').unwrap_or(plain);
    let words: Vec<&str> = plain.split_whitespace().collect();
    let words = match words[..] {
        ["a" | "an" | "the", ref rest @ ..] if !rest.is_empty() => rest,
        _ => &words[..],
    };
    let words: Vec<String> = words
        .iter()
        .map(|word| word_number(word).map_or_else(|| (*word).to_owned(), |n| n.to_string()))
        .collect();
    words.join(" ")
}

/// Whether an answer is the expected one, both [normalised](normalise).
pub fn is_right(answer: &str, expected: &str) -> bool {
    normalise(answer) == normalise(expected)
}

/// The 95 % interval of a share of which `right` of `all` were seen, by Wilson's score (1927). With
/// nothing seen it is from 0 to 1.
pub fn wilson(right: u64, all: u64) -> (f64, f64) {
    /// The normal distribution has 2.5 % above it.
    const Z: f64 = 1.959_963_984_540_054;
    if all == 0 {
        return (0.0, 1.0);
    }
    let (right, n) = (right as f64, all as f64);
    let share = right / n;
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (
        ((middle - half) / scale).max(0.0),
        ((middle + half) / scale).min(1.0),
    )
}

/// How many questions were answered rightly, and what that says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// How many were asked.
    pub questions: u64,
    /// How many were answered rightly.
    pub right: u64,
    /// The share of right answers.
    pub accuracy: f64,
    /// The 95 % interval of that share, by [`wilson`].
    pub interval: (f64, f64),
    /// What whoever sees no picture gets right: the share of the most frequent answer, or the
    /// mean of one by the number of answers a question leaves open, whichever is higher.
    pub chance: f64,
}

/// Counts answers, by the type of their questions and over all.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    types: BTreeMap<String, Counts>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    questions: u64,
    right: u64,
    answers: BTreeMap<String, u64>,
    guessed: f64,
}

impl Tally {
    /// Grades an answer.
    pub fn add(&mut self, question: &TestQuestion, answer: &str) -> bool {
        let right = is_right(answer, &question.answer);
        let counts = self.types.entry(question.kind.clone()).or_default();
        counts.questions += 1;
        counts.right += u64::from(right);
        *counts
            .answers
            .entry(normalise(&question.answer))
            .or_default() += 1;
        counts.guessed += 1.0 / question.choices.max(1) as f64;
        right
    }

    /// The score of each type of question, by its name.
    pub fn by_type(&self) -> Vec<(String, Score)> {
        let scores = self.types.iter();
        scores
            .map(|(kind, counts)| (kind.clone(), counts.score()))
            .collect()
    }

    /// The score over all questions; chance is the mean of the types', by their numbers.
    pub fn overall(&self) -> Score {
        let (mut questions, mut right, mut guessed) = (0, 0, 0.0);
        for counts in self.types.values() {
            questions += counts.questions;
            right += counts.right;
            guessed += counts.chance() * counts.questions as f64;
        }
        score(questions, right, guessed / questions.max(1) as f64)
    }
}

impl Counts {
    fn chance(&self) -> f64 {
        let most = self.answers.values().max().copied().unwrap_or(0);
        (most as f64).max(self.guessed) / self.questions.max(1) as f64
    }

    fn score(&self) -> Score {
        score(self.questions, self.right, self.chance())
    }
}

fn score(questions: u64, right: u64, chance: f64) -> Score {
    Score {
        questions,
        right,
        accuracy: right as f64 / questions.max(1) as f64,
        interval: wilson(right, questions),
        chance,
    }
}

/// For a blind control: the picture of another question of the same type for each question, as the
/// place of that question; `None` where there is no picture, or no other of the type.
///
/// Each picture is used once, and no question has its own.
pub fn other_pictures(questions: &[TestQuestion], seed: u64) -> Vec<Option<usize>> {
    let mut by_type: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, question) in questions.iter().enumerate() {
        if question.image.is_some() {
            by_type.entry(&question.kind).or_default().push(at);
        }
    }
    let mut others = vec![None; questions.len()];
    for (number, mut places) in by_type.into_values().enumerate() {
        if places.len() < 2 {
            continue;
        }
        Part::Blind.dice(seed, number as u64).shuffle(&mut places);
        // In the shuffled circle each takes its neighbour's.
        for (at, place) in places.iter().enumerate() {
            others[*place] = Some(places[(at + 1) % places.len()]);
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(kind: &str, answer: &str, choices: usize) -> TestQuestion {
        TestQuestion {
            id: String::new(),
            image: Some("a.jpg".to_owned()),
            kind: kind.to_owned(),
            question: String::new(),
            answer: answer.to_owned(),
            choices,
            combination: None,
        }
    }

    #[test]
    fn wilson_intervals_are_those_of_newcombe() {
        // Newcombe (1998), Statistics in Medicine 17, table I, method 3: score without continuity
        // correction.
        for (right, all, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (from, to) = wilson(right, all);
            assert!((from - low).abs() < 5e-5, "{right} of {all}: {from}");
            assert!((to - high).abs() < 5e-5, "{right} of {all}: {to}");
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        // All right mirrors none right.
        assert!((wilson(20, 20).0 - (1.0 - 0.1611)).abs() < 5e-5);
    }

    #[test]
    fn answers_are_compared_without_case_stop_space_article_and_number_words() {
        for (answer, expected) in [
            ("Red.", "red"),
            ("  top   LEFT\n", "top left"),
            ("The red star.", "red star"),
            ("seven", "7"),
            ("Twenty", "20"),
            ("a", "a"),
        ] {
            assert!(is_right(answer, expected), "{answer}");
        }
        for (answer, expected) in [
            ("red star", "star"),
            ("left top", "top left"),
            ("17", "7"),
            ("", "none"),
            ("red..", "red"),
            ("none", "0"),
            ("yes no", "yes"),
        ] {
            assert!(!is_right(answer, expected), "{answer}");
        }
    }

    #[test]
    fn chance_is_the_most_frequent_answer_or_guessing_among_those_left_open() {
        let mut tally = Tally::default();
        for (answer, given) in [
            ("red", "Red"),
            ("red", "blue"),
            ("blue", "red"),
            ("green", "green"),
        ] {
            tally.add(&question("colour", answer, 9), given);
        }
        for answer in ["red star", "blue ring", "green heart"] {
            tally.add(&question("compare", answer, 2), "");
        }
        let scores = tally.by_type();
        assert_eq!(scores[0].0, "colour");
        assert_eq!((scores[0].1.questions, scores[0].1.right), (4, 2));
        assert!(
            (scores[0].1.chance - 0.5).abs() < 1e-12,
            "two of four are red"
        );
        assert!((scores[1].1.chance - 0.5).abs() < 1e-12, "one of two");
        let overall = tally.overall();
        assert_eq!((overall.questions, overall.right), (7, 2));
        assert!((overall.chance - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_blind_see_each_picture_of_their_type_once_and_never_their_own() {
        let mut questions: Vec<TestQuestion> = (0..30)
            .map(|at| question(["colour", "shape", "count"][at % 3], "", 2))
            .collect();
        questions.push(question("word", "", 2));
        questions.push(TestQuestion {
            image: None,
            ..question("text", "", 2)
        });
        let others = other_pictures(&questions, 5);
        assert_eq!(others[30..], [None, None], "a lone picture, and none");
        let mut used: Vec<usize> = others.iter().flatten().copied().collect();
        for (at, other) in others[..30].iter().enumerate() {
            let other = other.unwrap();
            assert!(other != at && questions[other].kind == questions[at].kind);
        }
        used.sort_unstable();
        assert_eq!(used, (0..30).collect::<Vec<_>>());
        assert_eq!(others, other_pictures(&questions, 5));
        assert_ne!(others, other_pictures(&questions, 6));
    }
}
