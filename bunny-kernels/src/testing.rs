//! What the kernels' tests share: made-up numbers and a way to compare.

/// Numbers in -1..1 that look random and are the same every time.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0xD1B5_4A32_D192_ED03);
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Panics where `got` is further from `expected` than `tolerance`, taken relative to numbers above one.
pub(crate) fn assert_close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "{what}: at {i} got {got}, expected {expected}"
        );
    }
}

/// The bits of a pair of numbers, well mixed (the end of SplitMix64 over both).
pub(crate) fn mix(seed: u64, i: u64) -> u64 {
    let step = |x: u64| {
        let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    };
    step(step(seed) ^ i)
}
