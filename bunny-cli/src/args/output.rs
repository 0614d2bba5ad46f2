//! Where results go, and what may be written over.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bunny_base::write_atomic;
use bunny_core::checkpoint::ModelSource;
use bunny_train::report::CARD;

use crate::files::{OutputFolder, refuse_same_file, require_new_files};

/// Where a model goes that is made of another.
#[derive(Debug, Clone, clap::Args)]
pub struct OutputArgs {
    /// The folder that it goes to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write into a folder that holds other files; what is read is never written over
    #[arg(long)]
    pub force: bool,
}

impl OutputArgs {
    /// Takes the folder, which is done before anything is downloaded.
    ///
    /// # Errors
    /// When it may not be written to.
    pub fn take(&self) -> Result<OutputFolder> {
        OutputFolder::take(&self.out, self.force)
    }

    /// Refuses a folder that the model is read from.
    ///
    /// # Errors
    /// When it is one.
    pub fn refuse_source(&self, source: &ModelSource) -> Result<()> {
        // A file may have the name of one that is written: its folder is as good as read.
        let folders = source.paths().map(|path| match path.parent() {
            Some(here) if path.is_file() && here.as_os_str().is_empty() => Path::new("."),
            Some(folder) if path.is_file() => folder,
            _ => path,
        });
        refuse_same_file([&*self.out], folders)
    }

    /// Writes the model's card, unless it has been, and lists all files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&self, mut written: Vec<PathBuf>, card: Option<&str>) -> Result<()> {
        if let Some(card) = card {
            let file = self.out.join(CARD);
            write_atomic(&file, |file| file.write_all(card.as_bytes()))?;
            written.push(file);
        }
        for path in written {
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// Whether files that are there may be written over.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ForceArgs {
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
}

impl ForceArgs {
    /// Refuses to write `outputs` over any of `inputs`, and over what else is there unless it is said.
    ///
    /// # Errors
    /// When it is refused.
    pub fn allow<O: AsRef<Path>, I: AsRef<Path>>(
        self,
        outputs: &[O],
        inputs: impl IntoIterator<Item = I>,
    ) -> Result<()> {
        refuse_same_file(outputs, inputs)?;
        require_new_files(outputs, self.force)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_file_that_is_read_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        std::fs::write(&file, "").unwrap();
        let output = |out: &Path| OutputArgs {
            out: out.to_path_buf(),
            force: true,
        };
        for source in [
            ModelSource::merged(folder.path()),
            ModelSource::merged(&file),
            ModelSource {
                vision_tower: Some(file),
                ..ModelSource::merged("another")
            },
        ] {
            let refused = output(folder.path()).refuse_source(&source).unwrap_err();
            assert!(refused.to_string().contains("it is read"), "{refused}");
            let apart = folder.path().join("out");
            output(&apart).refuse_source(&source).unwrap();
        }
    }
}
