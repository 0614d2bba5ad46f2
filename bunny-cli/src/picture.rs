//! Pictures from files and from the web.

use std::path::Path;

use anyhow::{Context, Result};
use bunny_core::input::image::{DecodeOptions, decode, decode_file};
use image::RgbImage;

/// Reads a picture from a file or an `http(s)` address, turned upright as its camera noted.
///
/// # Errors
/// When it cannot be read, or is no picture.
pub fn read(name: &str) -> Result<RgbImage> {
    let options = DecodeOptions::upright();
    if name.starts_with("http://") || name.starts_with("https://") {
        let bytes = fetch(name)?;
        return decode(&bytes, options).with_context(|| name.to_string());
    }
    Ok(decode_file(Path::new(name), options)?)
}

/// More than any photograph takes.
#[cfg(feature = "hub")]
const LARGEST: u64 = 256 << 20;

#[cfg(feature = "hub")]
fn fetch(url: &str) -> Result<Vec<u8>> {
    let mut answer = ureq::get(url).call().with_context(|| url.to_string())?;
    let body = answer.body_mut().with_config().limit(LARGEST);
    body.read_to_vec().with_context(|| url.to_string())
}

#[cfg(not(feature = "hub"))]
fn fetch(url: &str) -> Result<Vec<u8>> {
    anyhow::bail!("{url}: downloads are not built in: build with `--features hub`")
}
