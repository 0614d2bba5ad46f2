//! Smoothing between blocks, where a progressive file ends before its coefficients are complete.
//!
//! As in libjpeg-turbo since 2.1: of the lowest nine coefficients beyond the direct one, those that
//! are zero and not known to the last bit are guessed from the direct coefficients of the 5 × 5
//! blocks around: section K.8 of ITU-T T.81, with wider kernels.

use super::frame::{Block, Scan};
use super::segments::ZIGZAG;

/// Weights of the direct coefficients around a block.
type Kernel = [[i64; 5]; 5];

/// How many coefficients are looked at, the direct one among them.
const GUESSED: usize = 10;

/// By place in zigzag order, where no more than direct coefficients are known.
const WIDE: [Kernel; GUESSED] = {
    const DIRECT: Kernel = [
        [-2, -6, -8, -6, -2],
        [-6, 6, 42, 6, -6],
        [-8, 42, 152, 42, -8],
        [-6, 6, 42, 6, -6],
        [-2, -6, -8, -6, -2],
    ];
    const X: Kernel = [
        [-1, -1, 0, 1, 1],
        [-3, 13, 0, -13, 3],
        [-3, 38, 0, -38, 3],
        [-3, 13, 0, -13, 3],
        [-1, -1, 0, 1, 1],
    ];
    const XX: Kernel = [
        [0, 0, 0, 0, 0],
        [0, 2, -5, 2, 0],
        [1, 7, -14, 7, 1],
        [0, 2, -5, 2, 0],
        [0, 0, 0, 0, 0],
    ];
    const XY: Kernel = [
        [-1, 0, 0, 0, 1],
        [0, 9, 0, -9, 0],
        [0, 0, 0, 0, 0],
        [0, -9, 0, 9, 0],
        [1, 0, 0, 0, -1],
    ];
    const XXX: Kernel = [
        [0, 0, 0, 0, 0],
        [0, 1, 0, -1, 0],
        [0, 2, 0, -2, 0],
        [0, 1, 0, -1, 0],
        [0, 0, 0, 0, 0],
    ];
    const XXY: Kernel = [
        [0, 0, 0, 0, 0],
        [0, 1, -3, 1, 0],
        [0, 0, 0, 0, 0],
        [0, -1, 3, -1, 0],
        [0, 0, 0, 0, 0],
    ];
    let (y, yy, yyy) = (transposed(X), transposed(XX), transposed(XXX));
    [DIRECT, X, y, yy, XY, XX, XXX, XXY, transposed(XXY), yyy]
};

/// The same where something of the others is known: then the direct one and those of the third
/// order stay as they are.
const NARROW: [Kernel; 6] = {
    const NONE: Kernel = [[0; 5]; 5];
    const X: Kernel = [NONE[0], NONE[0], [-7, 50, 0, -50, 7], NONE[0], NONE[0]];
    const XX: Kernel = [NONE[0], NONE[0], [-1, 13, -24, 13, -1], NONE[0], NONE[0]];
    const XY: Kernel = [
        [0, -1, 0, 1, 0],
        [-1, 10, 0, -10, 1],
        [0, 0, 0, 0, 0],
        [1, -10, 0, 10, -1],
        [0, 1, 0, -1, 0],
    ];
    [NONE, X, transposed(X), transposed(XX), XY, XX]
};

const fn transposed(kernel: Kernel) -> Kernel {
    let mut out = kernel;
    let mut at = 0;
    while at < 25 {
        out[at / 5][at % 5] = kernel[at % 5][at / 5];
        at += 1;
    }
    out
}

/// How well a component's coefficients are known, by place in zigzag order: the lowest bit that
/// came, or -1 where none did.
#[derive(Debug, Clone)]
pub(super) struct Known {
    now: [i8; 64],
    /// Before the last scan that had the component.
    before: [i8; 64],
}

impl Known {
    pub(super) fn nothing() -> Self {
        Self {
            now: [-1; 64],
            before: [-1; 64],
        }
    }

    /// A scan has the component, the first of the file or a later one.
    pub(super) fn learn(&mut self, scan: &Scan, is_first: bool) {
        let (first, last) = (usize::from(scan.first), usize::from(scan.last));
        let kept = first.min(1)..=last.max(GUESSED - 1);
        if is_first {
            self.before[kept].fill(0);
        } else {
            self.before[kept.clone()].copy_from_slice(&self.now[kept]);
        }
        self.now[first..=last].fill(scan.low as i8);
    }
}

/// What is smoothed.
#[derive(Debug)]
pub(super) struct Smoothing {
    known: Vec<Known>,
    /// The last row of units that the last scan has data for.
    last_row: usize,
}

impl Smoothing {
    /// `None` where nothing is to be guessed, or where it cannot be.
    pub(super) fn new(
        mut known: Vec<Known>,
        steps: &[Option<Block>],
        scans: usize,
        last_row: usize,
    ) -> Option<Self> {
        let can = known.iter().zip(steps).all(|(known, steps)| {
            known.now[0] >= 0
                && steps.is_some_and(|steps| {
                    ZIGZAG[..GUESSED]
                        .iter()
                        .all(|place| steps[usize::from(*place)] != 0)
                })
        });
        let pays = known
            .iter()
            .any(|known| known.now[1..GUESSED].iter().any(|bit| *bit != 0));
        if scans == 1 {
            for known in &mut known {
                known.before = [-1; 64];
            }
        }
        (can && pays).then_some(Self { known, last_row })
    }

    /// Guesses what a block lacks. `direct` gives the direct coefficient of a block that lies so many
    /// rows and columns away, -2 to 2 each.
    pub(super) fn apply(
        &self,
        component: usize,
        row: usize,
        steps: &Block,
        block: &mut Block,
        direct: impl Fn(isize, isize) -> i16,
    ) {
        let known = &self.known[component];
        let bits = if row > self.last_row {
            &known.before
        } else {
            &known.now
        };
        let is_wide = bits[1..GUESSED].iter().all(|bit| *bit == -1);
        let kernels = if is_wide { &WIDE[..] } else { &NARROW[..] };
        let step = |place: usize| i64::from(steps[usize::from(ZIGZAG[place])] as u16);
        let guess = |place: usize| {
            let mut sum = 0;
            for (row, weights) in (-2..).zip(&kernels[place]) {
                for (column, weight) in (-2..).zip(weights) {
                    if *weight != 0 {
                        sum += weight * i64::from(direct(row, column));
                    }
                }
            }
            let sum = sum * step(0);
            let size = ((step(place) << 7) + sum.abs()) / (step(place) << 8);
            (size, sum < 0)
        };
        for place in 1..kernels.len() {
            let at = usize::from(ZIGZAG[place]);
            let bit = bits[place];
            if bit == 0 || block[at] != 0 {
                continue;
            }
            let (mut size, is_negative) = guess(place);
            if bit > 0 {
                size = size.min((1 << bit) - 1);
            }
            block[at] = if is_negative { -size } else { size } as i16;
        }
        if is_wide {
            let (size, is_negative) = guess(0);
            block[0] = if is_negative { -size } else { size } as i16;
        }
    }
}
