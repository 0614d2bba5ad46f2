//! A crate of somebody else's compiles and runs from the lines that bunny-core's README shows.
//!
//! It builds burn and all of its own in another folder, which takes minutes: it runs where
//! `BUNNY_LONG` is set.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

/// The block of `readme` in `language`.
fn block<'a>(readme: &'a str, language: &str) -> &'a str {
    let (_, rest) = readme.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_lines_of_the_readme_make_a_crate() {
    if env::var_os("BUNNY_LONG").is_none() {
        println!("not tried: it runs where BUNNY_LONG is set");
        return;
    }
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(core.join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let shown = "bunny/bunny-core";
    let dependencies = block(&readme, "toml");
    assert!(dependencies.contains(shown));
    let manifest = format!(
        "[package]\nname = \"outside\"\nedition = \"2024\"\n\n{}\n[workspace]\n",
        dependencies.replace(shown, core.to_str().unwrap())
    );
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    // The same versions as here, so that nothing else is downloaded.
    fs::copy(core.join("../Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/main.rs"), block(&readme, "rust")).unwrap();
    let status = Command::new(env!("CARGO"))
        .args(["run", "--offline", "--quiet"])
        .env(
            "CARGO_TARGET_DIR",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside"),
        )
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
