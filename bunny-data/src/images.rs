//! Where pictures come from: a folder, a tar, or the shards of a webdataset.

mod check;
mod keyed;
mod tar;
mod thumbnail;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memmap2::{Advice, Mmap};
use rayon::prelude::*;

use crate::error::{DataError, Result};
use crate::record::Embedded;
use bunny_base::random::mix_bytes;

pub(crate) use keyed::{KeyedPictures, is_picture};
pub(crate) use thumbnail::shown;

pub use check::{PictureCheck, PictureFault, dimensions, faults};

/// Where pictures come from; a record's `image` paths are names in it. Beside a folder they may also be
/// absolute, as `os.path.join` takes them for LLaVA. Names of pictures in Parquet files, as records from
/// these have them, and `data:` addresses are read wherever the other pictures are.
#[derive(Debug)]
pub struct ImageSource {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder,
    Shards(Shards),
}

/// Tar files, mapped, and where each of their members stands. A member is found by its own name, by that
/// without the archive's one folder, or by its last part: `00042/000421234.jpg` names `000421234.jpg` in
/// `00042.tar`, or in the one shard that has it.
#[derive(Debug)]
struct Shards {
    files: Vec<(PathBuf, Mmap)>,
    /// In order of `name`.
    members: Vec<Member>,
    /// The one folder all members are in, if there is one: `images` in an archive of `images/`.
    top: Option<String>,
}

/// Thirty-two bytes a picture, whatever its name: a million take 32 MB.
#[derive(Clone, Copy, Debug)]
struct Member {
    name: NameHash,
    shard: u32,
    start: usize,
    len: usize,
}

/// 128 bits of a name: of a billion names no two are expected to share one.
type NameHash = (u64, u64);

pub(crate) fn name_hash(name: &str) -> NameHash {
    (mix_bytes(1, name.as_bytes()), mix_bytes(2, name.as_bytes()))
}

impl ImageSource {
    /// Opens a folder (`images`), a tar file (`images.tar`) or shards of a webdataset
    /// (`shards/{00000..00231}.tar`, `shards/*.tar`, or `shards` where it holds tar files and
    /// nothing but tables beside them). The members of tar files are listed, once, all shards at
    /// the same time; nothing is unpacked.
    ///
    /// # Errors
    /// [`DataError::Io`], and [`DataError::Tar`] for an archive that is broken or cut short.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let shards = match path.is_dir() {
            true => shards_in(path)?,
            false => expand(path)?,
        };
        let kind = match shards.is_empty() {
            true => Kind::Folder,
            false => Kind::Shards(Shards::open(&shards)?),
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
        })
    }

    /// Pictures whose names say by themselves where they are ([`is_whole_name`]), and no others.
    pub fn of_whole_names() -> Self {
        Self {
            path: PathBuf::new(),
            kind: Kind::Folder,
        }
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a picture of this name.
    pub fn contains(&self, name: &str) -> bool {
        if let Some(bytes) = carried(name) {
            return bytes.is_ok_and(|bytes| bytes.is_some());
        }
        match &self.kind {
            Kind::Folder => inside(name).is_some_and(|name| self.path.join(name).is_file()),
            Kind::Shards(shards) => shards.find(name).is_some(),
        }
    }

    /// The bytes of a picture, as they are in its file.
    ///
    /// # Errors
    /// [`DataError::NoPicture`] when there is no file of this name, there can be none, or the name
    /// leads out of the folder by `..`; and [`DataError::Io`].
    pub fn read(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let none = || DataError::NoPicture {
            path: self.path.clone(),
            name: name.to_owned(),
        };
        if let Some(bytes) = carried(name) {
            return bytes?.map(Cow::Owned).ok_or_else(none);
        }
        match &self.kind {
            Kind::Folder => {
                let path = self.path.join(inside(name).ok_or_else(none)?);
                match read_file(&path) {
                    Ok(bytes) => Ok(Cow::Owned(bytes)),
                    Err(error) if names_no_file(&error) => Err(none()),
                    Err(error) => Err(DataError::io(&path, "read")(error)),
                }
            }
            Kind::Shards(shards) => shards.find(name).map(Cow::Borrowed).ok_or_else(none),
        }
    }
}

/// The bytes of a picture whose name says by itself where it is: in a row of a Parquet file
/// ([`Embedded`]), or in the name (`data:image/png;base64,…`). `None` for the name of a file.
fn carried(name: &str) -> Option<Result<Option<Vec<u8>>>> {
    if let Some((file, place)) = Embedded::parse(name) {
        return Some(place.read(file));
    }
    let (kind, text) = name.strip_prefix("data:")?.split_once(',')?;
    let is_base64 = kind.ends_with(";base64");
    Some(Ok(is_base64.then(|| STANDARD.decode(text).ok()).flatten()))
}

/// Whether a name says by itself where its picture is, below no folder: an absolute path, a row of a
/// Parquet file, or a `data:` address.
pub fn is_whole_name(name: &str) -> bool {
    Path::new(name).is_absolute() || name.starts_with("data:") || Embedded::parse(name).is_some()
}

