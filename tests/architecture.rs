//! What `ARCHITECTURE.md` cites is there: every file, and in it every name.

use std::{fs, path::Path};

/// Words before a definition of that name.
const DEFINED: [&str; 8] = [
    "fn ", "struct ", "enum ", "trait ", "const ", "static ", "type ", "mod ",
];

fn defines(text: &str, name: &str) -> bool {
    DEFINED.iter().any(|kind| {
        text.match_indices(&format!("{kind}{name}"))
            .any(|(at, found)| {
                let next = text[at + found.len()..].chars().next();
                next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
            })
    })
}

/// What stands between backticks and names a file of this repository, with the names behind its colon.
fn citations(text: &str) -> Vec<(&str, Vec<&str>)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|quoted| quoted.contains('/') && !quoted.contains(' '))
        .map(|quoted| match quoted.split_once(':') {
            Some((file, names)) => (file, names.split(',').collect()),
            None => (quoted, Vec::new()),
        })
        .collect()
}

#[test]
fn every_file_and_every_name_that_the_architecture_cites_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let cited = citations(&text);
    assert!(
        cited.len() > 30,
        "only {} citations were found",
        cited.len()
    );
    let mut missing = Vec::new();
    for (file, names) in cited {
        let path = root.join(file);
        if !path.exists() {
            missing.push(file.to_string());
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let unknown = names.into_iter().filter(|name| !defines(&text, name));
        missing.extend(unknown.map(|name| format!("{file}:{name}")));
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md cites {missing:?}");
}

#[test]
fn a_name_is_defined_only_as_a_whole_word_behind_its_kind() {
    assert!(defines("pub fn step(&mut self)", "step"));
    assert!(!defines("pub fn steps() { step() }", "step"));
    assert!(defines("pub struct Engine<B: Backend> {", "Engine"));
}
