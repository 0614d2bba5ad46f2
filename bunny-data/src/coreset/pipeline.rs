//! The stages in their order, each resumable, from a folder of embeddings to the kept keys.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::assign::Nearest;
use super::bucket::Buckets;
use super::centroids::Centroids;
use super::divide::{Divide, Divided};
use super::draw::{self, HashKeys, Survive};
use super::error::{CoresetError, Result};
use super::files::{folder_bytes, free_disk, remove_folder};
use super::kept::Kept;
use super::options::{CoresetOptions, Keep};
use super::output::{self, OutputOptions};
use super::reduce::{Reduce, Reduced};
use super::report::{Report, write_report};
use super::scan::{Scan, Scanned};
use super::stage::{
    FORMAT_VERSION, Resumable, file_fingerprint, fingerprint, read_manifest, stage_folder,
    write_manifest,
};
use super::train::Training;
use super::windows::{self, By, Ranked, Survivors};
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

/// Bytes of disk that the work files of a set take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiskUse {
    /// Embeddings that have to be unpacked before they can be mapped.
    pub unpacked: u64,
    /// The sample that centroids are trained on, and the centroids.
    pub training: u64,
    /// The rows, sorted into buckets of clusters.
    pub buckets: u64,
    /// Scores and survivors, at most.
    pub tables: u64,
}

impl DiskUse {
    /// The work files of `rows` rows of so many bytes.
    pub fn new(unpacked: u64, rows: u64, row_bytes: u64, sample: u64, centroids: u64) -> Self {
        Self {
            unpacked,
            training: sample * row_bytes + 2 * centroids,
            buckets: rows * (row_bytes + 24),
            tables: rows * (8 + 2 * size_of::<Kept>() as u64),
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.unpacked + self.training + self.buckets + self.tables
    }
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
    let disk = run.check_resources(&set)?;
    tracing::info!(bytes = disk.total(), "work files, at most");
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
    /// Fails before anything is written where memory or disk cannot suffice.
    fn check_resources(&self, set: &EmbeddingSet) -> Result<DiskUse> {
        let clusters = match &self.options.clusters.centroids {
            Some(path) => crate::embeddings::MatrixFile::npy(path)?.rows,
            None => self.options.cluster_count(set.rows()),
        };
        if clusters > set.rows() && self.options.clusters.centroids.is_none() {
            return Err(CoresetError::option(
                "--clusters",
                format!("{clusters} clusters of {} rows", set.rows()),
            ));
        }
        // Centroids once as they are, and once as the search lays them out; two levels lay out
        // every centroid twice.
        let vectors = 4 * clusters * set.dims as u64;
        let layouts = match self.options.clusters.search {
            super::options::Search::Exact => 1,
            super::options::Search::TwoLevel { .. } => 2,
        };
        let need = vectors + layouts * Nearest::bytes(clusters, set.dims);
        let budget = self.engine.drive(|worker| worker.memory);
        if need > budget / 2 {
            return Err(CoresetError::Memory {
                what: "searching the centroids in half of the memory",
                need: 2 * need,
                budget,
            });
        }
        let sample = match self.options.clusters.centroids {
            Some(_) => 0,
            None => self
                .options
                .clusters
                .rows_per_centroid
                .saturating_mul(clusters)
                .min(set.rows()),
        };
        let disk = DiskUse::new(
            set.packed_bytes(),
            set.rows(),
            set.row_bytes() as u64,
            sample,
            vectors,
        );
        let left = disk.total().saturating_sub(folder_bytes(&self.work));
        match free_disk(&self.work) {
            Some(free) if free < left => Err(CoresetError::Disk {
                path: self.work.clone(),
                need: left,
                free,
            }),
            _ => Ok(disk),
        }
    }

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
        let clusters = self.options.cluster_count(set.rows()).min(usable);
        let start = options
            .start_from
            .as_deref()
            .map(file_fingerprint)
            .transpose()?;
        if let Some(path) = &options.start_from {
            let given = crate::embeddings::MatrixFile::npy(path)?.rows;
            if given != clusters {
                return Err(CoresetError::option(
                    "--start-from",
                    format!("{given} centroids, and --clusters asks for {clusters}"),
                ));
            }
        }
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

    /// Steps 2 and 3 and the draw; the path of the chosen rows.
    fn choose(
        &self,
        set: &EmbeddingSet,
        kept: &Path,
        buckets: Buckets,
        chain: &Chain,
    ) -> Result<([Ranked; 2], PathBuf)> {
        let buckets = buckets.count as usize;
        let mut survivors = Survivors {
            folder: kept.to_owned(),
            buckets,
            cuts: Vec::new(),
        };
        let steps = [
            (By::Score, self.options.windows.score),
            (By::Centroid, self.options.windows.centroid),
        ];
        let mut ranked = [Ranked::default(), Ranked::default()];
        for (ranked, (by, window)) in ranked.iter_mut().zip(steps) {
            *ranked = match window {
                Some(window) => windows::cut(self.engine, &mut survivors, by, window)?,
                None => {
                    let (rows, values) = windows::count(self.engine, &survivors, by)?;
                    Ranked {
                        rows,
                        kept: rows,
                        values,
                        bounds: [None; 2],
                    }
                }
            };
        }
        let word = fingerprint(&("survivors", chain, &self.options.windows, &self.identity));
        let folder = stage_folder(&self.work, "survivors", &word)?;
        let task = Resumable {
            task: Survive {
                survivors,
                folder: folder.clone(),
            },
            folder: folder.clone(),
            fingerprint: word.clone(),
        };
        self.engine.map_buckets(&task, buckets)?;
        let all = folder.join("survivors.bin");
        if !all.is_file() {
            draw::merge(&folder, buckets, &all)?;
        }
        let Some(sample) = self
            .options
            .sample
            .filter(|sample| *sample < ranked[1].kept)
        else {
            return Ok((ranked, all));
        };
        let word = fingerprint(&("keys", word, self.options.seed, &self.options.embeddings));
        let folder = stage_folder(&self.work, "keys", &word)?;
        let chosen = folder.join(format!("chosen-{sample}.bin"));
        if !chosen.is_file() {
            let task = Resumable {
                task: HashKeys {
                    set: set.clone(),
                    survivors: all.clone(),
                    seed: self.options.seed,
                    folder: folder.clone(),
                },
                folder: folder.clone(),
                fingerprint: word,
            };
            self.engine
                .drive(|worker| worker.progress.begin("keys", ranked[1].kept));
            let parts = set.parts().len();
            self.engine.map_files(&task, parts)?;
            self.engine
                .drive(|_| draw::draw(&all, &folder, parts, sample, &chosen))?;
        }
        Ok((ranked, chosen))
    }
}

/// Bytes of memory on this machine; `None` where the system does not say.
pub fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
