//! The keys of files that people write in TOML, listed from their JSON schema.
//!
//! A schema is walked table by table; a key that several stages have in common, with the same words,
//! is listed once for all of them.

use std::fmt::Write;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

/// How keys are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeysFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// A page.
    Markdown,
    /// The JSON schema, which editors check and complete by.
    Schema,
}

/// How keys are listed.
#[derive(Debug, clap::Args)]
pub struct KeysArgs {
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: KeysFormat,
}

/// A key, or one that several tables have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Key {
    /// The tables that know it: `finetune`, `contrastive.vision`; an empty name is the file itself.
    tables: Vec<String>,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// What it is unless given.
    default: Option<String>,
    about: String,
}

/// Prints the keys that `schema` describes; `title` says whose they are.
///
/// # Errors
/// When they have no form in JSON.
pub fn print(args: &KeysArgs, title: &str, schema: Value) -> Result<()> {
    let keys = || merged(keys_of(&schema));
    match args.format {
        KeysFormat::Text => print!("{}", to_text(&keys())),
        KeysFormat::Markdown => print!("{}", to_markdown(title, &keys())),
        KeysFormat::Json => println!("{}", json!({"format_version": 1, "keys": keys()})),
        KeysFormat::Schema => println!("{}", serde_json::to_string_pretty(&schema)?),
    }
    Ok(())
}

/// All keys of all tables, outer ones first.
fn keys_of(schema: &Value) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut tables = vec![(String::new(), schema)];
    while !tables.is_empty() {
        let mut inner = Vec::new();
        for (table, node) in tables {
            let (own, below) = keys_of_table(schema, &table, node);
            keys.extend(own);
            inner.extend(below);
        }
        tables = inner;
    }
    keys
}

/// The keys of one table, and the tables in it.
fn keys_of_table<'a>(
    root: &'a Value,
    table: &str,
    node: &'a Value,
) -> (Vec<Key>, Vec<(String, &'a Value)>) {
    let (mut keys, mut below) = (Vec::new(), Vec::new());
    let stages = root["anyOf"].as_array();
    // Keys above the stages are listed with the stages that know them.
    let is_listed = |name: &str| match stages {
        Some(stages) if table.is_empty() => {
            ["format_version", "name"].contains(&name)
                || stages.iter().any(|stage| stage["required"][0] == name)
        }
        _ => true,
    };
    let variants = node["oneOf"].as_array().into_iter().flatten();
    for node in std::iter::once(node).chain(variants) {
        let properties = node["properties"].as_object().into_iter().flatten();
        for (name, value) in properties.filter(|(name, _)| is_listed(name)) {
            let path = match table {
                "" => name.clone(),
                table => format!("{table}.{name}"),
            };
            let named = resolved(root, value);
            let items = resolved(root, &named["items"]);
            match [named, items].into_iter().find(|node| is_table(node)) {
                Some(inner) => below.push((path, inner)),
                None => keys.push(Key {
                    tables: vec![table.to_owned()],
                    name: name.clone(),
                    kind: kind(root, value),
                    default: default(value),
                    about: about(value, node),
                }),
            }
        }
    }
    (keys, below)
}

/// What is said of a key: its own words, or those of the choice that it is.
fn about(value: &Value, node: &Value) -> String {
    let own = value["description"].as_str();
    one_line(own.or(node["description"].as_str()).unwrap_or_default())
}

/// What a reference stands for, or the node itself.
fn resolved<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    let name = node["$ref"]
        .as_str()
        .and_then(|name| name.strip_prefix('#'));
    name.and_then(|pointer| root.pointer(pointer))
        .unwrap_or(node)
}

fn is_table(node: &Value) -> bool {
    let variants = node["oneOf"].as_array().into_iter().flatten();
    std::iter::once(node)
        .chain(variants)
        .any(|node| node["properties"].is_object())
}

/// The type of a value, in words.
fn kind(root: &Value, value: &Value) -> String {
    let node = resolved(root, value);
    let choices = ["oneOf", "anyOf"]
        .into_iter()
        .find_map(|name| node[name].as_array());
    if let Some(choices) = choices {
        let choices: Vec<String> = choices.iter().map(|choice| kind(root, choice)).collect();
        return choices.join(" or ");
    }
    if let Some(names) = node["enum"].as_array() {
        let names: Vec<String> = names.iter().map(shown).collect();
        return names.join(" or ");
    }
    if let Some(only) = node.get("const") {
        return shown(only);
    }
    match node["type"].as_str() {
        Some("string") => "text".into(),
        Some("boolean") => "true or false".into(),
        Some("array") => format!("list of {}", kind(root, &node["items"])),
        Some("object") => match node.get("additionalProperties") {
            Some(values) if values.is_object() => {
                format!("table of {} by name", kind(root, values))
            }
            _ => "table".into(),
        },
        Some(other) => other.into(),
        None => "any".into(),
    }
}

