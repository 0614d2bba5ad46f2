//! Standard output that takes nothing more: a sentence, and no panic.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    process,
};

/// As std's, but where nothing can be written the program ends with a sentence.
macro_rules! println {
    () => { $crate::print::text(format_args!(""), b"\n") };
    ($($text:tt)*) => { $crate::print::text(format_args!($($text)*), b"\n") };
}

/// The same without the end of a line.
macro_rules! print {
    ($($text:tt)*) => { $crate::print::text(format_args!($($text)*), b"") };
}

/// Writes a text and its end. Who reads it may be gone, which changes nothing; anything else ends the
/// program.
pub fn text(text: fmt::Arguments<'_>, end: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out
        .write_fmt(text)
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: standard output: {error}");
            process::exit(1);
        }
        _ => {}
    }
}
