//! How far numbers are from those that another program found.

/// The largest difference, as a share of the largest expected number; NaN where there is one.
pub fn off(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected
        .iter()
        .fold(0f32, |largest, one| largest.max(one.abs()));
    let differences = found.iter().zip(expected);
    let differences = differences.map(|(one, other)| (one - other).abs());
    // A NaN must not pass as small.
    let worst = differences.fold(0f32, |worst, off| match off > worst || off.is_nan() {
        true => off,
        false => worst,
    });
    worst / largest
}
