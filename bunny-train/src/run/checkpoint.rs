//! Checkpoints of a run: everything it takes to go on as if it had never stopped.
//!
//! A checkpoint is a folder `checkpoint-N` that appears whole or not at all: it is written under
//! another name and renamed when all of it is on the disk. Beside the optimizer's state it holds
//! what the stage would leave behind, so that it can be tried as it is.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use bunny_base::write_atomic;
use bunny_core::input::conversation::Template;
use bunny_weights::{
    StoredDtype, TensorFiles,
    convert::{f32_bytes, to_f32},
    writer::{PlannedTensor, write_file},
};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BestEvaluation, job::LOCK_FILE, metrics::METRICS_FILE};
use crate::{
    error::TrainError,
    optimizer::{Moments, Optimizer},
    recipe::StageKind,
    trainable::Trainable,
};

/// The version of the format that this code reads and writes.
pub const FORMAT_VERSION: u32 = 1;

const CHECKPOINT_PREFIX: &str = "checkpoint-";
const STATE_FILE: &str = "trainer_state.json";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// What a checkpoint says of its run, beside the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// 1.
    pub format_version: u32,
    /// The stage.
    pub stage: StageKind,
    /// Steps taken.
    pub step: u64,
    /// Ranks that took them.
    pub world: usize,
    /// Records they were drawn from; `None` in checkpoints that do not say.
    #[serde(default)]
    pub records: Option<usize>,
    /// A hash of what their file holds; `None` in checkpoints that do not say.
    #[serde(default)]
    pub content: Option<String>,
    /// The number types they were computed in; `None` in checkpoints that do not say.
    #[serde(default)]
    pub precision: Option<String>,
    /// The recipe they were taken by.
    pub recipe: Map<String, Value>,
    /// For each trainable that gradients have reached, how many updates it has had.
    pub updates: BTreeMap<String, u64>,
    /// The best evaluation so far, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestEvaluation>,
}

/// Which checkpoints of a run stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// So many of the last ones.
    pub last: usize,
    /// The one after this step besides.
    pub best: Option<u64>,
}

/// A stage's keys as its checkpoints keep them.
///
/// # Errors
/// When they have no form in JSON.
pub(super) fn keys_of(recipe: &impl Serialize) -> Result<Map<String, Value>, TrainError> {
    let keys = serde_json::to_value(recipe).and_then(serde_json::from_value);
    keys.map_err(|source| TrainError::Json {
        what: "the recipe's keys",
        source,
    })
}

/// Keys of a recipe that may change while a run is stopped: they do not change its numbers.
const FREE_KEYS: [&str; 8] = [
    "dataloader_num_workers",
    "early_stopping_patience",
    "eval_data_path",
    "eval_steps",
    "load_best_model_at_end",
    "report_to",
    "save_steps",
    "save_total_limit",
];

/// Writes `checkpoint-N` into a stage's folder, then removes those that `keep` has no place for.
///
/// `write_outputs` adds what the stage would leave behind.
///
/// # Errors
/// When a file cannot be written, for one when the disk is full; checkpoints that were there before
/// are then untouched.
pub fn write<B: Backend>(
    folder: &Path,
    state: &RunState,
    optimizer: &Optimizer<B>,
    trainables: &[Trainable],
    keep: Retention,
    write_outputs: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<PathBuf, TrainError> {
    let draft = folder.join(format!(".checkpoint-{}.draft", state.step));
    let place = place(folder, state.step);
    remove(&draft)?;
    fs::create_dir_all(&draft).map_err(TrainError::io(&draft, "create"))?;
    let written = write_state(&draft, state, optimizer, trainables).and_then(|()| {
        write_outputs(&draft)?;
        sync(&draft)?;
        remove(&place)?;
        fs::rename(&draft, &place).map_err(TrainError::io(&place, "write"))?;
        sync(folder)
    });
    if let Err(error) = written {
        // What is left of the draft is of no use; the reason to tell is the first one.
        let _ = fs::remove_dir_all(&draft);
        return Err(error);
    }
    prune(folder, keep)?;
    Ok(place)
}

/// Where the checkpoint after `step` is.
pub fn place(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("checkpoint-{step}"))
}

/// Removes all checkpoints but those to keep.
fn prune(folder: &Path, keep: Retention) -> Result<(), TrainError> {
    for (step, old) in list(folder)?.iter().rev().skip(keep.last) {
        if keep.best == Some(*step) {
            continue;
        }
        // Half of a checkpoint must not look like one.
        let draft = folder.join(format!(".checkpoint-{step}.draft"));
        fs::rename(old, &draft).map_err(TrainError::io(old, "remove"))?;
        remove(&draft)?;
    }
    Ok(())
}

