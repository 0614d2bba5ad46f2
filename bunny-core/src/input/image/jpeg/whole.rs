//! Files of several scans: all coefficients first, then the picture.

use super::entropy::{Entropy, Place, for_each_block};
use super::error::Stop;
use super::frame::{Block, Frame, Scan};
use super::progressive::{self, Band};
use super::segments::ZIGZAG;
use super::sequential;
use super::smooth::{Known, Smoothing};
use super::tables::Tables;

/// The most scans of a file; encoders make about ten. Each goes through all blocks, and a file of many
/// pixels and of scans that say nothing would take hours.
const MOST_SCANS: usize = 100;

/// The coefficients of a picture.
#[derive(Debug)]
pub(super) struct Whole {
    planes: Vec<Plane>,
    known: Vec<Known>,
    scans: usize,
    /// The last row of units that the last scan has data for.
    last_row: usize,
}

/// Those of a component, with blocks beyond the edges that fill the last units.
#[derive(Debug)]
struct Plane {
    /// In zigzag order.
    blocks: Vec<Block>,
    present: Vec<u64>,
    /// Blocks in a row.
    stride: usize,
}

/// A block in work.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    /// In zigzag order.
    pub(super) coefficients: &'a mut Block,
    /// By place from the lowest bit on, whether a coefficient is there, that is, not zero. The
    /// direct one does not count.
    pub(super) present: &'a mut u64,
}

impl Slot<'_> {
    /// Puts a coefficient in its place. Damaged data may give one beyond the last.
    #[inline(always)]
    pub(super) fn put(&mut self, place: usize, value: i16) {
        let place = place.min(63);
        self.coefficients[place] = value;
        *self.present &= !(1 << place);
        *self.present |= u64::from(value != 0) << place;
    }
}

impl Whole {
    pub(super) fn new(frame: &Frame) -> Self {
        let planes = frame.components.iter().map(|component| {
            let stride = frame.units_wide() * component.h;
            let rows = frame.units_high() * component.v;
            Plane {
                blocks: vec![[0; 64]; stride * rows],
                present: vec![0; stride * rows],
                stride,
            }
        });
        Self {
            planes: planes.collect(),
            known: vec![Known::nothing(); frame.components.len()],
            scans: 0,
            last_row: 0,
        }
    }

    /// Reads a scan. Gives a place from which the next marker is the one behind it.
    pub(super) fn read(
        &mut self,
        frame: &Frame,
        scan: &Scan,
        tables: &Tables,
        mut entropy: Entropy<'_>,
    ) -> Result<usize, Stop> {
        self.scans += 1;
        if self.scans > MOST_SCANS {
            return Err(Stop::Unsupported("a JPEG of more than 100 scans"));
        }
        if frame.is_progressive {
            check_progression(scan)?;
            for part in &scan.parts {
                self.known[part.component].learn(scan, self.scans == 1);
            }
        }
        let low = u32::from(scan.low);
        let band = Band {
            first: scan.first.into(),
            last: scan.last.into(),
            low,
        };
        let parts = &scan.parts;
        let planes = &mut self.planes;
        match (frame.is_progressive, scan.first == 0, scan.high == 0) {
            (false, ..) => read_blocks(planes, frame, scan, &mut entropy, |entropy, at, block| {
                let Entropy { bits, previous, .. } = entropy;
                let part = &parts[at];
                sequential::decode(
                    bits,
                    &mut previous[at],
                    tables.dc(part),
                    tables.ac(part),
                    |place, value| {
                        block.put(place, value);
                    },
                );
            }),
            (true, true, true) => {
                read_blocks(planes, frame, scan, &mut entropy, |entropy, at, block| {
                    let Entropy { bits, previous, .. } = entropy;
                    progressive::begin_direct(
                        bits,
                        &mut previous[at],
                        low,
                        tables.dc(&parts[at]),
                        block,
                    );
                })
            }
            (true, true, false) => {
                read_blocks(planes, frame, scan, &mut entropy, |entropy, _, block| {
                    progressive::refine_direct(&mut entropy.bits, low, block);
                })
            }
            (true, false, true) => {
                read_blocks(planes, frame, scan, &mut entropy, |entropy, at, block| {
                    let Entropy {
                        bits, ended_blocks, ..
                    } = entropy;
                    progressive::begin_band(bits, ended_blocks, band, tables.ac(&parts[at]), block);
                })
            }
            (true, false, false) => {
                read_blocks(planes, frame, scan, &mut entropy, |entropy, at, block| {
                    let Entropy {
                        bits, ended_blocks, ..
                    } = entropy;
                    progressive::refine_band(
                        bits,
                        ended_blocks,
                        band,
                        tables.ac(&parts[at]),
                        block,
                    );
                })
            }
        }?;
        self.last_row = entropy.last_row;
        Ok(entropy.bits.position())
    }

