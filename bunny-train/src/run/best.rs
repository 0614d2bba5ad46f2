//! The best evaluation of a run so far.

use serde::{Deserialize, Serialize};

/// The evaluation with the lowest loss, and how many came after it.
///
/// Checkpoints keep it, so that a run that was stopped goes on with the same patience.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestEvaluation {
    /// The step after which it was made.
    pub step: u64,
    /// Its loss.
    pub eval_loss: f64,
    /// Evaluations since then, none of them better.
    pub later: u64,
}

impl BestEvaluation {
    /// The best one when `eval_loss` was found after `step`, and `before` was the best until then. An
    /// equal loss is no better one.
    pub(super) fn after(before: Option<Self>, step: u64, eval_loss: f64) -> Self {
        match before {
            Some(best) if eval_loss >= best.eval_loss => Self {
                later: best.later + 1,
                ..best
            },
            _ => Self {
                step,
                eval_loss,
                later: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_lowest_losses_is_the_best() {
        let mut best = None;
        let mut seen = Vec::new();
        for (at, loss) in [3.0, 2.0, 2.5, 2.0, 1.0].into_iter().enumerate() {
            let found = BestEvaluation::after(best, at as u64 + 1, loss);
            seen.push((found.step, found.later));
            best = Some(found);
        }
        assert_eq!(seen, [(1, 0), (2, 0), (2, 1), (2, 2), (5, 0)]);
    }
}
