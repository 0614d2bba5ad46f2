//! Where a model's files are, and what they hold together.

use std::path::{Path, PathBuf};

use bunny_base::files;
use bunny_weights::{
    adapter::{ADAPTER_CONFIG, Adapter, AdapterConfig},
    folder::CONFIG,
};

#[cfg(feature = "gguf")]
use super::gguf::GgufFiles;
use super::{
    OpenModel, Parts,
    assemble::{Found, PROJECTOR_FILES, configuration, folder_of, holds_tower, projector},
    open_weights,
};
use crate::{
    Error, Fields,
    config::{BunnyConfig, PART_PATHS, vision_tower_name},
};

/// Which of the fields says where the base lies.
const BASE_PATH: &str = PART_PATHS[0];
/// Which of them says where the tower does.
const VISION_TOWER_PATH: &str = PART_PATHS[1];

/// The folders a model is read from.
///
/// A model's folder may hold the whole of it (a merged model), or only a projector, or only what a
/// LoRA run learnt; the last two need the language model they belong to. A model in GGUF is the file of
/// its language model, or the folder with that alone, and its projector file lies beside it or is given
/// as the tower.
#[derive(Debug, Clone, Default)]
pub struct ModelSource {
    /// The model's folder, or its file.
    pub model: PathBuf,
    /// The base language model's folder, where `model` lacks it.
    pub base: Option<PathBuf>,
    /// The vision tower: a folder, or a file of weights.
    pub vision_tower: Option<PathBuf>,
}

/// What a model's folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    Merged,
    Projector,
    Adapter,
}

