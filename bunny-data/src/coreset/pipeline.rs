//! The stages in their order, each resumable, from a set of embeddings to the kept keys: what the
//! driver does.

mod holding;
mod kmeans;
mod windows_and_sample;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use bunny_base::FolderLock;
use serde::Serialize;

use self::holding::{Finished, MadeFrom};
use super::bucket::Buckets;
use super::centroids::Centroids;
use super::engine::{AnyTask, Engine, Launched, Wanted, drive, merged};
use super::manifest::{
    self, FORMAT_VERSION, MANIFEST, WORK_VERSION, file_fingerprint, fingerprint,
};
use super::options::{CoresetOptions, Keep};
use super::report::{Report, samples, write_report};
use super::resources;
use super::stages::Stage;
use super::stages::assign::{Assign, Assigned};
use super::stages::duplicates::{Deduplicated, Duplicates};
use super::stages::output::{self, OutputOptions, remove_file};
use super::stages::sample::InOrder;
use super::stages::scan::{Scan, Scanned};
use super::stages::windows::Ranked;
use crate::embeddings::{EmbeddingSet, MatrixFile, PART_ROWS, Storage};
use crate::error::{DataError, OptionFault, Result, SetFault, TaskFault, WorkFault};
use crate::store::{self, Claim, EMBEDDINGS, Entry, Store, Version, WORK};
use crate::whole::fill_whole;

/// Where a selection reads and writes, and what it keeps of its work.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The folder of embeddings, or their address ([`store::open`]).
    pub embeddings: PathBuf,
    /// The folder of results.
    pub out: PathBuf,
    /// Where the work files live; `None`: in `work` below the folder of results.
    pub work: Option<PathBuf>,
    /// Whether the work files stay, for another selection from the same clusters.
    pub keep_work: bool,
    /// Whether a finished selection with other options, other work files and whatever else has the
    /// names of results may be replaced.
    pub force: bool,
    /// How the work is divided.
    pub division: Division,
}

impl Paths {
    /// Calls `work` with the selection from and into these folders.
    fn selection<T>(
        &self,
        options: &CoresetOptions,
        outputs: &OutputOptions,
        work: impl FnOnce(&Selection<'_>) -> Result<T>,
    ) -> Result<T> {
        if store::is_remote(&self.out) {
            let fault = OptionFault::Address("has to be a folder of this machine".to_owned());
            return Err(DataError::option("--out", fault));
        }
        holding::check_outside(&self.embeddings, &self.out)?;
        let beside = self.out.join("work");
        let place = self.work.as_ref().unwrap_or(&beside);
        let store = store::open(&self.embeddings, place, &std::env::temp_dir())?;
        work(&Selection {
            store: &*store,
            out: &self.out,
            keep_work: self.keep_work,
            force: self.force,
            division: self.division,
            options,
            outputs,
        })
    }
}

/// Selects a coreset from and into the folders or addresses of `paths`: [`Selection::run`].
///
/// # Errors
/// As [`Selection::run`], and where the results would go into the set.
pub fn select(
    engine: &dyn Engine,
    paths: &Paths,
    options: &CoresetOptions,
    outputs: &OutputOptions,
) -> Result<Report> {
    paths.selection(options, outputs, |selection| selection.run(engine))
}

/// What is to be launched next of such a selection: [`Selection::next_parts`].
///
/// # Errors
/// As [`select`].
pub fn next_parts(
    engine: &Launched<'_>,
    paths: &Paths,
    options: &CoresetOptions,
    outputs: &OutputOptions,
) -> Result<Option<Wanted>> {
    paths.selection(options, outputs, |selection| selection.next_parts(engine))
}

/// How the work is divided. The kept rows are the same however it is; the hash of the set in the
/// report, which is made of those of its parts, is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Division {
    /// Rows that are worked on as one part, at least.
    pub part_rows: u64,
    /// Bytes of rows in a bucket of clusters, about.
    pub bucket_bytes: u64,
}

impl Default for Division {
    fn default() -> Self {
        Self {
            part_rows: PART_ROWS,
            bucket_bytes: 256 << 20,
        }
    }
}

/// A selection, and where it reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// The embeddings and the work files.
    pub store: &'a dyn Store,
    /// The folder of results.
    pub out: &'a Path,
    /// Whether the work files stay, for another selection from the same clusters.
    pub keep_work: bool,
    /// Whether what stands in the way may be replaced, as in [`Paths`].
    pub force: bool,
    /// How the work is divided.
    pub division: Division,
    /// What the kept keys depend on.
    pub options: &'a CoresetOptions,
    /// What is written beside them.
    pub outputs: &'a OutputOptions,
}

