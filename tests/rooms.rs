//! The rooms of a crate, its top modules, are imported one way: no room leads back to itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates whose rooms are looked at.
const CRATES: [&str; 2] = ["bunny-core", "bunny-weights"];

/// A file that still looks the wrong way, and the room it looks at.
const LEFT: [(&str, &str); 1] = [("kv_cache.rs", "config")];

/// Which rooms each room uses, and in which file.
type Uses = BTreeMap<String, BTreeMap<String, PathBuf>>;

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => rust_files(&path, found),
            false if path.extension().is_some_and(|ending| ending == "rs") => found.push(path),
            false => {}
        }
    }
}

/// The code of a file without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find("//") {
        Some(at) => &line[..at],
        None => line,
    });
    let code: Vec<&str> = lines.collect();
    let code = code.join("\n");
    match code.find("#[cfg(test)]\nmod tests {") {
        Some(at) => code[..at].to_string(),
        None => code,
    }
}

/// The first name of each path that `text` begins with: of `a::b` and of `{a::b, c::{d}, e}`.
fn heads(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_string()
    };
    let Some(group) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let mut heads = vec![name(group)];
    let mut depth = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// What the crate's root makes of names that are no modules: `pub use room::Name`.
fn reexports(root: &str) -> BTreeMap<String, String> {
    let mut rooms = BTreeMap::new();
    for line in root.split(';') {
        let Some((_, path)) = line.split_once("use ") else {
            continue;
        };
        if let Some((room, names)) = path.split_once("::") {
            for name in heads(names) {
                rooms.insert(name, room.trim().to_string());
            }
        }
    }
    rooms
}

/// Names that `code`, of a module `depth` modules below the root, takes from the crate's root.
fn taken_from_root(code: &str, depth: usize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let up = "super::".repeat(depth);
    for start in ["crate::", &up] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            let is_longer = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            if !is_longer {
                names.extend(heads(&code[at + start.len()..]));
            }
        }
    }
    names
}

fn uses(source: &Path) -> Uses {
    let root = code(&fs::read_to_string(source.join("lib.rs")).unwrap());
    let reexports = reexports(&root);
    let mut files = Vec::new();
    rust_files(source, &mut files);
    let mut uses = Uses::new();
    for file in files {
        let path = file.strip_prefix(source).unwrap().with_extension("");
        let mut modules: Vec<String> = path
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        modules.retain(|module| module != "mod");
        let room = modules[0].clone();
        if room == "lib" || modules.iter().any(|module| module == "tests") {
            continue;
        }
        let code = code(&fs::read_to_string(&file).unwrap());
        for name in taken_from_root(&code, modules.len()) {
            let other = reexports.get(&name).cloned().unwrap_or(name);
            let is_left = LEFT
                .iter()
                .any(|(end, room)| file.ends_with(end) && *room == other);
            if other != room && !is_left && root.contains(&format!("mod {other};")) {
                let of_room = uses.entry(room.clone()).or_default();
                of_room.entry(other).or_insert_with(|| file.clone());
            }
        }
    }
    uses
}

/// A way from `room` back to itself, if there is one.
fn cycle(uses: &Uses, room: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![room.to_string()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in uses.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == room {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}

#[test]
fn no_room_leads_back_to_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in CRATES {
        let uses = uses(&root.join(name).join("src"));
        assert!(!uses.is_empty(), "{name}: nothing was read");
        for room in uses.keys() {
            if let Some(way) = cycle(&uses, room) {
                let steps: Vec<String> = way
                    .windows(2)
                    .map(|step| {
                        let file = uses[&step[0]][&step[1]].strip_prefix(&root).unwrap();
                        format!("{} uses {} in {}", step[0], step[1], file.display())
                    })
                    .collect();
                panic!("{name}: {}", steps.join(", "));
            }
        }
    }
}

#[test]
fn a_way_back_is_found_however_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "lib.rs",
        "mod a;\nmod b;\nmod c;\npub use c::{Thing, Other};\n",
    );
    write("a.rs", "use crate::{\n    b::{x, y},\n};\nmod inner;\n");
    write("a/inner.rs", "// use crate::c::z;\nuse super::own;\n");
    write("b.rs", "use std::fmt;\ntype Own = crate::Thing;\n");
    write(
        "c.rs",
        "fn own() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n",
    );
    let found = uses(folder.path());
    let rooms: Vec<_> = found["a"].keys().chain(found["b"].keys()).collect();
    assert_eq!(rooms, ["b", "c"]);
    assert_eq!(cycle(&found, "a"), None);

    for way_back in [
        "use crate::a;",
        "use super::a;",
        "use crate::{Other, a::own};",
    ] {
        write("c.rs", way_back);
        let found = uses(folder.path());
        assert_eq!(
            cycle(&found, "a").unwrap(),
            ["a", "b", "c", "a"],
            "{way_back}"
        );
    }
    write("c.rs", "fn own() {}");
    write("b/deep.rs", "use super::super::{a::own};");
    assert_eq!(cycle(&uses(folder.path()), "a").unwrap(), ["a", "b", "a"]);
}