impl ModelSource {
    /// A merged model in one folder.
    pub fn merged(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            ..Self::default()
        }
    }

    /// The folders and files that it is read from.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let parts = [
            Some(&self.model),
            self.base.as_ref(),
            self.vision_tower.as_ref(),
        ];
        parts.into_iter().flatten().map(PathBuf::as_path)
    }

    /// The language model that has to be found before this model can be opened, if its folder holds
    /// none, none is given, and it says which: an adapter names its base, and the configuration
    /// beside a projector the model that it was trained with.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn wanted_base(&self) -> Result<Option<String>, Error> {
        #[cfg(feature = "gguf")]
        if self.gguf()?.is_some() {
            return Ok(None);
        }
        let name = match self.contents() {
            _ if self.base.is_some() => None,
            Contents::Merged => None,
            Contents::Adapter => AdapterConfig::read(self.model.join(ADAPTER_CONFIG))?.base_model,
            Contents::Projector => {
                let fields = Fields::read(self.model.join(CONFIG))?;
                fields.string("_name_or_path")?.map(str::to_owned)
            }
        };
        let name = name.filter(|name| !name.is_empty());
        let moved = |name: String| match self.moved(BASE_PATH) {
            Some(place) if !files::exists(&name) => place.to_string_lossy().into_owned(),
            _ => name,
        };
        Ok(name.map(moved))
    }

    /// Where a part lies beside the model's folder, if it does: the two may have been moved together.
    fn moved(&self, field: &str) -> Option<PathBuf> {
        let fields = Fields::read(self.model.join(CONFIG)).ok()?;
        let place = fields.values().get(field)?.as_str()?;
        let place = self.model.join(place);
        files::exists(&place).then_some(place)
    }

    /// The hub id of the vision tower that has to be fetched before this model can be opened, if
    /// there is one: the tower is named in `config.json`, is no folder here, and its tensors are
    /// neither in the checkpoint nor in its base. So the base, where [one is wanted](Self::wanted_base),
    /// is to be given first.
    ///
    /// # Errors
    /// When the files of the model or its base cannot be read.
    pub fn wanted_tower(&self) -> Result<Option<String>, Error> {
        #[cfg(feature = "gguf")]
        if let Some(files) = self.gguf()? {
            return files.projector().map(|_| None);
        }
        let fields = self.fields()?;
        let name = vision_tower_name(&fields)?;
        if self.tower_path(name).is_some() {
            return Ok(None);
        }
        let whole = match self.contents() {
            Contents::Merged => Some(&self.model),
            Contents::Projector | Contents::Adapter => self.base.as_ref(),
        };
        let files = whole.map(open_weights).transpose()?;
        Ok((!files.is_some_and(|files| holds_tower(&files))).then(|| name.to_string()))
    }

    /// The folder or file of the tower that the model's own configuration names, if it names one that is
    /// here: beside the model, beside its base, or at a path of its own.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn own_tower(&self) -> Result<Option<PathBuf>, Error> {
        let fields = self.fields()?;
        let named = match fields.string("mm_vision_tower")? {
            Some(name) => Some(name),
            None => fields.string("vision_tower")?,
        };
        Ok(named.and_then(|name| self.tower_path(name)))
    }

    /// The model's sizes and choices, from the configurations that are here; no weights are needed.
    ///
    /// # Errors
    /// When a configuration is missing or cannot be used.
    pub fn configuration(&self) -> Result<BunnyConfig, Error> {
        #[cfg(feature = "gguf")]
        if let Some(files) = self.gguf()? {
            return files.configuration();
        }
        let fields = self.fields()?;
        let tower = self.tower_path(vision_tower_name(&fields)?);
        configuration(&fields, tower.as_deref().map(folder_of))
    }

    /// Opens the files and checks what can be checked without reading weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, or a part of the model is nowhere to be found.
    pub fn open(&self) -> Result<OpenModel, Error> {
        #[cfg(feature = "gguf")]
        if let Some(files) = self.gguf()? {
            return files.open();
        }
        let fields = self.fields()?;
        let base = |holds| {
            self.base.clone().ok_or_else(|| Error::NoBase {
                folder: self.model.clone(),
                holds,
            })
        };
        let (mut learnt, mut adapter) = (Vec::new(), None);
        let language_model = match self.contents() {
            Contents::Merged => self.model.clone(),
            Contents::Projector => {
                learnt.push(projector(&self.model)?);
                base("a projector")?
            }
            Contents::Adapter => {
                let mut opened = Adapter::open(&self.model)?;
                learnt.extend(opened.take_learnt());
                adapter = Some(opened);
                base("an adapter")?
            }
        };
        let parts = Parts {
            language_model,
            vision_tower: self.tower_path(vision_tower_name(&fields)?),
            learnt,
        };
        let found = Found {
            tokenizer: self.tokenizer_folder(),
            own: Some(self.model.clone()),
            adapter,
            ..Found::of(parts)
        };
        found.open(&fields)
    }

    /// Whether it is a model in GGUF, which has neither `config.json` nor the files of a tokenizer; never
    /// without the feature `gguf`.
    ///
    /// # Errors
    /// When GGUF files are damaged, or a folder has several that could be the model.
    pub fn is_gguf(&self) -> Result<bool, Error> {
        #[cfg(feature = "gguf")]
        return Ok(self.gguf()?.is_some());
        #[cfg(not(feature = "gguf"))]
        Ok(false)
    }

    /// Its files, if it is a model in GGUF.
    #[cfg(feature = "gguf")]
    fn gguf(&self) -> Result<Option<GgufFiles>, Error> {
        GgufFiles::of(&self.model, self.vision_tower.as_deref())
    }

    /// The configuration: the model's own, else, since adapters may come without, its base's.
    fn fields(&self) -> Result<Fields, Error> {
        let own = self.model.join(CONFIG);
        let file = match &self.base {
            Some(base) if !files::exists(&own) => base.join(CONFIG),
            _ => own,
        };
        Fields::read_model(file)
    }

    fn contents(&self) -> Contents {
        let has = |file: &str| files::exists(self.model.join(file));
        let whole = has("model.safetensors")
            || has("model.safetensors.index.json")
            || has("pytorch_model.bin")
            || has("pytorch_model.bin.index.json");
        if has("adapter_config.json") {
            Contents::Adapter
        } else if !whole && PROJECTOR_FILES.iter().any(|file| has(file)) {
            Contents::Projector
        } else {
            Contents::Merged
        }
    }

    /// The folder with tokenizer files: the model's own, else the base's.
    fn tokenizer_folder(&self) -> PathBuf {
        let names = [
            "tokenizer.json",
            "vocab.json",
            "tokenizer.model",
            "tokenizer_config.json",
        ];
        let has_one = |folder: &Path| names.iter().any(|name| files::exists(folder.join(name)));
        match &self.base {
            Some(base) if !has_one(&self.model) => base.clone(),
            _ => self.model.clone(),
        }
    }

    /// The tower's folder or file, if it is here: the one given, else the one `config.json` names,
    /// beside the model, beside its base, or as a path.
    fn tower_path(&self, name: &str) -> Option<PathBuf> {
        let beside = [Some(&self.model), self.base.as_ref()];
        let beside = beside.into_iter().flatten().map(|folder| folder.join(name));
        self.vision_tower.clone().or_else(|| {
            beside
                .chain([PathBuf::from(name)])
                .find(|path| files::exists(path))
                .or_else(|| self.moved(VISION_TOWER_PATH))
        })
    }
}