impl Selection<'_> {
    /// Opens the set, runs every stage that is not done yet, writes the results.
    ///
    /// The same embeddings, options and seed give the same bytes, for any engine, memory, number of
    /// threads and size of tiles, interrupted or not.
    ///
    /// # Errors
    /// When an option cannot be, a file or row of the set cannot be used, or memory or disk do not
    /// suffice. Finished stages stay, and the next call goes on from them. When the folder of results
    /// holds something else, or a finished selection of other rows or with other options, unless it
    /// may be replaced; and while another process selects into the same folder.
    pub fn run(&self, engine: &dyn Engine) -> Result<Report> {
        match self.begin(engine)? {
            Begun::Finished(report) => Ok(*report),
            Begun::Open(open) => {
                let chosen = open.choose()?;
                open.write(chosen)
            }
        }
    }

    /// What the driver does until parts are wanted that nobody has done: which they are. `None` once
    /// nothing is left but to write the results, which [`Self::run`] does with the same engine.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn next_parts(&self, engine: &Launched<'_>) -> Result<Option<Wanted>> {
        let Begun::Open(open) = self.begin(engine)? else {
            return Ok(None);
        };
        match open.choose() {
            Ok(_) => Ok(None),
            Err(DataError::Task(TaskFault::Wanted(wanted))) => Ok(Some(*wanted)),
            Err(error) => Err(error),
        }
    }

    /// Looks at the options, the set, and what the folder of results holds.
    fn begin<'a>(&'a self, engine: &'a dyn Engine) -> Result<Begun<'a>> {
        let (store, options, outputs) = (self.store, self.options, self.outputs);
        options.validate()?;
        outputs.validate()?;
        if !self.force {
            holding::check_folder(self.out)?;
            holding::check_work(store, self.out)?;
        }
        let mut set = EmbeddingSet::open(store, &options.embeddings)?;
        set.part_rows = self.division.part_rows;
        let identity = identity(store, &set)?;
        let given = Given::of(options)?;
        let made_from = MadeFrom {
            identity: fingerprint(&identity)?,
            given: fingerprint(&given)?,
        };
        let all = fingerprint(&(&identity, options, &given, outputs))?;
        output::check_columns(&set, outputs)?;
        std::fs::create_dir_all(self.out).map_err(DataError::io(self.out, "create"))?;
        let Some(lock) = FolderLock::take(self.out) else {
            return Err(DataError::set(self.out, SetFault::Busy));
        };
        let earlier = holding::finished(self.out)?;
        if let Some((word, finished)) = earlier {
            let is_same = word == all && finished.still_stands(self.out, outputs, self.force)?;
            if is_same {
                if !self.keep_work {
                    // The run that made it may have been killed before it had.
                    holding::remove_work(store)?;
                }
                return Ok(Begun::Finished(Box::new(finished.report)));
            }
            if !self.force {
                finished.check_options(self.out, options, &made_from)?;
            }
        }

        store.make_folder(WORK)?;
        let Some(claim) = store.claim()? else {
            return Err(DataError::set(store.path(WORK), SetFault::Busy));
        };
        output::check(store, &set, outputs)?;
        drive(engine, |worker| {
            let disk = resources::check(options, &set, store, worker.memory)?;
            worker.progress.disk(&disk);
            Ok::<_, DataError>(())
        })?;
        let run = Run {
            engine,
            store,
            division: self.division,
            options,
            identity,
            given,
            force: self.force,
        };
        Ok(Begun::Open(Box::new(Open {
            selection: self,
            set: run.unpack(set)?,
            run,
            made_from,
            all,
            _held: (lock, claim),
        })))
    }
}

/// A selection that has begun.
enum Begun<'a> {
    /// It is finished already.
    Finished(Box<Report>),
    Open(Box<Open<'a>>),
}

/// A selection under way, which no other process can begin.
struct Open<'a> {
    selection: &'a Selection<'a>,
    run: Run<'a>,
    set: EmbeddingSet,
    made_from: MadeFrom,
    /// A word for everything that the results are made from.
    all: String,
    _held: (FolderLock, Claim),
}

/// What the stages have found.
struct Chosen {
    scanned: Scanned,
    divided: Assigned,
    reduced: Deduplicated,
    ranked: [Ranked; 2],
    clusters: u64,
    /// The key of the centroids.
    centroids: String,
    rows: InOrder,
    /// How many rows.
    count: u64,
}

