//! The stages in their order, each resumable, from a folder of embeddings to the kept keys.

mod choose;

use std::path::{Path, PathBuf};

use super::bucket::Buckets;
use super::centroids::Centroids;
use super::divide::{Divide, Divided};
use super::error::{CoresetError, Result};
use super::files::remove_folder;
use super::options::{CoresetOptions, Keep};
use super::output::{self, OutputOptions};
use super::reduce::{Reduce, Reduced};
use super::report::{Report, write_report};
use super::resources;
use super::scan::{Scan, Scanned};
use super::stage::{
    FORMAT_VERSION, Resumable, file_fingerprint, fingerprint, read_manifest, stage_folder,
    write_manifest,
};
use super::train::Training;
use crate::embeddings::{EmbeddingSet, Storage};
use crate::engine::Engine;

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
    let work = paths.out.join("work");
    std::fs::create_dir_all(&work).map_err(CoresetError::io(&work, "create"))?;
    let set = EmbeddingSet::open(&paths.embeddings, &options.embeddings)?;
    let identity = identity(&set)?;
    let all = fingerprint(&(&identity, options, outputs));
    let finished = paths.out.join("manifest.json");
    if let Some(report) = read_manifest::<Report>(&finished, &all)?
        && report
            .written
            .files
            .iter()
            .all(|name| paths.out.join(name).is_file())
    {
        return Ok(report);
    }

    let run = Run {
        engine,
        work,
        options,
        identity,
    };
    output::check(&set, outputs)?;
    engine.drive(|worker| {
        let disk = resources::check(options, &set, &run.work, worker.memory)?;
        worker.progress.disk(&disk);
        Ok::<_, CoresetError>(())
    })?;
    let set = run.unpack(set)?;
    let (scanned, scores) = run.scan(&set)?;
    let usable = scanned.rows - scanned.dropped;
    if usable == 0 {
        return Err(CoresetError::layout(
            &set.folder,
            "no row of it can be used",
        ));
    }
    let (centroids, chain) = run.centroids(&set, &scanned, &scores)?;
    let (divided, runs, buckets, chain) = run.divide(&set, &scores, &centroids, &chain)?;
    if divided.rows != usable {
        return Err(CoresetError::format(
            &runs,
            "rows were lost: remove the work folder",
        ));
    }
    let (reduced, folder, chain) = run.reduce(&set, &centroids, &runs, buckets, &chain)?;
    let ([score, centroid], chosen) = run.choose(&set, &folder, buckets, &chain)?;
    let mut written = engine
        .drive(|worker| output::write(&set, &chosen, &paths.out, outputs, &run.work, worker))?;
    if options.clusters.centroids.is_none() {
        let trained = Centroids::read(&centroids, set.dims, options.clusters.geometry)?;
        trained.write(paths.out.join("centroids.npy"))?;
        written.files.push("centroids.npy".into());
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
    write_manifest(&finished, &all, &report)?;
    if !paths.keep_work {
        remove_folder(&run.work)?;
    }
    Ok(report)
}

/// What tells whether files are the same as before without reading them: name, length, time.
fn identity(set: &EmbeddingSet) -> Result<Vec<(PathBuf, u64, u128)>> {
    let mut files = Vec::new();
    for shard in &set.shards {
        let text = shard.text.as_ref().map(|text| &text.path);
        for path in [Some(&shard.image.path), text, shard.metadata.as_ref()]
            .into_iter()
            .flatten()
        {
            let metadata = std::fs::metadata(path).map_err(CoresetError::io(path, "read"))?;
            let time = metadata
                .modified()
                .ok()
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            let name = path.strip_prefix(&set.folder).unwrap_or(path);
            files.push((
                name.to_owned(),
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
    identity: Vec<(PathBuf, u64, u128)>,
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
        let word = fingerprint(&("unpack", &self.identity, &self.options.embeddings));
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
        ));
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
                file_fingerprint(path)?,
                options.geometry,
            ));
            return Ok((path.clone(), word));
        }
        let usable = scanned.rows - scanned.dropped;
        let clusters = resources::cluster_count(self.options, set)?.min(usable);
        let start = options
            .start_from
            .as_deref()
            .map(file_fingerprint)
            .transpose()?;
        let word = fingerprint(&(
            (
                "train",
                scanned.content,
                self.options.invalid,
                clusters,
                start,
            ),
            (
                options.geometry,
                options.start,
                options.iterations,
                options.epochs,
            ),
            (options.rows_per_centroid, self.options.seed),
        ));
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
    ) -> Result<(Divided, PathBuf, Buckets, Chain)> {
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
        ));
        let folder = stage_folder(&self.work, "assign", &word)?;
        let task = Resumable {
            task: Divide {
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
        let merged = self.engine.merge(parts, Divided::merge);
        Ok((merged.unwrap_or_default(), folder, buckets, word))
    }

    fn reduce(
        &self,
        set: &EmbeddingSet,
        centroids: &Path,
        runs: &Path,
        buckets: Buckets,
        chain: &Chain,
    ) -> Result<(Reduced, PathBuf, Chain)> {
        let word = fingerprint(&(
            "duplicates",
            chain,
            &self.options.duplicates,
            self.options.seed,
        ));
        let folder = stage_folder(&self.work, "duplicates", &word)?;
        let task = Resumable {
            task: Reduce {
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
        let merged = self.engine.merge(parts, Reduced::merge);
        Ok((merged.unwrap_or_default(), folder, word))
    }
}
