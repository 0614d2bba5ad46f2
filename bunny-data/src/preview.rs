//! A page of records with their pictures, to look at a dataset with one's own eyes.

use std::fmt::Write;

use rayon::prelude::*;

use crate::error::Result;
use crate::html;
use crate::images::{self, ImageSource};
use crate::order::shuffled;
use crate::record::RecordFile;

/// What to show.
#[derive(Debug)]
#[non_exhaustive]
pub struct PreviewOptions<'a> {
    /// How many records.
    pub count: usize,
    /// Which ones, by chance.
    pub seed: u64,
    /// Where the pictures are; without it only their names are shown.
    pub images: Option<&'a ImageSource>,
    /// The longer side of a picture on the page, in pixels.
    pub thumbnail: u32,
}

impl Default for PreviewOptions<'_> {
    fn default() -> Self {
        Self {
            count: 50,
            seed: 0,
            images: None,
            thumbnail: 256,
        }
    }
}

/// A page of sampled records, in the order of the file. It needs nothing but itself: pictures are
/// small JPEGs inside it. What cannot be read or shown is said in its place.
///
/// # Errors
/// What keeps the file from being read at all.
pub fn preview(file: &RecordFile, options: &PreviewOptions<'_>) -> Result<String> {
    let len = file.len() as u64;
    let mut chosen: Vec<u64> = (0..len.min(options.count as u64))
        .map(|at| shuffled(at, len, options.seed))
        .collect();
    chosen.sort_unstable();
    let articles: Vec<String> = chosen
        .par_iter()
        .map(|index| article(file, *index as usize, options))
        .collect();
    let body = format!(
        "<p>{} of {len} records, seed {}</p>\n{}",
        chosen.len(),
        options.seed,
        articles.concat()
    );
    Ok(html::page(&html::title(file.path()), "", &body))
}

fn article(file: &RecordFile, index: usize, options: &PreviewOptions<'_>) -> String {
    let record = match file.get(index) {
        Ok(record) => record,
        Err(error) => {
            return format!(
                "<article><p class=\"note\">{}</p></article>\n",
                html::escape(&error.to_string())
            );
        }
    };
    let mut article = format!("<article><h2>{index} · {}</h2>\n", html::escape(&record.id));
    // Below: writing to a String cannot fail.
    for name in record.images() {
        let shown = options.images.map_or(String::new(), |images| {
            images::shown(images, name, options.thumbnail)
        });
        let _ = writeln!(article, "{shown}<p><code>{}</code></p>", html::escape(name));
    }
    for turn in &record.conversations {
        let (from, value) = (html::escape(turn.from.as_str()), html::escape(&turn.value));
        let _ = writeln!(article, "<p class=\"turn\"><b>{from}</b> {value}</p>");
    }
    article + "</article>\n"
}
