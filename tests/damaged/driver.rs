//! One loop for all readers: makes an input, has it read, and holds the reader to its limits.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
    collections::HashMap,
    env, fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::damage::{Random, Seed, damage};

/// Inputs of all readers together, unless `BUNNY_FUZZ_INPUTS` says otherwise.
const INPUTS: u64 = 100_000;

/// What part of a thousand inputs each reader gets: more, where one takes little time.
const SHARES: [(&str, u64); 26] = [
    ("safetensors", 100),
    ("gguf", 40),
    ("pickles", 105),
    ("instructions of pickles", 100),
    ("indices of shards", 20),
    ("adapters", 50),
    ("configurations", 60),
    ("configurations of towers", 40),
    ("models", 10),
    ("models in gguf", 5),
    ("LLaVAs", 20),
    ("tokenizers", 40),
    ("models of SentencePiece", 20),
    ("pictures", 100),
    ("records as JSON", 70),
    ("records as Parquet", 35),
    ("archives of pictures", 40),
    ("embeddings", 30),
    ("work files of a coreset", 3),
    ("recipes", 40),
    ("mixes", 25),
    ("metrics", 10),
    ("checkpoints", 2),
    ("answers", 20),
    ("questions", 10),
    ("benchmarks", 5),
];

/// The longest that a reader may compute on one input.
const LONGEST: Duration = Duration::from_secs(1);
/// After so long it will not come back.
const GIVEN_UP: Duration = Duration::from_secs(120);
/// Most of what a process may hold in all, readers side by side.
const PROCESS_MIB: u64 = 1536;
/// The longest that a refusal may be.
const LONGEST_LINE: usize = 2_000;

/// Counts the memory that this thread has in use, and the most it had.
struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread is one of the tests, whether it runs a reader now, and what has panicked then.
    static TESTING: Cell<bool> = const { Cell::new(false) };
    static READING: Cell<bool> = const { Cell::new(false) };
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(new: usize, old: usize) {
    let live = LIVE.get().wrapping_add(new).wrapping_sub(old);
    LIVE.set(live);
    // Another thread's memory, freed here, would make it less than nothing.
    if live as isize > 0 {
        PEAK.set(PEAK.get().max(live));
    }
}

// SAFETY: everything is passed on to the system's allocator; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Since when, and what a reader was given.
type Begun = (Instant, Vec<u8>);

/// Panics on threads that run no readers themselves: nobody there would have heard of them.
static ELSEWHERE: AtomicU64 = AtomicU64::new(0);
/// What each reader is at, and since when.
static UNDER_WAY: Mutex<Option<HashMap<&str, Begun>>> = Mutex::new(None);
static PREPARED: Once = Once::new();

/// Hears panics, caught ones too unless their catcher silences them, and readers that do not return.
fn prepare() {
    PREPARED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            if READING.get() {
                PANICKED.set(Some(what.to_string()));
            } else {
                ELSEWHERE.fetch_add(u64::from(!TESTING.get()), Ordering::Relaxed);
                before(what);
            }
        }));
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_secs(1));
                let under_way = UNDER_WAY.lock().unwrap();
                for (name, (since, input)) in under_way.iter().flatten() {
                    if since.elapsed() > GIVEN_UP {
                        eprintln!("{name}: does not return: {}", keep(name, 0, input));
                        process::exit(1);
                    }
                }
            }
        });
    });
}

/// Time that this thread has computed.
fn computed() -> Duration {
    #[cfg(unix)]
    {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the time is written to a place that lives here.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
    #[cfg(not(unix))]
    {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// The most memory this process has had at once.
fn process_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib >> 10)
}

/// Leaves an input behind to look at.
fn keep(name: &str, number: u64, input: &[u8]) -> String {
    let file = format!("damaged-{}-{number}", name.replace(' ', "-"));
    let path = env::temp_dir().join(file);
    match fs::write(&path, input) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("{error}"),
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: no number")),
    )
}

/// What a reader may take of memory: so much whatever the input, and so much for each of its bytes.
#[derive(Clone, Copy)]
pub struct Allowed {
    pub fixed: usize,
    pub per_byte: usize,
}

/// Damages `seeds` over and over and has them read. What `read` refuses it says why.
///
/// # Panics
/// Once all inputs are read, where one of them broke a limit.
pub fn fuzz(
    name: &'static str,
    allowed: Allowed,
    seeds: &[Seed],
    mut read: impl FnMut(&mut Random, &[u8]) -> Result<(), String>,
) {
    prepare();
    TESTING.set(true);
    assert!(!seeds.is_empty(), "{name}: nothing to damage");
    let share = SHARES.iter().find(|(of, _)| *of == name).unwrap().1;
    let inputs = (variable("BUNNY_FUZZ_INPUTS").unwrap_or(INPUTS) * share).div_ceil(1000);
    let start = variable("BUNNY_FUZZ_SEED").unwrap_or(0);
    let (mut whole, mut longest, mut most) = (0, Duration::ZERO, 0);
    let mut wrong = Vec::new();
    for number in 0..inputs {
        let mut random = Random::new(&[start, number], name);
        let input = damage(&mut random, seeds);
        let under_way = (Instant::now(), input.clone());
        UNDER_WAY
            .lock()
            .unwrap()
            .get_or_insert_default()
            .insert(name, under_way);
        let (live, before) = (LIVE.get(), computed());
        PEAK.set(live);
        READING.set(true);
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| read(&mut random, &input)));
        READING.set(false);
        let (took, used) = (computed() - before, PEAK.get().saturating_sub(live));
        (longest, most) = (longest.max(took), most.max(used));
        let panicked = PANICKED.take();
        let line = match &outcome {
            Ok(Err(line)) => line.as_str(),
            _ => "refused",
        };
        let problem = if let Some(panicked) = panicked {
            panicked
        } else if took > LONGEST {
            format!("took {took:.1?}")
        } else if used > allowed.fixed + allowed.per_byte * input.len() {
            format!("{used} bytes of memory for {}", input.len())
        } else if line.is_empty() || line.len() > LONGEST_LINE || line.chars().any(char::is_control)
        {
            format!("says {line:.300?}, {} bytes", line.len())
        } else {
            whole += u64::from(outcome.is_ok_and(|read| read.is_ok()));
            continue;
        };
        wrong.push(format!("{problem}: {}", keep(name, number, &input)));
        if wrong.len() == 20 {
            break;
        }
    }
    UNDER_WAY
        .lock()
        .unwrap()
        .get_or_insert_default()
        .remove(name);
    println!(
        "{name}: {inputs} inputs, {whole} read, {} refused; longest {longest:.1?}, most {most} bytes",
        inputs - whole
    );
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    let all = whole == 0 || whole == inputs;
    assert!(
        !all || inputs < 100,
        "{name}: the damage is nothing or everything"
    );
    assert_eq!(
        ELSEWHERE.load(Ordering::Relaxed),
        0,
        "something panicked elsewhere"
    );
    assert!(process_mib() < PROCESS_MIB, "{} MiB in all", process_mib());
}

/// A folder in memory where the system has one: a disk would take most of the time.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below a folder, in order.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|_| panic!("{}", folder.display())) {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files
}

/// Copies a folder with all that is below.
pub fn copy_folder(from: &Path, to: &Path) {
    for file in files_below(from) {
        let place = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(&file, place).unwrap();
    }
}

/// Writes a file anew: some file systems bring one that is written over to the disk at once.
pub fn write_anew(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_reader_has_its_share() {
    let sum: u64 = SHARES.iter().map(|(_, share)| share).sum();
    assert_eq!(sum, 1000);
}
