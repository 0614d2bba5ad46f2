//! Words of the command line for the choices of a library, which names them in its files already.

use std::ops::RangeInclusive;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;

/// Parses one of `words`, each the name that `T` has in JSON.
pub fn choice<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| serde_json::from_value::<T>(word.into()))
}

/// Parses a count of `range`: `2000000`, `2_000_000` or `2e6`.
pub fn count(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let digits = text.replace('_', "");
        // Whole numbers up to here are exact.
        let whole =
            |number: &f64| number.fract() == 0.0 && (0.0..(1_u64 << 53) as f64).contains(number);
        let float = || {
            digits
                .parse()
                .ok()
                .filter(whole)
                .map(|number: f64| number as u64)
        };
        let number = digits.parse().ok().or_else(float);
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (from, to) = range.clone().into_inner();
                format!("write a whole number from {from} to {to}, as 2000000, 2_000_000 or 2e6")
            })
    }
}

/// A number of `range`, whole or not.
pub fn number(
    range: RangeInclusive<f64>,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let (from, to) = range.clone().into_inner();
            Err(format!("write a number from {from} to {to}"))
        }
    }
}

/// Bytes: `8GB`, `512MiB`, `1.5G` or a plain number. Decimal units but for `KiB`, `MiB`, `GiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text
        .trim_end_matches(|c: char| c.is_ascii_alphabetic())
        .trim();
    let unit = text[digits.len()..].trim().to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return Err("write bytes as 8GB, 512MiB or a plain number".to_owned()),
    };
    match digits.parse::<f64>() {
        Ok(number) if number > 0.0 && number * factor < 1e18 => Ok((number * factor) as u64),
        _ => Err("write bytes as 8GB, 512MiB or a plain number".to_owned()),
    }
}

/// Bytes for people.
pub fn show_bytes(bytes: f64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB", "PB"];
    let power = (0..units.len() - 1)
        .take_while(|power| bytes >= 1000_f64.powi(*power as i32 + 1))
        .count();
    let number = bytes / 1000_f64.powi(power as i32);
    format!(
        "{number:.prec$} {}",
        units[power],
        prec = usize::from(power > 0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_of_its_range() {
        let percent = number(0.0..=100.0);
        for (text, expected) in [("0", 0.0), ("46.4", 46.4), ("1e2", 100.0)] {
            assert_eq!(percent(text), Ok(expected), "{text}");
        }
        for wrong in ["", "-0.1", "100.1", "4640", "nan", "inf", "46%"] {
            let told = percent(wrong).unwrap_err();
            assert_eq!(told, "write a number from 0 to 100", "{wrong}");
        }
    }

    #[test]
    fn a_count_may_be_written_short() {
        let count = count(1..=1 << 60);
        for text in ["2000000", "2_000_000", "2e6", "2E6", "0.2e7"] {
            assert_eq!(count(text), Ok(2_000_000), "{text}");
        }
        assert_eq!(count("9007199254740993"), Ok((1 << 53) + 1));
        for wrong in ["", "0", "-1", "1.5", "2e30", "nan", "inf", "2M"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes("8GB"), Ok(8_000_000_000));
        assert_eq!(bytes("1.5gib"), Ok(1_610_612_736));
        assert_eq!(bytes("4096"), Ok(4096));
        for wrong in ["", "GB", "-1GB", "8 parsecs", "1e30", "nan"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(show_bytes(3_154e9), "3.2 TB");
        assert_eq!(show_bytes(12.0), "12 B");
    }
}
