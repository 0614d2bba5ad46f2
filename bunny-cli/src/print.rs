//! Standard output that takes nothing more: a sentence, and no panic.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    process,
};

/// As std's, but where nothing can be written the program ends with a sentence.
macro_rules! println {
    () => { $crate::print::line(format_args!("")) };
    ($($text:tt)*) => { $crate::print::line(format_args!($($text)*)) };
}

/// Writes a line. Who reads it may be gone, which changes nothing; anything else ends the program.
pub fn line(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| out.write_all(b"\n"));
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: standard output: {error}");
            process::exit(1);
        }
        _ => {}
    }
}
