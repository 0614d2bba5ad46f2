//! The inverse cosine transform, with libjpeg-turbo's roundings.
//!
//! It is libjpeg's `jidctint`, after Loeffler, Ligtenberg and Moschytz (ICASSP 1989), in the form
//! that its vector code has: 16 bits between the passes. All forms give the same samples for what an
//! encoder makes of a picture; where coefficients are out of all bounds, this one is followed.

use super::frame::Block;

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;

/// Samples of a block, row by row.
pub(super) type Samples = [u8; 64];

/// Eight numbers side by side.
type Lanes<T> = [T; 8];

/// Multiplied with 2¹³ and rounded.
const fn fixed(value: f64) -> i16 {
    (value * 8192.0 + 0.5) as i16
}

// What sums of two coefficients or products are multiplied with.
const F_0_298: i16 = fixed(0.298631336);
const F_0_390: i16 = fixed(0.390180644);
const F_0_541: i16 = fixed(0.541196100);
const F_0_765: i16 = fixed(0.765366865);
const F_0_899: i16 = fixed(0.899976223);
const F_1_175: i16 = fixed(1.175875602);
const F_1_501: i16 = fixed(1.501321110);
const F_1_847: i16 = fixed(1.847759065);
const F_1_961: i16 = fixed(1.961570560);
const F_2_053: i16 = fixed(2.053119869);
const F_2_562: i16 = fixed(2.562915447);
const F_3_072: i16 = fixed(3.072711026);

/// Bits that the first pass leaves behind the point, and those that it and the second drop.
const KEPT: u32 = 2;
const FIRST_SHIFT: u32 = 13 - KEPT;
const SECOND_SHIFT: u32 = 13 + KEPT + 3;

/// Dequantises and transforms a block.
pub(super) fn inverse(block: &Block, steps: &Block) -> Samples {
    let mut rows = [[0i16; 8]; 8];
    for (place, (coefficient, step)) in block.iter().zip(steps).enumerate() {
        rows[place / 8][place % 8] = coefficient.wrapping_mul(*step);
    }
    // Without anything below the first row, the first pass comes down to a shift, which does not
    // saturate as the pass does.
    let columns = if block[8..].iter().all(|coefficient| *coefficient == 0) {
        rows[0].map(|first| [first << KEPT; 8])
    } else {
        pass::<FIRST_SHIFT>(rows)
    };
    let rows = pass::<SECOND_SHIFT>(columns);
    let mut samples = [0; 64];
    for (place, sample) in samples.iter_mut().enumerate() {
        *sample = to_sample(rows[place / 8][place % 8].into());
    }
    samples
}

/// The samples of a block that has the first coefficient alone: all the same.
pub(super) fn inverse_flat(first: i16, step: i16) -> u8 {
    let first = i32::from(first.wrapping_mul(step) << KEPT);
    to_sample((first + (1 << (SECOND_SHIFT - 14))) >> (SECOND_SHIFT - 13))
}

fn to_sample(value: i32) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

/// Transforms the columns of rows, eight at once, and gives them as rows.
fn pass<const SHIFT: u32>(rows: [Lanes<i16>; 8]) -> [Lanes<i16>; 8] {
    let mut out = [[0; 8]; 8];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = line::<SHIFT>(rows.map(|row| row[lane]));
    }
    out
}

/// One dimension.
fn line<const SHIFT: u32>(line: [i16; 8]) -> [i16; 8] {
    let times = |value: i32, factor: i16| value.wrapping_mul(factor.into());
    let [_, x1, x2, x3, _, x5, x6, x7] = line.map(i32::from);

    // Even part.
    let z1 = times(x2 + x6, F_0_541);
    let even2 = z1 - times(x6, F_1_847);
    let even3 = z1 + times(x2, F_0_765);
    let even0 = i32::from(line[0].wrapping_add(line[4])) << 13;
    let even1 = i32::from(line[0].wrapping_sub(line[4])) << 13;
    let a = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];

    // Odd part.
    let z3 = line[7].wrapping_add(line[3]).into();
    let z4 = line[5].wrapping_add(line[1]).into();
    let z5 = times(z3 + z4, F_1_175);
    let z1 = times(x7 + x1, F_0_899);
    let z2 = times(x5 + x3, F_2_562);
    let z3 = z5.wrapping_sub(times(z3, F_1_961));
    let z4 = z5.wrapping_sub(times(z4, F_0_390));
    let b = [
        times(x1, F_1_501).wrapping_sub(z1).wrapping_add(z4),
        times(x3, F_3_072).wrapping_sub(z2).wrapping_add(z3),
        times(x5, F_2_053).wrapping_sub(z2).wrapping_add(z4),
        times(x7, F_0_298).wrapping_sub(z1).wrapping_add(z3),
    ];

    let round = |sum: i32| {
        let sum = sum.wrapping_add(1 << (SHIFT - 1)) >> SHIFT;
        sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
    };
    std::array::from_fn(|place| match place {
        0..4 => round(a[place].wrapping_add(b[place])),
        _ => round(a[7 - place].wrapping_sub(b[7 - place])),
    })
}
