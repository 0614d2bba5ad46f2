use std::path::PathBuf;

use bunny_base::escape::for_message;

/// What can go wrong with a picture or with a processor's configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A picture's file could not be decoded.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ImageError>,
    },
    /// The bytes begin like none of the formats.
    #[error("not a picture of a known format: use PNG, JPEG, WebP, GIF, BMP or TIFF")]
    UnknownFormat,
    /// The bytes are damaged or cut off.
    #[error("damaged or unsupported picture: {source}")]
    Decode {
        /// What the decoder said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file ends before the picture does.
    #[error("the picture is cut off: its end is missing")]
    CutOff,
    /// A kind of picture that is not read.
    #[error("{what} is not supported: convert it to PNG")]
    Unsupported {
        /// What it is.
        what: String,
    },
    /// The picture has no pixels.
    #[error("the picture has no pixels: {width}x{height}")]
    Empty {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The picture is larger than the limit.
    #[error(
        "the picture is too large: {width}x{height} is more than {limit} pixels, or than 65535 a side"
    )]
    TooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit in force.
        limit: u64,
    },
    /// No such way to fit a picture.
    #[error("unknown image_aspect_ratio `{name}`: use pad or square")]
    UnknownAspect {
        /// The name as given.
        name: String,
    },
    /// `preprocessor_config.json` is not JSON.
    #[error("{}: {}", path.display(), for_message(&source.to_string()))]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// A field of `preprocessor_config.json` asks for what this processor does not do.
    #[error("{}: `{field}` is {}, and has to be {expected}", path.display(), for_message(found))]
    Config {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl ImageError {
    pub(super) fn decode(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Decode {
            source: source.into(),
        }
    }
}
