//! Blocks of progressive scans: annex G of ITU-T T.81.

use super::bits::Bits;
use super::huffman::Table;
use super::whole::Slot;

/// The coefficients of a scan in zigzag order, and the lowest bit that it brings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) low: u32,
}

/// The first bits of the direct coefficient.
#[inline(always)]
pub(super) fn begin_direct(
    bits: &mut Bits<'_>,
    previous: &mut i32,
    low: u32,
    table: &Table,
    block: &mut Slot<'_>,
) {
    let (_, difference) = table.take(bits);
    *previous = previous.wrapping_add(difference);
    block.coefficients[0] = (*previous << low) as i16;
}

/// One more bit of the direct coefficient.
#[inline(always)]
pub(super) fn refine_direct(bits: &mut Bits<'_>, low: u32, block: &mut Slot<'_>) {
    bits.refill();
    block.coefficients[0] |= (bits.take(1) << low) as i16;
}

/// The first bits of the others in a band. `ended` counts the blocks whose band is over.
#[inline(always)]
pub(super) fn begin_band(
    shared: &mut Bits<'_>,
    ended: &mut u32,
    band: Band,
    table: &Table,
    block: &mut Slot<'_>,
) {
    if *ended > 0 {
        *ended -= 1;
        return;
    }
    let mut bits = *shared;
    let mut place = band.first;
    while place <= band.last {
        let (symbol, value) = table.take(&mut bits);
        let run = symbol >> 4;
        if value != 0 {
            place += usize::from(run);
            block.put(place, (value << band.low) as i16);
        } else if run < 15 {
            *ended = (1 << run) - 1 + bits.take(run.into());
            break;
        } else {
            place += 15;
        }
        place += 1;
    }
    *shared = bits;
}

/// One more bit of the others in a band: those that are not zero are corrected, and new ones come.
#[inline(always)]
pub(super) fn refine_band(
    shared: &mut Bits<'_>,
    ended: &mut u32,
    band: Band,
    table: &Table,
    block: &mut Slot<'_>,
) {
    let mut bits = *shared;
    let bit = 1i16 << band.low;
    let mut place = band.first;
    if *ended == 0 {
        while place <= band.last {
            let symbol = table.take_symbol(&mut bits);
            let run = symbol >> 4;
            let mut new = 0;
            if symbol & 15 != 0 {
                new = if bits.take(1) == 1 {
                    bit
                } else {
                    bit.wrapping_neg()
                };
            } else if run < 15 {
                *ended = (1 << run) + bits.take(run.into());
                break;
            }
            place = correct(&mut bits, bit, place, band.last, run.into(), block);
            if new != 0 {
                block.put(place, new);
            }
            place += 1;
        }
    }
    if *ended > 0 {
        correct(&mut bits, bit, place, band.last, 64, block);
        *ended -= 1;
    }
    *shared = bits;
}

/// Passes over `zeros` zeros and corrects what is between them: up to the zero behind, whose place
/// it gives, or beyond the band.
#[inline(always)]
fn correct(
    bits: &mut Bits<'_>,
    bit: i16,
    mut place: usize,
    last: usize,
    mut zeros: usize,
    block: &mut Slot<'_>,
) -> usize {
    let mut rest = *block.present & (u64::MAX >> (63 - last));
    loop {
        rest &= u64::MAX.unbounded_shl(place as u32);
        let next = (rest.trailing_zeros() as usize).min(last + 1);
        if next > place + zeros {
            return place + zeros;
        }
        if next > last {
            return next;
        }
        zeros -= next - place;
        let coefficient = &mut block.coefficients[next & 63];
        bits.refill();
        if bits.take(1) == 1 && *coefficient & bit == 0 {
            let step = if *coefficient > 0 {
                bit
            } else {
                bit.wrapping_neg()
            };
            *coefficient = coefficient.wrapping_add(step);
        }
        place = next + 1;
    }
}