/// The bytes of a file; whatever else has the name, a folder or a pipe, counts as not found.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::metadata(path)?.is_file() {
        true => std::fs::read(path),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Whether there is no file of a name, or can be none: `a.jpg/b.jpg` below a file, a name too long
/// or with a zero byte.
fn names_no_file(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput
    )
}

/// The name as a path that stays inside its folder, or as an absolute one, if it is either.
fn inside(name: &str) -> Option<&Path> {
    let path = Path::new(name);
    let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    (path.is_absolute() || path.components().all(stays)).then_some(path)
}

impl Shards {
    fn open(paths: &[PathBuf]) -> Result<Self> {
        let opened: Vec<(PathBuf, Mmap, Vec<Member>, Top)> = paths
            .par_iter()
            .enumerate()
            .map(|(shard, path)| Self::list(shard as u32, path))
            .collect::<Result<_>>()?;
        let mut shards = Self {
            files: Vec::new(),
            members: Vec::new(),
            top: None,
        };
        let mut top = Top::Unknown;
        for (path, map, members, its_top) in opened {
            shards.files.push((path, map));
            shards.members.extend(members);
            top = top.and(its_top);
        }
        // Stable, so that of a name twice the later one is found, as unpacking would leave it.
        shards.members.par_sort_by_key(|member| member.name);
        if let Top::One(name) = top {
            shards.top = Some(name);
        }
        Ok(shards)
    }

    fn list(shard: u32, path: &Path) -> Result<(PathBuf, Mmap, Vec<Member>, Top)> {
        let map = map_tar(path)?;
        let _ = map.advise(Advice::Random);
        let (mut members, mut top) = (Vec::new(), Top::Unknown);
        tar_members(path, &map, |name, place| {
            members.push(Member {
                name: name_hash(name),
                shard,
                start: place.start,
                len: place.len(),
            });
            top.see(name);
        })?;
        Ok((path.to_owned(), map, members, top))
    }

    fn find(&self, name: &str) -> Option<&[u8]> {
        let name = name.strip_prefix("./").unwrap_or(name);
        let below_top = || self.find_exact(&format!("{}/{name}", self.top.as_ref()?));
        let by_last_part = || self.find_by_last_part(name);
        self.find_exact(name)
            .or_else(below_top)
            .or_else(by_last_part)
    }

    fn find_exact(&self, name: &str) -> Option<&[u8]> {
        self.bytes(self.of_name(name).last()?)
    }

    /// The folder of a name may be a shard's, unpacked.
    fn find_by_last_part(&self, name: &str) -> Option<&[u8]> {
        let (folders, last) = name.rsplit_once('/')?;
        let folder = folders.rsplit('/').next().map(OsStr::new);
        let found = self.of_name(last);
        let is_named = |member: &&Member| self.files[member.shard as usize].0.file_stem() == folder;
        match (found.iter().rfind(is_named), found) {
            (Some(member), _) | (None, [member]) => self.bytes(member),
            // Which of them is meant nobody can say.
            _ => None,
        }
    }

    /// The members of a name, in the order of the shards.
    fn of_name(&self, name: &str) -> &[Member] {
        let name = name_hash(name);
        let start = self.members.partition_point(|member| member.name < name);
        let count = self.members[start..].partition_point(|member| member.name == name);
        &self.members[start..start + count]
    }

    fn bytes(&self, member: &Member) -> Option<&[u8]> {
        let shard = &self.files[member.shard as usize].1;
        shard.get(member.start..member.start + member.len)
    }
}

/// A tar file in memory's place.
pub(crate) fn map_tar(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(DataError::io(path, "open"))?;
    // SAFETY: read-only and bounds-checked; an archive must not be cut short while it is open.
    unsafe { Mmap::map(&file) }.map_err(DataError::io(path, "map"))
}

/// Calls `each` with the name and the place of every file in the bytes of a tar file at `path`.
pub(crate) fn tar_members(
    path: &Path,
    bytes: &[u8],
    each: impl FnMut(&str, Range<usize>),
) -> Result<()> {
    let broken = |offset, what| DataError::Tar {
        path: path.to_owned(),
        offset,
        what,
    };
    if bytes.starts_with(b"\x1F\x8B") || bytes.starts_with(b"\x28\xB5\x2F\xFD") {
        return Err(broken(0, "the archive is compressed; unpack it first"));
    }
    tar::members(bytes, each).map_err(|tar::BrokenTar { offset, what }| broken(offset as u64, what))
}

/// The first folder of the members seen so far.
#[derive(Debug)]
enum Top {
    Unknown,
    One(String),
    Several,
}

impl Top {
    fn see(&mut self, name: &str) {
        match (&*self, name.split_once('/')) {
            (Self::Several, _) => {}
            (Self::Unknown, Some((first, _))) => *self = Self::One(first.to_owned()),
            (Self::One(one), Some((first, _))) if one == first => {}
            _ => *self = Self::Several,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, top) | (top, Self::Unknown) => top,
            (Self::One(one), Self::One(other)) if one == other => Self::One(one),
            _ => Self::Several,
        }
    }
}

