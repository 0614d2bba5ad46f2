//! Pictures from files and from the web.

use std::{
    env,
    io::{self, IsTerminal, Write},
    path::Path,
};

#[cfg(feature = "hub")]
use std::time::Duration;

use anyhow::{Context, Result};
use bunny_core::input::image::{DecodeOptions, decode, decode_file};
use image::{RgbImage, imageops};

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

/// Draws a picture with half blocks, two pixels a character, where there is a terminal to see it.
///
/// # Errors
/// When the terminal takes nothing.
pub fn draw(picture: &RgbImage) -> io::Result<()> {
    const COLUMNS: u32 = 56;
    let mut out = io::stderr().lock();
    if !out.is_terminal() || env::var_os("NO_COLOR").is_some() {
        return Ok(());
    }
    let rows = (COLUMNS * picture.height() / picture.width()).clamp(2, 60) & !1;
    let small = imageops::resize(picture, COLUMNS, rows, imageops::FilterType::Triangle);
    for y in (0..rows).step_by(2) {
        for x in 0..COLUMNS {
            let ([r, g, b], [r2, g2, b2]) = (small[(x, y)].0, small[(x, y + 1)].0);
            write!(out, "\x1b[38;2;{r};{g};{b}m\x1b[48;2;{r2};{g2};{b2}m▀")?;
        }
        writeln!(out, "\x1b[0m")?;
    }
    Ok(())
}

/// More than any photograph takes.
#[cfg(feature = "hub")]
const LARGEST: u64 = 256 << 20;

/// A server that says nothing is not waited for: 10 s for a connection, 30 s for its answer to begin, a
/// minute in all.
#[cfg(feature = "hub")]
fn fetch(url: &str) -> Result<Vec<u8>> {
    let settings = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_global(Some(Duration::from_secs(60)));
    let agent = settings.build().new_agent();
    let mut answer = agent.get(url).call().with_context(|| url.to_string())?;
    let body = answer.body_mut().with_config().limit(LARGEST);
    body.read_to_vec().with_context(|| url.to_string())
}

#[cfg(not(feature = "hub"))]
fn fetch(url: &str) -> Result<Vec<u8>> {
    anyhow::bail!("{url}: downloads are not built in: build with `--features hub`")
}
