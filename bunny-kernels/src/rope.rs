//! Rotary position embedding, in place (Su et al., *RoFormer*, 2021).

use crate::attention::AttentionStrides;
use crate::parallel;
use crate::scratch::Shared;
use crate::simd::{Kernel, Simd, dispatch};

/// Elements a task rotates, about.
const TASK_FLOATS: usize = 16 << 10;

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// By the angles: the forward pass.
    Forward,
    /// Back by the angles: its gradient.
    Inverse,
}

/// Sizes of what is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RopeShape {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Positions of a sequence.
    pub rows: usize,
    /// Leading numbers of each head that take part; the rest stay.
    pub rotary_dim: usize,
}

/// Rotates number `i` of a head with number `i + rotary_dim / 2`, by the angle of its position, in `positions`
/// `[batch, rows]`, from tables `[position, rotary_dim / 2]`. The form of Phi, Llama and their kin.
///
/// # Panics
/// When a slice is too short, a position is beyond the tables, or `rotary_dim` is odd.
pub fn rope(
    x: &mut [f32],
    strides: AttentionStrides,
    shape: RopeShape,
    positions: &[usize],
    cos: &[f32],
    sin: &[f32],
    rotation: Rotation,
) {
    let half = shape.rotary_dim / 2;
    assert_eq!(shape.rotary_dim % 2, 0, "rotary_dim is odd");
    assert_eq!(positions.len(), shape.batch * shape.rows, "positions");
    each_row(x, strides, shape, |batch, row, x| {
        let at = positions[batch * shape.rows + row] * half;
        dispatch(Halves {
            x,
            cos: &cos[at..at + half],
            sin: &sin[at..at + half],
            rotation,
        });
    });
}

/// Rotates neighbouring numbers `2 i` and `2 i + 1` of a head, by tables `[rows, rotary_dim]` that hold an angle for
/// each: `x cos + rotate(x) sin` with `rotate(a, b) = (-b, a)`. The form of EVA.
///
/// # Panics
/// When a slice is too short, or `rotary_dim` is odd.
pub fn rope_interleaved(
    x: &mut [f32],
    strides: AttentionStrides,
    shape: RopeShape,
    cos: &[f32],
    sin: &[f32],
    rotation: Rotation,
) {
    let width = shape.rotary_dim;
    assert_eq!(width % 2, 0, "rotary_dim is odd");
    each_row(x, strides, shape, |_, row, x| {
        let at = row * width..(row + 1) * width;
        dispatch(Pairs {
            x,
            cos: &cos[at.clone()],
            sin: &sin[at],
            rotation,
        });
    });
}

/// Calls `turn(batch, row, numbers)` for the rotated numbers of every head.
fn each_row(
    x: &mut [f32],
    strides: AttentionStrides,
    shape: RopeShape,
    turn: impl Fn(usize, usize, &mut [f32]) + Send + Sync,
) {
    let RopeShape {
        batch,
        heads,
        rows,
        rotary_dim,
    } = shape;
    assert!(
        x.len() >= strides.extent(batch, heads, rows, rotary_dim),
        "rope: too short"
    );
    assert!(
        !strides.overlap(batch, heads, rows, rotary_dim),
        "rope: heads lie over one another"
    );
    let units = batch * heads * rows;
    let at_once = (TASK_FLOATS / rotary_dim.max(1)).max(1);
    let out = Shared::new(x);
    parallel::for_each(units.div_ceil(at_once), |task| {
        for unit in task * at_once..units.min((task + 1) * at_once) {
            let (batch, head, row) = (unit / rows / heads, unit / rows % heads, unit % rows);
            // SAFETY: within the extent, and heads lie apart.
            turn(batch, row, unsafe {
                out.part(strides.at(batch, head, row), rotary_dim)
            });
        }
    });
}

struct Halves<'a> {
    x: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    rotation: Rotation,
}

impl Kernel for Halves<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (first, second) = self.x.split_at_mut(self.cos.len());
        for p in (0..first.len()).step_by(S::LANES) {
            let (a, b) = (s.get(first, p), s.get(second, p));
            let (cos, mut sin) = (s.get(self.cos, p), s.get(self.sin, p));
            if self.rotation == Rotation::Inverse {
                sin = s.sub(s.zero(), sin);
            }
            s.set(first, p, s.sub(s.mul(a, cos), s.mul(b, sin)));
            s.set(second, p, s.mul_add(b, cos, s.mul(a, sin)));
        }
    }
}

