//! Rows of a component to the picture's width and height: libjpeg's triangle filters, or repeated
//! samples where a ratio is not two.

use super::frame::{Component, Frame};

/// How a component grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upsampling {
    /// It has the picture's size.
    Whole,
    /// Twice as wide: three quarters of the nearer sample, one of the farther.
    Wide,
    /// Twice as high.
    High,
    /// Both.
    Both,
    /// Every sample stands for as many columns and rows.
    Repeat { columns: usize, rows: usize },
}

impl Upsampling {
    pub(super) fn of(component: &Component, frame: &Frame) -> Self {
        let (columns, rows) = (frame.max_h / component.h, frame.max_v / component.v);
        match (columns, rows) {
            (1, 1) => Self::Whole,
            (2, 1) if component.width > 2 => Self::Wide,
            (1, 2) => Self::High,
            (2, 2) if component.width > 2 => Self::Both,
            _ => Self::Repeat { columns, rows },
        }
    }

    /// For a row of the picture, the nearest of the component's `height` rows and the next nearest.
    /// The first and the last have themselves beyond the edge.
    pub(super) fn rows(self, y: usize, height: usize) -> (usize, usize) {
        match self {
            Self::Whole | Self::Wide => (y, y),
            Self::High | Self::Both if y.is_multiple_of(2) => (y / 2, (y / 2).saturating_sub(1)),
            Self::High | Self::Both => (y / 2, (y / 2 + 1).min(height - 1)),
            Self::Repeat { rows, .. } => (y / rows, y / rows),
        }
    }

    /// Makes a row. `near` and `far` are `width` samples of the component; `sums` is scratch.
    ///
    /// Halves are rounded up and down in turn, from place to place.
    #[inline(always)]
    pub(super) fn make(self, near: &[u8], far: &[u8], y: usize, sums: &mut [u16], out: &mut [u8]) {
        let width = near.len();
        match self {
            Self::Whole => out[..width].copy_from_slice(near),
            Self::Wide => {
                for (sum, near) in sums.iter_mut().zip(near) {
                    *sum = u16::from(*near);
                }
                double::<2, 1, 2>(&sums[..width], out);
            }
            Self::High => {
                let bias = 1 + (y % 2) as u16;
                for ((out, near), far) in out.iter_mut().zip(near).zip(far) {
                    *out = ((u16::from(*near) * 3 + u16::from(*far) + bias) >> 2) as u8;
                }
            }
            Self::Both => {
                for ((sum, near), far) in sums.iter_mut().zip(near).zip(far) {
                    *sum = u16::from(*near) * 3 + u16::from(*far);
                }
                double::<4, 8, 7>(&sums[..width], out);
            }
            Self::Repeat { columns, .. } => {
                for (out, near) in out.chunks_mut(columns).zip(near) {
                    out.fill(*near);
                }
            }
        }
    }
}

/// Twice as many: each is mixed with the one before it, then with the one behind.
#[inline(always)]
fn double<const SHIFT: u32, const BEFORE: u16, const BEHIND: u16>(sums: &[u16], out: &mut [u8]) {
    let width = sums.len();
    let mix = |near: u16, far: u16, bias: u16| ((near * 3 + far + bias) >> SHIFT) as u8;
    let (pairs, _) = out[..2 * width].as_chunks_mut::<2>();
    pairs[0] = [mix(sums[0], sums[0], BEFORE), mix(sums[0], sums[1], BEHIND)];
    let inner = &mut pairs[1..width - 1];
    let count = inner.len();
    let (before, here, behind) = (&sums[..count], &sums[1..][..count], &sums[2..][..count]);
    for i in 0..count {
        inner[i] = [
            mix(here[i], before[i], BEFORE),
            mix(here[i], behind[i], BEHIND),
        ];
    }
    let (last, before) = (sums[width - 1], sums[width - 2]);
    pairs[width - 1] = [mix(last, before, BEFORE), mix(last, last, BEHIND)];
}
