//! Downloads from a hub, over real connections to a small one on this machine.
#![cfg(feature = "hub")]

mod hub_server;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bunny_weights::hub::{Hub, HubError, HubSettings, ModelId, NeededFile, Patience, model_files};
use hub_server::{Fault, HubServer, sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "model.safetensors";

/// A model with a file in git, a file in a folder, and two large ones.
fn files() -> BTreeMap<String, Vec<u8>> {
    let large = |seed: u32| {
        (0..3_000_000u32)
            .map(|i| (i.wrapping_mul(seed) >> 8) as u8)
            .collect()
    };
    BTreeMap::from([
        ("config.json".to_string(), b"{}".to_vec()),
        ("images/a picture.png".to_string(), b"picture".to_vec()),
        ("empty.json".to_string(), Vec::new()),
        (WEIGHTS.to_string(), large(2654435761)),
        ("adapter_model.safetensors".to_string(), large(40503)),
    ])
}

struct Setup {
    server: HubServer,
    cache: tempfile::TempDir,
    settings: HubSettings,
}

impl Setup {
    fn new() -> Self {
        let server = HubServer::start("org/name", COMMIT, files());
        let cache = tempfile::tempdir().unwrap();
        let settings = HubSettings {
            endpoint: server.endpoint(),
            cache: cache.path().to_path_buf(),
            token: None,
            offline: false,
            patience: Patience {
                attempts: 3,
                first_wait: Duration::from_millis(1),
                longest_wait: Duration::from_secs(2),
                connection: Duration::from_secs(2),
                answer: Duration::from_secs(2),
                silence: Duration::from_secs(2),
            },
        };
        Self {
            server,
            cache,
            settings,
        }
    }

    fn fetch(&self, id: &str) -> Result<PathBuf, HubError> {
        self.fetch_files(id, model_files)
    }

    fn fetch_files(
        &self,
        id: &str,
        choose: impl Fn(&[String]) -> Vec<String>,
    ) -> Result<PathBuf, HubError> {
        Hub::new(self.settings.clone()).fetch(&id.parse().unwrap(), choose, |_| {})
    }

    fn only_weights(&self) -> Result<PathBuf, HubError> {
        self.fetch_files("org/name", |_| vec![WEIGHTS.to_string()])
    }

    fn model(&self) -> PathBuf {
        self.cache.path().join("models--org--name")
    }

    /// The part of the large file that has arrived.
    fn part(&self) -> PathBuf {
        self.model()
            .join("blobs")
            .join(format!("{}.incomplete", sha256(&files()[WEIGHTS])))
    }

    fn nothing_appeared(&self) -> bool {
        let blobs = fs::read_dir(self.model().join("blobs"))
            .into_iter()
            .flatten()
            .flatten();
        let whole = blobs
            .filter(|blob| blob.path().extension().is_none())
            .count();
        whole == 0
            && !self.model().join("refs").exists()
            && !self.model().join("snapshots").exists()
    }
}

#[test]
fn a_model_arrives_in_the_layout_of_the_shared_cache() {
    let setup = Setup::new();
    let snapshot = setup.fetch_files("org/name", <[String]>::to_vec).unwrap();
    assert_eq!(snapshot, setup.model().join("snapshots").join(COMMIT));
    assert_eq!(
        fs::read_to_string(setup.model().join("refs/main")).unwrap(),
        COMMIT
    );
    for (name, contents) in files() {
        let path = snapshot.join(&name);
        assert_eq!(fs::read(&path).unwrap(), contents, "{name}");
        #[cfg(unix)]
        {
            let up = if name.contains('/') {
                "../../../blobs"
            } else {
                "../../blobs"
            };
            let blob = Path::new(up).join(setup.server.etag(&name));
            assert_eq!(fs::read_link(&path).unwrap(), blob);
        }
    }
    let blobs = fs::read_dir(setup.model().join("blobs")).unwrap().count();
    assert_eq!(blobs, files().len());
}

#[test]
fn only_what_is_needed_is_downloaded_and_only_once() {
    let setup = Setup::new();
    let snapshot = setup.fetch("org/name").unwrap();
    assert!(!snapshot.join("images").exists());
    let before = setup.server.requests().len();
    setup.fetch("org/name").unwrap();
    assert_eq!(
        setup.server.requests().len(),
        before + 1,
        "the listing alone is asked for"
    );
}

#[test]
fn contents_that_a_new_commit_shares_are_not_downloaded_again() {
    let setup = Setup::new();
    setup.fetch("org/name").unwrap();
    let commit = COMMIT.replace('0', "f");
    setup
        .server
        .commit(&commit, "config.json", b"{\"new\": true}");
    let before = setup.server.requests().len();
    let snapshot = setup.fetch("org/name").unwrap();
    assert!(snapshot.ends_with(&commit));
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    let gets: Vec<_> = setup.server.requests()[before..]
        .iter()
        .filter(|request| request.method == "GET" && request.path.contains("resolve"))
        .map(|request| request.path.clone())
        .collect();
    assert_eq!(gets, [format!("/org/name/resolve/{commit}/config.json")]);
    assert_eq!(
        fs::read_to_string(setup.model().join("refs/main")).unwrap(),
        commit
    );
}

#[test]
fn progress_is_told_for_every_file() {
    let setup = Setup::new();
    let mut told: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    Hub::new(setup.settings.clone())
        .fetch(&"org/name".parse().unwrap(), model_files, |progress| {
            assert_eq!(progress.files, 4);
            assert_eq!(progress.total, files()[progress.file].len() as u64);
            told.entry(progress.file.to_string())
                .or_default()
                .push(progress.done);
        })
        .unwrap();
    assert_eq!(told.len(), 4);
    for (file, done) in told {
        assert_eq!(
            (done[0], *done.last().unwrap()),
            (0, files()[&file].len() as u64)
        );
        assert!(done.is_sorted(), "{file}");
    }
}

#[test]
fn a_cut_connection_goes_on_where_it_was_cut() {
    let setup = Setup::new();
    for at in [1_000_000, 500_000, 700_000, 300_000, 200_000] {
        setup.server.fault(WEIGHTS, Fault::Cut(at));
    }
    let snapshot = setup.only_weights().unwrap();
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    let starts: Vec<_> = setup
        .server
        .requests()
        .iter()
        .filter(|request| request.host == "storage")
        .map(|request| request.range)
        .collect();
    let expected = [0, 1_000_000, 1_500_000, 2_200_000, 2_500_000, 2_700_000];
    assert_eq!(starts, expected.map(|start| (start > 0).then_some(start)));
}

#[test]
fn a_connection_that_never_gets_on_is_given_up_and_its_part_kept() {
    let setup = Setup::new();
    setup.server.fault(WEIGHTS, Fault::Cut(1_000_000));
    for _ in 0..3 {
        setup.server.fault(WEIGHTS, Fault::Cut(0));
    }
    let error = setup.only_weights().unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert!(setup.nothing_appeared());
    assert_eq!(fs::metadata(setup.part()).unwrap().len(), 1_000_000);
    // The next run goes on from there.
    let before = setup.server.requests().len();
    let snapshot = setup.only_weights().unwrap();
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    let starts: Vec<_> = setup.server.requests()[before..]
        .iter()
        .filter_map(|request| request.range)
        .collect();
    assert_eq!(starts.last(), Some(&1_000_000));
    assert!(!setup.part().exists());
}

#[test]
fn a_silent_connection_is_given_up() {
    let mut setup = Setup::new();
    setup.settings.patience.silence = Duration::from_millis(100);
    setup.settings.patience.attempts = 2;
    for _ in 0..2 {
        setup
            .server
            .fault(WEIGHTS, Fault::Silent(Duration::from_millis(600)));
    }
    let start = Instant::now();
    let error = setup.only_weights().unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_server_that_cannot_go_on_starts_anew() {
    for fault in [Fault::IgnoreRange, Fault::Status(416, Vec::new())] {
        let setup = Setup::new();
        fs::create_dir_all(setup.part().parent().unwrap()).unwrap();
        fs::write(setup.part(), &files()[WEIGHTS][..1000]).unwrap();
        setup.server.fault(WEIGHTS, fault);
        let snapshot = setup.only_weights().unwrap();
        assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    }
}

#[test]
fn a_part_that_was_damaged_or_is_too_long_is_downloaded_again() {
    for part in [vec![7; 1000], vec![7; 3_000_000], vec![7; 3_000_001]] {
        let setup = Setup::new();
        fs::create_dir_all(setup.part().parent().unwrap()).unwrap();
        fs::write(setup.part(), part).unwrap();
        let snapshot = setup.only_weights().unwrap();
        assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
    }
}

#[test]
fn contents_that_do_not_have_their_hash_never_appear() {
    let setup = Setup::new();
    setup.server.fault(WEIGHTS, Fault::Damaged);
    let error = setup.only_weights().unwrap_err();
    let expected = sha256(&files()[WEIGHTS]);
    assert!(
        matches!(&error, HubError::WrongHash { expected: hash, file, .. }
            if *hash == expected && file == WEIGHTS),
        "{error}"
    );
    assert!(setup.nothing_appeared());
    assert!(setup.only_weights().is_ok(), "the damaged part is not kept");
}

#[test]
fn contents_that_are_longer_than_announced_never_appear() {
    let setup = Setup::new();
    setup.server.fault("config.json", Fault::Longer);
    let error = setup
        .fetch_files("org/name", |_| vec!["config.json".into()])
        .unwrap_err();
    assert!(
        matches!(
            error,
            HubError::WrongSize {
                expected: 2,
                found: 3,
                ..
            }
        ),
        "{error}"
    );
    assert!(setup.nothing_appeared());
}

#[test]
fn refusals_say_what_they_mean() {
    let refused = |status: u16, code: &str, token: Option<&str>, path: &str| {
        let mut setup = Setup::new();
        setup.settings.token = token.map(str::to_string);
        let mut headers = vec![("X-Error-Message", "Not for you.\tSorry".to_string())];
        if !code.is_empty() {
            headers.push(("X-Error-Code", code.to_string()));
        }
        setup.server.fault(path, Fault::Status(status, headers));
        let error = setup.only_weights().unwrap_err();
        assert!(setup.nothing_appeared());
        let line = error.to_string();
        assert!(
            line.contains("org/name") && !line.contains(['\n', '\t']),
            "{line}"
        );
        error
    };
    let listing = "/api/models/";
    assert!(matches!(
        refused(401, "", None, listing),
        HubError::ModelNotFound { .. }
    ));
    assert!(matches!(
        refused(401, "", Some("hf_x"), listing),
        HubError::BadToken { .. }
    ));
    assert!(matches!(
        refused(401, "GatedRepo", None, listing),
        HubError::Gated { .. }
    ));
    assert!(matches!(
        refused(404, "", None, listing),
        HubError::ModelNotFound { .. }
    ));
    assert!(matches!(
        refused(404, "RepoNotFound", Some("hf_x"), listing),
        HubError::ModelNotFound { .. }
    ));
    assert!(matches!(
        refused(404, "RevisionNotFound", None, listing),
        HubError::RevisionNotFound { .. }
    ));
    assert!(matches!(
        refused(404, "EntryNotFound", None, WEIGHTS),
        HubError::FileNotFound { file, .. } if file == WEIGHTS
    ));
    assert!(matches!(
        refused(403, "", Some("hf_x"), WEIGHTS),
        HubError::Forbidden { reason, .. } if reason == "Not for you.\\tSorry"
    ));
    let HubError::Gated { page, .. } = refused(403, "GatedRepo", Some("hf_x"), WEIGHTS) else {
        panic!()
    };
    assert!(page.ends_with("/org/name"), "{page}");
}

#[test]
fn a_model_that_is_not_there_is_not_found() {
    let setup = Setup::new();
    assert!(matches!(
        setup.fetch("org/other"),
        Err(HubError::ModelNotFound { .. })
    ));
    assert!(matches!(
        setup.fetch("org/name@v9"),
        Err(HubError::RevisionNotFound { .. })
    ));
    let file = |_: &[String]| vec!["nothing.json".to_string()];
    assert!(matches!(
        setup.fetch_files("org/name", file),
        Err(HubError::FileNotFound { file, .. }) if file == "nothing.json"
    ));
    let none = |_: &[String]| Vec::new();
    assert!(matches!(
        setup.fetch_files("org/name", none),
        Err(HubError::NothingToFetch { .. })
    ));
}

#[test]
fn a_hub_that_asks_to_wait_is_waited_for() {
    let setup = Setup::new();
    let wait = |seconds: &str| Fault::Status(429, vec![("Retry-After", seconds.to_string())]);
    setup.server.fault("/api/models/", wait("1"));
    let start = Instant::now();
    setup.only_weights().unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let setup = Setup::new();
    setup.server.fault(WEIGHTS, wait("3600"));
    let start = Instant::now();
    let error = setup.only_weights().unwrap_err();
    assert!(
        matches!(
            error,
            HubError::RateLimited {
                seconds: Some(3600)
            }
        ),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "an hour is not waited for"
    );
}

#[test]
fn a_hub_that_fails_is_asked_again_and_given_up_in_the_end() {
    let setup = Setup::new();
    for _ in 0..2 {
        setup.server.fault(WEIGHTS, Fault::Status(503, Vec::new()));
    }
    setup.only_weights().unwrap();

    let setup = Setup::new();
    for _ in 0..3 {
        setup.server.fault(WEIGHTS, Fault::Status(500, Vec::new()));
    }
    let error = setup.only_weights().unwrap_err();
    assert!(
        matches!(error, HubError::Failing { status: 500, .. }),
        "{error}"
    );
}

#[test]
fn the_token_is_for_the_hub_and_not_for_where_it_stores_files() {
    let mut setup = Setup::new();
    setup.settings.token = Some("hf_secret".to_string());
    setup.fetch("org/name").unwrap();
    let requests = setup.server.requests();
    for request in &requests {
        let expected = (request.host == "hub").then_some("Bearer hf_secret");
        assert_eq!(request.authorization.as_deref(), expected, "{request:?}");
    }
    assert!(requests.iter().any(|request| request.host == "storage"));
}

#[test]
fn offline_nothing_is_asked_for() {
    let mut setup = Setup::new();
    setup.settings.offline = true;
    let error = setup.fetch("org/name").unwrap_err();
    assert!(matches!(error, HubError::NotCached { .. }), "{error}");
    assert!(setup.server.requests().is_empty());

    setup.settings.offline = false;
    let online = setup.fetch("org/name").unwrap();
    let before = setup.server.requests().len();
    setup.settings.offline = true;
    assert_eq!(setup.fetch("org/name").unwrap(), online);
    assert_eq!(setup.fetch(&format!("org/name@{COMMIT}")).unwrap(), online);
    assert!(matches!(
        setup.fetch("org/name@v1"),
        Err(HubError::NotCached { .. })
    ));
    let other = |names: &[String]| {
        names
            .iter()
            .filter(|name| name.ends_with(".pt"))
            .cloned()
            .collect::<Vec<_>>()
    };
    let error = setup.fetch_files("org/name", other).unwrap_err();
    assert!(matches!(error, HubError::NotCached { .. }), "{error}");
    assert_eq!(setup.server.requests().len(), before);
}

#[test]
fn without_a_connection_the_cache_is_used() {
    let mut setup = Setup::new();
    let online = setup.fetch("org/name").unwrap();
    // A port that nobody listens on any more.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    setup.settings.endpoint = format!("http://{closed}");
    assert_eq!(setup.fetch("org/name").unwrap(), online);
    let error = setup.fetch("org/other").unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
}

#[test]
fn while_the_hub_fails_the_cache_is_used() {
    let setup = Setup::new();
    let fails = |status: u16| {
        for _ in 0..setup.settings.patience.attempts {
            setup
                .server
                .fault("/api/models/", Fault::Status(status, Vec::new()));
        }
    };
    for status in [500, 503, 429] {
        fails(status);
        let error = setup.fetch("org/name").unwrap_err();
        match status {
            429 => assert!(
                matches!(error, HubError::RateLimited { seconds: None }),
                "{error}"
            ),
            _ => assert!(matches!(error, HubError::Failing { .. }), "{error}"),
        }
        // The hub has not said for how long.
        assert!(!error.to_string().contains(" s;"), "{error}");
    }
    let online = setup.fetch("org/name").unwrap();
    for status in [500, 503, 429] {
        fails(status);
        assert_eq!(setup.fetch("org/name").unwrap(), online, "{status}");
    }
    let wait = vec![("Retry-After", "3600".to_string())];
    setup.server.fault("/api/models/", Fault::Status(429, wait));
    assert_eq!(setup.fetch("org/name").unwrap(), online);
}

#[test]
fn a_revision_may_be_a_branch_with_slashes_or_a_commit() {
    let setup = Setup::new();
    setup.server.branch("refs/pr/1");
    let by_branch = setup.fetch("org/name@refs/pr/1").unwrap();
    let reference = setup.model().join("refs/refs/pr/1");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    let asked = setup.server.requests().swap_remove(0).path;
    assert_eq!(asked, "/api/models/org/name/revision/refs%2Fpr%2F1");

    let by_commit = setup.fetch(&format!("org/name@{COMMIT}")).unwrap();
    assert_eq!(by_commit, by_branch);
    assert!(!setup.model().join("refs").join(COMMIT).exists());
}

#[test]
fn a_hub_cannot_write_outside_of_the_cache() {
    for name in [
        "../evil.json",
        "a/../../evil.json",
        "/etc/evil.json",
        "..\\evil.json",
        "",
    ] {
        let setup = Setup::new();
        setup.server.commit(COMMIT, name, b"evil");
        let error = setup
            .fetch_files("org/name", |_| vec![name.to_string()])
            .unwrap_err();
        assert!(matches!(error, HubError::UnsafeName { .. }), "{error}");
        assert!(setup.nothing_appeared());
    }
    for etag in ["../../../evil", "", "..", "a/b"] {
        let setup = Setup::new();
        let headers = vec![
            ("X-Linked-ETag", format!("\"{etag}\"")),
            ("X-Linked-Size", "4".to_string()),
        ];
        setup.server.fault(WEIGHTS, Fault::Status(200, headers));
        let error = setup.only_weights().unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{error}");
        assert!(setup.nothing_appeared());
    }
}

#[test]
fn what_is_no_hub_is_said_to_be_none() {
    let setup = Setup::new();
    setup
        .server
        .fault("/api/models/", Fault::Page("<html>welcome</html>".into()));
    assert!(matches!(setup.only_weights(), Err(HubError::Answer { .. })));
    setup
        .server
        .fault("/api/models/", Fault::Page(r#"{"sha": "../../x"}"#.into()));
    assert!(matches!(setup.only_weights(), Err(HubError::Answer { .. })));
    let here = setup.server.endpoint();
    for target in [
        format!("{here}/api/models/circle"),
        "//elsewhere".into(),
        "".into(),
    ] {
        for _ in 0..11 {
            let headers = vec![("Location", target.clone())];
            setup
                .server
                .fault("/api/models/", Fault::Status(307, headers));
        }
        let error = setup.only_weights().unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{error}");
        setup.server.forgive();
    }
}

#[test]
fn a_model_that_was_renamed_is_followed() {
    let setup = Setup::new();
    setup.server.rename_from("org/formerly");
    let model: ModelId = "org/formerly".parse().unwrap();
    let snapshot = Hub::new(setup.settings.clone())
        .fetch(&model, |_| vec![WEIGHTS.to_string()], |_| {})
        .unwrap();
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
}

#[test]
fn two_at_once_download_a_file_once() {
    let setup = Setup::new();
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| setup.only_weights().unwrap()));
        for one in both {
            let snapshot = one.join().unwrap();
            assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
        }
    });
    let downloads = setup
        .server
        .requests()
        .iter()
        .filter(|request| request.host == "storage")
        .count();
    assert_eq!(downloads, 1);
}

