//! Muon's direction: the momentum of a matrix's gradient with its singular values made alike.
//!
//! A gradient has few strong directions and many weak ones, and AdamW follows its entries one by one.
//! Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) steps as far
//! along each singular vector as along any other. Steps have the size of AdamW's (Liu et al., "Muon is
//! Scalable for LLM Training", 2025), so that one learning rate serves for both.

use bunny_core::nn::kernel::{self, NewtonSchulz};
use burn::tensor::{Tensor, backend::Backend};

use crate::{
    reduce::{Reduce, ReduceError},
    step::Gradients,
};

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
    /// Which learner it is.
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
    reduce: &dyn Reduce,
) -> Result<Vec<(usize, Tensor<B, 1>)>, ReduceError> {
    let Some(device) = turns.first().map(|turn| turn.momentum.device()) else {
        return Ok(Vec::new());
    };
    let find = |turn: &Turn<B>| {
        let [rows, columns] = turn.shape;
        let momentum = turn.momentum.clone().reshape(turn.shape);
        direction(momentum, rounds).reshape([rows * columns])
    };
    if reduce.world() == 1 {
        return Ok(turns.iter().map(|turn| (turn.slot, find(turn))).collect());
    }
    let counts: Vec<usize> = turns
        .iter()
        .map(|turn| turn.shape.iter().product())
        .collect();
    let costs: Vec<usize> = turns.iter().map(|turn| cost(turn.shape)).collect();
    let owners = shared_out(&costs, reduce.world());
    let own = turns.iter().zip(owners);
    let own = own.map(|(turn, owner)| (owner == reduce.rank()).then(|| find(turn)));
    let (mut bucket, _) = Gradients::from_iter(own).to_bucket(&counts);
    reduce.sum(&mut bucket)?;
    let all = Gradients::from_bucket(&bucket, &vec![true; counts.len()], &counts, &device);
    let slots = turns.iter().map(|turn| turn.slot);
    Ok(slots.zip(all.into_sums().flatten()).collect())
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
    kernel::orthogonal(momentum, NewtonSchulz::JORDAN, rounds)
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
