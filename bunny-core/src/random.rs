//! Random bits as a function of their place: no generator to keep, save or share among threads.

/// SplitMix64: a bijection on 64 bits whose outputs look random.
pub(crate) fn mix(key: u64) -> u64 {
    let key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    key ^ (key >> 31)
}

/// The multipliers of [`mix32`] (Wellons, "Prospecting for hash functions", 2018).
pub(crate) const MIX32: [u32; 2] = [0x7feb_352d, 0x846c_a68b];

/// A bijection on 32 bits whose outputs look random: what GPUs without 64-bit numbers compute too.
pub(crate) fn mix32(key: u32) -> u32 {
    let key = (key ^ (key >> 16)).wrapping_mul(MIX32[0]);
    let key = (key ^ (key >> 15)).wrapping_mul(MIX32[1]);
    key ^ (key >> 16)
}
