//! A store on S3 or what speaks its language, by `object_store`.
//!
//! Files are brought to a folder of this machine before they are read, whole or as far as their reader
//! needs them, and are put when they are whole. Requests are tried again when the server is slow, cuts
//! a connection or says 503; an answer that was cut goes on where it ended. A file that was put is
//! looked for before it counts as written.

mod claim;

use std::fmt::{Debug, Display};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Location;
use object_store::{
    ClientConfigKey, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::{Claim, EMBEDDINGS, Entry, Fetch, Finish, NewFile, Opened, Store, Version, WORK};
use crate::error::{DataError, OptionFault, Result};

/// Bytes of a request, at most, and of each part of a file that is put in parts.
const PIECE: u64 = 16 << 20;

/// Requests under way at a time.
const AT_ONCE: usize = 8;

/// Files that are read in part are brought in blocks of so many bytes.
const BLOCK: u64 = 1 << 12;

/// Times that a file is put before its absence counts as a failure.
const PUTS: usize = 5;

/// Times that files are listed or removed before a failure counts, and the wait before the second.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// Files below one address, `s3://bucket/path`; the keys of the set or of the work files.
#[derive(Clone)]
pub struct Remote {
    objects: Arc<dyn ObjectStore>,
    runtime: Arc<Runtime>,
    /// What locations begin with.
    root: Location,
    /// The address, for messages.
    address: String,
    /// Where copies are, without names.
    scratch: PathBuf,
    traffic: Arc<Counts>,
}

/// What a store elsewhere was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, without those that were tried again.
    pub requests: u64,
    /// Bytes of files that were brought here.
    pub read: u64,
    /// Bytes of files that were put.
    pub written: u64,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
}

impl Counts {
    fn add(&self, requests: u64, read: u64, written: u64) {
        self.requests.fetch_add(requests, Relaxed);
        self.read.fetch_add(read, Relaxed);
        self.written.fetch_add(written, Relaxed);
    }
}