/// The tar files of a folder that holds a webdataset as its makers leave it; none of a folder that
/// holds anything but tar files and tables about them.
pub(crate) fn shards_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut shards = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder, "read"))? {
        let path = entry.map_err(DataError::io(folder, "read"))?.path();
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("tar") => shards.push(path),
            Some("csv" | "idx" | "json" | "parquet" | "txt") => {}
            _ if is_remark(&path) => {}
            _ => return Ok(Vec::new()),
        }
    }
    shards.sort_unstable();
    Ok(shards)
}

/// Whether a file is what systems and tools leave beside others: hidden, or as `_SUCCESS`.
fn is_remark(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    path.is_file() && matches!(name.first(), Some(b'.' | b'_'))
}

/// The tar files a path stands for: itself, `{00..12}` counted out, or `*` looked up, in order.
pub(crate) fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let nothing = |what| DataError::Io {
        path: path.to_owned(),
        action: "open",
        source: io::Error::new(io::ErrorKind::NotFound, what),
    };
    let Some(name) = path.file_name() else {
        return Err(nothing("it names no file"));
    };
    // Patterns are text; any other name is that of one file.
    let Some(name) = name.to_str() else {
        return Ok(vec![path.to_owned()]);
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    if let Some((before, rest)) = name.split_once('{')
        && let Some((range, after)) = rest.split_once('}')
    {
        let (first, last) = range
            .split_once("..")
            .and_then(|(first, last)| {
                Some((first, first.parse::<u32>().ok()?, last.parse::<u32>().ok()?))
            })
            .filter(|(_, first, last)| first <= last && last - first < 1_000_000)
            .map(|(digits, first, last)| ((digits.len(), first), last))
            .ok_or_else(|| nothing("expected a range of shards, as in `{00000..00231}.tar`"))?;
        let (width, first) = first;
        return Ok((first..=last)
            .map(|shard| folder.join(format!("{before}{shard:0width$}{after}")))
            .collect());
    }
    if let Some((before, after)) = name.split_once('*') {
        let listed = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let matches = |name: &OsStr| {
            let name = name.as_encoded_bytes();
            name.len() >= before.len() + after.len()
                && name.starts_with(before.as_bytes())
                && name.ends_with(after.as_bytes())
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(listed).map_err(DataError::io(listed, "read"))? {
            let name = entry.map_err(DataError::io(listed, "read"))?.file_name();
            if matches(&name) {
                paths.push(folder.join(name));
            }
        }
        paths.sort_unstable();
        return if paths.is_empty() {
            Err(nothing("no shard matches"))
        } else {
            Ok(paths)
        };
    }
    Ok(vec![path.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn shards_whose_names_are_not_utf8_are_shards_all_the_same() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let names =
            [&b"a\xff.tar"[..], b"b.tar"].map(|name| folder.path().join(OsStr::from_bytes(name)));
        for name in &names {
            std::fs::write(name, [0; 1024]).unwrap();
        }
        assert_eq!(expand(&folder.path().join("*.tar")).unwrap(), names);
        assert_eq!(expand(&names[0]).unwrap(), names[..1]);
    }

    /// A tar file of members that hold their own names.
    fn archive(path: &Path, members: &[&str]) {
        let mut archive = ::tar::Builder::new(File::create(path).unwrap());
        for name in members {
            let mut header = ::tar::Header::new_ustar();
            header.set_size(name.len() as u64);
            archive
                .append_data(&mut header, name, name.as_bytes())
                .unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn members_of_shards_are_found_as_if_unpacked_into_folders() {
        let folder = tempfile::tempdir().unwrap();
        archive(
            &folder.path().join("00000.tar"),
            &["000000001.jpg", "0.jpg"],
        );
        archive(
            &folder.path().join("00001.tar"),
            &["000010001.jpg", "0.jpg"],
        );
        for remark in ["_SUCCESS", ".DS_Store", "00000_stats.json"] {
            std::fs::write(folder.path().join(remark), "").unwrap();
        }
        let images = ImageSource::open(folder.path()).unwrap();
        for name in [
            "000010001.jpg",
            "00001/000010001.jpg",
            "laion/x/000010001.jpg",
        ] {
            assert_eq!(*images.read(name).unwrap(), *b"000010001.jpg", "{name}");
        }
        // Both shards have one: the folder says which, or nobody does.
        let place = |name: &str| images.read(name).unwrap().as_ptr();
        assert_ne!(place("00000/0.jpg"), place("00001/0.jpg"));
        assert!(images.contains("0.jpg") && !images.contains("other/0.jpg"));
    }

    #[test]
    fn a_name_that_is_no_files_is_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("coco")).unwrap();
        std::fs::write(folder.path().join("coco/a.jpg"), "a").unwrap();
        let images = ImageSource::open(folder.path()).unwrap();
        assert_eq!(*images.read("coco/a.jpg").unwrap(), *b"a");
        let long = "a".repeat(5000);
        for name in ["", ".", "coco", "coco/a.jpg/b.jpg", "a\0.jpg", &long] {
            let error = images.read(name).unwrap_err();
            assert!(matches!(error, DataError::NoPicture { .. }), "{error}");
        }
    }
}
