//! What scans of all kinds share: units, restarts, and the end of the data.

use super::bits::Bits;
use super::error::Stop;
use super::frame::{Frame, Scan};
use super::segments::{FIRST_MARKER, RESTART, START_OF_IMAGE, next_marker};

/// The state of a scan's data.
#[derive(Debug)]
pub(super) struct Entropy<'a> {
    bytes: &'a [u8],
    pub(super) bits: Bits<'a>,
    /// The last direct coefficient, by the scan's components.
    pub(super) previous: [i32; 4],
    /// Blocks whose band has come to its end, in progressive scans.
    pub(super) ended_blocks: u32,
    /// Units between two restarts, or none.
    interval: u16,
    /// Units before the next.
    remaining: u16,
    /// The number of the next, 0 to 7.
    next_restart: u8,
    /// The data came to an end too early: what follows is left as it is, up to the next restart.
    is_exhausted: bool,
    /// The last row of units that data was there for.
    pub(super) last_row: usize,
}

impl<'a> Entropy<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, interval: u16) -> Self {
        Self {
            bytes,
            bits: Bits::new(bytes, at),
            previous: [0; 4],
            ended_blocks: 0,
            interval,
            remaining: interval,
            next_restart: 0,
            is_exhausted: false,
            last_row: 0,
        }
    }

    /// Before a unit: whether there is data for it.
    #[inline(always)]
    pub(super) fn begin_unit(&mut self, row: usize) -> Result<bool, Stop> {
        self.is_exhausted |= self.bits.is_overrun();
        if !self.is_exhausted {
            self.last_row = row;
        }
        if self.interval > 0 {
            if self.remaining == 0 {
                self.restart()?;
            }
            self.remaining -= 1;
        }
        Ok(!self.is_exhausted)
    }

    #[cold]
    #[inline(never)]
    fn restart(&mut self) -> Result<(), Stop> {
        let expected = self.next_restart;
        self.next_restart = (expected + 1) % 8;
        self.remaining = self.interval;
        self.previous = [0; 4];
        self.ended_blocks = 0;
        let mut at = self.bits.position();
        // The choices of libjpeg where the marker is another one.
        loop {
            let (marker, behind) = next_marker(self.bytes, at).ok_or(Stop::CutOff)?;
            at = behind;
            let ahead = match marker {
                ..FIRST_MARKER => continue,
                RESTART..START_OF_IMAGE => (marker - RESTART).wrapping_sub(expected) % 8,
                // The scan is over.
                _ => 1,
            };
            match ahead {
                // One of the last two: data was lost or doubled; the right one may follow.
                6 | 7 => {}
                // One of the next two: the data before it is lost. The marker stays.
                1 | 2 => {
                    self.bits.jump(behind - 2);
                    return Ok(());
                }
                _ => {
                    self.bits.jump(behind);
                    self.is_exhausted = false;
                    return Ok(());
                }
            }
        }
    }
}

/// A block of a scan: whose it is, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The component's place, in the scan while that is read, in the frame afterwards.
    pub(super) part: usize,
    /// Row and column, in blocks of that component.
    pub(super) row: usize,
    pub(super) column: usize,
}

/// Goes through one row of units. A scan of one component has a block in each unit, and no blocks
/// beyond the picture's edge; others have as many of each component as its sampling factors say.
#[inline(always)]
pub(super) fn for_each_block<'a>(
    frame: &Frame,
    scan: &Scan,
    row: usize,
    entropy: &mut Entropy<'a>,
    mut decode: impl FnMut(&mut Entropy<'a>, Place, bool),
) -> Result<(), Stop> {
    if let [part] = scan.parts.as_slice() {
        let component = &frame.components[part.component];
        let rows = row * component.v..component.blocks_high().min((row + 1) * component.v);
        for row_of_blocks in rows {
            for column in 0..component.blocks_wide() {
                let has_data = entropy.begin_unit(row)?;
                let place = Place {
                    part: 0,
                    row: row_of_blocks,
                    column,
                };
                decode(entropy, place, has_data);
            }
        }
        return Ok(());
    }
    for unit in 0..frame.units_wide() {
        let has_data = entropy.begin_unit(row)?;
        for (part, of) in scan.parts.iter().enumerate() {
            let component = &frame.components[of.component];
            for y in 0..component.v {
                for x in 0..component.h {
                    let place = Place {
                        part,
                        row: row * component.v + y,
                        column: unit * component.h + x,
                    };
                    decode(entropy, place, has_data);
                }
            }
        }
    }
    Ok(())
}
