//! What `plan` says of a selection by launched parts, held against what its parts and driver ask of a store
//! that counts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bunny_base::random::mix;
use bunny_data::Result;
use bunny_data::coreset::engine::{AnyTask, Launched, Local};
use bunny_data::coreset::{
    Calibration, CoresetOptions, Division, OutputOptions, PlanOptions, Selection, Silent, TileSize,
    Worker, plan,
};
use bunny_data::embeddings::{Dtype, NpyHeader};
use bunny_data::store::{Claim, Entry, Fetch, Finish, Folders, NewFile, Opened, Store};

const ROWS: u64 = 20_000;
const DIMS: usize = 32;
/// Rows of a file, which are a part.
const PART_ROWS: u64 = 2500;

const WORKER: Worker<'_> = Worker {
    memory: 64 << 20,
    tile: TileSize {
        rows: 128,
        columns: 256,
    },
    progress: &Silent,
};

/// What was asked of a store.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: f64,
    read: f64,
    written: f64,
}

/// Two folders that are asked as a store elsewhere is: a file is looked at and then brought in pieces, or as
/// far as its reader needs it, in blocks; what was put is looked for.
#[derive(Debug)]
struct Counting {
    folders: Folders,
    counts: Arc<Mutex<Counts>>,
}

/// Bytes of a request, at most, and of the blocks of files that are read in part.
const PIECE: u64 = 16 << 20;
const BLOCK: u64 = 4096;

fn add(counts: &Mutex<Counts>, requests: u64, read: u64, written: u64) {
    let mut counts = counts.lock().unwrap();
    counts.requests += requests as f64;
    counts.read += read as f64;
    counts.written += written as f64;
}

impl Counting {
    fn asked(&self, requests: u64) {
        add(&self.counts, requests, 0, 0);
    }

    fn so_far(&self) -> Counts {
        *self.counts.lock().unwrap()
    }
}

/// What of a file has not been brought yet.
#[derive(Debug)]
struct Rest {
    counts: Arc<Mutex<Counts>>,
    there: Mutex<Vec<bool>>,
    length: u64,
}

impl Fetch for Rest {
    fn fetch(&self, _copy: &File, bytes: Range<u64>) -> Result<()> {
        let mut there = self.there.lock().unwrap();
        let end = bytes.end.min(self.length).div_ceil(BLOCK);
        let mut block = bytes.start / BLOCK;
        while block < end {
            let first = block;
            while block < end && block - first < PIECE / BLOCK && !there[block as usize] {
                there[block as usize] = true;
                block += 1;
            }
            match block > first {
                true => {
                    let brought = self.length.min(block * BLOCK) - first * BLOCK;
                    add(&self.counts, 1, brought, 0);
                }
                false => block += 1,
            }
        }
        Ok(())
    }
}

/// A file in the making.
struct Draft {
    inner: NewFile,
    bytes: u64,
    counts: Arc<Mutex<Counts>>,
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Finish for Draft {
    fn finish(self: Box<Self>) -> Result<()> {
        let parts = match self.bytes <= PIECE {
            true => 1,
            false => self.bytes.div_ceil(PIECE) + 2,
        };
        add(&self.counts, parts + 1, 0, self.bytes);
        self.inner.finish()
    }
}

impl Store for Counting {
    fn path(&self, key: &str) -> PathBuf {
        self.folders.path(key)
    }

    fn open(&self, key: &str) -> Result<Opened> {
        self.asked(1);
        let opened = self.folders.open(key)?;
        let length = opened.file.metadata().unwrap().len();
        add(&self.counts, length.div_ceil(PIECE), length, 0);
        Ok(opened)
    }

    fn open_partly(&self, key: &str) -> Result<Opened> {
        self.asked(1);
        let opened = self.folders.open(key)?;
        let length = opened.file.metadata().unwrap().len();
        let rest = Rest {
            counts: self.counts.clone(),
            there: Mutex::new(vec![false; length.div_ceil(BLOCK) as usize]),
            length,
        };
        Ok(Opened::partly(opened.file, opened.path, Box::new(rest)))
    }

    fn exists(&self, key: &str) -> Result<bool> {
        self.asked(1);
        self.folders.exists(key)
    }

    fn entries(&self, folder: &str) -> Result<Vec<Entry>> {
        self.asked(1);
        self.folders.entries(folder)
    }

    fn create(&self, key: &str) -> Result<NewFile> {
        let draft = Draft {
            inner: self.folders.create(key)?,
            bytes: 0,
            counts: self.counts.clone(),
        };
        Ok(NewFile::new(self.path(key), Box::new(draft)))
    }

    fn make_folder(&self, folder: &str) -> Result<()> {
        self.folders.make_folder(folder)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.asked(2);
        self.folders.remove(key)
    }