impl Open<'_> {
    /// Runs every stage that is not done yet.
    fn choose(&self) -> Result<Chosen> {
        let (run, set, store) = (&self.run, &self.set, self.run.store);
        let (scanned, scores) = run.scan(set)?;
        let usable = scanned.rows - scanned.dropped;
        if usable == 0 {
            let path = store.path(EMBEDDINGS);
            return Err(DataError::set(path, SetFault::NothingUsable));
        }
        let (centroids, chain) = run.centroids(set, &scanned, &scores)?;
        let (divided, runs, buckets, chain) = run.assign(set, &scores, &centroids, &chain)?;
        let (reduced, kept, chain) = run.duplicates(set, &centroids, &runs, buckets, &chain)?;
        if divided.rows != usable || reduced.rows != usable {
            return Err(DataError::work(store.path(&runs), WorkFault::RowsLost));
        }
        let (ranked, rows) = run.windows_and_sample(set, &kept, buckets, &chain)?;
        let left = ranked[1].kept;
        Ok(Chosen {
            count: run.options.sample.map_or(left, |sample| sample.min(left)),
            scanned,
            divided,
            reduced,
            ranked,
            clusters: buckets.clusters,
            centroids,
            rows,
        })
    }

    /// Writes the results.
    fn write(&self, chosen: Chosen) -> Result<Report> {
        let Selection {
            store,
            out,
            options,
            outputs,
            ..
        } = *self.selection;
        let set = &self.set;
        let (mut written, pictured) = drive(self.run.engine, |worker| {
            output::write(store, set, &chosen.rows, chosen.count, out, outputs, worker)
        })?;
        let beside = out.join("centroids.npy");
        match &options.clusters.centroids {
            None => {
                let geometry = options.clusters.geometry;
                Centroids::load(store, &chosen.centroids, set.dims, geometry)?.write(beside)?;
                written.files.push("centroids.npy".into());
            }
            Some(given) if is_same_file(given, &beside) => {}
            // Those of an earlier selection are not what these rows were divided by.
            Some(_) => remove_file(&beside)?,
        }
        let [score, centroid] = chosen.ranked;
        let mut report = Report {
            format_version: FORMAT_VERSION,
            options: options.clone(),
            dims: set.dims,
            clusters: chosen.clusters,
            scanned: chosen.scanned,
            divided: chosen.divided,
            reduced: chosen.reduced,
            score,
            centroid,
            written,
        };
        let cards = samples::cards(&report, store, set, outputs)?;
        write_report(&mut report, &cards, out)?;
        let hashes = holding::hashes(out, &report.written.files)?;
        let finished = Finished {
            report,
            pictured,
            made_from: Some(self.made_from.clone()),
            hashes,
        };
        let bytes = manifest::write(&self.all, &finished)?;
        fill_whole(&out.join(MANIFEST), |file| file.put(&bytes))?;
        if !self.selection.keep_work {
            holding::remove_work(store)?;
        }
        Ok(finished.report)
    }
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
type Identity = Vec<(String, u64, Version)>;

fn identity(store: &dyn Store, set: &EmbeddingSet) -> Result<Identity> {
    let mut entries: HashMap<String, Entry> = HashMap::new();
    let mut folders = HashSet::new();
    let mut files = Vec::new();
    for shard in &set.shards {
        let text = shard.text.as_ref().map(|text| &text.key);
        for key in [Some(&shard.image.key), text, shard.metadata.as_ref()]
            .into_iter()
            .flatten()
        {
            let folder = key
                .rsplit_once('/')
                .map_or(EMBEDDINGS, |(folder, _)| folder);
            if folders.insert(folder.to_owned()) {
                for entry in store.entries(folder)? {
                    if let Some(name) = entry.name.to_str() {
                        entries.insert(format!("{folder}/{name}"), entry);
                    }
                }
            }
            let Some(entry) = entries.get(key) else {
                let gone = std::io::ErrorKind::NotFound.into();
                return Err(DataError::io(store.path(key), "read")(gone));
            };
            let name = key.strip_prefix(EMBEDDINGS).unwrap_or(key);
            let name = name.trim_start_matches('/').to_owned();
            files.push((name, entry.bytes, entry.version.clone()));
        }
    }
    Ok(files)
}

/// One selection under way.
struct Run<'a> {
    engine: &'a dyn Engine,
    store: &'a dyn Store,
    division: Division,
    options: &'a CoresetOptions,
    identity: Identity,
    given: Given,
    force: bool,
}

/// A word for all that a stage's results depend on.
type Chain = String;

