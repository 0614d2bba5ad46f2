//! What the micro-batches of a step add up to, on one rank and over all of them.

use burn::tensor::backend::Backend;

use super::Gradients;
use crate::{error::ReduceError, reduce::Reduce};

/// The sums of a step.
pub(crate) struct StepSums<B: Backend> {
    pub gradients: Gradients<B>,
    /// What the sums are to be divided by: answers, or micro-batches.
    pub weight: f64,
    pub loss: f64,
    pub answers: f64,
    pub tokens: f64,
    pub samples: f64,
    /// Operations, by the model's own count.
    pub flops: f64,
}

impl<B: Backend> StepSums<B> {
    /// Nothing yet, for as many tensors that learn.
    pub fn new(trainables: usize) -> Self {
        Self {
            gradients: Gradients::new(trainables),
            weight: 0.0,
            loss: 0.0,
            answers: 0.0,
            tokens: 0.0,
            samples: 0.0,
            flops: 0.0,
        }
    }

    /// The sums of all ranks; `counts` are the numbers of each tensor. First a few numbers and which
    /// gradients are there: the projector's are not where a rank's records have no picture.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn over_ranks(
        self,
        reduce: &dyn Reduce<B>,
        counts: &[usize],
        device: &B::Device,
    ) -> Result<Self, ReduceError> {
        if reduce.world() == 1 {
            return Ok(self);
        }
        let mut numbers = vec![
            self.weight,
            self.loss,
            self.answers,
            self.tokens,
            self.samples,
            self.flops,
        ];
        let own = self.gradients.present();
        numbers.extend(own.map(|present| f64::from(u8::from(present))));
        reduce.sum(&mut [], &mut numbers)?;
        let (sums, marks) = numbers.split_at(numbers.len() - counts.len());
        let present: Vec<bool> = marks.iter().map(|mark| *mark > 0.0).collect();
        let mut gradients = self.gradients;
        gradients.over_ranks(&present, counts, reduce, device)?;
        let [weight, loss, answers, tokens, samples, flops] = std::array::from_fn(|at| sums[at]);
        Ok(Self {
            gradients,
            weight,
            loss,
            answers,
            tokens,
            samples,
            flops,
        })
    }
}
