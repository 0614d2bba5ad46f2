//! Which files of a folder form a shard, in each of the known layouts.

use std::ffi::OsStr;
use std::path::Path;

use arrow_schema::DataType;

use super::matrix::{MatrixFile, Storage};
use super::{Archive, EmbeddingOptions, Shard, columns};
use crate::error::{ArchiveFault, ColumnFault, DataError, Result, SetFault};
use crate::store::{EMBEDDINGS, Entry, Store};

/// The shards of a set, at least one, in order.
pub(super) fn find(store: &dyn Store, options: &EmbeddingOptions) -> Result<Vec<Shard>> {
    let here = store.entries(EMBEDDINGS)?;
    let mut shards = if has_folder(&here, "img_emb") {
        clip_retrieval(store, &here)?
    } else {
        let archives = files(store, EMBEDDINGS, &here, "npz")?;
        match archives.is_empty() {
            true => parquet(store, &here, options)?,
            false => archives
                .iter()
                .map(|key| archive_shard(store, &here, key, options))
                .collect::<Result<_>>()?,
        }
    };
    if shards.is_empty() {
        return Err(DataError::set(
            store.path(EMBEDDINGS),
            SetFault::NoEmbeddings,
        ));
    }
    let mut next = 0;
    for shard in &mut shards {
        shard.first_row = next;
        next += shard.rows();
    }
    Ok(shards)
}

fn has_folder(entries: &[Entry], name: &str) -> bool {
    entries
        .iter()
        .any(|entry| entry.is_folder && entry.name == name)
}

fn clip_retrieval(store: &dyn Store, here: &[Entry]) -> Result<Vec<Shard>> {
    let listed = |name: &str, ending| {
        let folder = format!("{EMBEDDINGS}/{name}");
        files(store, &folder, &store.entries(&folder)?, ending)
    };
    let images = listed("img_emb", "npy")?;
    let beside = |name: &str, ending| {
        if !has_folder(here, name) {
            return Ok(None);
        }
        let found = listed(name, ending)?;
        pair(store, &images, &found, name)?;
        Ok::<_, DataError>(Some(found))
    };
    let texts = beside("text_emb", "npy")?;
    let metadata = beside("metadata", "parquet")?;
    images
        .iter()
        .enumerate()
        .map(|(index, image)| {
            let text = texts.as_ref().map(|texts| &texts[index]);
            Ok(Shard {
                image: MatrixFile::npy(store, image)?,
                text: text.map(|text| MatrixFile::npy(store, text)).transpose()?,
                metadata: metadata.as_ref().map(|files| files[index].clone()),
                first_row: 0,
            })
        })
        .collect()
}

/// Fails unless each file stands in the place of the one it belongs to.
fn pair(store: &dyn Store, images: &[String], others: &[String], folder: &str) -> Result<()> {
    let extra = |file: &str| DataError::set(store.path(file), SetFault::Extra);
    for place in 0..images.len().max(others.len()) {
        match (images.get(place), others.get(place)) {
            (Some(image), Some(other)) if belong(image, other) => {}
            (Some(image), Some(_)) if others.iter().any(|other| belong(image, other)) => {
                return Err(extra(&others[place]));
            }
            (Some(image), _) => {
                let folder = store.path(&format!("{EMBEDDINGS}/{folder}"));
                let fault = SetFault::NoPartner(store.path(image));
                return Err(DataError::set(folder, fault));
            }
            (None, Some(other)) => return Err(extra(other)),
            (None, None) => {}
        }
    }
    Ok(())
}

/// Whether files of two folders hold the same rows, by their names: `img_emb_7.npy` and
/// `text_emb_007.npy` do, and where no number ends the name, `img_emb_a.npy` and `text_emb_a.npy`.
fn belong(a: &str, b: &str) -> bool {
    match (order(a).1, order(b).1) {
        (None, None) => own_name(a) == own_name(b),
        (a, b) => a == b,
    }
}

/// The name of a file without its ending and without that of its folder.
fn own_name(key: &str) -> &str {
    let name = stem(key);
    let folder = key.rsplit('/').nth(1).unwrap_or_default();
    let own = name
        .strip_prefix(folder)
        .and_then(|rest| rest.strip_prefix('_'));
    own.unwrap_or(name)
}

fn archive_shard(
    store: &dyn Store,
    here: &[Entry],
    key: &str,
    options: &EmbeddingOptions,
) -> Result<Shard> {
    let archive = Archive::open(store, key)?;
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
                store.path(key),
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
        return Err(DataError::archive(store.path(key), fault));
    };
    let table = format!("{}.parquet", stem(key));
    let has_table = here
        .iter()
        .any(|entry| entry.is_file && entry.name == *table);
    Ok(Shard {
        image: archive.array(&image)?,
        text: text.map(|text| archive.array(&text)).transpose()?,
        metadata: has_table.then(|| format!("{EMBEDDINGS}/{table}")),
        first_row: 0,
    })
}

