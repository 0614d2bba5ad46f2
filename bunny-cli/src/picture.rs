//! Pictures from files, from the web, from standard input and from addresses that hold them.

#[cfg(feature = "hub")]
mod fetch;

use std::{
    env,
    io::{self, IsTerminal, Read, Write},
};

use anyhow::{Context, Result, bail};
use bunny_base::escape::for_terminal;
use bunny_core::input::image::{DecodeOptions, data_url, decode, decode_file, file_url};
use console::Term;
use image::{RgbImage, imageops};

use crate::args::PictureArgs;

/// More than any photograph takes.
const LARGEST: u64 = 256 << 20;
/// Standard input's name.
const STANDARD_INPUT: &str = "-";

/// Reads a picture, turned upright as its camera noted: a file, an `http(s)` address, a data URL, or
/// standard input as `-`.
///
/// # Errors
/// When it cannot be read, or is no picture.
pub fn read(name: &str, from: PictureArgs) -> Result<RgbImage> {
    let options = DecodeOptions::upright();
    let starts = |scheme: &str| {
        let head = name.get(..scheme.len()).unwrap_or_default();
        head.eq_ignore_ascii_case(scheme)
    };
    let shown = shown(name);
    if starts("http://") || starts("https://") {
        let bytes = fetch(name, from).with_context(|| shown.clone())?;
        return decode(&bytes, options).context(shown);
    }
    if starts("data:") {
        let bytes = data_url(name).with_context(|| shown.clone())?;
        return decode(&bytes, options).context(shown);
    }
    if name == STANDARD_INPUT {
        let what = "standard input";
        let mut bytes = Vec::new();
        let input = io::stdin().lock();
        if input.is_terminal() {
            bail!("{what}: a terminal hands over no picture: name a file");
        }
        input.take(LARGEST).read_to_end(&mut bytes).context(what)?;
        return decode(&bytes, options).context(what);
    }
    // What a file manager hands over.
    let file = file_url(name);
    Ok(decode_file(file.as_deref().unwrap_or(name), options)?)
}

/// A picture that was named in a conversation, whose lines standard input is.
///
/// # Errors
/// As [`read`], and for `-`.
pub fn read_named(name: &str, from: PictureArgs) -> Result<RgbImage> {
    if name == STANDARD_INPUT {
        bail!("standard input is the conversation: show it a picture by `--image -` with --prompt");
    }
    read(name, from)
}

/// An address as it is told: safe to print, and not with a whole picture in it.
fn shown(name: &str) -> String {
    const LONGEST: usize = 200;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}… ({} bytes)", for_terminal(&name[..end]), name.len()),
        None => for_terminal(name).into_owned(),
    }
}

/// Draws a picture with half blocks, two pixels a character, where there is a terminal to see it.
///
/// # Errors
/// When the terminal takes nothing.
pub fn draw(picture: &RgbImage) -> io::Result<()> {
    let mut out = io::stderr().lock();
    if !out.is_terminal() || env::var_os("NO_COLOR").is_some() {
        return Ok(());
    }
    let terminal = Term::stderr().size_checked().unwrap_or((24, 80));
    let (columns, rows) = drawn_size(picture.dimensions(), terminal);
    let small = imageops::resize(picture, columns, rows, imageops::FilterType::Triangle);
    for y in (0..rows).step_by(2) {
        for x in 0..columns {
            let ([r, g, b], [r2, g2, b2]) = (small[(x, y)].0, small[(x, y + 1)].0);
            write!(out, "\x1b[38;2;{r};{g};{b}m\x1b[48;2;{r2};{g2};{b2}m▀")?;
        }
        writeln!(out, "\x1b[0m")?;
    }
    Ok(())
}

/// The columns and the rows of pixels, two to a line, in which a picture of `width` and `height` is drawn
/// on a terminal of so many lines and columns.
fn drawn_size((width, height): (u32, u32), (lines, columns): (u16, u16)) -> (u32, u32) {
    // A line that is full breaks on some terminals, and what is typed next stays in sight.
    let widest = u32::from(columns).saturating_sub(1).clamp(1, 56);
    let highest = 2 * u32::from(lines).saturating_sub(4).clamp(1, 30);
    let scale = f64::min(
        f64::from(widest) / f64::from(width),
        f64::from(highest) / f64::from(height),
    );
    let fit = |side: u32, step: u32| {
        let steps = (f64::from(side) * scale / f64::from(step)).round() as u32;
        steps.max(1) * step
    };
    (fit(width, 1), fit(height, 2))
}

#[cfg(feature = "hub")]
fn fetch(url: &str, from: PictureArgs) -> Result<Vec<u8>> {
    fetch::fetch(url, from, fetch::PATIENCE, LARGEST)
}

#[cfg(not(feature = "hub"))]
fn fetch(_url: &str, _from: PictureArgs) -> Result<Vec<u8>> {
    bail!("downloads are not built in: build with `--features hub`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_the_picture_s_shape_and_fits_the_terminal() {
        for (picture, terminal, drawn) in [
            ((400, 400), (60, 80), (56, 56)),
            ((400, 400), (24, 80), (40, 40)),
            ((400, 400), (24, 33), (32, 32)),
            ((800, 100), (24, 80), (56, 8)),
            ((100, 800), (60, 80), (8, 60)),
            ((9000, 1), (24, 80), (56, 2)),
            ((1, 9000), (2, 1), (1, 2)),
        ] {
            assert_eq!(drawn_size(picture, terminal), drawn, "{picture:?}");
        }
    }

    #[test]
    fn a_picture_may_stand_in_its_address_or_behind_a_scheme() {
        let from = PictureArgs::default();
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/models/wide.png"
        );
        let bytes = std::fs::read(file).unwrap();
        let plain = read(file, from).unwrap();
        assert_eq!(read(&format!("file://{file}"), from).unwrap(), plain);
        let inside = bunny_eval::picture::data_url(&bytes);
        assert_eq!(read(&inside, from).unwrap(), plain);
        // Of an address that holds a picture only the beginning is told.
        let damaged = inside.replace("iVBOR", "!");
        let told = format!("{:#}", read(&damaged, from).unwrap_err());
        assert!(
            told.starts_with("data:image/png;base64,!") && told.len() < 400,
            "{told}"
        );
        assert!(told.contains("base64 is damaged"), "{told}");
        assert!(read_named("-", from).is_err());
    }
}
