//! A zip or a compressed tar in a benchmark's folder.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use flate2::read::GzDecoder;
use zip::ZipArchive;

use crate::error::{EvalError, Result};

/// A zip or a compressed tar.
#[derive(Debug)]
pub(super) struct Archive {
    pub path: PathBuf,
    form: Form,
    /// Its members, read when they are first needed.
    members: OnceLock<Members>,
    /// The open zip; members are read one at a time.
    zip: Mutex<Option<ZipArchive<BufReader<File>>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Zip,
    TarGz,
}

/// The files of an archive, by the paths that they may be asked for.
#[derive(Debug)]
pub(super) struct Members {
    pub by_name: HashMap<String, usize>,
    pub names: Vec<String>,
}

impl Form {
    fn of(path: &Path) -> Option<(Self, String)> {
        let name = path.file_name()?.to_str()?;
        let lower = name.to_ascii_lowercase();
        let ends = [
            (".zip", Form::Zip),
            (".tar.gz", Form::TarGz),
            (".tgz", Form::TarGz),
        ];
        let (end, form) = ends.into_iter().find(|(end, _)| lower.ends_with(end))?;
        Some((form, name[..name.len() - end.len()].to_owned()))
    }
}

impl Archive {
    /// The archive at `path`, if its name says that it is one; it is opened when it is needed.
    pub fn at(path: &Path) -> Option<Self> {
        let (form, _) = Form::of(path)?;
        Some(Self {
            path: path.to_owned(),
            form,
            members: OnceLock::new(),
            zip: Mutex::new(None),
        })
    }

    /// Its files, which stand in its directory.
    pub fn members(&self) -> Result<&Members> {
        if let Some(members) = self.members.get() {
            return Ok(members);
        }
        let names = match self.form {
            Form::Zip => self.with_zip(|zip| {
                Ok((0..zip.len())
                    .map(|member| zip.name_for_index(member).unwrap_or_default().to_owned())
                    .collect())
            })?,
            Form::TarGz => self.tar_names()?,
        };
        let stem = Form::of(&self.path)
            .map(|(_, stem)| stem)
            .unwrap_or_default();
        Ok(self.members.get_or_init(|| Members::new(names, &stem)))
    }

    fn with_zip<T>(
        &self,
        work: impl FnOnce(&mut ZipArchive<BufReader<File>>) -> Result<T>,
    ) -> Result<T> {
        let mut open = self.zip.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            let file = File::open(&self.path).map_err(EvalError::io(&self.path, "open"))?;
            let zip = ZipArchive::new(BufReader::new(file))
                .map_err(EvalError::unreadable(&self.path, "a zip"))?;
            *open = Some(zip);
        }
        match open.as_mut() {
            Some(zip) => work(zip),
            None => Err(EvalError::unreadable(&self.path, "a zip")("it is not open")),
        }
    }

    fn tar(&self) -> Result<tar::Archive<GzDecoder<BufReader<File>>>> {
        let file = File::open(&self.path).map_err(EvalError::io(&self.path, "open"))?;
        Ok(tar::Archive::new(GzDecoder::new(BufReader::new(file))))
    }

    fn tar_names(&self) -> Result<Vec<String>> {
        let broken = || EvalError::unreadable(&self.path, "a compressed tar");
        let mut names = Vec::new();
        for entry in self.tar()?.entries().map_err(broken())? {
            let entry = entry.map_err(broken())?;
            // Folders are members too; what is no file is no name to ask for.
            let is_file = entry.header().entry_type().is_file();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            names.push(if is_file { name } else { String::new() });
        }
        Ok(names)
    }

    /// The whole of a member.
    pub fn read(&self, member: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.form {
            Form::Zip => self.with_zip(|zip| {
                let broken = EvalError::unreadable::<zip::result::ZipError>(&self.path, "a zip");
                let mut file = zip.by_index(member).map_err(broken)?;
                file.read_to_end(&mut bytes)
                    .map_err(EvalError::unreadable(&self.path, "a zip"))
            })?,
            Form::TarGz => {
                let broken = || EvalError::unreadable(&self.path, "a compressed tar");
                let mut tar = self.tar()?;
                let mut entries = tar.entries().map_err(broken())?;
                let found = entries.nth(member).transpose().map_err(broken())?;
                let mut entry = found.ok_or_else(|| {
                    EvalError::unreadable(&self.path, "a compressed tar")("it lost a member")
                })?;
                entry.read_to_end(&mut bytes).map_err(broken())?
            }
        };
        Ok(bytes)
    }
}

impl Members {
    fn new(names: Vec<String>, stem: &str) -> Self {
        let names: Vec<String> = names
            .into_iter()
            .map(|name| name.strip_prefix("./").map(str::to_owned).unwrap_or(name))
            .collect();
        let files = || {
            names
                .iter()
                .enumerate()
                .filter(|(_, name)| !name.is_empty() && !name.ends_with('/'))
        };
        // A folder around everything, as archives of repositories have.
        let mut tops = files().map(|(_, name)| name.split_once('/').map(|(top, _)| top));
        let top = tops
            .next()
            .flatten()
            .filter(|top| tops.all(|other| other == Some(top)));
        let mut by_name = HashMap::new();
        for (at, name) in files() {
            by_name.insert(name.clone(), at);
        }
        for (at, name) in files() {
            if !name.starts_with(&format!("{stem}/")) {
                by_name.entry(format!("{stem}/{name}")).or_insert(at);
            }
            let inner = top.and_then(|top| name.strip_prefix(top)?.strip_prefix('/'));
            if let Some(inner) = inner {
                by_name.entry(inner.to_owned()).or_insert(at);
            }
        }
        Self { by_name, names }
    }
}