fn write_state<B: Backend>(
    draft: &Path,
    state: &RunState,
    optimizer: &Optimizer<B>,
    trainables: &[Trainable],
) -> Result<(), TrainError> {
    let mut plan = Vec::new();
    let mut tensors: BTreeMap<String, &Tensor<B, 1>> = BTreeMap::new();
    for (trainable, state) in trainables.iter().zip(optimizer.states()) {
        let key = trainable.key();
        tensors.insert(format!("{key}/master"), &state.master);
        if let Some(moments) = &state.moments {
            tensors.insert(format!("{key}/first"), &moments.first);
            if let Some(second) = &moments.second {
                tensors.insert(format!("{key}/second"), second);
            }
        }
    }
    for (name, tensor) in &tensors {
        plan.push(PlannedTensor {
            name: name.clone(),
            dtype: StoredDtype::F32,
            shape: tensor.dims().to_vec(),
        });
    }
    write_file(draft.join(OPTIMIZER_FILE), &plan, |planned| {
        let values: Vec<f32> = tensors[&planned.name].to_data().iter().collect();
        Ok::<_, TrainError>(f32_bytes(&values))
    })?;
    write_atomic(draft.join(STATE_FILE), |file| {
        serde_json::to_writer_pretty(&mut *file, state)?;
        file.write_all(b"\n")
    })?;
    Ok(())
}