    fn sweep(&self, _folder: &str) -> Result<()> {
        Ok(())
    }

    fn claim(&self) -> Result<Option<Claim>> {
        // Put, looked at, and let go again, each with a look before it.
        self.asked(6);
        self.folders.claim()
    }

    fn free(&self) -> Option<u64> {
        self.folders.free()
    }

    fn scratch(&self) -> &Path {
        self.folders.scratch()
    }
}

/// Images and captions with a similarity of about 0.7; no two images are near duplicates: the cosines of
/// others deviate by `1/√32` from 0.
fn write_set(folder: &Path) {
    let number = |draw: u64| (mix(draw) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    for name in ["img_emb", "text_emb"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    for file in 0..ROWS / PART_ROWS {
        let header = NpyHeader::write(Dtype::Float32, PART_ROWS, DIMS);
        let (mut images, mut texts) = (header.clone(), header);
        for place in 0..PART_ROWS * DIMS as u64 {
            let place = file * PART_ROWS * DIMS as u64 + place;
            let image = number(2 * place);
            let text = image + number(2 * place + 1);
            images.extend_from_slice(&(image / 3.27).to_le_bytes());
            texts.extend_from_slice(&(text / 4.62).to_le_bytes());
        }
        let name = |kind: &str| folder.join(format!("{kind}/{kind}_{file:04}.npy"));
        fs::write(name("img_emb"), images).unwrap();
        fs::write(name("text_emb"), texts).unwrap();
    }
}

/// The step of the plan that a stage belongs to.
fn step_of(stage: &str) -> usize {
    let name = stage.split('/').nth(1).unwrap();
    match name.split('-').next().unwrap() {
        "scan" => 0,
        "label" => 1,
        "assign" => 2,
        "duplicates" => 3,
        _ => 4,
    }
}

#[test]
fn a_plan_of_launched_parts_is_within_a_fifth_of_what_they_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let (set, out) = (dir.path().join("set"), dir.path().join("out"));
    write_set(&set);
    let store = Counting {
        folders: Folders::new(&set, out.join("work")),
        counts: Arc::default(),
    };
    let division = Division {
        part_rows: PART_ROWS,
        bucket_bytes: 400_000,
    };
    let mut options = CoresetOptions::default();
    options.clusters.count = Some(20);
    (options.clusters.epochs, options.clusters.iterations) = (1, 4);
    options.clusters.rows_per_centroid = 250;
    let outputs = OutputOptions::default();
    let selection = Selection {
        store: &store,
        out: &out,
        keep_work: true,
        force: false,
        division,
        options: &options,
        outputs: &outputs,
    };

    let local = || Local::new(NonZeroUsize::new(2), WORKER).unwrap();
    let (driver, worker) = (Launched::new(local()), local());
    let mut counted = [Counts::default(); 5];
    let mut kept = 0;
    loop {
        let before = store.so_far();
        // A call of the driver belongs to the step whose parts it wants.
        let wanted = selection.next_parts(&driver).unwrap();
        let step = match &wanted {
            Some(wanted) => {
                for part in &wanted.missing {
                    // As `run-part` does.
                    let task = AnyTask::load(&store, &wanted.stage).unwrap();
                    let run = |worker: &Worker<'_>| task.run(*part, worker, &store);
                    worker.run(run).unwrap();
                }
                step_of(&wanted.stage)
            }
            None => {
                kept = selection.run(&driver).unwrap().reduced.kept;
                4
            }
        };
        let (now, sum) = (store.so_far(), &mut counted[step]);
        sum.requests += now.requests - before.requests;
        sum.read += now.read - before.read;
        sum.written += now.written - before.written;
        if wanted.is_none() {
            break;
        }
    }

    let planned = plan(
        PlanOptions {
            rows: ROWS,
            dims: DIMS,
            dtype: Dtype::Float32,
            clusters: 20,
            rows_per_centroid: 250,
            iterations: 4,
            probes: None,
            skew: 1.0,
            kept: kept as f64 / ROWS as f64,
            workers: 4,
            start: 0.0,
            network: Some(1e9),
            division,
        },
        Calibration {
            flops: 1e9,
            scanned: 1e9,
            written: 1e9,
            read: 1e9,
        },
    );
    for (step, counted) in planned.steps.iter().zip(counted) {
        for (what, planned, counted) in [
            ("requests", step.requests, counted.requests),
            ("bytes read", step.read, counted.read),
            ("bytes written", step.written, counted.written),
        ] {
            // Words and JSON are of about the length that the plan takes them for.
            let apart = planned / counted - 1.0;
            let name = step.name;
            assert!(
                apart.abs() < 0.2,
                "{name}: {planned} {what} planned, {counted} counted"
            );
        }
    }
}
