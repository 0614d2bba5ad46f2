use super::super::ImageError;

/// Why a JPEG is not decoded. libjpeg passes over more than one would think; what is here stops it,
/// too.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("the file ends before the picture does")]
    CutOff,
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("the length of segment {0:#04x} is wrong")]
    Length(u8),
    #[error("marker {0:#04x} is out of place or unknown")]
    Marker(u8),
    #[error("there is no picture before a scan or the end")]
    NoFrame,
    #[error("a Huffman table is damaged")]
    Huffman,
    #[error("a table that a scan needs is missing")]
    MissingTable,
    #[error("the sampling factors of the components do not go together")]
    Sampling,
    #[error("a scan names components that are not there")]
    Components,
    #[error("a scan refines what is not there")]
    Progression,
}

impl From<Stop> for ImageError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::CutOff => Self::CutOff,
            Stop::Unsupported(what) => Self::Unsupported {
                what: what.to_owned(),
            },
            stop => Self::decode(stop),
        }
    }
}
