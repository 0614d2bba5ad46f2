//! A bar with the time left on a terminal; one line a step elsewhere.

use std::io::IsTerminal;

use bunny_train::run::metrics::StepMetrics;
use indicatif::ProgressBar;

use crate::progress::{add_bar, tell};

/// The steps of a stage as they are taken.
#[derive(Debug)]
pub struct Steps {
    stage: &'static str,
    /// 10¹² operations that the devices could do in a second.
    peak: Option<f64>,
    bar: Option<ProgressBar>,
}

impl Steps {
    /// No step yet, on devices that could do `peak` · 10¹² operations a second.
    pub fn new(stage: &'static str, peak: Option<f64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = add_bar("{prefix} {pos}/{len} {wide_bar} {msg} {eta}");
            bar.with_prefix(stage)
        });
        Self { stage, peak, bar }
    }

    /// A step was taken.
    pub fn show(&mut self, line: &StepMetrics, total: u64) {
        let speed = line.tflops_per_second.map(|tflops| {
            let utilisation = self.peak.map(|peak| 100.0 * tflops / peak);
            let utilisation = utilisation.map(|share| format!(" MFU {share:.1} %"));
            format!(" {tflops:.3} TFLOP/s{}", utilisation.unwrap_or_default())
        });
        let text = format!(
            "loss {:.4} lr {:.2e} norm {:.2} {:.1} tok/s{} wait {:.0} ms",
            line.loss,
            line.learning_rate,
            line.grad_norm,
            line.tokens_per_second,
            speed.unwrap_or_default(),
            1e3 * line.data_wait
        );
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                if bar.position() == 0 {
                    // A run that goes on: the time left is told by the steps taken now.
                    bar.reset_eta();
                }
                bar.set_position(line.step);
                bar.set_message(text);
            }
            None => tell(format_args!("{} {}/{total} {text}", self.stage, line.step)),
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            // It stays as it is: a run may have been stopped.
            bar.abandon();
        }
    }
}