#[test]
fn without_a_connection_nothing_is_waited_for() {
    let mut setup = Setup::new();
    // Nobody listens where somebody just did.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    setup.settings.endpoint = format!("http://{port}");
    setup.settings.patience = Patience {
        attempts: 5,
        first_wait: Duration::from_secs(10),
        ..Patience::default()
    };
    let began = Instant::now();
    let fault = setup.fetch("org/name").unwrap_err();
    assert!(matches!(fault, HubError::Unreachable { .. }), "{fault}");
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_hub_that_takes_the_connection_and_never_answers_is_asked_once() {
    let mut setup = Setup::new();
    // The system takes connections for a listener that never looks at them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let online = setup.fetch("org/name").unwrap();
    setup.settings.endpoint = format!("http://{host}");
    setup.settings.patience = Patience {
        attempts: 5,
        first_wait: Duration::from_secs(10),
        answer: Duration::from_millis(200),
        ..Patience::default()
    };
    let began = Instant::now();
    let fault = setup.fetch("org/other").unwrap_err();
    let waited = began.elapsed();
    assert!(matches!(fault, HubError::Unreachable { .. }), "{fault}");
    let line = fault.to_string();
    assert!(line.contains(&host) && line.contains("0.2 s"), "{line}");
    assert!(!line.contains('\n'), "{line}");
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    // What was downloaded before is used, after the same wait.
    assert_eq!(setup.fetch("org/name").unwrap(), online);
}

#[test]
fn a_download_that_takes_longer_than_any_wait_is_not_cut_while_it_gets_on() {
    let mut setup = Setup::new();
    setup.settings.patience.attempts = 1;
    setup.settings.patience.answer = Duration::from_millis(500);
    setup.settings.patience.silence = Duration::from_millis(500);
    // 184 pieces: almost two seconds.
    setup.server.pace(Duration::from_millis(10));
    let began = Instant::now();
    let snapshot = setup.only_weights().unwrap();
    assert!(began.elapsed() > Duration::from_secs(1));
    assert_eq!(fs::read(snapshot.join(WEIGHTS)).unwrap(), files()[WEIGHTS]);
}

#[test]
fn what_is_needed_is_known_before_it_is_downloaded() {
    let setup = Setup::new();
    let hub = Hub::new(setup.settings.clone());
    let needed = || {
        hub.needed(&"org/name".parse().unwrap(), model_files)
            .unwrap()
    };
    let before = needed();
    assert!(
        before.iter().all(|file| file.here == 0 || file.bytes == 0),
        "{before:?}"
    );
    let weights = before.iter().find(|file| file.name == WEIGHTS).unwrap();
    assert_eq!(weights.bytes, 3_000_000);
    assert!(!setup.model().join("blobs").exists());

    // Of a download that was cut, what has arrived counts.
    setup.server.fault(WEIGHTS, Fault::Cut(1_000_000));
    for _ in 0..3 {
        setup.server.fault(WEIGHTS, Fault::Cut(0));
    }
    assert!(setup.only_weights().is_err());
    let here = |files: &[NeededFile]| {
        let weights = files.iter().find(|file| file.name == WEIGHTS);
        weights.unwrap().here
    };
    assert_eq!(here(&needed()), 1_000_000);
    setup.fetch("org/name").unwrap();
    let after = needed();
    assert!(
        after.iter().all(|file| file.here == file.bytes),
        "{after:?}"
    );
    assert_eq!(after.len(), before.len());
}
