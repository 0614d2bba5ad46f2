//! Answers that go round in circles.

/// The most words that a circle has.
const LONGEST: usize = 8;
/// The words at the end that go round before it is said to be one, and the fewest rounds of it.
const WORDS: usize = 12;
const ROUNDS: usize = 4;

/// Whether the last words of an answer are the same few over and over: a small model that is asked for
/// what it never learnt finds no end.
pub fn goes_in_circles(answer: &str) -> bool {
    let words: Vec<&str> = answer
        .split_whitespace()
        .rev()
        .take(LONGEST * ROUNDS)
        .collect();
    (1..=LONGEST).any(|period| {
        let needed = (period * ROUNDS).max(WORDS);
        words.len() >= needed && (period..needed).all(|at| words[at] == words[at - period])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_told_from_lists_and_emphasis() {
        for (answer, expected) in [
            (
                "The picture shows five six six six six six six six six six six six six",
                true,
            ),
            ("a b c d a b c d a b c d a b c d", true),
            ("so it is, so it is, so it is, so it is,", true),
            ("No, no, no, no, no!", false),
            (
                "There is a red ring, a red square, a red star, a red cross and a red dot.",
                false,
            ),
            ("1 1 1 1 1 1", false),
            ("", false),
        ] {
            assert_eq!(goes_in_circles(answer), expected, "{answer}");
        }
    }
}