    /// What remains to be guessed.
    pub(super) fn smoothing(&self, frame: &Frame, steps: &[Option<Block>]) -> Option<Smoothing> {
        let known = frame.is_progressive.then(|| self.known.clone())?;
        Smoothing::new(known, steps, self.scans, self.last_row)
    }

    /// A block, row by row, and whether it has the first coefficient alone.
    #[inline(always)]
    pub(super) fn block(&self, place: Place) -> (Block, bool) {
        let plane = &self.planes[place.part];
        let at = plane.at(place);
        let (coefficients, mut rest) = (&plane.blocks[at], plane.present[at] & !1);
        let is_flat = rest == 0;
        let mut block = [0; 64];
        block[0] = coefficients[0];
        while rest > 0 {
            let place = rest.trailing_zeros() as usize & 63;
            block[usize::from(ZIGZAG[place] & 63)] = coefficients[place];
            rest &= rest - 1;
        }
        (block, is_flat)
    }

    /// Guesses what a block lacks.
    pub(super) fn smooth(
        &self,
        frame: &Frame,
        smoothing: &Smoothing,
        place: Place,
        steps: &Block,
        block: &mut Block,
    ) {
        let component = &frame.components[place.part];
        let unit = place.row / component.v;
        // libjpeg counts rows as if all units had as many of them as this one. Rows below the
        // picture, which fill the last unit, are looked at, too, but not from within that unit.
        let rows = component
            .v
            .min(component.blocks_high() - unit * component.v);
        let (at, count) = (
            unit * rows + place.row % component.v,
            rows * frame.units_high(),
        );
        let (above, below) = (at.min(2) as isize, (count - 1 - at).min(2) as isize);
        let last = component.blocks_wide() as isize - 1;
        smoothing.apply(place.part, unit, steps, block, |down, right| {
            let plane = &self.planes[place.part];
            let at = plane.at(Place {
                row: place.row.wrapping_add_signed(down.clamp(-above, below)),
                column: (place.column as isize + right).clamp(0, last) as usize,
                ..place
            });
            plane.blocks[at][0]
        });
    }
}

/// Decodes all blocks of a scan that there is data for. `decode` also gets the place in the scan of
/// the block's component.
fn read_blocks<'a>(
    planes: &mut [Plane],
    frame: &Frame,
    scan: &Scan,
    entropy: &mut Entropy<'a>,
    decode: impl Fn(&mut Entropy<'a>, usize, &mut Slot<'_>),
) -> Result<(), Stop> {
    for row in 0..frame.units_high() {
        for_each_block(frame, scan, row, entropy, |entropy, place, has_data| {
            if has_data {
                let component = scan.parts[place.part].component;
                decode(entropy, place.part, &mut planes[component].slot(place));
            }
        })?;
    }
    Ok(())
}

impl Plane {
    #[inline(always)]
    fn at(&self, place: Place) -> usize {
        place.row * self.stride + place.column
    }

    #[inline(always)]
    fn slot(&mut self, place: Place) -> Slot<'_> {
        let at = self.at(place);
        Slot {
            coefficients: &mut self.blocks[at],
            present: &mut self.present[at],
        }
    }
}

fn check_progression(scan: &Scan) -> Result<(), Stop> {
    let is_band = if scan.first == 0 {
        scan.last == 0
    } else {
        scan.first <= scan.last && scan.last < 64 && scan.parts.len() == 1
    };
    let is_step = scan.high == 0 || scan.low + 1 == scan.high;
    if is_band && is_step && scan.low <= 13 {
        Ok(())
    } else {
        Err(Stop::Progression)
    }
}
