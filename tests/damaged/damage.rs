//! Damage of the kinds that downloads, editors, disks and ill will make.

use bunny_base::random::{mix, mix_all, mix_bytes};
use serde_json::{Map, Value, json};

/// Draws that follow from where they are made.
pub struct Random {
    key: u64,
    draws: u64,
}

impl Random {
    pub fn new(place: &[u64], name: &str) -> Self {
        Self {
            key: mix_all(place) ^ mix_bytes(0, name.as_bytes()),
            draws: 0,
        }
    }

    pub fn next(&mut self) -> u64 {
        self.draws += 1;
        mix(self.key ^ mix(self.draws))
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A file as it should be.
pub struct Seed {
    pub bytes: Vec<u8>,
    /// What it says, where it is JSON: one value, or one a line.
    json: Vec<Value>,
}

impl From<Vec<u8>> for Seed {
    fn from(bytes: Vec<u8>) -> Self {
        let json = match serde_json::from_slice(&bytes) {
            Ok(whole) => vec![whole],
            Err(_) => {
                let lines = bytes
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty());
                lines
                    .map(serde_json::from_slice)
                    .collect::<Result<_, _>>()
                    .unwrap_or_default()
            }
        };
        Self { bytes, json }
    }
}

/// One of the seeds, damaged.
pub fn damage(random: &mut Random, seeds: &[Seed]) -> Vec<u8> {
    let seed = random.pick(seeds);
    let is_text = str::from_utf8(&seed.bytes).is_ok();
    let mut file = seed.bytes.clone();
    if !seed.json.is_empty() && !random.once_in(3) {
        let mut values = seed.json.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(values.len());
            damage_value(random, &mut values[at]);
        }
        let lines: Vec<String> = values.iter().map(Value::to_string).collect();
        file = lines.join("\n").into_bytes();
        if !random.once_in(4) {
            return file;
        }
    }
    for _ in 0..=random.below(4) {
        match is_text && random.once_in(2) {
            true => damage_text(random, &mut file),
            false => damage_bytes(random, &mut file, seeds),
        }
    }
    file
}

/// Numbers at which sizes and counts break.
const WIDE: [u64; 10] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// Places worth damaging: most of a file of tensors is padding and numbers, and what describes the rest
/// stands at a start or an end.
fn place(random: &mut Random, file: &[u8]) -> usize {
    match random.below(6) {
        0 => random.below(file.len().min(64)),
        1 => file
            .len()
            .saturating_sub(1 + random.below(file.len().min(300))),
        _ => {
            for _ in 0..8 {
                let at = random.below(file.len());
                if !matches!(file.get(at), None | Some(0 | b'Z')) {
                    return at;
                }
            }
            random.below(file.len())
        }
    }
}

