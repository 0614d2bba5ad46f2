//! Random bits as a function of their place: no generator to keep, save or share among threads.
//!
//! Written down here, so that the same seed draws the same things whatever the version of any crate.

/// SplitMix64 (Steele, Lea and Flood 2014): a bijection on 64 bits that spreads every bit of its input
/// over all bits of its output.
pub const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// One word from several, order included.
pub fn mix_all(words: &[u64]) -> u64 {
    words.iter().fold(0, |hash, word| mix(hash ^ mix(*word)))
}

/// A word from bytes, length included.
pub fn mix_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words.iter().fold(
        mix(seed),
        |hash, word| mix(hash ^ u64::from_le_bytes(*word)),
    );
    mix(hash ^ u64::from_le_bytes(last) ^ mix(bytes.len() as u64))
}

/// The multipliers of [`mix32`] (Wellons, "Prospecting for hash functions", 2018).
pub const MIX32: [u32; 2] = [0x7feb_352d, 0x846c_a68b];

/// A bijection on 32 bits whose outputs look random: what GPUs without 64-bit numbers compute too.
pub const fn mix32(key: u32) -> u32 {
    let key = (key ^ (key >> 16)).wrapping_mul(MIX32[0]);
    let key = (key ^ (key >> 15)).wrapping_mul(MIX32[1]);
    key ^ (key >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_splitmix64() {
        // The first outputs of SplitMix64 from state 0, as in Vigna's splitmix64.c.
        let step = 0x9E37_79B9_7F4A_7C15_u64;
        let outputs: Vec<u64> = (0..3).map(|i| mix(step.wrapping_mul(i))).collect();
        assert_eq!(
            outputs,
            [
                0xE220_A839_7B1D_CDAF,
                0x6E78_9E6A_A1B9_65F4,
                0x06C4_5D18_8009_454F
            ]
        );
    }

    #[test]
    fn bytes_differ_by_length_too() {
        assert_ne!(mix_bytes(0, b"a"), mix_bytes(0, b"a\0"));
        assert_ne!(mix_bytes(0, b""), mix_bytes(0, b"\0\0\0\0\0\0\0\0"));
    }
}
