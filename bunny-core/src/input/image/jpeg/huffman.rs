//! Huffman tables.

use super::bits::{Bits, extend};
use super::error::Stop;

/// The bits that are looked up at once.
const LOOKUP_BITS: u32 = 9;

/// A table as it is written in a file: how many codes there are of each length from 1 bit on, and
/// what they stand for.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    pub(super) counts: [u8; 16],
    pub(super) symbols: [u8; 256],
}

/// A table to decode with.
#[derive(Debug)]
pub(super) struct Table {
    /// By the next bits, what they begin with.
    lookup: [Entry; 1 << LOOKUP_BITS],
    /// By length less 1, one more than the last code of that length; 0 where there is none.
    ends: [u32; 16],
    /// By length less 1, what is added to a code to have the place of its symbol.
    offsets: [u32; 16],
    symbols: [u8; 256],
}

/// What some bits begin with: a code alone, or with the number behind it. A symbol has the number's
/// length in its lower half.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// The number, or 0 where it is not wholly there.
    value: i16,
    symbol: u8,
    /// Bits of the code and, where there is a number, of the number; 0 where the code is longer.
    length: u8,
}

impl Table {
    /// A table without codes.
    pub(super) fn empty() -> Self {
        Self {
            lookup: [Entry::default(); 1 << LOOKUP_BITS],
            ends: [0; 16],
            offsets: [0; 16],
            symbols: [0; 256],
        }
    }

    /// # Errors
    /// Codes that do not form a tree.
    pub(super) fn new(codes: &Codes) -> Result<Self, Stop> {
        let mut table = Self {
            symbols: codes.symbols,
            ..Self::empty()
        };
        let (mut code, mut place) = (0u32, 0u32);
        for (length, count) in (1..=16).zip(codes.counts) {
            let count = u32::from(count);
            let index = length as usize - 1;
            table.offsets[index] = place.wrapping_sub(code);
            for symbol in place..place + count {
                if length <= LOOKUP_BITS {
                    let symbol = *codes.symbols.get(symbol as usize).ok_or(Stop::Huffman)?;
                    table.fill(code, length, symbol);
                }
                code += 1;
            }
            place += count;
            // No code is all ones.
            if count > 0 && code >= 1 << length || place > 256 {
                return Err(Stop::Huffman);
            }
            table.ends[index] = if count > 0 { code } else { 0 };
            code <<= 1;
        }
        Ok(table)
    }

    /// Enters a code under everything that begins with it.
    fn fill(&mut self, code: u32, length: u32, symbol: u8) {
        let free = LOOKUP_BITS - length;
        let size = u32::from(symbol & 15);
        let first = (code as usize) << free;
        let Some(entries) = self.lookup.get_mut(first..first + (1 << free)) else {
            return;
        };
        for (rest, entry) in entries.iter_mut().enumerate() {
            *entry = Entry {
                value: 0,
                symbol,
                length: length as u8,
            };
            if (1..=free).contains(&size) {
                entry.value = extend((rest >> (free - size)) as i32, size) as i16;
                entry.length += size as u8;
            }
        }
    }

    /// Takes a code and the number behind it: the symbol and the number. Both are 0 where no code
    /// is.
    #[inline(always)]
    pub(super) fn take(&self, bits: &mut Bits<'_>) -> (u8, i32) {
        bits.refill();
        let entry = self.lookup[bits.peek(LOOKUP_BITS)];
        if entry.value != 0 {
            bits.skip(entry.length.into());
            return (entry.symbol, entry.value.into());
        }
        let symbol = self.finish(entry, bits);
        let size = u32::from(symbol & 15);
        if size == 0 {
            return (symbol, 0);
        }
        (symbol, bits.take_signed(size))
    }

    /// Takes a code alone.
    #[inline(always)]
    pub(super) fn take_symbol(&self, bits: &mut Bits<'_>) -> u8 {
        bits.refill();
        let mut entry = self.lookup[bits.peek(LOOKUP_BITS)];
        if entry.value != 0 {
            entry.length -= entry.symbol & 15;
        }
        self.finish(entry, bits)
    }

    #[inline(always)]
    fn finish(&self, entry: Entry, bits: &mut Bits<'_>) -> u8 {
        if entry.length > 0 {
            bits.skip(entry.length.into());
            return entry.symbol;
        }
        let (symbol, length) = self.find_long(bits.peek(16) as u32);
        bits.skip(length);
        symbol
    }

    /// A code that is longer than what is looked up: its symbol and length.
    #[cold]
    #[inline(never)]
    fn find_long(&self, next: u32) -> (u8, u32) {
        for length in LOOKUP_BITS + 1..=16 {
            let code = next >> (16 - length);
            if code < self.ends[length as usize - 1] {
                let place = code.wrapping_add(self.offsets[length as usize - 1]);
                return (self.symbols[place as usize & 255], length);
            }
        }
        // No code begins so: libjpeg takes one bit more than the longest has, for a zero.
        (0, 17)
    }
}

impl Codes {
    /// The symbols that have a code.
    pub(super) fn symbols(&self) -> &[u8] {
        let count = self
            .counts
            .iter()
            .map(|count| usize::from(*count))
            .sum::<usize>();
        &self.symbols[..count.min(256)]
    }
}