fn parquet(store: &dyn Store, here: &[Entry], options: &EmbeddingOptions) -> Result<Vec<Shard>> {
    let pick = |footer: &columns::Footer, asked: &Option<String>, usual: &[&str]| {
        asked.clone().or_else(|| {
            let found = usual.iter().find(|name| footer.has(name));
            found.map(|name| (*name).to_owned())
        })
    };
    let files = files(store, EMBEDDINGS, here, "parquet")?;
    let is_none = files.is_empty();
    let shards = files
        .into_iter()
        .map(|key| {
            let footer = columns::footer(store.open_partly(&key)?)?;
            if footer.rows == 0 {
                // Who works in parts leaves a file for each, also for one that a filter has emptied.
                return Ok(None);
            }
            let images = ["image_embedding", "img_emb", "image_emb", "embedding"];
            let texts = ["text_embedding", "text_emb", "txt_emb"];
            let Some(image) = pick(&footer, &options.image_array, &images) else {
                let names = footer.names();
                return Err(DataError::column(
                    footer.path,
                    ColumnFault::NoImages { names },
                ));
            };
            let text = pick(&footer, &options.text_array, &texts);
            Ok(Some(Shard {
                image: column(store, &key, &footer, image)?,
                text: text
                    .map(|text| column(store, &key, &footer, text))
                    .transpose()?,
                metadata: Some(key),
                first_row: 0,
            }))
        })
        .filter_map(Result::transpose)
        .collect::<Result<Vec<Shard>>>()?;
    if shards.is_empty() && !is_none {
        return Err(DataError::set(store.path(EMBEDDINGS), SetFault::Empty));
    }
    Ok(shards)
}

fn column(
    store: &dyn Store,
    key: &str,
    footer: &columns::Footer,
    name: String,
) -> Result<MatrixFile> {
    let wanted = "lists of floating-point numbers";
    let is_embedding = |column: &DataType| columns::embedding_type(column).is_some();
    footer.check(&name, is_embedding, wanted)?;
    let field = footer.schema.field_with_name(&name).ok();
    let dtype = field.and_then(|field| columns::embedding_type(field.data_type()));
    let Some(dtype) = dtype else {
        return Err(footer.lacks(&name));
    };
    Ok(MatrixFile {
        key: key.to_owned(),
        dtype,
        rows: footer.rows,
        dims: columns::embedding_width(store.open_partly(key)?, &name)?,
        storage: Storage::Column { name },
    })
}

/// The keys of the files of a folder with this ending, in order; two of the same number are an
/// error.
fn files(store: &dyn Store, folder: &str, entries: &[Entry], ending: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_file) {
        let name = Path::new(&entry.name);
        let hidden = entry.name.as_encoded_bytes().starts_with(b".");
        if hidden || name.extension() != Some(OsStr::new(ending)) {
            continue;
        }
        let Some(name) = entry.name.to_str() else {
            // What is made of a set is known by the names of its files.
            let path = store.path(folder).join(name);
            return Err(DataError::Name { path });
        };
        found.push(format!("{folder}/{name}"));
    }
    found.sort_by(|a, b| order(a).cmp(&order(b)));
    for pair in found.windows(2) {
        let (a, b) = (order(&pair[0]), order(&pair[1]));
        if a.1.is_some() && (a.0, a.1) == (b.0, b.1) {
            let fault = SetFault::SameNumber(store.path(&pair[0]));
            return Err(DataError::set(store.path(&pair[1]), fault));
        }
    }
    Ok(found)
}

/// What files are sorted by: the text before their number, the number, the whole name.
/// `img_emb_9` comes before `img_emb_10`; hexadecimal names, as DataComp's, stand as they are.
fn order(key: &str) -> (&str, Option<u64>, &str) {
    let stem = stem(key);
    let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (text, number) = stem.split_at(stem.len() - digits);
    let is_name = text.is_empty() || text.ends_with(['_', '-', '.']);
    match number.parse() {
        Ok(number) if is_name => (text, Some(number), stem),
        _ => (stem, None, stem),
    }
}

/// The name of a file without its ending.
fn stem(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or(key);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Folders;

    #[test]
    fn names_sort_by_their_number_whatever_its_width() {
        let mut names = [
            "img_emb_10.npy",
            "img_emb_9.npy",
            "img_emb_0.npy",
            "img_emb_0100.npy",
        ];
        names.sort_by(|a, b| order(a).cmp(&order(b)));
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
        assert_eq!(order("00ab12.npz").1, None);
        assert_eq!(order("00012.npz").1, Some(12));
    }

    #[test]
    fn a_missing_or_doubled_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Folders::new(dir.path(), dir.path());
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
        let error = find(&store, &EmbeddingOptions::default()).unwrap_err();
        assert!(error.to_string().contains("img_emb_1.npy"), "{error}");
        touch("text_emb/text_emb_01.npy");
        assert_eq!(find(&store, &EmbeddingOptions::default()).unwrap().len(), 2);
        touch("text_emb/text_emb_1.npy");
        let error = find(&store, &EmbeddingOptions::default()).unwrap_err();
        assert!(error.to_string().contains("the same number"), "{error}");
    }

    #[test]
    fn files_without_a_number_belong_together_by_their_names() {
        let store = Folders::new("set", "work");
        let keys = |folder: &str, names: &[&str]| -> Vec<String> {
            let key = |name| format!("embeddings/{folder}/{name}.npy");
            names.iter().map(key).collect()
        };
        let pairs = |images: &[&str], texts: &[&str]| {
            let (images, texts) = (keys("img_emb", images), keys("text_emb", texts));
            pair(&store, &images, &texts, "text_emb").map_err(|error| error.to_string())
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
