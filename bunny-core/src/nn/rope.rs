//! Rotary position embedding, half-split style, of a head's first channels.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::ops;

/// The position of every token of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    rows: usize,
    values: Vec<u32>,
}

impl Positions {
    /// The same positions `first..first + count` in every row.
    pub fn consecutive(first: usize, count: usize) -> Self {
        Self {
            rows: 1,
            values: (first..first + count).map(|at| at as u32).collect(),
        }
    }

    /// The positions of one row, one by one.
    pub fn listed(values: Vec<u32>) -> Self {
        Self { rows: 1, values }
    }

    /// Positions that count from 0 in each packed segment, `ids` giving the segments of each row.
    pub fn within_segments(ids: &[Vec<u32>]) -> Self {
        let mut values = Vec::new();
        for row in ids {
            let mut position = 0;
            for (at, id) in row.iter().enumerate() {
                position = if at > 0 && row[at - 1] == *id {
                    position + 1
                } else {
                    0
                };
                values.push(position);
            }
        }
        Self {
            rows: ids.len(),
            values,
        }
    }
}

/// The angles of one forward pass, shared by all layers.
#[derive(Debug, Clone)]
pub struct Rope<B: Backend> {
    cos: Tensor<B, 4>,
    sin: Tensor<B, 4>,
}

impl<B: Backend> Rope<B> {
    /// Angles `position * theta^(-2j / rotary_dim)` for `j` below `rotary_dim / 2`, in f32 as the
    /// reference computes them.
    pub fn new(positions: &Positions, rotary_dim: usize, theta: f64, device: &B::Device) -> Self {
        let half = rotary_dim / 2;
        let frequencies: Vec<f32> = (0..half)
            .map(|j| 1.0 / (theta as f32).powf(2.0 * j as f32 / rotary_dim as f32))
            .collect();
        let angles = positions
            .values
            .iter()
            .flat_map(|&position| frequencies.iter().map(move |f| position as f32 * f));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        let rows = positions.rows;
        let shape = [rows, 1, positions.values.len() / rows, half];
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), device);
        Self {
            cos: tensor(cos),
            sin: tensor(sin),
        }
    }

    /// Rotates queries or keys.
    ///
    /// # Shapes
    /// `[batch, heads, seq, head_dim]` → the same
    pub fn apply(&self, input: Tensor<B, 4>) -> Tensor<B, 4> {
        ops::rotate(input, &self.cos, &self.sin)
    }
}
