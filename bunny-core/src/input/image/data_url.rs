//! Pictures inside an address: `data:image/png;base64,…`.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use thiserror::Error;

/// With padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Why an address holds no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DataUrlError {
    /// It begins otherwise.
    #[error("it does not begin with `data:`")]
    NoDataUrl,
    /// Its bytes stand in it in another way.
    #[error("a data URL of a picture must be in base64")]
    NotBase64,
    /// There is something else among its base64.
    #[error("the picture's base64 is damaged")]
    Damaged,
}

/// The bytes of a data URL: base64 of either alphabet, white space in it passed over; whatever kind it
/// says it is, the bytes tell.
///
/// # Errors
/// When it is no data URL, or not in base64.
pub fn data_url(address: &str) -> Result<Vec<u8>, DataUrlError> {
    let head = address.get(..5).unwrap_or_default();
    if !head.eq_ignore_ascii_case("data:") {
        return Err(DataUrlError::NoDataUrl);
    }
    let (kind, data) = address.split_once(',').unwrap_or((address, ""));
    if !kind.to_ascii_lowercase().ends_with(";base64") {
        return Err(DataUrlError::NotBase64);
    }
    let data = data.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let data: Vec<u8> = data.collect();
    let alphabet = match data.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        true => &URL_SAFE,
        false => &STANDARD,
    };
    alphabet.decode(data).map_err(|_| DataUrlError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_read_in_both_alphabets_with_white_space_and_without_padding() {
        let bytes = [0xfb, 0xff, 0x01, 0x02];
        for address in [
            "data:image/png;base64,+/8BAg==",
            "data:image/png;base64,+/8BAg",
            "DATA:;BASE64,-_8BAg==",
            "data:whatever/it;x=y;base64,+/8B\nAg = =",
        ] {
            assert_eq!(data_url(address).unwrap(), bytes, "{address}");
        }
        for (address, error) in [
            ("", DataUrlError::NoDataUrl),
            ("http://a/b.png", DataUrlError::NoDataUrl),
            ("file:///etc", DataUrlError::NoDataUrl),
            ("data:", DataUrlError::NotBase64),
            ("data:,abc", DataUrlError::NotBase64),
            ("data:;base64,é", DataUrlError::Damaged),
            ("data:;base64,a", DataUrlError::Damaged),
        ] {
            assert_eq!(data_url(address), Err(error), "{address}");
        }
    }
}
