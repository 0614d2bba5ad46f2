//! Pictures by the names that records give them.

use std::path::{Path, PathBuf};

use bunny_core::input::image::{DecodeOptions, ImageProcessor, Pixels, decode};
use bunny_data::images::{ImageSource, is_whole_name};

use super::{LeftOut, left_out::Tally};
use crate::{
    error::{PictureProblem, TrainError},
    recipe::PicturePolicy,
};

/// The pictures of a dataset: from their files to pixels.
#[derive(Debug)]
pub struct Pictures {
    /// Where they are.
    images: ImageSource,
    /// Whether that is a folder or an archive: names that lead below one have no place otherwise.
    has_folder: bool,
    /// What is made of them.
    processor: ImageProcessor,
    /// What becomes of records without theirs.
    policy: PicturePolicy,
    /// Records that nothing was learnt from.
    pub(super) tally: Tally,
}

impl Pictures {
    /// The pictures of a folder or archive, or of names that need none, as `processor` makes pixels of
    /// them.
    ///
    /// # Errors
    /// When the folder or archive cannot be opened.
    pub fn open(
        folder: Option<&PathBuf>,
        processor: ImageProcessor,
        policy: PicturePolicy,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            images: match folder {
                Some(folder) => ImageSource::open(folder)?,
                None => ImageSource::of_whole_names(),
            },
            has_folder: folder.is_some(),
            processor,
            policy,
            tally: Tally::default(),
        })
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.has_place(name) && self.images.contains(name)
    }

    fn has_place(&self, name: &str) -> bool {
        self.has_folder || is_whole_name(name)
    }

    /// Whether records may be left out for their pictures.
    pub fn may_be_missing(&self) -> bool {
        self.policy == PicturePolicy::Skip
    }

    /// The pixels of picture `name`, which record `id` of `file` has.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn pixels(&self, name: &str, id: &str, file: &Path) -> Result<Pixels, TrainError> {
        self.read(name).map_err(|problem| TrainError::Picture {
            file: file.to_path_buf(),
            id: id.to_owned(),
            name: name.to_owned(),
            problem,
        })
    }

    fn read(&self, name: &str) -> Result<Pixels, PictureProblem> {
        if !self.has_place(name) {
            return Err(PictureProblem::NoFolder);
        }
        let picture = decode(&self.images.read(name)?, DecodeOptions::default())?;
        Ok(self.processor.process(&picture))
    }

    /// What was `made` of record `index` and its pictures; `None` where they cannot be had and the
    /// record may be left out, which is counted.
    pub(super) fn unless_missing<T>(
        &self,
        index: usize,
        made: Result<T, TrainError>,
    ) -> Result<Option<T>, TrainError> {
        match made {
            Err(error) if self.may_be_missing() => {
                self.tally.without_picture(index, &error);
                Ok(None)
            }
            made => made.map(Some),
        }
    }

    /// The records that nothing was learnt from so far.
    pub fn left_out(&self) -> LeftOut {
        self.tally.so_far()
    }
}