fn damage_bytes(random: &mut Random, file: &mut Vec<u8>, seeds: &[Seed]) {
    const STRUCTURE: &[u8] = b"\"{}[],:0-9.eE\\(.)ae}]tuRQqhJKMXcb\x80\x85\x8a\x93\x94\n\t\x1b";
    let at = place(random, file);
    let length = 1 + random.below(64);
    let end = (at + length).min(file.len());
    let at = at.min(end);
    match random.below(12) {
        0 => file.truncate(at),
        1 => drop(file.drain(at..end)),
        2 => {
            let copy = file[at..end].to_vec();
            let to = place(random, file).min(file.len());
            file.splice(to..to, copy);
        }
        3 => {
            let other = &random.pick(seeds).bytes;
            let from = place(random, other).min(other.len());
            let copy = other[from..(from + length).min(other.len())].to_vec();
            file.splice(at..end, copy);
        }
        4 => {
            let number = random.pick(&WIDE).to_le_bytes();
            let width = *random.pick(&[1, 2, 4, 8]);
            for (byte, new) in file.iter_mut().skip(at).zip(&number[..width]) {
                *byte = *new;
            }
        }
        5 => {
            let number = random.pick(&WIDE).to_be_bytes();
            let width = *random.pick(&[2, 4]);
            for (byte, new) in file.iter_mut().skip(at).zip(&number[8 - width..]) {
                *byte = *new;
            }
        }
        6 => {
            let byte = *random.pick(STRUCTURE);
            if let Some(old) = file.get_mut(at) {
                *old = byte;
            }
        }
        7 => {
            let byte = *random.pick(&[0, 0xff, 0x7f, 0x80]);
            file[at..end].fill(byte);
        }
        8 => file.insert(at, random.next() as u8),
        9 => damage_text(random, file),
        _ => {
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

/// Numbers, words and marks of text in the place of others.
fn damage_text(random: &mut Random, file: &mut Vec<u8>) {
    const WORDS: [&str; 28] = [
        "-1",
        "0",
        "1e999",
        "-0.0",
        "1e-320",
        "NaN",
        "inf",
        "9223372036854775807",
        "18446744073709551616",
        "1000000000",
        "4294967295",
        "null",
        "true",
        "\"\"",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\",
        ",",
        "\t",
        "\n",
        "\u{1b}[2J",
        "\u{202e}",
        "../",
        "\u{0}",
        "é",
    ];
    let word = *random.pick(&WORDS);
    let at = random.below(file.len() + 1);
    let digits = file[at..].iter().take(200).position(u8::is_ascii_digit);
    match (random.below(3), digits) {
        // The whole number in the place of which it comes.
        (0 | 1, Some(skipped)) => {
            let start = at + skipped;
            let length = file[start..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            file.splice(start..start + length, word.bytes());
        }
        (0, None) => {
            let end = (at + random.below(8)).min(file.len());
            file.splice(at..end, word.bytes());
        }
        _ => drop(file.splice(at..at, word.bytes())),
    }
}

/// Changes something inside a JSON value.
fn damage_value(random: &mut Random, value: &mut Value) {
    let count = nodes(value);
    let (at, from) = (random.below(count), random.below(count));
    let other = node(value, from).clone();
    let odd = odd_value(random);
    let chosen = node_mut(value, at);
    match (random.below(8), chosen) {
        (0, Value::Object(fields)) if !fields.is_empty() => {
            let key = random.below(fields.len());
            let key = fields.keys().nth(key).unwrap().clone();
            fields.remove(&key);
        }
        (0, Value::Array(items)) if !items.is_empty() => {
            drop(items.remove(random.below(items.len())))
        }
        (1, Value::Object(fields)) => {
            let key = *random.pick(&["", "\u{1b}]0;x\u{7}", "id", "a\nb", "__proto__"]);
            fields.insert(key.into(), odd);
        }
        (1, Value::Array(items)) => {
            let grown: Vec<Value> = items
                .iter()
                .cycle()
                .take(3 * items.len())
                .cloned()
                .collect();
            *items = grown;
        }
        (2, chosen) => *chosen = other,
        (3, chosen) => *chosen = Value::Array(vec![chosen.take()]),
        (_, chosen) => *chosen = odd,
    }
}

fn odd_value(random: &mut Random) -> Value {
    let deep = |depth| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    match random.below(24) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1),
        5 => json!(7),
        6 => json!(0.5),
        7 => json!(1_000_000_000),
        8 => json!(u32::MAX),
        9 => json!(i64::MAX),
        10 => json!(u64::MAX),
        11 => json!(i64::MIN),
        12 => json!(1e308),
        13 => json!(-1e308),
        14 => json!(5e-324),
        15 => json!(""),
        16 => json!("\u{1b}[2J\u{1b}]0;title\u{7}\r\n"),
        17 => json!("\u{0}"),
        18 => json!("x".repeat(1 << random.below(13))),
        19 => json!([]),
        20 => Value::Object(Map::new()),
        21 => deep(100),
        22 => json!([0, -1, 3.5, "a", null]),
        _ => json!("<image>"),
    }
}

/// How many values there are in a value, itself among them.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

fn node(value: &Value, at: usize) -> &Value {
    let mut left = at;
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        if left == 0 {
            return value;
        }
        left -= 1;
        match value {
            Value::Array(items) => stack.extend(items),
            Value::Object(fields) => stack.extend(fields.values()),
            _ => {}
        }
    }
    value
}

fn node_mut(value: &mut Value, at: usize) -> &mut Value {
    let mut left = at;
    let mut stack = vec![value];
    loop {
        let value = stack.pop().expect("as many as were counted");
        if left == 0 {
            return value;
        }
        left -= 1;
        match value {
            Value::Array(items) => stack.extend(items),
            Value::Object(fields) => stack.extend(fields.values_mut()),
            _ => {}
        }
    }
}
