//! A bar with the time left on a terminal; one line a step elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use bunny_train::run::metrics::StepMetrics;
use indicatif::ProgressBar;

use crate::{
    duration,
    progress::{add_bar, tell},
};

/// The steps of a stage as they are taken.
#[derive(Debug)]
pub struct Steps {
    stage: &'static str,
    /// 10¹² operations that the devices could do in a second.
    peak: Option<f64>,
    bar: Option<ProgressBar>,
    /// When the first step taken now was done, and which it was. What comes before it, the first
    /// step included, says little of the steps to come.
    first: Option<(Instant, u64)>,
}

impl Steps {
    /// No step yet, on devices that could do `peak` · 10¹² operations a second.
    pub fn new(stage: &'static str, peak: Option<f64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = add_bar("{prefix} {pos}/{len} {wide_bar} {msg}");
            bar.with_prefix(stage)
        });
        Self {
            stage,
            peak,
            bar,
            first: None,
        }
    }

    /// A step was taken.
    pub fn show(&mut self, line: &StepMetrics, total: u64) {
        let now = Instant::now();
        let (began, first) = *self.first.get_or_insert((now, line.step));
        let left = time_left(line, total, now - began, line.step - first);
        let mut text = self.describe(line);
        if let Some(left) = left {
            text += &format!(", {} left", duration::show(left));
        }
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(line.step);
                bar.set_message(text);
                // The next step takes the bar's words away.
                if let Some(loss) = line.eval_loss {
                    tell(format_args!(
                        "{} {}/{total} eval_loss {loss:.4}",
                        self.stage, line.step
                    ));
                }
            }
            None => tell(format_args!("{} {}/{total} {text}", self.stage, line.step)),
        }
    }

    fn describe(&self, line: &StepMetrics) -> String {
        let eval_loss = line
            .eval_loss
            .filter(|_| self.bar.is_none())
            .map(|loss| format!(" eval_loss {loss:.4}"));
        let speed = line.tflops_per_second.map(|tflops| {
            let utilisation = self.peak.map(|peak| 100.0 * tflops / peak);
            let utilisation = utilisation.map(|share| format!(" MFU {share:.1} %"));
            format!(" {tflops:.3} TFLOP/s{}", utilisation.unwrap_or_default())
        });
        format!(
            "loss {:.4}{} lr {:.2e} norm {:.2} {:.1} tok/s{} wait {:.0} ms",
            line.loss,
            eval_loss.unwrap_or_default(),
            line.learning_rate,
            line.grad_norm,
            line.tokens_per_second,
            speed.unwrap_or_default(),
            1e3 * line.data_wait
        )
    }
}

/// How long the steps after `line` will take, going by `taken` steps that took `elapsed` with all
/// that was done between them; at the first step, by its own time. `None` after the last one.
fn time_left(line: &StepMetrics, total: u64, elapsed: Duration, taken: u64) -> Option<Duration> {
    let left = total.checked_sub(line.step).filter(|left| *left > 0)?;
    let step = match taken {
        0 => line.seconds,
        _ => elapsed.as_secs_f64() / taken as f64,
    };
    Duration::try_from_secs_f64(step * left as f64).ok()
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            // It stays as it is: a run may have been stopped.
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bunny_train::recipe::StageKind;

    fn line(step: u64) -> StepMetrics {
        StepMetrics {
            stage: StageKind::Finetune,
            step,
            epoch: 0.5,
            loss: 1.5,
            learning_rate: 1e-3,
            projector_learning_rate: 1e-3,
            grad_norm: 0.5,
            tokens: 100,
            answer_tokens: 10,
            samples_per_second: 4.0,
            tokens_per_second: 50.0,
            tflops_per_second: Some(0.25),
            data_wait: 0.0,
            seconds: 2.0,
            memory: None,
            eval_loss: Some(1.25),
        }
    }

    #[test]
    fn the_time_left_is_told_by_the_steps_taken_now() {
        let left = |step, taken, elapsed| {
            let left = time_left(&line(step), 10, Duration::from_secs(elapsed), taken);
            left.map(|left| left.as_secs())
        };
        assert_eq!(left(1, 0, 0), Some(18));
        // A run that goes on at step 5: two steps in six seconds, three to go.
        assert_eq!(left(7, 2, 6), Some(9));
        assert_eq!(left(10, 5, 6), None);
    }

    #[test]
    fn a_line_of_a_log_has_the_evaluation_and_the_utilisation() {
        let steps = Steps {
            stage: "finetune",
            peak: Some(1.0),
            bar: None,
            first: None,
        };
        let text = steps.describe(&line(3));
        assert!(
            text.contains("loss 1.5000 eval_loss 1.2500 ") && text.contains("MFU 25.0 %"),
            "{text}"
        );
    }
}
