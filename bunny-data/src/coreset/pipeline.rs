//! The stages in their order, each resumable, from a folder of embeddings to the kept keys.

mod choose;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bucket::Buckets;
use super::centroids::Centroids;
use super::engine::Engine;
use super::engine::resumable::{
    FORMAT_VERSION, MANIFEST, Resumable, file_fingerprint, fingerprint, read_manifest,
    stage_folder, write_manifest,
};
use super::files::{remove_file, remove_folder};
use super::options::{CoresetOptions, Keep};
use super::report::{Report, write_report};
use super::resources;
use super::stages::assign::{Assign, Assigned};
use super::stages::duplicates::{Deduplicated, Duplicates};
use super::stages::kmeans::Training;
use super::stages::output::{self, OutputOptions, Pictured};
use super::stages::scan::{Scan, Scanned};
use crate::embeddings::{EmbeddingSet, Storage};
use crate::error::{DataError, Result, SetFault, WorkFault};

/// Where a selection reads and writes, and what it keeps of its work.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The folder of embeddings.
    pub embeddings: PathBuf,
    /// The folder of results; work files live in `work` below it.
    pub out: PathBuf,
    /// Whether the work files stay, for another selection from the same clusters.
    pub keep_work: bool,
}

/// Selects a coreset: opens the set, runs every stage that is not done yet, writes the results.
///
/// The same embeddings, options and seed give the same bytes, for any engine, memory, number of
/// threads and size of tiles, interrupted or not.
///
/// # Errors
/// When an option cannot be, a file or row of the set cannot be used, or memory or disk do not
/// suffice. Finished stages stay, and the next call goes on from them.
pub fn select(
    engine: &(impl Engine + Sync),
    paths: &Paths,
    options: &CoresetOptions,
    outputs: &OutputOptions,
) -> Result<Report> {
    options.validate()?;
    outputs.validate()?;
    let work = paths.out.join("work");
    let set = EmbeddingSet::open(&paths.embeddings, &options.embeddings)?;
    let identity = identity(&set)?;
    let given = Given::of(options)?;
    let all = fingerprint(&(&identity, options, &given, outputs))?;
    if let Some(report) = finished(&paths.out, &all, outputs)? {
        if !paths.keep_work {
            // The run that made it may have been killed before it had.
            remove_folder(&work)?;
        }
        return Ok(report);
    }

    std::fs::create_dir_all(&work).map_err(DataError::io(&work, "create"))?;
    let run = Run {
        engine,
        work,
        options,
        identity,
        given,
    };
    output::check(&set, outputs)?;
    engine.drive(|worker| {
        let disk = resources::check(options, &set, &run.work, worker.memory)?;
        worker.progress.disk(&disk);
        Ok::<_, DataError>(())
    })?;
    let set = run.unpack(set)?;
    let (scanned, scores) = run.scan(&set)?;
    let usable = scanned.rows - scanned.dropped;
    if usable == 0 {
        return Err(DataError::set(&set.folder, SetFault::NothingUsable));
    }
    let (centroids, chain) = run.centroids(&set, &scanned, &scores)?;
    let (divided, runs, buckets, chain) = run.divide(&set, &scores, &centroids, &chain)?;
    if divided.rows != usable {
        return Err(DataError::work(&runs, WorkFault::RowsLost));
    }
    let (reduced, folder, chain) = run.reduce(&set, &centroids, &runs, buckets, &chain)?;
    let ([score, centroid], chosen) = run.choose(&set, &folder, buckets, &chain)?;
    let (mut written, pictured) = engine
        .drive(|worker| output::write(&set, &chosen, &paths.out, outputs, &run.work, worker))?;
    let beside = paths.out.join("centroids.npy");
    match &options.clusters.centroids {
        None => {
            let trained = Centroids::read(&centroids, set.dims, options.clusters.geometry)?;
            trained.write(beside)?;
            written.files.push("centroids.npy".into());
        }
        Some(given) if is_same_file(given, &beside) => {}
        // Those of an earlier selection are not what these rows were divided by.
        Some(_) => remove_file(&beside)?,
    }
    let mut report = Report {
        format_version: FORMAT_VERSION,
        options: options.clone(),
        dims: set.dims,
        clusters: buckets.clusters,
        scanned,
        divided,
        reduced,
        score,
        centroid,
        written,
    };
    write_report(&mut report, &paths.out)?;
    let finished = Finished { report, pictured };
    write_manifest(&paths.out.join(MANIFEST), &all, &finished)?;
    if !paths.keep_work {
        remove_folder(&run.work)?;
    }
    Ok(finished.report)
}

