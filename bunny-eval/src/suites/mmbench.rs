//! MMBench: choices in a table with the pictures in it, each question in all rotations of its
//! options.

use csv::{ReaderBuilder, StringRecord};

use crate::benchmark::Benchmark;
use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::question::{PicturePlace, PictureRef, Question, QuestionId};

/// Rotations of a question differ by multiples of this in their index.
pub(crate) const ROTATION: i64 = 1_000_000;
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
/// The columns that only the legacy table has all of, and that a submission leaves out.
pub(crate) const DROPPED: [&str; 6] = [
    "hint",
    "category",
    "source",
    "image",
    "comment",
    "l2-category",
];
/// A shorter cell is no picture: newer tables name another row in it.
const SHORTEST_PICTURE: usize = 64;

/// What pandas takes for a missing cell, besides an empty one.
const MISSING: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
    "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// The legacy table of a split.
#[derive(Debug)]
pub(crate) struct Table {
    pub file: String,
    pub header: Vec<String>,
    pub rows: Vec<Row>,
}

/// A row; its picture is left in the file.
#[derive(Debug)]
pub(crate) struct Row {
    pub index: i64,
    /// By column; `None` for a missing cell, and for the picture.
    pub cells: Vec<Option<String>>,
}

/// The table's name.
pub(crate) fn file(benchmark: Benchmark) -> &'static str {
    match benchmark {
        Benchmark::MmbenchTest => "MMBench_TEST_EN_legacy.tsv",
        _ => "MMBench_DEV_EN_legacy.tsv",
    }
}

impl Table {
    /// Reads a split's table, which must be the legacy one.
    pub(crate) fn read(folder: &Folder, benchmark: Benchmark) -> Result<Self> {
        let file = file(benchmark);
        let newer = file.replace("_legacy", "");
        let mend = if folder.has(&newer)? {
            format!(
                "{newer} is the newer table, which the reference cannot use: take the one that \
                 github.com/open-compass/MMBench calls legacy"
            )
        } else {
            "take the one that github.com/open-compass/MMBench calls legacy".to_owned()
        };
        let bytes = folder.expect(file, &mend)?;
        let path = folder.place(file)?;
        let broken = || EvalError::unreadable(&path, "a table");
        let mut reader = ReaderBuilder::new()
            .delimiter(b'\t')
            .flexible(true)
            .from_reader(&bytes[..]);
        let header: Vec<String> = reader
            .headers()
            .map_err(broken())?
            .iter()
            .map(str::to_owned)
            .collect();
        let column = |name: &str| header.iter().position(|other| other == name);
        let needed = ["index", "question"]
            .iter()
            .chain(&LETTERS)
            .chain(&DROPPED)
            .chain(&["split"]);
        for name in needed {
            if column(name).is_none() {
                let what = format!(
                    "it has no column `{name}`, so it is not the legacy table: take the one that \
                     github.com/open-compass/MMBench calls legacy"
                );
                return Err(EvalError::content(&path, None, what));
            }
        }
        let (index_at, image_at) = (column("index"), column("image"));
        let mut rows = Vec::new();
        for (at, record) in reader.records().enumerate() {
            let record: StringRecord = record.map_err(broken())?;
            let cell = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default();
            let index = cell(index_at).trim().parse().map_err(|_| {
                let what = format!("the index `{}` is no number", cell(index_at));
                EvalError::content(&path, Some(at + 2), what)
            })?;
            if cell(image_at).len() <= SHORTEST_PICTURE {
                let what = format!(
                    "row {index} has no picture but `{}`, as the newer table: take the one that \
                     github.com/open-compass/MMBench calls legacy",
                    cell(image_at)
                );
                return Err(EvalError::content(&path, None, what));
            }
            let cells = (0..header.len()).map(|at| {
                let text = record
                    .get(at)
                    .filter(|text| !text.is_empty() && !MISSING.contains(text));
                text.filter(|_| Some(at) != image_at).map(str::to_owned)
            });
            rows.push(Row {
                index,
                cells: cells.collect(),
            });
        }
        Ok(Self {
            file: file.to_owned(),
            header,
            rows,
        })
    }

