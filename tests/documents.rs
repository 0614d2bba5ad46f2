//! What the documents say holds: README's commands run as they stand, pages that are made are current,
//! and what is packed has all it needs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Commands of README that are not run here, by what stands in them.
const NOT_RUN: [(&str, &str); 9] = [
    ("bunny-web/build.sh", "compiles for another target"),
    ("http.server", "runs until it is stopped"),
    ("cargo ", "compiles"),
    ("BAAI/", "downloads"),
    ("openai/", "downloads"),
    ("--backend cuda", "needs a GPU"),
    ("bunny-cli serve", "runs until it is stopped"),
    ("--data eval", "needs the benchmarks' files"),
    ("results/", "needs what the command before has left"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bunny-cli"))
}

fn bunny(arguments: &[&str]) -> String {
    let output = Command::new(program())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    said(&format!("{arguments:?}"), &output)
}

/// What a command that went well has printed.
fn said(command: &str, output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {complaint}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The commands in the shell blocks of a page, those that go on over several lines whole.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```bash\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap_or_default());
    let text: String = blocks.collect::<String>().replace("\\\n", " ");
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
#[cfg(unix)]
fn the_commands_of_the_readme_run_on_a_fresh_clone() {
    let page = fs::read_to_string(root().join("README.md")).unwrap();
    let (skipped, run): (Vec<String>, Vec<String>) = commands(&page)
        .into_iter()
        .partition(|command| NOT_RUN.iter().any(|(mark, _)| command.contains(mark)));
    for (mark, why) in NOT_RUN {
        assert!(
            skipped.iter().any(|command| command.contains(mark)),
            "no command {why}: {mark}"
        );
    }
    assert!(run.len() >= 18, "{run:#?}");

    let clone = tempfile::tempdir().unwrap();
    for part in ["examples", "recipes", "tests"] {
        let there = root().canonicalize().unwrap().join(part);
        std::os::unix::fs::symlink(there, clone.path().join(part)).unwrap();
    }
    let path = format!(
        "{}:{}",
        program().parent().unwrap().display(),
        env::var("PATH").unwrap()
    );
    for command in run {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &command])
            .current_dir(clone.path())
            .env("PATH", &path)
            .env("HOME", clone.path())
            .env("HF_HUB_OFFLINE", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = said(&command, &output);
        if command.contains("What is in the picture?") {
            // The answer that the page shows.
            assert!(page.contains(&format!("```text\n{said}```")), "{said}");
        }
    }
}

#[test]
fn pages_of_keys_and_schemas_are_current() {
    for (page, arguments) in [
        ("recipe-keys.md", "train keys --format markdown"),
        ("recipe.schema.json", "train keys --format schema"),
        ("mix-keys.md", "data mix keys --format markdown"),
        ("mix.schema.json", "data mix keys --format schema"),
        ("condense-keys.md", "data condense keys --format markdown"),
        ("condense.schema.json", "data condense keys --format schema"),
    ] {
        let made = bunny(&arguments.split(' ').collect::<Vec<_>>());
        let kept = fs::read_to_string(root().join("docs").join(page)).unwrap();
        assert!(
            made == kept,
            "docs/{page} is not current: bunny-cli {arguments} > docs/{page}"
        );
    }
    let keys = bunny(&["train", "keys"]);
    for line in [
        "learning_rate = 2e-4",
        "lora_r = 128",
        "eval_data_path  (text)",
    ] {
        assert!(keys.contains(line), "{line}: {keys}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&bunny(&["data", "mix", "keys", "--format", "json"])).unwrap();
    let keys = json["keys"].as_array().unwrap();
    assert!(keys.iter().all(|key| key["about"] != ""), "{keys:#?}");
}

/// The names that `text` links to, without what stands behind `#`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1);
    let links = links.filter_map(|rest| rest.split([')', '#']).next());
    links.filter(|link| !link.is_empty() && !link.contains(':'))
}

#[test]
fn pages_link_to_files_that_are_there() {
    let mut pages = vec!["README.md".to_owned(), "benches/README.md".to_owned()];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if root().join(&name).join("Cargo.toml").exists() {
            pages.push(format!("{name}/README.md"));
        }
    }
    assert!(pages.len() >= 11, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(root().join(&page))
            .unwrap_or_else(|error| panic!("{page}: {error}"));
        for link in links(&text) {
            let file = root().join(&page).parent().unwrap().join(link);
            assert!(file.exists(), "{page}: there is no {link}");
        }
    }
}

#[test]
fn sources_include_no_file_from_outside_their_crate() {
    // What is outside is not in a crate's archive, from which others build it.
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let source = entry.unwrap().path().join("src");
        if source.parent().unwrap().join("Cargo.toml").exists() {
            folders.push(source);
        }
    }
    let crates = folders.len();
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let own = path
                .ancestors()
                .find(|above| above.join("Cargo.toml").exists());
            let own = own.unwrap().canonicalize().unwrap();
            // Tests are not built from the archive.
            let text = text.split("#[cfg(test)]").next().unwrap();
            for rest in text.split("include_").skip(1) {
                let is_included = rest.starts_with("str!(\"") || rest.starts_with("bytes!(\"");
                let Some(name) = rest.split('"').nth(1).filter(|_| is_included) else {
                    continue;
                };
                looked_at += 1;
                // By its name, since a link within the crate is packed as the file it leads to.
                let place = path.parent().unwrap().join(name);
                let folder = place.parent().unwrap().canonicalize().unwrap();
                assert!(folder.starts_with(&own), "{}: {name}", path.display());
            }
        }
    }
    assert!(crates >= 9 && looked_at >= 10, "{crates} {looked_at}");
}
