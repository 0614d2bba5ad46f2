//! The bytes of a question's picture, wherever its benchmark keeps them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::question::{PicturePlace, PictureRef};
use crate::suites::mmbench;
use crate::suites::parquet::{Rows, Walk};

/// The pictures of a benchmark. The last one is kept: neighbours ask about the same.
#[derive(Debug)]
pub struct Pictures<'a> {
    folder: &'a Folder,
    last: Mutex<Option<(PicturePlace, Arc<[u8]>)>>,
    tables: Mutex<HashMap<String, Arc<mmbench::Cells>>>,
    /// The Parquet file that was read last, and how far.
    walk: Mutex<Option<(String, Walk)>>,
    /// Which rows of a Parquet file have a picture.
    there: Mutex<HashMap<(String, &'static str), Vec<bool>>>,
}

impl<'a> Pictures<'a> {
    /// The pictures of the benchmark in `folder`.
    pub fn new(folder: &'a Folder) -> Self {
        Self {
            folder,
            last: Mutex::new(None),
            tables: Mutex::default(),
            walk: Mutex::default(),
            there: Mutex::default(),
        }
    }

    /// Whether a picture is there. Its bytes are read only where they stand in a table.
    ///
    /// # Errors
    /// When the file that holds it cannot be read.
    pub fn has(&self, picture: &PictureRef) -> Result<bool> {
        match &picture.place {
            PicturePlace::File(path) => self.folder.has(path),
            PicturePlace::Table { .. } => Ok(self.read(picture).is_ok()),
            PicturePlace::Parquet { file, row, column } => {
                let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
                let key = (file.clone(), *column);
                if !there.contains_key(&key) {
                    // The picture's name tells whether it is there, without its bytes.
                    let rows = Rows::read(self.folder, file, &[&format!("{column}.path")])?;
                    let each = (0..rows.len()).map(|row| rows.is_there(column, row));
                    there.insert(key.clone(), each.collect());
                }
                Ok(there
                    .get(&key)
                    .and_then(|rows| rows.get(*row))
                    .copied()
                    .unwrap_or(false))
            }
        }
    }

    /// The bytes of a picture, as it is encoded.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn read(&self, picture: &PictureRef) -> Result<Arc<[u8]>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = last.as_ref().filter(|(place, _)| *place == picture.place) {
            return Ok(bytes.clone());
        }
        let bytes: Arc<[u8]> = self.bytes(&picture.place)?.into();
        *last = Some((picture.place.clone(), bytes.clone()));
        Ok(bytes)
    }

    fn bytes(&self, place: &PicturePlace) -> Result<Vec<u8>> {
        match place {
            PicturePlace::File(path) => self
                .folder
                .expect(path, "`eval check` lists what is not there"),
            PicturePlace::Table { file, row } => {
                let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
                let cells = match tables.get(file) {
                    Some(cells) => cells.clone(),
                    None => {
                        let cells = Arc::new(mmbench::Cells::open(self.folder, file)?);
                        tables.insert(file.clone(), cells.clone());
                        cells
                    }
                };
                drop(tables);
                let text = cells.picture(*row)?;
                STANDARD.decode(text.trim()).map_err(|error| {
                    let what = format!("the picture is no base64: {error}");
                    EvalError::content(self.folder.root_of(file), Some(row + 2), what)
                })
            }
            PicturePlace::Parquet { file, row, column } => {
                let mut last = self.walk.lock().unwrap_or_else(PoisonError::into_inner);
                // What failed half way is not gone on with.
                let mut walk = match last.take() {
                    Some((own, walk)) if own == *file && walk.leads_to(column, *row) => walk,
                    _ => Walk::begin(self.folder, file, column, *row)?,
                };
                let found = walk.picture(self.folder, file, *row)?;
                *last = Some((file.clone(), walk));
                found.ok_or_else(|| {
                    let what = format!("{column} holds no picture");
                    EvalError::content(self.folder.root_of(file), Some(row + 1), what)
                })
            }
        }
    }
}

/// A picture as an address that holds it all. What kind it is, its first bytes tell.
pub fn data_url(bytes: &[u8]) -> String {
    let kind = match bytes {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'G', b'I', b'F', ..] => "gif",
        [b'R', b'I', b'F', b'F', ..] => "webp",
        [b'B', b'M', ..] => "bmp",
        _ => "jpeg",
    };
    format!("data:image/{kind};base64,{}", STANDARD.encode(bytes))
}