/// What the manifest of a selection keeps.
#[derive(Serialize, Deserialize)]
struct Finished {
    report: Report,
    pictured: Option<Pictured>,
}

/// The report of a selection that was made from the same inputs and still stands whole.
fn finished(out: &Path, all: &str, outputs: &OutputOptions) -> Result<Option<Report>> {
    let Some(finished) = read_manifest::<Finished>(&out.join(MANIFEST), all)? else {
        return Ok(None);
    };
    let mut files = finished.report.written.files.iter();
    if !files.all(|name| out.join(name).is_file()) {
        return Ok(None);
    }
    let look = |images: &PathBuf| Pictured::look(out, images);
    let is_same = finished.pictured == outputs.images.as_ref().map(look).transpose()?;
    Ok(is_same.then_some(finished.report))
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The hashes of the files of centroids that the options name.
#[derive(Serialize)]
struct Given {
    centroids: Option<String>,
    start_from: Option<String>,
}

impl Given {
    fn of(options: &CoresetOptions) -> Result<Self> {
        let hash = |path: &Option<PathBuf>| path.as_deref().map(file_fingerprint).transpose();
        Ok(Self {
            centroids: hash(&options.clusters.centroids)?,
            start_from: hash(&options.clusters.start_from)?,
        })
    }
}

/// What tells whether files are the same as before without reading them: name, length, time.
fn identity(set: &EmbeddingSet) -> Result<Vec<(String, u64, u128)>> {
    let mut files = Vec::new();
    for shard in &set.shards {
        let text = shard.text.as_ref().map(|text| &text.path);
        for path in [Some(&shard.image.path), text, shard.metadata.as_ref()]
            .into_iter()
            .flatten()
        {
            let metadata = std::fs::metadata(path).map_err(DataError::io(path, "read"))?;
            let time = metadata
                .modified()
                .ok()
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            let name = path.strip_prefix(&set.folder).unwrap_or(path);
            files.push((
                DataError::text(name)?.to_owned(),
                metadata.len(),
                time.map_or(0, |time| time.as_nanos()),
            ));
        }
    }
    Ok(files)
}

/// One selection under way.
struct Run<'a, E> {
    engine: &'a E,
    work: PathBuf,
    options: &'a CoresetOptions,
    identity: Vec<(String, u64, u128)>,
    given: Given,
}

/// A stage's results, and the word for all it depends on.
type Chain = String;

