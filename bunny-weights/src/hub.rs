//! Models from a hub that speaks Hugging Face's routes, through the cache that Python shares.
//!
//! ```text
//! hub/models--org--name/refs/main               the commit that a revision stands for
//!                       blobs/<etag>            contents, each once
//!                       snapshots/<commit>/...  links to them, by their names in the model
//! ```
//!
//! A model is resolved to a commit; the files that are needed and not there yet are downloaded,
//! each going on where an earlier attempt was cut, checked, and only then given its name.

use std::path::PathBuf;

use serde::Deserialize;

pub use error::HubError;
pub use model_id::ModelId;
pub use settings::{HubSettings, Patience};

use cache::Cache;
use client::{Client, Reach};

mod cache;
mod client;
mod download;
mod error;
mod model_id;
mod settings;

/// The longest listing of a model's files that is read.
const LISTING_LIMIT: u64 = 64 << 20;

/// How far a download is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The file, by its name in the model.
    pub file: &'a str,
    /// Which of the files it is, from 0.
    pub number: usize,
    /// How many files are needed.
    pub files: usize,
    /// Bytes of the file that are there.
    pub done: u64,
    /// Bytes of the file.
    pub total: u64,
}

/// A file that is needed of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededFile {
    /// Its name in the model.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// How many of them are here.
    pub here: u64,
}

/// A hub and the cache of what came from it.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    client: Client,
    cache: Cache,
}

impl Hub {
    /// A hub with these settings.
    pub fn new(settings: HubSettings) -> Self {
        let client = Client::new(&settings);
        let cache = Cache::new(settings.cache.clone());
        Self {
            settings,
            client,
            cache,
        }
    }

    /// The folder that holds the files of a model which `choose` picks from all its files' names;
    /// often [`model_files`] or [`tower_files`]. What is missing is downloaded, and `progress` is told.
    ///
    /// Without a connection, while the hub itself fails or wants no more requests, and offline by the
    /// settings, it is the folder of what was downloaded before.
    ///
    /// # Errors
    ///
    /// A model that does not exist, is not open to this user or is not in the cache; a hub that
    /// cannot be reached or answers with something else than it should; a file that arrives
    /// damaged; a cache that cannot be written.
    pub fn fetch(
        &self,
        model: &ModelId,
        choose: impl Fn(&[String]) -> Vec<String>,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        if self.settings.offline {
            return self.cached(model, choose);
        }
        let listing = match self.listing(model) {
            Err(
                fault @ (HubError::Unreachable { .. }
                | HubError::Failing { .. }
                | HubError::RateLimited { .. }),
            ) => {
                let Ok(cached) = self.cached(model, choose) else {
                    return Err(fault);
                };
                tracing::warn!("{fault}; {model} is taken as it was downloaded before");
                return Ok(cached);
            }
            listing => listing?,
        };
        let files = choose(&listing.names());
        if files.is_empty() {
            return Err(HubError::NothingToFetch {
                model: model.clone(),
            });
        }
        for (number, file) in files.iter().enumerate() {
            let mut progress = |done, total| {
                progress(Progress {
                    file,
                    number,
                    files: files.len(),
                    done,
                    total,
                });
            };
            self.fetch_file(model, &listing.sha, file, &mut progress)?;
        }
        self.cache.point(model, &listing.sha)?;
        Ok(self.cache.snapshot(model, &listing.sha))
    }

    /// The files that [`Hub::fetch`] would have for the same model, with their sizes; nothing is
    /// downloaded.
    ///
    /// # Errors
    ///
    /// A model that does not exist or is not open to this user; a hub that cannot be reached, which
    /// offline it never is, or answers with something else than it should.
    pub fn needed(
        &self,
        model: &ModelId,
        choose: impl Fn(&[String]) -> Vec<String>,
    ) -> Result<Vec<NeededFile>, HubError> {
        if self.settings.offline {
            return Err(HubError::NotCached {
                model: model.clone(),
                cache: self.settings.cache.clone(),
            });
        }
        let listing = self.listing(model)?;
        let files = choose(&listing.names()).into_iter();
        let described = files.map(|name| {
            let url = self.client.file_url(model, &listing.sha, &name);
            let reach = Reach {
                model,
                file: Some(&name),
            };
            let remote = self.client.describe(&url, reach)?;
            let blob = self.cache.blob(model, &remote.etag);
            let is_linked = self
                .cache
                .snapshot(model, &listing.sha)
                .join(&name)
                .exists();
            let here = match is_linked || blob.exists() {
                true => remote.size,
                false => download::arrived(&blob).min(remote.size),
            };
            Ok(NeededFile {
                bytes: remote.size,
                here,
                name,
            })
        });
        described.collect()
    }

    /// What the cache has of a model.
    fn cached(
        &self,
        model: &ModelId,
        choose: impl Fn(&[String]) -> Vec<String>,
    ) -> Result<PathBuf, HubError> {
        self.cache
            .resolve(model)
            .filter(|snapshot| !choose(&cache::files(snapshot)).is_empty())
            .ok_or_else(|| HubError::NotCached {
                model: model.clone(),
                cache: self.settings.cache.clone(),
            })
    }

