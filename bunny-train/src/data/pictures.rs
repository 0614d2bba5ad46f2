//! Pictures by the names that records give them.

use std::path::{Path, PathBuf};

use bunny_core::input::image::{DecodeOptions, ImageProcessor, Pixels, decode};
use bunny_data::images::ImageSource;

use super::{LeftOut, left_out::Tally};
use crate::{
    error::{PictureProblem, TrainError},
    recipe::PicturePolicy,
};

/// The pictures of a dataset: from their files to pixels.
#[derive(Debug)]
pub struct Pictures {
    /// Where they are; `None` where no record may have one.
    images: Option<ImageSource>,
    /// What is made of them.
    processor: ImageProcessor,
    /// What becomes of records without theirs.
    policy: PicturePolicy,
    /// Records that nothing was learnt from.
    pub(super) tally: Tally,
}

impl Pictures {
    /// The pictures of a folder or archive, as `processor` makes pixels of them.
    ///
    /// # Errors
    /// When the folder or archive cannot be opened.
    pub fn open(
        folder: Option<&PathBuf>,
        processor: ImageProcessor,
        policy: PicturePolicy,
    ) -> Result<Self, TrainError> {
        Ok(Self {
            images: folder.map(ImageSource::open).transpose()?,
            processor,
            policy,
            tally: Tally::default(),
        })
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        let images = self.images.as_ref();
        images.is_some_and(|images| images.contains(name))
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
        let images = self.images.as_ref().ok_or(PictureProblem::NoFolder)?;
        let picture = decode(&images.read(name)?, DecodeOptions::default())?;
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
