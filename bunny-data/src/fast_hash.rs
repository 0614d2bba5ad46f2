//! A fast hash of big runs of bytes: eight streams of words side by side.

use bunny_base::random::{mix, mix_all, mix_bytes};

const STREAMS: usize = 8;

/// A word from bytes: equal for equal bytes, and by chance for one pair in 2⁶⁴ of others.
pub(crate) fn fast_hash(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<{ 8 * STREAMS }>();
    let mut streams = [0_u64; STREAMS];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (stream, word) in streams.iter_mut().zip(words) {
            *stream = mix(*stream ^ u64::from_le_bytes(*word));
        }
    }
    mix_bytes(mix_all(&streams) ^ bytes.len() as u64, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let bytes: Vec<u8> = (0..203).collect();
        let hash = fast_hash(&bytes);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(fast_hash(&other), hash, "byte {at}");
            assert_ne!(fast_hash(&bytes[..at]), hash);
        }
    }
}