impl Run<'_> {
    /// The folder of a stage that is made from these inputs. Folders of the same stage made from others
    /// stay, as the work of hours or days that they may be, unless they may be replaced.
    fn stage(&self, name: &str, word: &str) -> Result<Stage> {
        let own = format!("{name}-{}", &fingerprint(&(WORK_VERSION, word))?[..16]);
        let folder = format!("{WORK}/{own}");
        let entries = self.store.entries(WORK)?;
        if entries.iter().any(|entry| entry.name == *own) {
            if self.engine.is_alone() {
                self.store.sweep(&folder)?;
            }
        } else {
            let others = entries.iter().filter(|_| self.force);
            for other in others.filter_map(|entry| entry.name.to_str()) {
                let rest = other.strip_prefix(name);
                if rest.is_some_and(|rest| rest.starts_with('-')) {
                    self.store.remove(&format!("{WORK}/{other}"))?;
                }
            }
            self.store.make_folder(&folder)?;
        }
        Ok(Stage {
            folder,
            name: name.to_owned(),
            fingerprint: word.to_owned(),
        })
    }

    fn begin(&self, stage: &str, total: u64) {
        drive(self.engine, |worker| worker.progress.begin(stage, total));
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
        let word = fingerprint(&("unpack", &self.identity, &self.options.embeddings))?;
        set.unpack(self.store, &self.stage("unpacked", &word)?.folder)
    }

    /// What the first reading found, and the folder of the scores.
    fn scan(&self, set: &EmbeddingSet) -> Result<(Scanned, String)> {
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
        let stage = self.stage("scan", &word)?;
        let folder = stage.folder.clone();
        let task = AnyTask::Scan(Scan {
            set: set.clone(),
            invalid: self.options.invalid,
            similarity,
            needs_scores,
            stage,
        });
        self.begin("scan", set.rows());
        let merged = merged(self.engine, &task, self.store, Scanned::merge)?;
        let mut scanned = merged.unwrap_or_default();
        for fault in &mut scanned.faults {
            if let Some((folder, rest)) = fault.split_once('/') {
                *fault = self.store.path(folder).join(rest).display().to_string();
            }
        }
        Ok((scanned, folder))
    }

    /// The key of the centroids: those given, or trained ones.
    fn centroids(
        &self,
        set: &EmbeddingSet,
        scanned: &Scanned,
        scores: &str,
    ) -> Result<(String, Chain)> {
        let options = &self.options.clusters;
        if let Some(path) = &options.centroids {
            let word = fingerprint(&(
                "given",
                scanned.content,
                self.options.invalid,
                &self.given.centroids,
                options.geometry,
            ))?;
            // Where all workers find them.
            let key = format!("{}/centroids.npy", self.stage("given", &word)?.folder);
            if !self.store.exists(&key)? {
                Centroids::read(path, set.dims, options.geometry)?.save(self.store, &key)?;
            }
            return Ok((key, word));
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
        let training = kmeans::Training {
            engine: self.engine,
            store: self.store,
            set,
            usable,
            options,
            clusters,
            seed: self.options.seed,
            scores,
            stage: self.stage("kmeans", &word)?,
        };
        Ok((training.run()?, word))
    }

    /// What dividing the rows found, and the folder of the runs.
    fn assign(
        &self,
        set: &EmbeddingSet,
        scores: &str,
        centroids: &str,
        chain: &Chain,
    ) -> Result<(Assigned, String, Buckets, Chain)> {
        let options = &self.options.clusters;
        let clusters = MatrixFile::npy(self.store, centroids)?.rows;
        let bytes = set.rows() * set.row_bytes() as u64;
        let buckets = Buckets::new(clusters, bytes, self.division.bucket_bytes);
        // The scores go into the runs, so what they are made from counts here.
        let word = fingerprint(&(
            "assign",
            chain,
            options.search,
            buckets,
            self.options.duplicates.similarity,
            &self.options.embeddings,
        ))?;
        let stage = self.stage("assign", &word)?;
        let folder = stage.folder.clone();
        let task = AnyTask::Assign(Assign {
            set: set.clone(),
            centroids: centroids.to_owned(),
            geometry: options.geometry,
            search: options.search,
            buckets,
            scores: scores.to_owned(),
            stage,
        });
        self.begin("assign", set.rows());
        let merged = merged(self.engine, &task, self.store, Assigned::merge)?;
        Ok((merged.unwrap_or_default(), folder, buckets, word))
    }

    /// What removing duplicates found, and the folder of what it left.
    fn duplicates(
        &self,
        set: &EmbeddingSet,
        centroids: &str,
        runs: &str,
        buckets: Buckets,
        chain: &Chain,
    ) -> Result<(Deduplicated, String, Chain)> {
        let options = &self.options.duplicates;
        let word = fingerprint(&("duplicates", chain, options, self.options.seed))?;
        let stage = self.stage("duplicates", &word)?;
        let folder = stage.folder.clone();
        let task = AnyTask::Duplicates(Duplicates {
            runs: runs.to_owned(),
            parts: set.parts().len(),
            buckets,
            centroids: centroids.to_owned(),
            geometry: self.options.clusters.geometry,
            dims: set.dims,
            dtype: set.dtype,
            options: options.clone(),
            threshold: options.threshold.to_bits(),
            seed: self.options.seed,
            stage,
        });
        self.begin("duplicates", set.rows());
        let merged = merged(self.engine, &task, self.store, Deduplicated::merge)?;
        Ok((merged.unwrap_or_default(), folder, word))
    }
}