    /// Which column has a name.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|other| other == name)
    }

    /// A cell that is there.
    pub(crate) fn cell(&self, row: &Row, column: &str) -> Option<String> {
        row.cells.get(self.column(column)?)?.clone()
    }

    /// The options that are there, each with its letter; those behind a missing one included.
    pub(crate) fn choices(&self, row: &Row) -> Vec<(char, String)> {
        let of = |letter: &str| Some((letter.chars().next()?, self.cell(row, letter)?));
        LETTERS.iter().filter_map(|letter| of(letter)).collect()
    }

    /// What is asked, rotations included.
    pub(crate) fn questions(&self) -> Vec<Question> {
        let each = self.rows.iter().enumerate().map(|(at, row)| {
            let hint = self.cell(row, "hint").filter(|hint| !is_none(hint));
            let mut asked = hint.map_or_else(String::new, |hint| hint + "\n");
            asked.push_str(&self.cell(row, "question").unwrap_or_default());
            let mut options = Vec::new();
            for letter in LETTERS {
                // The first missing option ends the list.
                let Some(option) = self.cell(row, letter).filter(|option| !is_none(option)) else {
                    break;
                };
                asked.push_str(&format!("\n{letter}. {option}"));
                options.push(option);
            }
            Question {
                id: QuestionId::Number(row.index),
                category: self.cell(row, "category").unwrap_or_default(),
                text: format!(
                    "{asked}\nAnswer with the option's letter from the given choices directly."
                ),
                recorded: Some(asked),
                pictures: vec![PictureRef {
                    name: format!("{}#{}", self.file, row.index),
                    place: PicturePlace::Table {
                        file: self.file.clone(),
                        row: at,
                    },
                }],
                options,
            }
        });
        each.collect()
    }
}

fn is_none(text: &str) -> bool {
    matches!(text.to_lowercase().as_str(), "nan" | "none")
}

/// The pictures of a table: where each row starts, so that one is read at a time.
#[derive(Debug)]
pub(crate) struct Cells {
    path: std::path::PathBuf,
    source: Source,
    starts: Vec<u64>,
    column: usize,
}

#[derive(Debug)]
enum Source {
    Plain(std::path::PathBuf),
    Member(Vec<u8>),
}

impl Cells {
    pub(crate) fn open(folder: &Folder, file: &str) -> Result<Self> {
        let source = match folder.plain(file) {
            Some(path) => Source::Plain(path),
            None => Source::Member(folder.expect(file, "")?),
        };
        let mut cells = Self {
            path: folder.root_of(file),
            source,
            starts: Vec::new(),
            column: 0,
        };
        let (mut starts, mut column) = (Vec::new(), None);
        cells.each(0, |start, record| {
            match column {
                None => column = record.iter().position(|name| name == "image"),
                Some(_) => starts.push(start),
            }
            column.is_some()
        })?;
        cells.column = column
            .ok_or_else(|| EvalError::content(&cells.path, None, "it has no column `image`"))?;
        cells.starts = starts;
        Ok(cells)
    }

    /// The text of a row's picture.
    pub(crate) fn picture(&self, row: usize) -> Result<String> {
        let lacks = || EvalError::content(&self.path, Some(row + 2), "there is no such row");
        let start = *self.starts.get(row).ok_or_else(lacks)?;
        let mut text = None;
        self.each(start, |_, record| {
            text = record.get(self.column).map(str::to_owned);
            false
        })?;
        text.ok_or_else(lacks)
    }

    /// Reads records from a byte on, until `see` says that it has seen enough.
    fn each(&self, start: u64, mut see: impl FnMut(u64, &StringRecord) -> bool) -> Result<()> {
        let broken = || EvalError::unreadable(&self.path, "a table");
        let bytes: Box<dyn std::io::Read + '_> = match &self.source {
            Source::Plain(path) => {
                let mut file = std::fs::File::open(path).map_err(EvalError::io(path, "open"))?;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(start))
                    .map_err(EvalError::io(path, "read"))?;
                Box::new(file)
            }
            Source::Member(bytes) => Box::new(bytes.get(start as usize..).unwrap_or_default()),
        };
        let mut reader = ReaderBuilder::new()
            .delimiter(b'\t')
            .flexible(true)
            .has_headers(false)
            .from_reader(bytes);
        let mut record = StringRecord::new();
        loop {
            if !reader.read_record(&mut record).map_err(broken())? {
                return Ok(());
            }
            let at = record.position().map_or(0, csv::Position::byte);
            if !see(start + at, &record) {
                return Ok(());
            }
        }
    }
}
