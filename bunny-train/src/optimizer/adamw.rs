//! AdamW's rule (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), as
//! `torch.optim.AdamW` has it.

use bunny_core::ops::{self, AdamStep};
use burn::tensor::{Tensor, backend::Backend};

use super::{Moments, State, Step};

/// The constants of AdamW; the defaults are the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay of matrices, times the learning rate, a step.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

impl<B: Backend> State<B> {
    /// A step along `gradient`, or along the moments where there is none now.
    pub(super) fn adamw(
        &mut self,
        gradient: Option<Tensor<B, 1>>,
        step: Step,
        config: &AdamWConfig,
    ) {
        let zeros = || self.master.zeros_like();
        let (first, second, updates) = match (self.moments.take(), &gradient) {
            (None, None) => return,
            (None, Some(_)) => (zeros(), None, 0),
            (Some(old), _) => (old.first, old.second, old.updates),
        };
        let second = second.unwrap_or_else(zeros);
        let gradient = gradient.unwrap_or_else(zeros);
        let updates = updates + 1;
        let AdamWConfig { beta1, beta2, .. } = *config;
        let bias = |beta: f64| 1.0 - beta.powf(updates as f64);
        let step = AdamStep {
            scale: step.scale,
            beta1,
            beta2,
            decay: step.decay,
            rate: step.rate / bias(beta1),
            root: bias(beta2).sqrt().recip(),
            epsilon: config.epsilon,
        };
        let master = self.master.clone();
        let [first, second, master] = ops::adamw(step, gradient, first, second, master);
        self.master = master;
        self.moments = Some(Moments {
            first,
            second: Some(second),
            updates,
        });
    }
}
