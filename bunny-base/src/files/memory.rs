//! Files in memory, known by their paths to the whole program.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

static FILES: Mutex<BTreeMap<PathBuf, Arc<Vec<u8>>>> = Mutex::new(BTreeMap::new());

fn files() -> MutexGuard<'static, BTreeMap<PathBuf, Arc<Vec<u8>>>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a file at `path`, in place of what was there.
pub fn put(path: impl Into<PathBuf>, bytes: Vec<u8>) {
    files().insert(path.into(), Arc::new(bytes));
}

/// Takes all files away. Whoever [`shared`] one keeps it.
pub fn clear() {
    files().clear();
}

/// The bytes of the file at `path`, without a copy.
///
/// # Errors
/// When there is none.
pub fn shared(path: impl AsRef<Path>) -> io::Result<Arc<Vec<u8>>> {
    let found = files().get(path.as_ref()).cloned();
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such file in memory"))
}

/// As [`std::fs::read`].
///
/// # Errors
/// When there is no such file.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    Ok(shared(path)?.to_vec())
}

/// As [`std::fs::read_to_string`].
///
/// # Errors
/// When there is no such file, or it is no UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = read(path)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Whether there is a file at `path`, or one in a folder there.
pub fn exists(path: impl AsRef<Path>) -> bool {
    is_file(&path) || is_dir(&path)
}

/// Whether there is a file at `path`.
pub fn is_file(path: impl AsRef<Path>) -> bool {
    files().contains_key(path.as_ref())
}

/// Whether there is a file in a folder at `path`.
pub fn is_dir(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let is_inside = |file: &PathBuf| file != path && file.starts_with(path);
    files().keys().any(is_inside)
}

/// What lies in a folder, each file and folder once.
///
/// # Errors
/// When there is no such folder.
pub fn entries(folder: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let mut found = Vec::new();
    for file in files().keys() {
        let name = file.strip_prefix(folder).ok();
        let name = name.and_then(|inside| inside.components().next());
        found.extend(name.map(|name| folder.join(name)));
    }
    found.dedup();
    match found.is_empty() {
        true => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "there is no such folder in memory",
        )),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_memory_are_found_as_those_of_a_disk() {
        put("a-model/config.json", b"{}".to_vec());
        put("a-model/tower/config.json", vec![0xFF]);
        put("a-model/tower/weights.pt", Vec::new());
        assert!(is_file("a-model/config.json") && !is_dir("a-model/config.json"));
        assert!(is_dir("a-model") && is_dir("a-model/") && exists("a-model/tower"));
        assert!(!exists("a-mod") && !exists("a-model/tow"));
        assert_eq!(read_to_string("a-model/config.json").unwrap(), "{}");
        let is_no_text = read_to_string("a-model/tower/config.json").unwrap_err();
        assert_eq!(is_no_text.kind(), io::ErrorKind::InvalidData);
        let names: Vec<PathBuf> = entries("a-model").unwrap();
        assert_eq!(
            names,
            ["a-model/config.json", "a-model/tower"].map(PathBuf::from)
        );
        assert_eq!(
            entries("nowhere").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );

        let kept = shared("a-model/config.json").unwrap();
        clear();
        assert!(!exists("a-model") && read("a-model/config.json").is_err());
        assert_eq!(*kept, b"{}");
    }
}