impl Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// Opens `s3://bucket/path`. Credentials, region and the server's address are those of the
    /// environment, as `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
    /// `AWS_ENDPOINT_URL_S3` and, for a server without TLS, `AWS_ALLOW_HTTP=true`; copies of files
    /// without names lie in `scratch` while they are read.
    ///
    /// # Errors
    /// For an address that is none, and where the environment lacks what the server asks for.
    pub fn open(address: &str, scratch: impl Into<PathBuf>) -> Result<Self> {
        let wrong = |what: String| DataError::option("an address", OptionFault::Address(what));
        let place = address.strip_prefix("s3://").unwrap_or_default();
        let (bucket, path) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(wrong(format!("`{address}` is not s3://bucket/path")));
        }
        // One provider of cryptography for the process; another that is there already will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_retry(RetryConfig::default());
        // As a whole an answer may take long; the environment may say otherwise.
        for (key, usual) in [
            (ClientConfigKey::ConnectTimeout, "10 seconds"),
            (ClientConfigKey::ReadTimeout, "30 seconds"),
            (ClientConfigKey::Timeout, "1 hour"),
        ] {
            let key = AmazonS3ConfigKey::Client(key);
            if std::env::var_os(format!("AWS_{}", key.as_ref().to_uppercase())).is_none() {
                builder = builder.with_config(key, usual);
            }
        }
        let objects = builder
            .build()
            .map_err(|error| wrong(format!("{address}: {error}")))?;
        Self::new(Arc::new(objects), path, address.to_owned(), scratch.into())
    }

    /// A store of objects whose locations begin with `path`.
    fn new(
        objects: Arc<dyn ObjectStore>,
        path: &str,
        address: String,
        scratch: PathBuf,
    ) -> Result<Self> {
        std::fs::create_dir_all(&scratch).map_err(DataError::io(&scratch, "create"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        Ok(Self {
            objects,
            runtime: Arc::new(runtime.map_err(DataError::io(&scratch, "start threads for"))?),
            root: Location::from(path.trim_matches('/')),
            address: address.trim_end_matches('/').to_owned(),
            scratch,
            traffic: Arc::default(),
        })
    }

    /// What was asked of it so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.traffic.requests.load(Relaxed),
            read: self.traffic.read.load(Relaxed),
            written: self.traffic.written.load(Relaxed),
        }
    }

    /// What a key is called below the address.
    fn below(key: &str) -> Result<&str> {
        let (first, rest) = key.split_once('/').unwrap_or((key, ""));
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        match first == EMBEDDINGS || first == WORK {
            true if rest.is_empty() || rest.split('/').all(is_plain) => Ok(rest),
            _ => Err(DataError::Key(key.to_owned())),
        }
    }

    fn locate(&self, key: &str) -> Result<Location> {
        let below = Self::below(key)?.split('/').filter(|part| !part.is_empty());
        Ok(below.fold(self.root.clone(), |location, part| location.join(part)))
    }

    /// Runs requests for a file, whose failure names it.
    fn wait<T>(
        &self,
        key: &str,
        action: &'static str,
        requests: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let path = self.path(key);
        self.runtime
            .block_on(requests)
            .map_err(|error| failed(path, action, error))
    }

    /// The same for what lists or removes, and may be done twice: where its answer is cut, `object_store`
    /// does not ask again.
    fn wait_again<T, R>(
        &self,
        key: &str,
        action: &'static str,
        mut requests: impl FnMut() -> R,
    ) -> Result<T>
    where
        R: Future<Output = object_store::Result<T>>,
    {
        self.wait(key, action, async {
            let mut tries = 1;
            loop {
                match requests().await {
                    Err(object_store::Error::Generic { .. }) if tries < TRIES => {
                        tokio::time::sleep(PAUSE * tries).await;
                        tries += 1;
                    }
                    done => return done,
                }
            }
        })
    }

    fn head(&self, key: &str) -> Result<ObjectMeta> {
        let location = self.locate(key)?;
        self.traffic.add(1, 0, 0);
        self.wait(key, "open", self.objects.head(&location))
    }

    /// A nameless file of this machine.
    fn draft(&self) -> Result<File> {
        tempfile::tempfile_in(&self.scratch).map_err(DataError::io(&self.scratch, "create"))
    }

    /// A copy of a file, of which nothing is there yet.
    fn copy(&self, key: &str) -> Result<(File, Missing)> {
        let meta = self.head(key)?;
        let copy = self.draft()?;
        copy.set_len(meta.size)
            .map_err(DataError::io(&self.scratch, "write"))?;
        let missing = Missing {
            remote: self.clone(),
            key: key.to_owned(),
            there: Mutex::new(vec![false; meta.size.div_ceil(BLOCK) as usize]),
            meta,
        };
        Ok((copy, missing))
    }
}

/// An error of the store as one of a file: what may pass is told from what will not.
fn failed(path: PathBuf, action: &'static str, error: object_store::Error) -> DataError {
    use object_store::Error;
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        Error::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    DataError::io(path, action)(match kind {
        io::ErrorKind::NotFound => kind.into(),
        _ => io::Error::new(kind, one_line(&error)),
    })
}

fn one_line(error: &dyn Display) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// What of a copy is not there yet.
struct Missing {
    remote: Remote,
    key: String,
    meta: ObjectMeta,
    /// Of each block.
    there: Mutex<Vec<bool>>,
}

impl Debug for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Missing")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Fetch for Missing {
    fn fetch(&self, copy: &File, bytes: Range<u64>) -> Result<()> {
        let mut there = self
            .there
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let end = bytes.end.min(self.meta.size);
        let (mut block, last) = (bytes.start / BLOCK, end.div_ceil(BLOCK));
        let mut ranges = Vec::new();
        while block < last {
            let start = block;
            let most = last.min(start + PIECE / BLOCK);
            while block < most && !there[block as usize] {
                block += 1;
            }
            match block > start {
                true => ranges.push(start * BLOCK..self.meta.size.min(block * BLOCK)),
                false => block += 1,
            }
        }
        self.bring(copy, &ranges)?;
        for range in ranges {
            there[(range.start / BLOCK) as usize..range.end.div_ceil(BLOCK) as usize].fill(true);
        }
        Ok(())
    }
}

