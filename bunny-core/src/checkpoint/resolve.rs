//! A model by whatever name people give: a folder, or an id on a hub.

use std::path::PathBuf;

use bunny_base::files;
#[cfg(feature = "hub")]
use bunny_weights::hub::{Hub, ModelId, NeededFile, Progress, model_files, tower_files};

use super::ModelSource;
use crate::{Error, config::presets::Preset};

/// What a model and its parts are called. What is not named is what the model's own files name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelNames<'a> {
    /// The model.
    pub model: &'a str,
    /// The language model that it belongs to, where it is an adapter or a projector.
    pub base: Option<&'a str>,
    /// The vision tower, where the model lacks it.
    pub vision_tower: Option<&'a str>,
}

/// What is looked for under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// The model, an adapter or a projector included.
    Model,
    /// The language model that an adapter or a projector belongs to.
    Base,
    /// The vision tower.
    VisionTower,
    /// A model's configuration alone.
    Configuration,
}

impl ModelSource {
    /// The folders of a model and of what it needs: its base where it holds no language model, then
    /// its tower where neither holds one. `find` gives the folder of what is called so.
    ///
    /// # Errors
    /// Those of `find`, and when the configuration of what was found cannot be read.
    pub fn find<E: From<Error>>(
        names: ModelNames<'_>,
        mut find: impl FnMut(&str, Wanted) -> Result<PathBuf, E>,
    ) -> Result<Self, E> {
        // The names of the paper's combinations stand for what was published of them.
        let preset = Preset::named(names.model).filter(|preset| !files::exists(preset.name));
        let model = preset.map_or(names.model, |preset| preset.weights);
        let mut source = Self::merged(find(model, Wanted::Model)?);
        let base = match (names.base, source.wanted_base()?, preset) {
            (Some(base), ..) => Some(base.to_owned()),
            (None, Some(_), Some(preset)) => Some(preset.language_model.to_owned()),
            (None, wanted, _) => wanted,
        };
        source.base = base.map(|name| find(&name, Wanted::Base)).transpose()?;
        let tower = match names.vision_tower {
            Some(tower) => Some(tower.to_owned()),
            None => source.wanted_tower()?,
        };
        let tower = tower.map(|name| find(&name, Wanted::VisionTower));
        source.vision_tower = tower.transpose()?;
        Ok(source)
    }

    /// The folders of the model called `name`, a folder or a `hub`'s `org/name[@revision]`, and of all
    /// that its own files say it needs. What is not here is downloaded, and `progress` is told.
    ///
    /// # Errors
    /// When something is neither here nor on the hub, or a configuration cannot be read.
    #[cfg(feature = "hub")]
    pub fn resolve(
        name: &str,
        hub: &Hub,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<Self, Error> {
        let names = ModelNames {
            model: name,
            base: None,
            vision_tower: None,
        };
        Self::find(names, |name, wanted| {
            fetch(name, wanted, hub, &mut progress)
        })
    }
}

/// A folder or file as it is, or else the folder of what a hub has under this id, downloaded as far as
/// it is `wanted` and not here.
///
/// # Errors
/// When `name` is neither a path that exists nor a hub's id, or the download fails.
#[cfg(feature = "hub")]
pub fn fetch(
    name: &str,
    wanted: Wanted,
    hub: &Hub,
    progress: impl FnMut(Progress<'_>),
) -> Result<PathBuf, Error> {
    if files::exists(name) {
        return Ok(name.into());
    }
    Ok(hub.fetch(&hub_id(name)?, |names| wanted.files(names), progress)?)
}

/// The files that [`fetch`] would have of a hub, with their sizes; none where `name` is a path that
/// exists.
///
/// # Errors
/// As [`fetch`].
#[cfg(feature = "hub")]
pub fn needed(name: &str, wanted: Wanted, hub: &Hub) -> Result<Vec<NeededFile>, Error> {
    match files::exists(name) {
        true => Ok(Vec::new()),
        false => Ok(hub.needed(&hub_id(name)?, |names| wanted.files(names))?),
    }
}

/// A name that is no path here, as a hub's.
#[cfg(feature = "hub")]
fn hub_id(name: &str) -> Result<ModelId, Error> {
    let (id, _revision) = name.split_once('@').unwrap_or((name, ""));
    if name.starts_with(['.', '/', '~']) || id.split('/').count() != 2 {
        return Err(Error::NoSuchModel { name: name.into() });
    }
    Ok(name.parse()?)
}

#[cfg(feature = "hub")]
impl Wanted {
    /// What is needed of a repository's files.
    fn files(self, names: &[String]) -> Vec<String> {
        match self {
            Self::Model | Self::Base => model_files(names),
            Self::VisionTower => tower_files(names),
            Self::Configuration => names
                .iter()
                .filter(|name| name.ends_with(".json") && !name.contains('/'))
                .cloned()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models");
        PathBuf::from(models).join(name)
    }

    #[test]
    fn what_a_model_names_is_looked_for_and_nothing_else() {
        let adapter = fixture("phi-siglip-lora/bunny-lora");
        for (model, base, expected) in [
            (fixture("phi-siglip"), None, vec![Wanted::Model]),
            (
                adapter.clone(),
                None,
                vec![Wanted::Model, Wanted::Base, Wanted::VisionTower],
            ),
            (
                adapter,
                Some("mine"),
                vec![Wanted::Model, Wanted::Base, Wanted::VisionTower],
            ),
        ] {
            let mut asked = Vec::new();
            let names = ModelNames {
                model: model.to_str().unwrap(),
                base,
                vision_tower: None,
            };
            let source = ModelSource::find(names, |name, wanted| {
                asked.push(wanted);
                Ok::<_, Error>(match wanted {
                    Wanted::Model => name.into(),
                    Wanted::Base => {
                        assert_eq!(base.is_some(), name == "mine");
                        fixture("phi-siglip-lora/base")
                    }
                    _ => fixture("phi-siglip-lora/siglip-tower"),
                })
            });
            assert_eq!(asked, expected);
            source.unwrap().open().unwrap();
        }
    }

    #[cfg(feature = "hub")]
    #[test]
    fn a_name_that_is_neither_a_path_nor_an_id_is_not_asked_for() {
        use bunny_weights::hub::{HubSettings, Patience};

        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::new(HubSettings {
            // Nobody listens there.
            endpoint: "http://127.0.0.1:9".into(),
            cache: folder.path().into(),
            token: None,
            offline: true,
            patience: Patience::default(),
        });
        for name in ["./nowhere", "/no/where", "a/b/c", "word"] {
            let error = ModelSource::resolve(name, &hub, |_| {}).unwrap_err();
            assert!(
                matches!(&error, Error::NoSuchModel { name: of } if of == name),
                "{error}"
            );
        }
        let error = ModelSource::resolve("org/name", &hub, |_| {}).unwrap_err();
        assert!(matches!(error, Error::Hub(_)), "{error}");
    }
}
