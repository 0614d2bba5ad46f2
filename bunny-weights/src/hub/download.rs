//! One file from a hub into the cache, going on where an earlier attempt was cut.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::HubError;
use super::client::{Client, Failure, Reach, Remote, passing, text};
use super::error::io_error;

/// Bytes that are moved at a time.
const CHUNK: usize = 1 << 20;

/// Downloads a file to `blob`, which appears whole or not at all. The part that has arrived stays
/// beside it, under the name that Python's cache gives it, for the next attempt.
pub(super) fn download(
    client: &Client,
    url: &str,
    reach: Reach<'_>,
    remote: &Remote,
    blob: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), HubError> {
    let mut part = Part::open(blob)?;
    let mut fresh = part.length == 0;
    loop {
        client.patiently(|| part.extend(client, url, reach, remote, progress))?;
        match part.check(reach, remote) {
            Ok(()) => return part.publish(blob),
            // What an earlier attempt left may have been damaged: once more from the start.
            Err(error) => {
                part.clear()?;
                if fresh {
                    return Err(error);
                }
                fresh = true;
            }
        }
    }
}

/// Where the part of `blob` is that has arrived.
fn part_of(blob: &Path) -> PathBuf {
    let mut path = blob.as_os_str().to_owned();
    path.push(".incomplete");
    path.into()
}

/// Bytes of `blob` that an earlier attempt has left.
pub(super) fn arrived(blob: &Path) -> u64 {
    fs::metadata(part_of(blob)).map_or(0, |about| about.len())
}

/// What has arrived of a file.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Part {
    fn open(blob: &Path) -> Result<Self, HubError> {
        let path = part_of(blob);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error(folder))?;
        }
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error(&path))?;
        let length = file.seek(SeekFrom::End(0)).map_err(io_error(&path))?;
        Ok(Self { path, file, length })
    }

    fn clear(&mut self) -> Result<(), HubError> {
        let clear = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()
        };
        clear(&mut self.file).map_err(io_error(&self.path))?;
        self.length = 0;
        Ok(())
    }

    /// Asks for what is missing and appends it.
    fn extend(
        &mut self,
        client: &Client,
        url: &str,
        reach: Reach<'_>,
        remote: &Remote,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Failure> {
        let size = remote.size;
        if self.length > size {
            self.clear()?;
        }
        progress(self.length, size);
        if self.length == size {
            return Ok(());
        }
        let answer = client.get(url, reach, self.length)?;
        // Not every server can go on in the middle: one starts anew, another refuses.
        let goes_on = text(answer.headers(), "content-range")
            .is_some_and(|range| range.starts_with(&format!("bytes {}-", self.length)));
        if self.length > 0 && !(answer.status().as_u16() == 206 && goes_on) {
            let starts_anew = answer.status().as_u16() == 200;
            self.clear()?;
            if !starts_anew {
                let reason = "refuses to go on with a download".to_string();
                let error = HubError::Answer {
                    url: url.to_string(),
                    reason,
                };
                return Err(Failure::Passing {
                    error,
                    wait: None,
                    progress: false,
                });
            }
        }
        let before = self.length;
        // One byte too many is enough to see that the file is another.
        let mut body = answer.into_body().into_reader().take(size - before + 1);
        let mut chunk = vec![0; CHUNK];
        loop {
            match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    self.file
                        .write_all(&chunk[..count])
                        .map_err(io_error(&self.path))?;
                    self.length += count as u64;
                    progress(self.length.min(size), size);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.cut(url, &error, before)),
            }
        }
        if self.length < size {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was cut");
            return Err(self.cut(url, &error, before));
        }
        Ok(())
    }

    fn cut(&self, url: &str, error: &io::Error, before: u64) -> Failure {
        match passing(url, error) {
            Failure::Passing { error, wait, .. } => Failure::Passing {
                error,
                wait,
                progress: self.length > before,
            },
            lasting => lasting,
        }
    }

    /// Compares size and hash with what the hub announced.
    fn check(&mut self, reach: Reach<'_>, remote: &Remote) -> Result<(), HubError> {
        let (model, file) = (
            reach.model.clone(),
            reach.file.unwrap_or_default().to_string(),
        );
        if self.length != remote.size {
            let (expected, found) = (remote.size, self.length);
            return Err(HubError::WrongSize {
                model,
                file,
                expected,
                found,
            });
        }
        let Some(expected) = &remote.sha256 else {
            return Ok(());
        };
        if self.sha256().map_err(io_error(&self.path))? != *expected {
            return Err(HubError::WrongHash {
                model,
                file,
                expected: expected.clone(),
            });
        }
        Ok(())
    }

    fn sha256(&mut self) -> io::Result<String> {
        let mut hash = Sha256::new();
        self.file.rewind()?;
        io::copy(&mut self.file, &mut hash)?;
        Ok(hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }

    fn publish(self, blob: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(io_error(&self.path))?;
        drop(self.file);
        fs::rename(&self.path, blob).map_err(io_error(blob))
    }
}