/// The checkpoints of a stage's folder by their steps, last one last.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, TrainError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TrainError::io(folder, "read")(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(TrainError::io(folder, "read"))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if let Some(step) = name
            .strip_prefix(CHECKPOINT_PREFIX)
            .and_then(|step| step.parse().ok())
        {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The last checkpoint of a stage's folder, to go on from; `None` in a folder without any.
///
/// # Errors
/// When there is one, and `resume` is not wanted; and when the folder holds something else.
pub fn last(folder: &Path, resume: bool) -> Result<Option<(u64, PathBuf)>, TrainError> {
    let last = list(folder)?.pop();
    if last.is_some() && !resume {
        let folder = folder.to_path_buf();
        return Err(TrainError::Occupied { folder });
    }
    require_free(folder)?;
    Ok(last)
}

/// Refuses a folder that holds something, but no run. One that was stopped before its first
/// checkpoint has left its lock.
///
/// # Errors
/// When it is refused.
pub(super) fn require_free(folder: &Path) -> Result<(), TrainError> {
    let of_run = |name: &str| {
        [LOCK_FILE, METRICS_FILE].contains(&name) || name.starts_with(CHECKPOINT_PREFIX)
    };
    // What cannot be read is told by whoever writes to it.
    let mut held: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    held.sort();
    match held.first() {
        Some(name) if !held.iter().any(|name| of_run(name)) => Err(TrainError::NoRun {
            folder: folder.to_path_buf(),
            held: name.clone(),
        }),
        _ => Ok(()),
    }
}

fn wrong(path: &Path, problem: String) -> TrainError {
    TrainError::State {
        path: path.to_path_buf(),
        problem,
    }
}

/// What a checkpoint says of its run.
///
/// # Errors
/// When it is damaged, or of a newer format.
pub fn state(checkpoint: &Path) -> Result<RunState, TrainError> {
    let file = checkpoint.join(STATE_FILE);
    let text = fs::read(&file).map_err(TrainError::io(&file, "read"))?;
    let version: Version =
        serde_json::from_slice(&text).map_err(|error| wrong(&file, error.to_string()))?;
    if version.format_version != FORMAT_VERSION {
        let problem = format!(
            "format_version is {}, this version reads {FORMAT_VERSION}",
            version.format_version
        );
        return Err(wrong(&file, problem));
    }
    serde_json::from_slice(&text).map_err(|error| wrong(&file, error.to_string()))
}

/// Reads a checkpoint back into an optimizer, and gives what it says of its run. `present` is the run
/// that goes on.
///
/// # Errors
/// When the checkpoint is damaged, of a newer format, or of a run under other settings.
pub fn read<B: Backend>(
    checkpoint: &Path,
    present: &RunState,
    optimizer: &mut Optimizer<B>,
    trainables: &[Trainable],
    device: &B::Device,
) -> Result<RunState, TrainError> {
    let state = state(checkpoint)?;
    check_settings(checkpoint, &state, present)?;

    let file = checkpoint.join(OPTIMIZER_FILE);
    let tensors = TensorFiles::open_file(&file)?;
    let flat = |name: String, count: usize| -> Result<Option<Tensor<B, 1>>, TrainError> {
        let Some(stored) = tensors.get(&name) else {
            return Ok(None);
        };
        match to_f32(&stored.bytes, stored.dtype).filter(|values| values.len() == count) {
            Some(values) => {
                let data = TensorData::new(values, [count]);
                Ok(Some(Tensor::from_data(data, (device, DType::F32))))
            }
            None => Err(wrong(&file, format!("`{name}` is not {count} floats"))),
        }
    };
    for (trainable, slot) in trainables.iter().zip(optimizer.states_mut()) {
        let (key, count) = (trainable.key(), trainable.count());
        slot.master = flat(format!("{key}/master"), count)?
            .ok_or_else(|| wrong(&file, format!("`{key}/master` is missing")))?;
        let first = flat(format!("{key}/first"), count)?;
        let second = flat(format!("{key}/second"), count)?;
        slot.moments = match (first, second, state.updates.get(&key)) {
            (Some(first), second, Some(&updates)) if second.is_some() == slot.has_second() => {
                Some(Moments {
                    first,
                    second,
                    updates,
                })
            }
            (None, None, None) => None,
            _ => {
                return Err(wrong(
                    &file,
                    format!("the moments of `{key}` are incomplete"),
                ));
            }
        };
    }
    Ok(state)
}

#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

/// A run goes on only under the settings it began with.
fn check_settings(
    checkpoint: &Path,
    state: &RunState,
    present: &RunState,
) -> Result<(), TrainError> {
    let same = |field: &str, was: String, is: String| match was == is {
        true => Ok(()),
        false => Err(TrainError::Resume {
            checkpoint: checkpoint.to_path_buf(),
            field: field.to_owned(),
            was,
            is,
        }),
    };
    same("stage", state.stage.to_string(), present.stage.to_string())?;
    let devices = "number of devices";
    same(devices, state.world.to_string(), present.world.to_string())?;
    for (field, value) in &present.recipe {
        let mut old = state.recipe.get(field).unwrap_or(&Value::Null);
        // Once kept as it was written: the reference's other name of a template.
        let bunny = Value::from(Template::Bunny.name());
        if field == "version" && old == "default" {
            old = &bunny;
        }
        // A key that was not there yet when the run began is off.
        let is_off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        // Once said where nothing was given.
        let is_default = field == "mm_projector_type" && old == "mlp2x_gelu" && value.is_null();
        let is_same = is_same_place(old, value) || is_off(old) && is_off(value) || is_default;
        if !FREE_KEYS.contains(&field.as_str()) && !is_same {
            same(field, old.to_string(), value.to_string())?;
        }
    }
    // The same path may hold other records by now.
    if let (Some(was), Some(is)) = (state.records, present.records) {
        same("number of records", was.to_string(), is.to_string())?;
    }
    if let (Some(was), Some(is)) = (&state.content, &present.content) {
        same("content of data_path", was.clone(), is.clone())?;
    }
    match (&state.precision, &present.precision) {
        (Some(was), Some(is)) => same("dtype", was.clone(), is.clone()),
        _ => Ok(()),
    }
}

/// Whether two texts lead to one file or folder.
fn is_same_place(one: &Value, other: &Value) -> bool {
    let place = |value: &Value| fs::canonicalize(value.as_str()?).ok();
    place(one).is_some_and(|path| Some(path) == place(other))
}

/// Removes what a run that was killed has left in a stage's folder: files half-written, and
/// checkpoints that `keep` has no place for.
///
/// # Errors
/// When the folder cannot be read, or something in it not removed.
pub fn clean(folder: &Path, keep: Retention) -> Result<(), TrainError> {
    fs::create_dir_all(folder).map_err(TrainError::io(folder, "create"))?;
    for entry in fs::read_dir(folder).map_err(TrainError::io(folder, "read"))? {
        let path = entry.map_err(TrainError::io(folder, "read"))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with(".checkpoint-") && name.ends_with(".draft") {
            remove(&path)?;
        } else if name.starts_with('.') && name.ends_with(".tmp") {
            fs::remove_file(&path).map_err(TrainError::io(&path, "remove"))?;
        }
    }
    prune(folder, keep)
}

fn remove(folder: &Path) -> Result<(), TrainError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::io(folder, "remove")(error))
        }
        _ => Ok(()),
    }
}

/// Brings a folder's names to the disk, where the system lets it.
fn sync(folder: &Path) -> Result<(), TrainError> {
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(TrainError::io(folder, "write"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_other_things_is_not_taken_for_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let stage = folder.path().join("finetune");
        let write = |name: &str| fs::write(stage.join(name), "").unwrap();
        assert!(last(&stage, false).unwrap().is_none());
        fs::create_dir(&stage).unwrap();
        assert!(last(&stage, false).unwrap().is_none());
        write("images");
        for resume in [false, true] {
            let refused = last(&stage, resume).unwrap_err().to_string();
            assert!(refused.contains("finetune holds images"), "{refused}");
        }
        // Stopped before it had a checkpoint.
        for name in [LOCK_FILE, METRICS_FILE] {
            write(name);
            assert!(last(&stage, false).unwrap().is_none());
            fs::remove_file(stage.join(name)).unwrap();
        }
        fs::create_dir(stage.join("checkpoint-2")).unwrap();
        assert!(matches!(
            last(&stage, false),
            Err(TrainError::Occupied { .. })
        ));
        assert_eq!(last(&stage, true).unwrap().unwrap().0, 2);
    }
}
