//! A selection on a server that speaks S3 gives the same bytes as one on folders, while the server is
//! slow, cuts answers, says 503 and loses what was put.
//!
//! The server is `tests/reference/s3_server.py`, which `BUNNY_S3_PYTHON` runs: a Python that has
//! `moto[server]` and `boto3`.
#![cfg(feature = "s3")]

mod coreset_common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bunny_data::coreset::engine::{AnyTask, Launched, Local};
use bunny_data::coreset::{
    CoresetOptions, Division, OutputOptions, Paths, Report, Silent, TileSize, Window, Worker,
    next_parts, select,
};
use bunny_data::{DataError, Result, SetFault, store};
use coreset_common::{fixture, options, results};
use serde_json::Value;

struct Server {
    program: Child,
    proxy: String,
}

impl Server {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/s3_server.py");
        let python = std::env::var("BUNNY_S3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut program = Command::new(python)
            .arg(script)
            .arg(fixture("mixture"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let said = program.stdout.as_mut().unwrap();
        BufReader::new(said).read_line(&mut line).unwrap();
        let addresses: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("no S3 server: BUNNY_S3_PYTHON has to be a Python with moto[server] and boto3")
        });
        let proxy = addresses["proxy"].as_str().unwrap().to_owned();
        Self { program, proxy }
    }

    /// How often each fault has happened.
    fn faults(&self) -> Vec<(String, u64)> {
        let address = self.proxy.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let request =
            format!("GET /faults HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let counts: Value = serde_json::from_str(body).unwrap();
        let counts = counts.as_object().unwrap().iter();
        counts
            .map(|(name, count)| (name.clone(), count.as_u64().unwrap()))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        let _ = self.program.wait();
    }
}

fn chosen() -> CoresetOptions {
    let mut options = options("mixture");
    options.clusters.centroids = None;
    options.clusters.count = Some(6);
    (options.clusters.epochs, options.clusters.iterations) = (1, 2);
    options.clusters.rows_per_centroid = 20;
    options.windows.score = Some(Window::new(1000, 9000));
    options.sample = Some(40);
    options
}

fn paths(set: &str, work: Option<&str>, out: &Path) -> Paths {
    Paths {
        embeddings: set.into(),
        out: out.to_owned(),
        work: work.map(PathBuf::from),
        keep_work: false,
        force: false,
        division: Division {
            part_rows: 100,
            bucket_bytes: 16 << 10,
        },
    }
}

fn local() -> Local<'static> {
    let worker = Worker {
        memory: 64 << 20,
        tile: TileSize::default(),
        progress: &Silent,
    };
    Local::new(NonZeroUsize::new(2), worker).unwrap()
}

fn run(paths: &Paths) -> Result<Report> {
    select(&local(), paths, &chosen(), &OutputOptions::default())
}

#[test]
fn a_selection_on_a_store_that_misbehaves_gives_the_same_bytes() {
    let server = Server::start();
    // Nothing else runs in this process yet.
    for (name, value) in [
        ("AWS_ENDPOINT_URL_S3", server.proxy.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_READ_TIMEOUT", "2 seconds"),
    ] {
        // SAFETY: this is the only test of this program.
        unsafe { std::env::set_var(name, value) };
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    run(&paths(fixture("mixture").to_str().unwrap(), None, &whole)).unwrap();
    let expected = results(&whole);

    // All of it there.
    let out = dir.path().join("out");
    let place = paths("s3://bunny/set", Some("s3://bunny/runs/one"), &out);
    run(&place).unwrap();
    assert!(results(&out) == expected);

    // Launched from outside, with parts that each open the store for themselves.
    let out = dir.path().join("launched");
    let place = paths("s3://bunny/set/", Some("s3://bunny/runs/two/"), &out);
    let engine = Launched::new(local());
    let mut stages = 0;
    let outputs = OutputOptions::default();
    while let Some(wanted) = next_parts(&engine, &place, &chosen(), &outputs).unwrap() {
        let work = place.work.as_deref().unwrap();
        let store = store::open(&place.embeddings, work, dir.path()).unwrap();
        // While another is the driver, nobody else is.
        let claim = store.claim().unwrap();
        assert!(claim.is_some());
        if stages == 0 {
            let error = run(&place).unwrap_err();
            let DataError::Set { fault, .. } = &error else {
                panic!("{error}");
            };
            assert!(matches!(fault, SetFault::Busy), "{error}");
        }
        for part in wanted.missing {
            let task = AnyTask::load(&*store, &wanted.stage).unwrap();
            local()
                .run(|worker| task.run(part, worker, &*store))
                .unwrap();
        }
        stages += 1;
    }
    assert!(stages > 6, "{stages}");
    select(&engine, &place, &chosen(), &outputs).unwrap();
    assert!(results(&out) == expected);

    // Nothing of it is left; what is none of a selection's is not written into.
    let store = store::open(
        Path::new("s3://bunny/runs"),
        Path::new("s3://bunny/runs"),
        dir.path(),
    );
    let store = store.unwrap();
    assert_eq!(store.entries("work").unwrap().len(), 0);
    let there = paths(
        "s3://bunny/set",
        Some("s3://bunny/set"),
        &dir.path().join("other"),
    );
    let error = run(&there).unwrap_err().to_string();
    assert!(error.contains("img_emb"), "{error}");
    let none = paths("s3://bunny/nothing", None, &dir.path().join("none"));
    let error = run(&none).unwrap_err().to_string();
    assert!(error.contains("s3://bunny/nothing"), "{error}");

    let faults = server.faults();
    println!("{faults:?}");
    assert!(faults.iter().all(|(_, count)| *count >= 3), "{faults:?}");
}
