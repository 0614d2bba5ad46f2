//! Tensors in files, by name: safetensors or pickled, in one file or in shards.
//!
//! Opening reads the headers and checks them against the files; nothing else is read until a
//! tensor's bytes are touched. A tensor's bytes are the mapped file itself, except for pickled
//! tensors that are not contiguous, which are gathered when asked for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bunny_base::files;
use bytes::Bytes;

use crate::error::{CheckpointError, IndexError, one_line};
use crate::{StoredDtype, StoredTensor, index, pickle, safetensors};
pub(crate) use map::Map;

mod map;

/// A tensor that has been found and checked, but not read.
#[derive(Debug)]
struct Entry {
    dtype: StoredDtype,
    shape: Vec<usize>,
    data: Data,
    file: Arc<Path>,
}

/// Where a tensor's numbers are.
#[derive(Debug)]
enum Data {
    /// As they should be.
    Contiguous(Bytes),
    /// Spread over a storage.
    Strided(pickle::View),
}

/// How Git LFS begins the file that it leaves in place of a large one.
pub(crate) const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The two formats.
enum Kind {
    Safetensors,
    Pickle,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, CheckpointError> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("bin" | "pt" | "pth") => Ok(Self::Pickle),
            _ => Err(CheckpointError::UnknownEnding {
                path: path.to_path_buf(),
            }),
        }
    }
}

/// The tensors of a folder, of a file, or of several.
#[derive(Debug, Default)]
pub struct TensorFiles {
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    skipped: Vec<String>,
    unlisted: Vec<String>,
    maps: Vec<Map>,
}

impl TensorFiles {
    /// Opens the weights of a model's folder: the first present of `model.safetensors`,
    /// `model.safetensors.index.json`, `pytorch_model.bin` and `pytorch_model.bin.index.json`,
    /// which is the order of `transformers`.
    ///
    /// # Errors
    ///
    /// No weights in the folder, a shard missing or without a tensor the index promises, or any
    /// error of [`open_file`](Self::open_file).
    pub fn open_folder(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref();
        for stem in ["model.safetensors", "pytorch_model.bin"] {
            let single = folder.join(stem);
            if files::exists(&single) {
                return Self::open_file(single);
            }
            let index = folder.join(format!("{stem}.index.json"));
            if files::exists(&index) {
                return Self::open_index(&index);
            }
        }
        let hint = if files::exists(folder.join("adapter_config.json")) {
            "; this is an adapter, which needs its base model"
        } else if folder.extension().is_some_and(|ending| ending == "gguf") {
            "; this is a file in GGUF, of which `bunny-cli merge` makes a folder"
        } else if !files::is_dir(folder) {
            "; there is no such folder"
        } else {
            ""
        };
        Err(CheckpointError::NoWeights {
            folder: folder.to_path_buf(),
            hint,
        })
    }

