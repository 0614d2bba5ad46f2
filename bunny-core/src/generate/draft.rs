//! Prompt lookup: what came behind the same words before is taken for what comes next, and looked at.
//!
//! ```text
//! … the small red house … the small red      the last words stood before: `house …` is drafted
//!                             └─────────── n-gram
//! ```
//! Drafted tokens go through the model as rows beside the one that is read anyway, each with the sums of
//! a single row, and are kept as far as the sequence chooses them by itself. So an answer is the same
//! with drafts and without, whatever it is chosen by: drafts cost time or save it.

use super::prompt::Place;

/// The longest run of tokens that is looked for, and the shortest.
const LONGEST: usize = 4;
const SHORTEST: usize = 2;

/// Up to `most` tokens that stood behind the last ones of `text` and `next` before.
///
/// Of several places the latest counts, and longer runs before shorter ones. Pictures are no tokens:
/// nothing is taken from beyond one.
pub(super) fn look_up(text: &[Place], next: u32, most: usize) -> Vec<u32> {
    let at = |place: usize| text.get(place).copied().unwrap_or(Place::Text(next));
    // `next` stands behind the text, but was not read yet.
    let len = text.len() + 1;
    for run in (SHORTEST..=LONGEST.min(len.saturating_sub(1))).rev() {
        let last = len - run;
        let is_same = |first: &usize| (0..run).all(|by| at(first + by) == at(last + by));
        let is_text = (0..run).all(|by| matches!(at(last + by), Place::Text(_)));
        if let Some(first) = (0..last).rev().find(is_same).filter(|_| is_text) {
            let behind = (first + run..len).map(at);
            let tokens = behind.map_while(|place| match place {
                Place::Text(id) => Some(id),
                Place::Picture(_) => None,
            });
            return tokens.take(most).collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ids: &[u32]) -> Vec<Place> {
        ids.iter().map(|id| Place::Text(*id)).collect()
    }

    #[test]
    fn what_stood_behind_the_same_tokens_is_drafted() {
        let text = texts(&[1, 2, 3, 4, 5, 6, 7, 1, 2]);
        assert_eq!(look_up(&text, 3, 3), [4, 5, 6]);
        assert_eq!(look_up(&text, 3, 100), [4, 5, 6, 7, 1, 2, 3]);
        assert!(look_up(&text, 3, 0).is_empty());
        assert!(look_up(&text, 9, 3).is_empty());
        // One token alone says too little.
        assert!(look_up(&texts(&[1, 2, 3, 9]), 1, 3).is_empty());
        assert!(look_up(&[], 1, 3).is_empty());
    }

    #[test]
    fn the_longest_run_counts_and_then_the_latest() {
        // `2 3` stood before 7 lately, `1 2 3` before 4.
        assert_eq!(look_up(&texts(&[1, 2, 3, 4, 9, 2, 3, 7, 1, 2]), 3, 1), [4]);
        assert_eq!(look_up(&texts(&[2, 3, 4, 2, 3, 5, 8, 2]), 3, 1), [5]);
        // A run may reach into itself: what goes on as it did.
        assert_eq!(look_up(&texts(&[5, 5, 5]), 5, 2), [5]);
    }

    #[test]
    fn nothing_is_taken_from_beyond_a_picture() {
        let mut text = texts(&[1, 2, 3]);
        let key =
            crate::generate::Picture::<crate::nn::Nothing>::new(crate::input::image::Pixels {
                data: vec![0.0; 3],
                height: 1,
                width: 1,
            })
            .key();
        text.insert(2, Place::Picture(key));
        text.push(Place::Text(1));
        assert!(look_up(&text, 2, 5).is_empty());
    }
}
