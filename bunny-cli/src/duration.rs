//! Spans of time for people.

use std::time::Duration;

/// `3 s`, `4 min 20 s`, `2 h 05 min`, `3 d 4 h`.
pub fn show(span: Duration) -> String {
    let seconds = span.as_secs_f64().round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {:02} s", seconds % 60),
        3600..86_400 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_are_enough() {
        for (seconds, expected) in [
            (0.4, "0 s"),
            (59.4, "59 s"),
            (59.6, "1 min 00 s"),
            (260.0, "4 min 20 s"),
            (7_500.0, "2 h 05 min"),
            (273_600.0, "3 d 4 h"),
        ] {
            assert_eq!(show(Duration::from_secs_f64(seconds)), expected);
        }
    }
}