impl Missing {
    /// Writes ranges of the file into its copy, several at a time.
    fn bring(&self, copy: &File, ranges: &[Range<u64>]) -> Result<()> {
        let mut ranges = ranges.iter();
        let remote = &self.remote;
        remote.wait(&self.key, "read", async {
            let mut under_way = JoinSet::new();
            loop {
                while under_way.len() < AT_ONCE
                    && let Some(range) = ranges.next()
                {
                    remote.traffic.add(1, range.end - range.start, 0);
                    under_way.spawn(piece(
                        remote.objects.clone(),
                        self.meta.clone(),
                        range.clone(),
                    ));
                }
                let Some(done) = under_way.join_next().await else {
                    return Ok(());
                };
                let (start, bytes) = done??;
                write_at(copy, start, &bytes)?;
            }
        })
    }
}

/// The bytes of a range of this very version of an object.
async fn piece(
    objects: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
    range: Range<u64>,
) -> object_store::Result<(u64, Bytes)> {
    let options = GetOptions {
        range: Some(GetRange::Bounded(range.clone())),
        if_match: meta.e_tag.clone(),
        ..GetOptions::default()
    };
    let bytes = objects
        .get_opts(&meta.location, options)
        .await?
        .bytes()
        .await?;
    match bytes.len() as u64 == range.end - range.start {
        true => Ok((range.start, bytes)),
        false => Err(generic("the answer is not as long as what was asked for")),
    }
}

fn generic(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: error.into(),
    }
}

fn write_at(file: &File, start: u64, bytes: &[u8]) -> object_store::Result<()> {
    #[cfg(unix)]
    let written = std::os::unix::fs::FileExt::write_all_at(file, bytes, start);
    #[cfg(not(unix))]
    let written = {
        use std::io::{Seek, SeekFrom};
        (&*file)
            .seek(SeekFrom::Start(start))
            .and_then(|_| (&*file).write_all(bytes))
    };
    written.map_err(generic)
}