    /// The commit and the files of a model.
    fn listing(&self, model: &ModelId) -> Result<Listing, HubError> {
        let url = self.client.listing_url(model);
        let reach = Reach { model, file: None };
        let body = self.client.read(&url, reach, LISTING_LIMIT)?;
        let odd = |reason: String| HubError::Answer {
            url: url.clone(),
            reason,
        };
        let listing: Listing =
            serde_json::from_slice(&body).map_err(|error| odd(error.to_string()))?;
        let is_commit = (7..=64).contains(&listing.sha.len())
            && listing.sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_commit {
            return Err(odd("its commit is no hash".to_string()));
        }
        Ok(listing)
    }

    fn fetch_file(
        &self,
        model: &ModelId,
        commit: &str,
        file: &str,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        if !cache::is_safe_path(file) {
            return Err(HubError::UnsafeName {
                model: model.clone(),
                name: file.to_string(),
            });
        }
        let pointer = self.cache.snapshot(model, commit).join(file);
        if pointer.exists() {
            return Ok(());
        }
        let url = self.client.file_url(model, commit, file);
        let reach = Reach {
            model,
            file: Some(file),
        };
        let remote = self.client.describe(&url, reach)?;
        let blob = self.cache.blob(model, &remote.etag);
        let _lock = self.cache.lock(model, &remote.etag)?;
        if !blob.exists() {
            download::download(&self.client, &url, reach, &remote, &blob, progress)?;
        }
        cache::link(&blob, &pointer, file)
    }
}

/// What a hub says of a model.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    fn names(&self) -> Vec<String> {
        self.siblings
            .iter()
            .map(|sibling| sibling.rfilename.clone())
            .collect()
    }
}

/// The files that a model, a tower, a projector or an adapter is loaded from, among all of a
/// repository: configurations, tokenizers, and weights, of which safetensors are preferred, and GGUF is
/// taken where there is nothing else.
/// The state of a training run is left out, and of folders all but what describes a tower of the
/// model's own.
pub fn model_files(names: &[String]) -> Vec<String> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let model = has("model.safetensors") || has("model.safetensors.index.json");
    let adapter = has("adapter_model.safetensors");
    let others = has("non_lora_trainables.safetensors");
    let needed = |name: &str| {
        let Some((stem, ending)) = name.rsplit_once('.') else {
            return false;
        };
        match ending {
            "json" | "safetensors" => stem != "trainer_state",
            "model" | "jinja" => true,
            "txt" => matches!(stem, "merges" | "vocab"),
            "bin" => match stem {
                "adapter_model" => !adapter,
                "non_lora_trainables" => !others,
                "mm_projector" => true,
                stem => stem.starts_with("pytorch_model") && !model,
            },
            _ => false,
        }
    };
    let superseded = |name: &str| name == "pytorch_model.bin.index.json" && model;
    let is_tower = |name: &str| {
        let file = name.split_once('/').map(|(_, file)| file);
        matches!(file, Some("config.json" | "preprocessor_config.json"))
    };
    let is_weights = |name: &str| name.ends_with(".safetensors") || name.ends_with(".bin");
    let chosen: Vec<String> = names
        .iter()
        .filter(|name| match name.contains('/') {
            true => is_tower(name),
            false => needed(name) && !superseded(name),
        })
        .cloned()
        .collect();
    let in_gguf = match chosen.iter().any(|name| is_weights(name)) {
        true => Vec::new(),
        false => gguf_files(names),
    };
    chosen.into_iter().chain(in_gguf).collect()
}

/// Of a repository with nothing but GGUF: one file of a language model and one of a projector. Where
/// there are several, those that llama.cpp takes: four bits of the language model, and the rest in 16.
fn gguf_files(names: &[String]) -> Vec<String> {
    let is_part = |name: &str| name.contains("-of-");
    let files = names
        .iter()
        .filter(|name| name.ends_with(".gguf") && !name.contains('/') && !is_part(name));
    let (projectors, texts): (Vec<&String>, Vec<&String>) =
        files.partition(|name| name.to_lowercase().contains("mmproj"));
    let first = |files: &[&String], kinds: &[&str]| -> Option<String> {
        let of_kind = |kind: &&str| {
            let mut files = files.iter();
            files.find(|name| name.to_lowercase().contains(*kind))
        };
        let found = kinds.iter().find_map(of_kind).or(files.first());
        found.map(|name| (*name).clone())
    };
    let text = first(&texts, &["q4_k_m", "q4_0", "q8_0", "f16"]);
    let projector = first(&projectors, &["f16"]);
    text.into_iter().chain(projector).collect()
}

/// EVA-CLIP's repository holds towers of all sizes; Bunny's is this one.
const EVA_TOWER: &str = "EVA02_CLIP_L_336_psz14_s6B.pt";

/// The files that a vision tower is loaded from: as [`model_files`], and of EVA-CLIP's repository the
/// one tower that Bunny reads.
pub fn tower_files(names: &[String]) -> Vec<String> {
    match names.iter().find(|name| *name == EVA_TOWER) {
        Some(eva) => vec![eva.clone()],
        None => model_files(names),
    }
}

#[cfg(test)]
mod tests;
