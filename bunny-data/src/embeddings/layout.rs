//! Which files of a folder form a shard, in each of the known layouts.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::matrix::{MatrixFile, Storage};
use super::{Archive, EmbeddingOptions, Shard, columns};
use crate::error::{ArchiveFault, ColumnFault, DataError, Result, SetFault};

/// The shards of a folder, at least one, in order.
pub(super) fn find(folder: &Path, options: &EmbeddingOptions) -> Result<Vec<Shard>> {
    let mut shards = if folder.join("img_emb").is_dir() {
        clip_retrieval(folder)?
    } else {
        let archives = files(folder, "npz")?;
        if archives.is_empty() {
            parquet(folder, options)?
        } else {
            archives
                .into_iter()
                .map(|path| archive_shard(path, options))
                .collect::<Result<_>>()?
        }
    };
    if shards.is_empty() {
        return Err(DataError::set(folder, SetFault::NoEmbeddings));
    }
    let mut next = 0;
    for shard in &mut shards {
        shard.first_row = next;
        next += shard.rows();
    }
    Ok(shards)
}

fn clip_retrieval(folder: &Path) -> Result<Vec<Shard>> {
    let images = files(&folder.join("img_emb"), "npy")?;
    let beside = |name: &str, extension| -> Result<Option<Vec<PathBuf>>> {
        let other = folder.join(name);
        if !other.is_dir() {
            return Ok(None);
        }
        let found = files(&other, extension)?;
        pair(&images, &found, &other)?;
        Ok(Some(found))
    };
    let texts = beside("text_emb", "npy")?;
    let metadata = beside("metadata", "parquet")?;
    images
        .iter()
        .enumerate()
        .map(|(index, image)| {
            let text = texts.as_ref().map(|texts| &texts[index]);
            Ok(Shard {
                image: MatrixFile::npy(image)?,
                text: text.map(MatrixFile::npy).transpose()?,
                metadata: metadata.as_ref().map(|files| files[index].clone()),
                first_row: 0,
            })
        })
        .collect()
}

/// Fails unless each file stands in the place of the one it belongs to.
fn pair(images: &[PathBuf], others: &[PathBuf], folder: &Path) -> Result<()> {
    for place in 0..images.len().max(others.len()) {
        match (images.get(place), others.get(place)) {
            (Some(image), Some(other)) if belong(image, other) => {}
            (Some(image), Some(_)) if others.iter().any(|other| belong(image, other)) => {
                return Err(extra(&others[place]));
            }
            (Some(image), _) => {
                return Err(DataError::set(folder, SetFault::NoPartner(image.clone())));
            }
            (None, Some(other)) => return Err(extra(other)),
            (None, None) => {}
        }
    }
    Ok(())
}

fn extra(file: &Path) -> DataError {
    DataError::set(file, SetFault::Extra)
}

/// Whether files of two folders hold the same rows, by their names: `img_emb_7.npy` and
/// `text_emb_007.npy` do, and where no number ends the name, `img_emb_a.npy` and `text_emb_a.npy`.
fn belong(a: &Path, b: &Path) -> bool {
    match (order(a).1, order(b).1) {
        (None, None) => own_name(a) == own_name(b),
        (a, b) => a == b,
    }
}

/// The name of a file without its ending and without that of its folder.
fn own_name(path: &Path) -> &str {
    let name = stem(path);
    let folder = path.parent().and_then(Path::file_name);
    let own = folder
        .and_then(|folder| name.strip_prefix(folder.to_str()?))
        .and_then(|rest| rest.strip_prefix('_'));
    own.unwrap_or(name)
}

fn archive_shard(path: PathBuf, options: &EmbeddingOptions) -> Result<Shard> {
    let archive = Archive::open(&path)?;
    let names = || archive.names().map(str::to_owned).collect();
    let pick = |asked: &Option<String>, usual: &str, suffixes: [&str; 2], option| {
        if let Some(name) = asked {
            return Ok(Some(name.clone()));
        }
        if archive.names().any(|name| name == usual) {
            return Ok(Some(usual.to_owned()));
        }
        let mut fitting = archive
            .names()
            .filter(|name| suffixes.iter().any(|suffix| name.ends_with(suffix)));
        match (fitting.next(), fitting.next()) {
            (None, _) => Ok(None),
            (Some(name), None) => Ok(Some(name.to_owned())),
            _ => Err(DataError::archive(
                &path,
                ArchiveFault::Several {
                    names: names(),
                    option,
                },
            )),
        }
    };
    let image = pick(
        &options.image_array,
        "l14_img",
        ["img", "image"],
        "--image-array",
    )?;
    let text = pick(
        &options.text_array,
        "l14_txt",
        ["txt", "text"],
        "--text-array",
    )?;
    let Some(image) = image else {
        let fault = ArchiveFault::NoImages { names: names() };
        return Err(DataError::archive(&path, fault));
    };
    let metadata = path.with_extension("parquet");
    Ok(Shard {
        image: archive.array(&image)?,
        text: text.map(|text| archive.array(&text)).transpose()?,
        metadata: metadata.is_file().then_some(metadata),
        first_row: 0,
    })
}

fn parquet(folder: &Path, options: &EmbeddingOptions) -> Result<Vec<Shard>> {
    let pick = |footer: &columns::Footer, asked: &Option<String>, usual: &[&str]| {
        asked.clone().or_else(|| {
            let found = usual.iter().find(|name| footer.has(name));
            found.map(|name| (*name).to_owned())
        })
    };
    files(folder, "parquet")?
        .into_iter()
        .map(|path| {
            let footer = columns::footer(&path)?;
            let images = ["image_embedding", "img_emb", "image_emb", "embedding"];
            let texts = ["text_embedding", "text_emb", "txt_emb"];
            let Some(image) = pick(&footer, &options.image_array, &images) else {
                let names = footer.names();
                return Err(DataError::column(&path, ColumnFault::NoImages { names }));
            };
            let text = pick(&footer, &options.text_array, &texts);
            Ok(Shard {
                image: column(&path, &footer, image)?,
                text: text.map(|text| column(&path, &footer, text)).transpose()?,
                metadata: Some(path),
                first_row: 0,
            })
        })
        .collect()
}

