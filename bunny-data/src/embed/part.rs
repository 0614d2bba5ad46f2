//! One part: its pairs read and prepared on some threads, encoded on another, and written whole.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use bunny_base::caught;
use half::f16;
use rayon::prelude::*;
use serde_json::{Map, Value};

use super::metadata::Metadata;
use super::source::{EmbedSource, Pair, Part};
use super::{BrokenPicture, EmbedCounts, Encoder};
use crate::embeddings::{Dtype, NpyHeader};
use crate::error::{DataError, Result};
use crate::whole::fill_whole;

/// Batches that wait while one is encoded.
const AHEAD: usize = 2;

/// A pair whose picture may be broken.
struct Prepared<P> {
    key: Arc<str>,
    caption: String,
    metadata: Map<String, Value>,
    picture: Result<P, String>,
}

/// Rows of vectors, each of length 1 before it is rounded.
struct Rows {
    dims: usize,
    numbers: Vec<f16>,
}

impl Rows {
    /// Adds a vector's direction; false where it has none.
    fn push(&mut self, vector: &[f32]) -> bool {
        let squares: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let length = squares.sqrt();
        let is_one = length.is_finite() && length > 0.0;
        if is_one {
            let unit = vector.iter().map(|x| (f64::from(*x) / length) as f32);
            self.numbers.extend(unit.map(f16::from_f32));
        }
        is_one
    }

    fn pop(&mut self) {
        let left = self.numbers.len().saturating_sub(self.dims);
        self.numbers.truncate(left);
    }

    fn write(&self, path: &Path) -> Result<()> {
        let rows = (self.numbers.len() / self.dims) as u64;
        fill_whole(path, |file| {
            file.put(&NpyHeader::write(Dtype::Float16, rows, self.dims))?;
            // As they are in memory, wherever that is little-endian.
            for numbers in self.numbers.chunks(1 << 16) {
                let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                file.put(&bytes)?;
            }
            Ok::<_, DataError>(())
        })
    }
}

/// Embeds a part and writes its three files, unless it has no pair.
#[allow(
    clippy::too_many_arguments,
    reason = "each is said once, by one caller"
)]
pub(super) fn run<E: Encoder>(
    part: &Part,
    source: &EmbedSource,
    out: &Path,
    name: &str,
    encoder: &E,
    batch: usize,
    limit: u64,
    told: &(dyn Fn(u64) + Sync),
) -> Result<(EmbedCounts, Vec<BrokenPicture>)> {
    let dims = encoder.dims();
    let rows = || Rows {
        dims,
        numbers: Vec::new(),
    };
    let (mut images, mut texts) = (rows(), rows());
    let mut table = Metadata::default();
    let mut broken = Vec::new();
    let (sender, receiver) = sync_channel(AHEAD);
    let mut counts = std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(part, source, encoder, batch, limit, &sender));
        let mut encode = |pairs: Vec<Prepared<E::Picture>>| -> Result<()> {
            let (mut kept, mut pictures) = (Vec::new(), Vec::new());
            let mut captions = Vec::new();
            for pair in pairs {
                match pair.picture {
                    Ok(picture) => {
                        pictures.push(picture);
                        captions.push(pair.caption);
                        kept.push((pair.key, pair.metadata));
                    }
                    Err(problem) => broken.push(BrokenPicture {
                        image_path: pair.key.to_string(),
                        problem,
                    }),
                }
            }
            if pictures.is_empty() {
                return Ok(());
            }
            let seen = encoder.pictures(&pictures).map_err(DataError::Encoder)?;
            let read = encoder.captions(&captions).map_err(DataError::Encoder)?;
            if seen.len() != pictures.len() * dims || read.len() != seen.len() {
                let fault = format!("it gave {} numbers for {}", seen.len(), pictures.len());
                return Err(DataError::Encoder(fault.into()));
            }
            let vectors = seen.chunks_exact(dims).zip(read.chunks_exact(dims));
            for (((key, metadata), caption), (seen, read)) in
                kept.into_iter().zip(captions).zip(vectors)
            {
                let is_picture = images.push(seen);
                if is_picture && texts.push(read) {
                    table.push(&key, &caption, metadata);
                    continue;
                }
                if is_picture {
                    images.pop();
                }
                let of = if is_picture { "caption" } else { "picture" };
                broken.push(BrokenPicture {
                    image_path: key.to_string(),
                    problem: format!("the vector of its {of} has no direction"),
                });
            }
            told(table.rows() as u64);
            Ok(())
        };
        // Dropped on an error, which ends the reader, too.
        let encoded = receiver.into_iter().try_for_each(&mut encode);
        let read = reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        encoded.and(read)
    })?;
    counts.pairs = table.rows() as u64;
    counts.broken = broken.len() as u64;
    if counts.pairs > 0 {
        let file =
            |folder: &str, ending: &str| out.join(folder).join(format!("{folder}_{name}.{ending}"));
        images.write(&file("img_emb", "npy"))?;
        texts.write(&file("text_emb", "npy"))?;
        table.write(&file("metadata", "parquet"))?;
    }
    Ok((counts, broken))
}

/// Reads the pairs of a part, prepares their pictures on all threads, and hands them on in batches.
fn read<E: Encoder>(
    part: &Part,
    source: &EmbedSource,
    encoder: &E,
    batch: usize,
    limit: u64,
    sender: &SyncSender<Vec<Prepared<E::Picture>>>,
) -> Result<EmbedCounts> {
    let mut counts = EmbedCounts::default();
    let (mut waiting, mut left) = (Vec::new(), limit);
    let prepare = |pairs: Vec<Pair>| -> Vec<Prepared<E::Picture>> {
        let prepared = pairs.into_par_iter().map(|pair| {
            let bytes = pair.picture;
            let made = caught(|| encoder.prepare(&bytes).map_err(|error| error.to_string()));
            let picture = made.unwrap_or_else(|| Err("its decoder broke".into()));
            Prepared {
                key: pair.key.into(),
                caption: pair.caption,
                metadata: pair.metadata,
                picture,
            }
        });
        prepared.collect()
    };
    let mut send = |waiting: &mut Vec<Pair>| {
        let mut prepared = prepare(std::mem::take(waiting));
        // Broken ones do not count.
        let mut whole = 0;
        let end = prepared.iter().position(|pair| {
            whole += u64::from(pair.picture.is_ok());
            whole > left
        });
        prepared.truncate(end.unwrap_or(prepared.len()));
        left -= whole.min(left);
        sender.send(prepared).is_ok() && left > 0
    };
    let mut goes_on = true;
    part.each(source, &mut counts, |pair| {
        waiting.push(pair);
        if waiting.len() == batch.max(1) {
            goes_on = send(&mut waiting);
        }
        goes_on
    })?;
    if goes_on && !waiting.is_empty() {
        send(&mut waiting);
    }
    Ok(counts)
}
