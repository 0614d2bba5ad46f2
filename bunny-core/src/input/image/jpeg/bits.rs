//! The bits of a scan, between two markers.

use super::segments::next_marker;

/// Reads the bits of entropy-coded data from the highest down.
///
/// A marker ends the data, and so does the end of the file. Past it there are zeros without end, as
/// in libjpeg, which decodes something from a damaged scan too; [`Bits::is_overrun`] tells.
///
/// It is small and copied: in registers it is fastest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Where the bytes begin that are not in the buffer; once `ended`, where the marker does.
    at: usize,
    /// The bits that are next, from the highest down; zeros below them.
    buffer: u64,
    /// How many bits of the buffer are valid, with the zeros past the end.
    left: u32,
    /// How many of those are zeros past the end.
    padding: u32,
    ended: bool,
    overrun: bool,
}

impl<'a> Bits<'a> {
    /// What a refill leaves in the buffer at least.
    const FULL: u32 = 56;

    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            buffer: 0,
            left: 0,
            padding: 0,
            ended: false,
            overrun: false,
        }
    }

    /// Drops what is in the buffer and goes on elsewhere.
    pub(super) fn jump(&mut self, at: usize) {
        *self = Self::new(self.bytes, at);
    }

    /// A place with no marker between it and the bits that are next.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Whether a marker follows, or so many bytes that libjpeg, which reads 8 ahead, never looked
    /// for more.
    pub(super) fn is_followed(&self) -> bool {
        const AHEAD: usize = 16;
        let unread =
            self.bytes.len() - self.at + self.left.saturating_sub(self.padding) as usize / 8;
        unread >= AHEAD || next_marker(self.bytes, self.at).is_some()
    }

    /// Whether bits past the end were taken.
    #[inline(always)]
    pub(super) fn is_overrun(&self) -> bool {
        self.overrun || self.left < self.padding
    }

    /// Makes a code and the bits behind it, 32 bits at most, ready to be taken.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.left >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..self.at + 8) {
            let word = u64::from_be_bytes(next.try_into().unwrap_or_default());
            if !has_marker_byte(word) {
                self.buffer |= word >> self.left;
                self.at += (63 - self.left as usize) / 8;
                self.left |= Self::FULL;
                return;
            }
        }
        *self = self.refilled_slowly();
    }

    #[cold]
    #[inline(never)]
    fn refilled_slowly(mut self) -> Self {
        while self.left <= Self::FULL && !self.ended {
            let rest = &self.bytes[self.at..];
            let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
            let (byte, length) = match (fill, rest.get(fill)) {
                (0, Some(byte)) => (*byte, 1),
                // A data byte of 255 is followed by a zero.
                (_, Some(0)) => (0xff, fill + 1),
                _ => {
                    self.ended = true;
                    break;
                }
            };
            self.buffer |= u64::from(byte) << (Self::FULL - self.left);
            self.left += 8;
            self.at += length;
        }
        if self.left < Self::FULL {
            self.overrun |= self.left < self.padding;
            self.padding = self.padding.min(self.left) + Self::FULL - self.left;
            self.left = Self::FULL;
        }
        self
    }

    /// The next bits, 1 to 32 of them, which stay.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.buffer >> (64 - count)) as usize
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.left = self.left.wrapping_sub(count);
    }

    /// Takes up to 16 bits, none among them.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let bits = ((self.buffer >> 32) as u32).unbounded_shr(32 - count);
        self.skip(count);
        bits
    }

    /// Takes a number of 1 to 16 bits whose first bit is its sign: 0 for negative.
    #[inline(always)]
    pub(super) fn take_signed(&mut self, count: u32) -> i32 {
        let bits = self.take(count) as i32;
        extend(bits, count)
    }
}

/// Figure F.12 of ITU-T T.81: the value of `count` bits, the lower half of which stand for the
/// negative numbers.
#[inline(always)]
pub(super) fn extend(bits: i32, count: u32) -> i32 {
    if bits < 1 << (count - 1) {
        bits + 1 - (1 << count)
    } else {
        bits
    }
}

/// Whether a byte is 255.
#[inline(always)]
fn has_marker_byte(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    (!word).wrapping_sub(ONES) & word & (ONES << 7) != 0
}
