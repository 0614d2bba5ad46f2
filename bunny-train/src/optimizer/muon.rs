//! Muon's direction: the momentum of a matrix's gradient with its singular values made alike.
//!
//! A gradient has few strong directions and many weak ones, and AdamW follows its entries one by one.
//! Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) steps as far
//! along each singular vector as along any other. Steps have the size of AdamW's (Liu et al., "Muon is
//! Scalable for LLM Training", 2025), so that one learning rate serves for both.

use bunny_core::ops::{self, NewtonSchulz};
use burn::tensor::{Tensor, backend::Backend};

use super::{Moments, Rule, State, Step};
use crate::{error::ReduceError, reduce::Reduce};

/// How much of the momentum stays from step to step.
pub const MOMENTUM: f64 = 0.95;

/// What a learning rate is multiplied with for a matrix of this shape: AdamW's steps are about 0.2 of
/// the rate in every entry, those of an orthogonal matrix the root of its longer side's inverse.
pub fn rate_factor([rows, columns]: [usize; 2]) -> f64 {
    0.2 * (rows.max(columns) as f64).sqrt()
}

/// A matrix that waits for Muon's direction.
#[derive(Debug)]
pub struct Turn<B: Backend> {
    /// Which trainable it is.
    pub slot: usize,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// What the direction is of, flat.
    pub momentum: Tensor<B, 1>,
}

/// The directions of all matrices, by their slots. Each is found by one rank, so that all have as much
/// to do, and told to the others. With `rounds` the factors of products are bf16, as torch's are.
///
/// # Errors
/// When another rank is gone.
pub fn directions<B: Backend>(
    turns: Vec<Turn<B>>,
    rounds: bool,
    reduce: &dyn Reduce<B>,
) -> Result<Vec<(usize, Tensor<B, 1>)>, ReduceError> {
    let find = |turn: &Turn<B>| {
        let [rows, columns] = turn.shape;
        let momentum = turn.momentum.clone().reshape(turn.shape);
        direction(momentum, rounds).reshape([rows * columns])
    };
    let slots = turns.iter().map(|turn| turn.slot);
    if reduce.world() == 1 {
        return Ok(slots.zip(turns.iter().map(find)).collect());
    }
    let costs: Vec<usize> = turns.iter().map(|turn| cost(turn.shape)).collect();
    let owners = shared_out(&costs, reduce.world());
    // What others find is zero here, so that the sum is what was found.
    let found = turns.iter().zip(owners);
    let mut found: Vec<Tensor<B, 1>> = found
        .map(|(turn, owner)| match owner == reduce.rank() {
            true => find(turn),
            false => turn.momentum.zeros_like(),
        })
        .collect();
    if !found.is_empty() {
        reduce.sum(&mut found, &mut [])?;
    }
    Ok(slots.zip(found).collect())
}

/// Who of `world` takes each piece of work: the dearest first, each to whoever has least to do.
fn shared_out(costs: &[usize], world: usize) -> Vec<usize> {
    let mut dearest: Vec<usize> = (0..costs.len()).collect();
    dearest.sort_by_key(|at| std::cmp::Reverse(costs[*at]));
    let (mut load, mut owners) = (vec![0; world], vec![0; costs.len()]);
    for at in dearest {
        let owner = (0..world).min_by_key(|rank| load[*rank]).unwrap_or(0);
        load[owner] += costs[at];
        owners[at] = owner;
    }
    owners
}

/// What [`direction`] costs, in multiplications of an iteration.
fn cost([rows, columns]: [usize; 2]) -> usize {
    let (long, short) = (rows.max(columns), rows.min(columns));
    short * short * (2 * long + short)
}

/// A matrix with the singular vectors of `momentum`, and singular values from 0.68 to 1.14 in the
/// place of all that are above a hundredth of its norm.
///
/// # Shapes
/// `[rows, columns]`, f32 → the same
fn direction<B: Backend>(momentum: Tensor<B, 2>, rounds: bool) -> Tensor<B, 2> {
    ops::orthogonal(momentum, NewtonSchulz::JORDAN, rounds)
}

impl<B: Backend> State<B> {
    /// Takes a gradient, `scale` times, into the momentum, and gives Nesterov's: where the same gradient
    /// would take it once more.
    pub(super) fn gather(&mut self, gradient: Tensor<B, 1>, scale: f64) -> Tensor<B, 1> {
        let share = gradient * (scale * (1.0 - MOMENTUM));
        let (first, updates) = match self.moments.take() {
            Some(old) => (old.first * MOMENTUM + share.clone(), old.updates),
            None => (share.clone(), 0),
        };
        self.moments = Some(Moments {
            first: first.clone(),
            second: None,
            updates: updates + 1,
        });
        first * MOMENTUM + share
    }

    /// A step along a direction.
    pub(super) fn move_along(&mut self, direction: Tensor<B, 1>, step: Step) {
        if let Rule::Muon(shape) = self.rule {
            let rate = step.rate * rate_factor(shape);
            self.master = self.master.clone() * step.decay - direction * rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_shared_out_evenly() {
        let owners = shared_out(&[3, 9, 4, 1, 4, 3], 2);
        // By hand: 9; then 4, 4; then 3 and 3 to whoever has less (8 against 9), 11 against 12; 1.
        assert_eq!(owners, [1, 0, 1, 1, 1, 0]);
        assert_eq!(shared_out(&[5, 5], 1), [0, 0]);
    }
}
