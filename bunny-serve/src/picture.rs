//! Pictures of requests: from an address to what the tower takes.

use bunny_core::input::image::{
    DataUrlError, DecodeOptions, ImageProcessor, Pixels, data_url, decode,
};

use crate::fetch::Fetcher;

/// Whether a picture lies on another server.
pub(crate) fn is_remote(address: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        let head = address.get(..scheme.len()).unwrap_or_default();
        head.eq_ignore_ascii_case(scheme)
    })
}

/// The bytes of a picture's address: a data URL, or one that is fetched where there is a fetcher.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn bytes(address: &str, fetcher: Option<&Fetcher>) -> Result<Vec<u8>, String> {
    match fetcher.filter(|_| is_remote(address)) {
        Some(fetcher) => fetcher.fetch(address),
        None => data_url(address).map_err(|error| match error {
            DataUrlError::NoDataUrl => {
                "pictures are taken as data URLs alone (`data:image/png;base64,…`)".into()
            }
            error => error.to_string(),
        }),
    }
}

/// Whether bytes begin as a file of a kind that is taken. More can be decoded; over a network, the fewer
/// decoders the better.
fn is_taken(bytes: &[u8]) -> bool {
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    let kinds: [&[u8]; 3] = [b"\xff\xd8\xff", b"\x89PNG", b"GIF8"];
    is_webp || kinds.iter().any(|kind| bytes.starts_with(kind))
}

/// Decodes and prepares a picture, as the model's own processor says.
///
/// # Errors
/// What is wrong, where the bytes are no picture, or it has more than `max_pixels`. No word of a decoder
/// is in it.
pub(crate) fn prepare(
    bytes: &[u8],
    processor: &ImageProcessor,
    max_pixels: u64,
) -> Result<Pixels, String> {
    if !is_taken(bytes) {
        return Err("a picture must be a JPEG, PNG, WebP or GIF".into());
    }
    let options = DecodeOptions {
        max_pixels,
        ..DecodeOptions::upright()
    };
    match decode(bytes, options) {
        Ok(picture) => Ok(processor.process(&picture)),
        Err(error) => {
            tracing::debug!("{error}");
            let most = max_pixels;
            Err(format!(
                "the picture cannot be read, or has more than {most} pixels"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_picture_is_told_in_our_own_words() {
        let processor = ImageProcessor::siglip(32);
        let shapes = include_bytes!("../../examples/pictures/shapes.jpg");
        assert!(prepare(shapes, &processor, u64::MAX).is_ok());
        for (bytes, most) in [
            (&shapes[..200], u64::MAX),
            (shapes, 100),
            (b"\x89PNG\r\n", u64::MAX),
            (b"II*\0", u64::MAX),
            (b"", u64::MAX),
        ] {
            let told = prepare(bytes, &processor, most).unwrap_err();
            assert!(told.starts_with("a picture must") || told.starts_with("the picture cannot"));
        }
    }
}