    /// Opens one file: `.safetensors`, or `.bin`, `.pt`, `.pth` as `torch.save` writes them.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is not whole, or holds anything but tensors.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        Kind::of(path)?;
        let map = Map::open(path)?;
        let mut files = Self::from_bytes(path, map.bytes())?;
        files.maps.push(map);
        Ok(files)
    }

    /// As [`open_file`](Self::open_file), for a file that is in memory already; `path` tells what
    /// kind of file it is, and names it in errors.
    ///
    /// # Errors
    ///
    /// As [`open_file`](Self::open_file).
    pub fn from_bytes(path: impl AsRef<Path>, bytes: Bytes) -> Result<Self, CheckpointError> {
        let file: Arc<Path> = path.as_ref().into();
        let mut files = Self::default();
        if bytes.starts_with(LFS_POINTER) {
            let path = path.as_ref().to_path_buf();
            return Err(CheckpointError::LfsPointer { path });
        }
        match Kind::of(&file)? {
            Kind::Safetensors => files.add_safetensors(&file, bytes)?,
            Kind::Pickle => files.add_pickle(&file, bytes)?,
        }
        Ok(files)
    }

    /// Tensors that are in memory, as if a file held them.
    ///
    /// # Errors
    ///
    /// Two tensors of one name.
    pub fn from_tensors(
        tensors: impl IntoIterator<Item = StoredTensor>,
    ) -> Result<Self, CheckpointError> {
        let mut files = Self::default();
        for tensor in tensors {
            let entry = Entry {
                dtype: tensor.dtype,
                shape: tensor.shape,
                data: Data::Contiguous(tensor.bytes),
                file: tensor.file,
            };
            files.add(tensor.name, entry)?;
        }
        Ok(files)
    }

    /// The same, as parts of a file that is mapped.
    pub(crate) fn of_map(mut self, map: Option<Map>) -> Self {
        self.maps.extend(map);
        self
    }

    /// Opens several files as one; no two may hold a tensor of the same name.
    ///
    /// # Errors
    ///
    /// A name in two files, or any error of [`open_file`](Self::open_file).
    pub fn open_files<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Self, CheckpointError> {
        let mut all = Self::default();
        for path in paths {
            let mut one = Self::open_file(path)?;
            for (name, entry) in std::mem::take(&mut one.tensors) {
                all.add(name, entry)?;
            }
            all.add_remarks(one);
        }
        Ok(all)
    }

    /// Opens the shards that an index lists. A tensor is taken from the shard that the index
    /// names, as the reference does; what shards hold beyond that is in
    /// [`unlisted`](Self::unlisted).
    fn open_index(path: &Path) -> Result<Self, CheckpointError> {
        let fault = |fault| CheckpointError::Index {
            path: path.to_path_buf(),
            fault,
        };
        let shards = index::parse(Map::open(path)?.as_ref()).map_err(fault)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut all = Self::default();
        for (shard, names) in shards {
            let shard_path = folder.join(&shard);
            if !files::exists(&shard_path) {
                let shard = one_line(&shard);
                return Err(fault(IndexError::MissingShard { shard }));
            }
            let mut one = Self::open_file(&shard_path)?;
            let mut missing = Vec::new();
            for name in names {
                match one.tensors.remove(&name) {
                    Some(entry) => all.add(name, entry)?,
                    None => missing.push(name),
                }
            }
            if let Some(first) = missing.first() {
                let (shard, tensor) = (one_line(&shard), one_line(first));
                let more = missing.len() - 1;
                return Err(fault(IndexError::MissingTensor {
                    shard,
                    tensor,
                    more,
                }));
            }
            all.unlisted
                .extend(std::mem::take(&mut one.tensors).into_keys());
            all.add_remarks(one);
        }
        Ok(all)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The number type of a tensor.
    pub fn dtype(&self, name: &str) -> Option<StoredDtype> {
        self.tensors.get(name).map(|entry| entry.dtype)
    }

    /// The file that a tensor is from.
    pub fn file(&self, name: &str) -> Option<&Path> {
        self.tensors.get(name).map(|entry| &*entry.file)
    }

    /// A tensor. Everything that can be wrong with it was found when its file was opened.
    pub fn get(&self, name: &str) -> Option<StoredTensor> {
        self.tensors.get(name).map(|entry| StoredTensor {
            name: name.to_string(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: match &entry.data {
                Data::Contiguous(bytes) => bytes.clone(),
                Data::Strided(view) => view.gather(),
            },
            file: entry.file.clone(),
        })
    }

    /// Remarks in the headers of safetensors files; the first file's where several say something.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Entries of pickled files beside the wrapper key under which the tensors were found, such
    /// as `epoch` beside `state_dict`.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Tensors that shards hold and their index does not list. They cannot be had by name.
    pub fn unlisted(&self) -> &[String] {
        &self.unlisted
    }

    /// The same tensors under other names; those for which `rename` says `None` are left out.
    ///
    /// # Errors
    ///
    /// Two tensors that would get one name.
    pub fn renamed(
        self,
        mut rename: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, CheckpointError> {
        let mut renamed = Self {
            tensors: BTreeMap::new(),
            ..self
        };
        for (name, entry) in self.tensors {
            if let Some(name) = rename(&name) {
                renamed.add(name, entry)?;
            }
        }
        Ok(renamed)
    }

    /// Has the system read all files while the program goes on. Worth it before most tensors are
    /// going to be used: from a cold disk, it halves the time until all pages have come.
    pub fn read_ahead(&self) {
        self.maps.iter().for_each(Map::read_ahead);
    }

    /// Takes over what another file has beside its tensors.
    fn add_remarks(&mut self, other: Self) {
        for (key, value) in other.metadata {
            self.metadata.entry(key).or_insert(value);
        }
        self.skipped.extend(other.skipped);
        self.maps.extend(other.maps);
    }

    fn add(&mut self, name: String, entry: Entry) -> Result<(), CheckpointError> {
        if let Some(first) = self.tensors.get(&name) {
            return Err(CheckpointError::DuplicateTensor {
                tensor: one_line(&name),
                first: first.file.to_path_buf(),
                second: entry.file.to_path_buf(),
            });
        }
        self.tensors.insert(name, entry);
        Ok(())
    }

    fn add_safetensors(&mut self, file: &Arc<Path>, bytes: Bytes) -> Result<(), CheckpointError> {
        let header = safetensors::parse(&bytes).map_err(|fault| CheckpointError::Header {
            path: file.to_path_buf(),
            fault,
        })?;
        for safetensors::Entry {
            name,
            dtype,
            shape,
            bytes: range,
        } in header.tensors
        {
            let data = Data::Contiguous(bytes.slice(range));
            self.add(
                name,
                Entry {
                    dtype,
                    shape,
                    data,
                    file: file.clone(),
                },
            )?;
        }
        self.metadata = header.metadata;
        Ok(())
    }

    fn add_pickle(&mut self, file: &Arc<Path>, bytes: Bytes) -> Result<(), CheckpointError> {
        let state = pickle::open(&bytes).map_err(|fault| CheckpointError::Pickle {
            path: file.to_path_buf(),
            fault,
        })?;
        for (name, view) in state.tensors {
            let (dtype, shape) = (view.dtype(), view.shape().to_vec());
            let data = match view.contiguous() {
                Some(bytes) => Data::Contiguous(bytes),
                None => Data::Strided(view),
            };
            self.add(
                name,
                Entry {
                    dtype,
                    shape,
                    data,
                    file: file.clone(),
                },
            )?;
        }
        self.skipped = state.skipped;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
