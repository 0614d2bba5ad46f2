//! Blocks of sequential scans.

use super::bits::Bits;
use super::huffman::Table;

/// Decodes a block onto one of zeros: `put` gets places in zigzag order, of which damaged data may
/// give some beyond the last, and what belongs there.
#[inline(always)]
pub(super) fn decode(
    shared: &mut Bits<'_>,
    previous: &mut i32,
    dc: &Table,
    ac: &Table,
    mut put: impl FnMut(usize, i16),
) {
    let mut bits = *shared;
    let (_, difference) = dc.take(&mut bits);
    *previous = previous.wrapping_add(difference);
    put(0, *previous as i16);
    let mut place = 1;
    while place < 64 {
        let (symbol, value) = ac.take(&mut bits);
        let run = usize::from(symbol >> 4);
        if value != 0 {
            place += run;
            put(place, value as i16);
        } else if run < 15 {
            break;
        } else {
            place += 15;
        }
        place += 1;
    }
    *shared = bits;
}
