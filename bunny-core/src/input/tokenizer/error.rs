use std::path::PathBuf;

use bunny_base::escape::for_message;

/// What can go wrong between text and ids.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The folder holds no tokenizer that this crate reads.
    #[error("{}: no tokenizer.json, nor vocab.json with merges.txt, nor tokenizer.model", folder.display())]
    NotFound {
        /// The folder searched.
        folder: PathBuf,
    },
    /// SentencePiece's own file is damaged, or does what is not done here.
    #[error("{}: {}", path.display(), for_message(problem))]
    SentencePiece {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A `tokenizer.model` alone does not say what stands around a text; its class does.
    #[error("{}: a tokenizer.model alone is read where `tokenizer_class` is LlamaTokenizer, and it {}: save it as tokenizer.json with transformers' AutoTokenizer", path.display(), is_class(class))]
    PiecesOfClass {
        /// The `tokenizer_config.json`, which may be missing.
        path: PathBuf,
        /// Its `tokenizer_class`, empty where it names none.
        class: String,
    },
    /// The `tokenizers` library cannot write a tokenizer down.
    #[error("the tokenizer cannot be written: {}", for_message(&source.to_string()))]
    Export {
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("{}: {}", path.display(), for_message(&source.to_string()))]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// The `tokenizers` library refused a file.
    #[error("{}: not a usable tokenizer: {}", path.display(), for_message(&source.to_string()))]
    Load {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A `tokenizer.json` of a newer version than the `tokenizers` library here reads.
    #[error("{}: a tokenizer of version {version}, and 1.0 is read: save it with a release of tokenizers before 1.0", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that it names.
        version: String,
    },
    /// The vocabulary has gaps, so that an id lies beyond the rows of a table with one for each token.
    #[error("{}: token `{token}` has id {id}, and there are {tokens} tokens: their ids must be 0 to {}", path.display(), tokens - 1)]
    IdBeyond {
        /// The tokenizer's file.
        path: PathBuf,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// How many tokens there are.
        tokens: usize,
    },
    /// `vocab.json` and `merges.txt` alone do not say how text is cut; the class does.
    #[error("{}: tokenizer_class `{}` cannot be built from vocab.json and merges.txt: convert it to tokenizer.json", path.display(), for_message(class))]
    UnknownClass {
        /// The `tokenizer_config.json`.
        path: PathBuf,
        /// Its `tokenizer_class`.
        class: String,
    },
    /// The same, where no file names a class.
    #[error("{}: must name a `tokenizer_class` (Phi's is CodeGenTokenizer), or else there must be a tokenizer.json: vocab.json and merges.txt do not say how text is cut", path.display())]
    NoClass {
        /// The `tokenizer_config.json`, which may be missing.
        path: PathBuf,
    },
    /// Captions of a tokenizer of this class are prepared in a way that is not known here.
    #[error("{}: how captions are prepared for a `{}` is not known: CLIPTokenizer and SiglipTokenizer are", path.display(), for_message(class))]
    Captions {
        /// The `tokenizer_config.json`.
        path: PathBuf,
        /// Its `tokenizer_class`.
        class: String,
    },
    /// An added token would get another id than the files say.
    #[error("{}: added token `{}` should be {id} and is {found:?}: the tokenizer's files do not belong together", path.display(), for_message(token))]
    MisplacedToken {
        /// The tokenizer's file.
        path: PathBuf,
        /// The token.
        token: String,
        /// The id in `added_tokens_decoder` or `added_tokens.json`.
        id: u32,
        /// The id in the vocabulary.
        found: Option<u32>,
    },
    /// A token that is needed is not in the vocabulary: most often a template of another family.
    #[error(
        "the vocabulary has no token `{}`: is this the template of another model?",
        for_message(token)
    )]
    NoSuchToken {
        /// The token.
        token: String,
    },
    /// A tokenizer does what other formats have no words for.
    #[error("the tokenizer has {what}, which the format cannot say")]
    NotPortable {
        /// What it does.
        what: &'static str,
    },
    /// A vocabulary lists a token twice.
    #[error("{}: token `{}` is there twice, the second time as {id}", path.display(), for_message(token))]
    TokenTwice {
        /// The file that lists it.
        path: PathBuf,
        /// The token.
        token: String,
        /// Its second id.
        id: usize,
    },
    /// The `tokenizers` library failed on a text.
    #[error("text could not be tokenised: {source}")]
    Encode {
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The `tokenizers` library failed on ids.
    #[error("ids could not be decoded: {source}")]
    Decode {
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What there is to say of a class, empty where no file names one.
fn is_class(class: &str) -> String {
    match class {
        "" => "is not there".into(),
        class => format!("is `{}`", for_message(class)),
    }
}