/// A file in the making: here until it is whole.
struct Draft {
    remote: Remote,
    key: String,
    file: io::BufWriter<File>,
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Finish for Draft {
    fn finish(self: Box<Self>) -> Result<()> {
        let Self { remote, key, file } = *self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.map_err(DataError::io(&remote.scratch, "write"))?;
        let length = file
            .metadata()
            .map_err(DataError::io(&remote.scratch, "read"))?
            .len();
        let location = remote.locate(&key)?;
        // A server may say that it has what it lost.
        for _ in 0..PUTS {
            let parts = if length <= PIECE {
                1
            } else {
                length.div_ceil(PIECE) + 2
            };
            remote.traffic.add(parts, 0, length);
            remote.wait(
                &key,
                "write",
                put(remote.objects.clone(), &location, &file, length),
            )?;
            match remote.head(&key) {
                Ok(meta) if meta.size == length => return Ok(()),
                Err(error) if !is_gone(&error) => return Err(error),
                _ => tracing::warn!("{}: was put and is not there", remote.path(&key).display()),
            }
        }
        let lost = io::Error::other("the server has lost it each time it was put");
        Err(DataError::io(remote.path(&key), "write")(lost))
    }
}

fn is_gone(error: &DataError) -> bool {
    matches!(error, DataError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Puts a file, a large one in parts.
async fn put(
    objects: Arc<dyn ObjectStore>,
    location: &Location,
    file: &File,
    length: u64,
) -> object_store::Result<()> {
    if length <= PIECE {
        objects
            .put(location, read_at(file, 0..length)?.into())
            .await?;
        return Ok(());
    }
    let mut upload = objects.put_multipart(location).await?;
    let mut starts = (0..length).step_by(PIECE as usize);
    let sent = async {
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(start) = starts.next()
            {
                let part = read_at(file, start..length.min(start + PIECE))?;
                under_way.spawn(upload.put_part(part.into()));
            }
            match under_way.join_next().await {
                Some(done) => done??,
                None => return upload.complete().await,
            }
        }
    };
    match sent.await {
        Ok(_) => Ok(()),
        Err(error) => {
            // What was sent of it is nothing without the rest.
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

fn read_at(file: &File, range: Range<u64>) -> object_store::Result<Bytes> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    #[cfg(unix)]
    let read = std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, range.start);
    #[cfg(not(unix))]
    let read = {
        use std::io::{Read, Seek, SeekFrom};
        (&*file)
            .seek(SeekFrom::Start(range.start))
            .and_then(|_| (&*file).read_exact(&mut bytes))
    };
    read.map_err(generic)?;
    Ok(bytes.into())
}

impl Store for Remote {
    fn path(&self, key: &str) -> PathBuf {
        match Self::below(key) {
            Ok("") => PathBuf::from(&self.address),
            Ok(below) => PathBuf::from(format!("{}/{below}", self.address)),
            Err(_) => key.into(),
        }
    }

    fn open(&self, key: &str) -> Result<Opened> {
        let (copy, missing) = self.copy(key)?;
        missing.fetch(&copy, 0..u64::MAX)?;
        Ok(Opened::new(copy, self.path(key)))
    }

    fn open_partly(&self, key: &str) -> Result<Opened> {
        let (copy, missing) = self.copy(key)?;
        Ok(Opened::partly(copy, self.path(key), Box::new(missing)))
    }

    fn exists(&self, key: &str) -> Result<bool> {
        match self.head(key) {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn entries(&self, folder: &str) -> Result<Vec<Entry>> {
        let location = self.locate(folder)?;
        let listed = self.wait_again(folder, "list", || {
            self.traffic.add(1, 0, 0);
            self.objects.list_with_delimiter(Some(&location))
        })?;
        let name = |location: &Location| location.filename().unwrap_or_default().to_owned().into();
        let folders = listed.common_prefixes.iter().map(|folder| Entry {
            name: name(folder),
            is_folder: true,
            is_file: false,
            bytes: 0,
            version: Version::Time(0),
        });
        let files = listed.objects.iter().map(|object| Entry {
            name: name(&object.location),
            is_folder: false,
            is_file: true,
            bytes: object.size,
            version: match &object.e_tag {
                Some(tag) => Version::Word(tag.clone()),
                None => {
                    let time = object.last_modified.timestamp_nanos_opt().unwrap_or(0);
                    Version::Time(time.max(0) as u128)
                }
            },
        });
        Ok(folders.chain(files).collect())
    }

    fn create(&self, key: &str) -> Result<NewFile> {
        self.locate(key)?;
        let draft = Draft {
            remote: self.clone(),
            key: key.to_owned(),
            file: io::BufWriter::with_capacity(1 << 20, self.draft()?),
        };
        Ok(NewFile::new(self.path(key), Box::new(draft)))
    }

    fn make_folder(&self, folder: &str) -> Result<()> {
        self.locate(folder).map(drop)
    }

    fn remove(&self, key: &str) -> Result<()> {
        let location = self.locate(key)?;
        self.wait_again(key, "remove", async || {
            use futures_util::StreamExt;
            self.traffic.add(2, 0, 0);
            let below = self.objects.list(Some(&location));
            let below = below
                .map(|found| found.map(|object| object.location))
                .boxed();
            let mut removed = self.objects.delete_stream(below);
            while let Some(done) = removed.next().await {
                gone_is_well(done.map(drop))?;
            }
            gone_is_well(self.objects.delete(&location).await)
        })
    }

    fn sweep(&self, _folder: &str) -> Result<()> {
        // Drafts have no names here, and parts of a file that was not completed are the bucket's rules'.
        Ok(())
    }

    fn claim(&self) -> Result<Option<Claim>> {
        claim::held(self)
    }

    fn free(&self) -> Option<u64> {
        None
    }

    fn scratch(&self) -> &Path {
        &self.scratch
    }
}

fn gone_is_well(removed: object_store::Result<()>) -> object_store::Result<()> {
    match removed {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use object_store::memory::InMemory;

    use super::*;
    use crate::store::{self, WorkFile};

    pub(super) fn remote(scratch: &Path) -> Remote {
        let objects = Arc::new(InMemory::new());
        Remote::new(
            objects,
            "/a/b/",
            "s3://bucket/a/b/".to_owned(),
            scratch.to_owned(),
        )
        .unwrap()
    }

    #[test]
    fn files_are_put_whole_and_read_whole_or_in_part() {
        let dir = tempfile::tempdir().unwrap();
        let store = remote(dir.path());
        // More than one piece, and not a whole number of them.
        let bytes: Vec<u8> = (0..2 * PIECE + 12_345)
            .map(|i| ((i * i) >> 7) as u8)
            .collect();
        let key = "work/x/y.bin";
        assert!(!store.exists(key).unwrap());
        assert!(matches!(store.open(key), Err(error) if error.may_pass()));
        store::fill(&store, key, |file| {
            file.put(&bytes)?;
            assert!(!store.exists(key)?);
            Ok(())
        })
        .unwrap();
        assert_eq!(store.path(key), Path::new("s3://bucket/a/b/x/y.bin"));
        assert_eq!(WorkFile::whole(&store, key).unwrap().payload(), bytes);

        let partly = store.open_partly(key).unwrap();
        let at = 3 * BLOCK as usize + 17;
        partly.need(at as u64..at as u64 + 100).unwrap();
        let mut all = Vec::new();
        (&partly.file).read_to_end(&mut all).unwrap();
        let brought = 3 * BLOCK as usize..4 * BLOCK as usize;
        assert_eq!(all[brought.clone()], bytes[brought.clone()]);
        assert!(
            all[..brought.start]
                .iter()
                .chain(&all[brought.end..])
                .all(|byte| *byte == 0)
        );
        partly.need(0..u64::MAX).unwrap();
        let file = WorkFile::open(&store, key).unwrap();
        file.check(at..at + 1).unwrap();
        assert_eq!(file.payload()[at], bytes[at]);
        // Copies have no names.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn folders_are_what_names_begin_with() {
        let dir = tempfile::tempdir().unwrap();
        let store = remote(dir.path());
        for key in ["work/a/1", "work/a/2", "work/ab/3", "work/c"] {
            store::fill(&store, key, |file| file.put(key.as_bytes())).unwrap();
        }
        let names = |folder: &str| {
            let entries = store.entries(folder).unwrap();
            let name = |entry: Entry| (entry.name.into_string().unwrap(), entry.is_folder);
            let mut names: Vec<_> = entries.into_iter().map(name).collect();
            names.sort();
            names
        };
        let named = |names: &[(&str, bool)]| -> Vec<(String, bool)> {
            names
                .iter()
                .map(|(name, is_folder)| ((*name).to_owned(), *is_folder))
                .collect()
        };
        assert_eq!(
            names(WORK),
            named(&[("a", true), ("ab", true), ("c", false)])
        );
        assert_eq!(names("work/a"), named(&[("1", false), ("2", false)]));
        let before = store.entries("work/a").unwrap()[0].version.clone();
        store::fill(&store, "work/a/1", |file| file.put(b"another")).unwrap();
        assert!(
            store
                .entries("work/a")
                .unwrap()
                .iter()
                .all(|entry| entry.version != before)
        );
        store.remove("work/a").unwrap();
        store.remove("work/a").unwrap();
        assert_eq!(names(WORK), named(&[("ab", true), ("c", false)]));
        for key in ["set/x", "work/../x", "work//x", "work/a/./b"] {
            assert!(matches!(store.open(key), Err(DataError::Key(_))), "{key}");
        }
    }
}