fn column(path: &Path, footer: &columns::Footer, name: String) -> Result<MatrixFile> {
    let Ok(field) = footer.schema.field_with_name(&name) else {
        return Err(columns::lacks(path, &footer.schema, &name));
    };
    let Some(dtype) = columns::embedding_type(field.data_type()) else {
        let fault = ColumnFault::Type {
            name,
            found: field.data_type().clone(),
            wanted: "lists of float16 or float32",
        };
        return Err(DataError::column(path, fault));
    };
    Ok(MatrixFile {
        path: path.to_owned(),
        dtype,
        rows: footer.rows,
        dims: columns::embedding_width(path, &name)?,
        storage: Storage::Column { name },
    })
}

/// The files of a folder with this extension, in order; two of the same number are an error.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(DataError::io(folder, "open"))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(DataError::io(folder, "read"))?.path();
        let name = path.file_name().unwrap_or_default();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && path.extension() == Some(OsStr::new(extension)) && path.is_file() {
            // What is made of the set is known by the names of its files.
            if name.to_str().is_none() {
                return Err(DataError::Name { path });
            }
            found.push(path);
        }
    }
    found.sort_by(|a, b| order(a).cmp(&order(b)));
    for pair in found.windows(2) {
        let (a, b) = (order(&pair[0]), order(&pair[1]));
        if a.1.is_some() && (a.0, a.1) == (b.0, b.1) {
            return Err(DataError::set(
                &pair[1],
                SetFault::SameNumber(pair[0].clone()),
            ));
        }
    }
    Ok(found)
}

/// What files are sorted by: the text before their number, the number, the whole name.
/// `img_emb_9` comes before `img_emb_10`; hexadecimal names, as DataComp's, stand as they are.
fn order(path: &Path) -> (&str, Option<u64>, &str) {
    let stem = stem(path);
    let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (text, number) = stem.split_at(stem.len() - digits);
    let is_name = text.is_empty() || text.ends_with(['_', '-', '.']);
    match number.parse() {
        Ok(number) if is_name => (text, Some(number), stem),
        _ => (stem, None, stem),
    }
}

/// The name of a file that [`files`] found, without its ending.
fn stem(path: &Path) -> &str {
    path.file_stem().and_then(OsStr::to_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_their_number_whatever_its_width() {
        let mut names = [
            "img_emb_10.npy",
            "img_emb_9.npy",
            "img_emb_0.npy",
            "img_emb_0100.npy",
        ];
        names.sort_by(|a, b| order(Path::new(a)).cmp(&order(Path::new(b))));
        assert_eq!(
            names,
            [
                "img_emb_0.npy",
                "img_emb_9.npy",
                "img_emb_10.npy",
                "img_emb_0100.npy"
            ]
        );
        // A hexadecimal name is no number, even where it ends in digits.
        assert_eq!(order(Path::new("00ab12.npz")).1, None);
        assert_eq!(order(Path::new("00012.npz")).1, Some(12));
    }

    #[test]
    fn a_missing_or_doubled_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bytes = super::super::NpyHeader::write(super::super::Dtype::Float16, 1, 2);
            bytes.extend([0, 60, 0, 60]);
            std::fs::write(path, bytes).unwrap();
        };
        touch("img_emb/img_emb_0.npy");
        touch("img_emb/img_emb_1.npy");
        touch("text_emb/text_emb_00.npy");
        let error = find(dir.path(), &EmbeddingOptions::default()).unwrap_err();
        assert!(error.to_string().contains("img_emb_1.npy"), "{error}");
        touch("text_emb/text_emb_01.npy");
        assert_eq!(
            find(dir.path(), &EmbeddingOptions::default())
                .unwrap()
                .len(),
            2
        );
        touch("text_emb/text_emb_1.npy");
        let error = find(dir.path(), &EmbeddingOptions::default()).unwrap_err();
        assert!(error.to_string().contains("the same number"), "{error}");
    }

    #[test]
    fn files_without_a_number_belong_together_by_their_names() {
        let paths = |folder: &str, names: &[&str]| -> Vec<PathBuf> {
            let path = |name| Path::new(folder).join(name).with_extension("npy");
            names.iter().map(path).collect()
        };
        let pairs = |images: &[&str], texts: &[&str]| {
            let (images, texts) = (paths("img_emb", images), paths("text_emb", texts));
            pair(&images, &texts, Path::new("text_emb")).map_err(|error| error.to_string())
        };
        assert_eq!(pairs(&["a", "b"], &["a", "b"]), Ok(()));
        assert_eq!(pairs(&["img_emb_a"], &["text_emb_a"]), Ok(()));
        assert_eq!(pairs(&["img_emb_07"], &["captions_7"]), Ok(()));
        for (images, texts, named) in [
            (&["a", "b"][..], &["a"][..], "img_emb/b.npy"),
            (&["a", "b"], &["b", "c"], "img_emb/a.npy"),
            (&["a"], &["a", "b"], "text_emb/b.npy"),
            (&["a"], &["c"], "img_emb/a.npy"),
            // Of equal numbers there are two here and one there.
            (&["a_0", "b_0"], &["a_0"], "img_emb/b_0.npy"),
            (&["a"], &["a_0"], "img_emb/a.npy"),
        ] {
            let error = pairs(images, texts).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