impl<E: Engine + Sync> Run<'_, E> {
    fn unpack(&self, set: EmbeddingSet) -> Result<EmbeddingSet> {
        let packed = set.shards.iter().any(|shard| {
            [Some(&shard.image), shard.text.as_ref()]
                .into_iter()
                .flatten()
                .any(|matrix| !matches!(matrix.storage, Storage::Plain { .. }))
        });
        if !packed {
            return Ok(set);
        }
        let word = fingerprint(&("unpack", &self.identity, &self.options.embeddings))?;
        set.unpack(stage_folder(&self.work, "unpacked", &word)?)
    }

    fn scan(&self, set: &EmbeddingSet) -> Result<(Scanned, PathBuf)> {
        let similarity = self.options.duplicates.similarity;
        let needs_scores = self.options.windows.score.is_some()
            || self.options.duplicates.keep() == Keep::MaxScore;
        let word = fingerprint(&(
            "scan",
            &self.identity,
            &self.options.embeddings,
            self.options.invalid,
            similarity,
            needs_scores,
        ))?;
        let folder = stage_folder(&self.work, "scan", &word)?;
        let task = Resumable {
            task: Scan {
                set: set.clone(),
                invalid: self.options.invalid,
                similarity,
                needs_scores,
                folder: folder.clone(),
            },
            folder: folder.clone(),
            fingerprint: word,
        };
        self.engine
            .drive(|worker| worker.progress.begin("scan", set.rows()));
        let parts = self.engine.map_files(&task, set.parts().len())?;
        let merged = self.engine.merge(parts, Scanned::merge);
        Ok((merged.unwrap_or_default(), folder))
    }

    fn centroids(
        &self,
        set: &EmbeddingSet,
        scanned: &Scanned,
        scores: &Path,
    ) -> Result<(PathBuf, Chain)> {
        let options = &self.options.clusters;
        if let Some(path) = &options.centroids {
            // Read once, so that a broken file is found before the long stages.
            Centroids::read(path, set.dims, options.geometry)?;
            let word = fingerprint(&(
                "given",
                scanned.content,
                self.options.invalid,
                &self.given.centroids,
                options.geometry,
            ))?;
            return Ok((path.clone(), word));
        }
        let usable = scanned.rows - scanned.dropped;
        let clusters = resources::cluster_count(self.options, set)?.min(usable);
        let word = fingerprint(&(
            (
                "train",
                scanned.content,
                self.options.invalid,
                clusters,
                &self.given.start_from,
            ),
            (
                options.geometry,
                options.start,
                options.iterations,
                options.epochs,
            ),
            (options.rows_per_centroid, self.options.seed),
        ))?;
        let training = Training {
            set,
            usable,
            options,
            clusters,
            seed: self.options.seed,
            scores: scores.to_owned(),
            folder: stage_folder(&self.work, "kmeans", &word)?,
        };
        let path = self.engine.drive(|worker| training.run(worker))?;
        Ok((path, word))
    }

    fn divide(
        &self,
        set: &EmbeddingSet,
        scores: &Path,
        centroids: &Path,
        chain: &Chain,
    ) -> Result<(Assigned, PathBuf, Buckets, Chain)> {
        let options = &self.options.clusters;
        let clusters = crate::embeddings::MatrixFile::npy(centroids)?.rows;
        let buckets = Buckets::new(clusters, set.rows() * set.row_bytes() as u64);
        // The scores go into the runs, so what they are made from counts here.
        let word = fingerprint(&(
            "assign",
            chain,
            options.search,
            buckets,
            self.options.duplicates.similarity,
            &self.options.embeddings,
        ))?;
        let folder = stage_folder(&self.work, "assign", &word)?;
        let task = Resumable {
            task: Assign {
                set: set.clone(),
                centroids: centroids.to_owned(),
                geometry: options.geometry,
                search: options.search,
                buckets,
                scores: scores.to_owned(),
                folder: folder.clone(),
            },
            folder: folder.clone(),
            fingerprint: word.clone(),
        };
        self.engine
            .drive(|worker| worker.progress.begin("assign", set.rows()));
        let parts = self.engine.map_files(&task, set.parts().len())?;
        let merged = self.engine.merge(parts, Assigned::merge);
        Ok((merged.unwrap_or_default(), folder, buckets, word))
    }

    fn reduce(
        &self,
        set: &EmbeddingSet,
        centroids: &Path,
        runs: &Path,
        buckets: Buckets,
        chain: &Chain,
    ) -> Result<(Deduplicated, PathBuf, Chain)> {
        let word = fingerprint(&(
            "duplicates",
            chain,
            &self.options.duplicates,
            self.options.seed,
        ))?;
        let folder = stage_folder(&self.work, "duplicates", &word)?;
        let task = Resumable {
            task: Duplicates {
                runs: runs.to_owned(),
                parts: set.parts().len(),
                buckets,
                centroids: centroids.to_owned(),
                geometry: self.options.clusters.geometry,
                dims: set.dims,
                dtype: set.dtype,
                options: self.options.duplicates.clone(),
                seed: self.options.seed,
                folder: folder.clone(),
            },
            folder: folder.clone(),
            fingerprint: word.clone(),
        };
        self.engine
            .drive(|worker| worker.progress.begin("duplicates", set.rows()));
        let parts = self.engine.map_buckets(&task, buckets.count as usize)?;
        let merged = self.engine.merge(parts, Deduplicated::merge);
        Ok((merged.unwrap_or_default(), folder, word))
    }
}