struct Pairs<'a> {
    x: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    rotation: Rotation,
}

impl Kernel for Pairs<'_> {
    type Output = ();

    /// Plain arithmetic, which the compiler shuffles well enough.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let angles = self
            .cos
            .as_chunks::<2>()
            .0
            .iter()
            .zip(self.sin.as_chunks::<2>().0);
        for (x, (cos, sin)) in self.x.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
            *x = match self.rotation {
                Rotation::Forward => [x[0] * cos[0] - x[1] * sin[0], x[1] * cos[1] + x[0] * sin[1]],
                Rotation::Inverse => [x[0] * cos[0] + x[1] * sin[1], x[1] * cos[1] - x[0] * sin[0]],
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::at_every_level;
    use crate::testing::{assert_close, noise};

    /// Batch, heads, rows, head_dim, rotary_dim.
    const SHAPES: [(usize, usize, usize, usize, usize); 4] = [
        (1, 1, 1, 4, 2),
        (2, 3, 5, 80, 32),
        (1, 32, 40, 64, 64),
        (2, 2, 9, 11, 10),
    ];

    fn angles(rows: usize, width: usize) -> (Vec<f32>, Vec<f32>) {
        noise(rows * width, 9)
            .iter()
            .map(|x| ((x * 3.0).cos(), (x * 3.0).sin()))
            .unzip()
    }

    #[test]
    fn halves_turn_by_the_angle_of_their_position_and_back() {
        at_every_level(2, || {
            for (batch, heads, rows, head_dim, rotary_dim) in SHAPES {
                let half = rotary_dim / 2;
                let (cos, sin) = angles(50, half);
                let positions: Vec<usize> = (0..batch * rows).map(|i| i * 7 % 50).collect();
                let strides = AttentionStrides::rows_first(heads, rows, head_dim);
                let shape = RopeShape {
                    batch,
                    heads,
                    rows,
                    rotary_dim,
                };
                let x = noise(batch * heads * rows * head_dim, 1);
                let mut expected: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                for (b, h, r) in (0..batch * heads * rows)
                    .map(|i| (i / heads / rows, i / rows % heads, i % rows))
                {
                    for p in 0..half {
                        let at = strides.at(b, h, r);
                        let angle = positions[b * rows + r] * half + p;
                        let (cos, sin) = (f64::from(cos[angle]), f64::from(sin[angle]));
                        let (first, second) = (f64::from(x[at + p]), f64::from(x[at + half + p]));
                        expected[at + p] = first * cos - second * sin;
                        expected[at + half + p] = second * cos + first * sin;
                    }
                }
                let mut y = x.clone();
                rope(
                    &mut y,
                    strides,
                    shape,
                    &positions,
                    &cos,
                    &sin,
                    Rotation::Forward,
                );
                assert_close(&y, &expected, 1e-6, "rope");
                rope(
                    &mut y,
                    strides,
                    shape,
                    &positions,
                    &cos,
                    &sin,
                    Rotation::Inverse,
                );
                let back: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
                assert_close(&y, &back, 1e-6, "back");
            }
        });
    }

    #[test]
    fn pairs_turn_and_their_inverse_is_the_transpose() {
        at_every_level(2, || {
            for (batch, heads, rows, _, width) in SHAPES {
                let (cos, _) = angles(rows, width);
                let (_, sin) = angles(rows, width);
                let strides = AttentionStrides::heads_first(heads, rows, width);
                let shape = RopeShape {
                    batch,
                    heads,
                    rows,
                    rotary_dim: width,
                };
                let x = noise(batch * heads * rows * width, 1);
                let dy = noise(x.len(), 2);
                let expected: Vec<f64> = (0..x.len())
                    .map(|i| {
                        let angle = i / width % rows * width + i % width;
                        let turned = if i % 2 == 0 { -x[i + 1] } else { x[i - 1] };
                        f64::from(x[i]) * f64::from(cos[angle])
                            + f64::from(turned) * f64::from(sin[angle])
                    })
                    .collect();
                let (mut y, mut dx) = (x.clone(), dy.clone());
                rope_interleaved(&mut y, strides, shape, &cos, &sin, Rotation::Forward);
                assert_close(&y, &expected, 1e-6, "rope");
                rope_interleaved(&mut dx, strides, shape, &cos, &sin, Rotation::Inverse);
                // A rotation is linear: its gradient is right when <y, dy> = <x, dx> for any two.
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter()
                        .zip(b)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum()
                };
                assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-4);
            }
        });
    }
}
