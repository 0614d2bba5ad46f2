//! Files that appear whole or not at all.

use std::io::Write;
use std::path::Path;

use crate::error::{EvalError, Result};

/// Writes `bytes` as the whole of `path`, which stands there whole or is left as it was.
///
/// # Errors
/// [`EvalError::Io`].
pub fn write_whole(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    bunny_data::write_whole(path, bytes).map_err(|error| EvalError::io(path, "write")(std::io::Error::other(error)))
}