/// What a value is unless given; nothing where that is no value at all.
fn default(value: &Value) -> Option<String> {
    let default = value.get("default")?;
    let is_nothing = default == "" || default.as_object().is_some_and(serde_json::Map::is_empty);
    (!is_nothing).then(|| shown(default))
}

/// A value as TOML has it.
fn shown(value: &Value) -> String {
    match value.as_f64() {
        // As people write rates.
        Some(number) if value.is_f64() && number != 0.0 && number.abs() < 1e-3 => {
            format!("{number:e}")
        }
        _ => value.to_string(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same keys, each once for all tables that have it in the same words.
fn merged(keys: Vec<Key>) -> Vec<Key> {
    let mut merged: Vec<Key> = Vec::new();
    for key in keys {
        let same = |other: &&mut Key| {
            (&other.name, &other.kind, &other.default, &other.about)
                == (&key.name, &key.kind, &key.default, &key.about)
        };
        match merged.iter_mut().find(same) {
            Some(other) => other.tables.extend(key.tables),
            None => merged.push(key),
        }
    }
    merged
}

/// Keys by the tables that know them, in the order of their first.
fn by_tables(keys: &[Key]) -> Vec<(String, Vec<&Key>)> {
    let mut groups: Vec<(String, Vec<&Key>)> = Vec::new();
    for key in keys {
        let tables: Vec<String> = key
            .tables
            .iter()
            .map(|table| match table.as_str() {
                "" => "the file itself".to_owned(),
                table => format!("[{table}]"),
            })
            .collect();
        let tables = tables.join(", ");
        match groups.iter_mut().find(|(name, _)| *name == tables) {
            Some((_, group)) => group.push(key),
            None => groups.push((tables, vec![key])),
        }
    }
    groups
}

fn to_text(keys: &[Key]) -> String {
    let mut text = String::new();
    for (at, (tables, keys)) in by_tables(keys).into_iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        let _ = writeln!(text, "{gap}of {tables}");
        for key in keys {
            let default = key.default.as_ref();
            let default = default.map(|default| format!(" = {default}"));
            let _ = writeln!(
                text,
                "  {}{}  ({})\n      {}",
                key.name,
                default.unwrap_or_default(),
                key.kind,
                key.about
            );
        }
    }
    text
}

fn to_markdown(title: &str, keys: &[Key]) -> String {
    let mut text = String::new();
    let mut letters = title.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let title: String = first.chain(letters).collect();
    let _ = writeln!(text, "# {title}");
    for (tables, keys) in by_tables(keys) {
        let _ = writeln!(text, "\n## Of {tables}\n\n| key | type | unless given | |");
        let _ = writeln!(text, "|---|---|---|---|");
        for key in keys {
            let default = key.default.as_ref();
            let default = default.map_or_else(String::new, |default| format!("`{default}`"));
            let _ = writeln!(
                text,
                "| `{}` | {} | {default} | {} |",
                key.name,
                key.kind,
                key.about.replace('|', "\\|")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_listed_by_table_with_type_default_and_words() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Its\nname."},
                "source": {"type": "array", "items": {"$ref": "#/$defs/Source"}},
                "other": {"$ref": "#/$defs/Source"},
            },
            "$defs": {
                "Source": {"type": "object", "properties": {
                    "rate": {"type": "number", "default": 0.00002, "description": "How fast."},
                    "order": {"$ref": "#/$defs/Order", "default": "append"},
                    "take": {"$ref": "#/$defs/Take"},
                }},
                "Order": {"oneOf": [{"const": "append"}, {"const": "shuffle"}]},
                "Take": {"oneOf": [
                    {"properties": {"first": {"type": "integer"}}},
                    {"properties": {"part": {"type": "number"}}},
                ]},
            },
        });
        let keys = merged(keys_of(&schema));
        let listed: Vec<String> = keys
            .iter()
            .map(|key| {
                format!(
                    "{} {} {:?} {} {}",
                    key.tables.join("+"),
                    key.name,
                    key.default,
                    key.kind,
                    key.about
                )
            })
            .collect();
        assert_eq!(
            listed,
            [
                " name None text Its name.",
                "source+other rate Some(\"2e-5\") number How fast.",
                "source+other order Some(\"\\\"append\\\"\") \"append\" or \"shuffle\" ",
                "source.take+other.take first None integer ",
                "source.take+other.take part None number ",
            ]
        );
        assert!(to_markdown("keys", &keys).contains("| `rate` | number | `2e-5` | How fast. |"));
        assert!(to_text(&keys).contains("of [source], [other]\n  rate = 2e-5  (number)\n"));
    }
}
