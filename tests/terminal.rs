//! `bunny-cli chat` on a terminal, as a person types to it: a pseudo-terminal stands for theirs.
#![cfg(unix)]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::{FromRawFd, OwnedFd},
    path::Path,
    process::{Child, Command},
    ptr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// A program on a terminal, and all that it has shown there.
struct Terminal {
    keyboard: File,
    shown: Arc<Mutex<String>>,
    /// Up to where it has been looked at.
    seen: usize,
    program: Child,
}

impl Terminal {
    /// Runs the program in `folder`, on a terminal that is wide enough for every line.
    fn run(arguments: &[&str], folder: &Path) -> Self {
        let size = libc::winsize {
            ws_row: 50,
            ws_col: 500,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut ours, mut theirs) = (0, 0);
        // SAFETY: two numbers are written; no name and no settings are asked for. What is opened is owned here.
        let [ours, theirs] = unsafe {
            let opened = libc::openpty(
                &mut ours,
                &mut theirs,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::from_ref(&size).cast_mut(),
            );
            assert_eq!(opened, 0, "a pseudo-terminal");
            [ours, theirs].map(|end| OwnedFd::from_raw_fd(end))
        };
        let end = || theirs.try_clone().unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_bunny-cli"))
            .args(arguments)
            .current_dir(folder)
            .env("TERM", "xterm")
            .env("HOME", folder)
            .env_remove("RUST_LOG")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let mut screen = File::from(ours.try_clone().unwrap());
        let shown = Arc::new(Mutex::new(String::new()));
        let heard = shown.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            // It ends with the program, which has the other end.
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..count]);
                heard.lock().unwrap().push_str(&text);
            }
        });
        Self {
            keyboard: ours.into(),
            shown,
            seen: 0,
            program,
        }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until it shows `text`, behind what was waited for before.
    fn shows(&mut self, text: &str) {
        let began = Instant::now();
        loop {
            let shown = self.shown.lock().unwrap().clone();
            if let Some(at) = shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{text:?} is not in {:?}",
                &shown[self.seen..]
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It is gone already where all went well.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn tab_completes_commands_and_the_names_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pictures/shapes.jpg");
    fs::copy(shapes, folder.path().join("my shapes.jpg")).unwrap();
    let mut terminal = Terminal::run(&["chat"], folder.path());
    terminal.shows("> ");
    terminal.types("/im\t");
    terminal.shows("/image ");
    // The only name that begins so, its space escaped.
    terminal.types("my\t");
    terminal.shows("my\\ shapes.jpg");
    terminal.types("\r");
    terminal.shows("pixels, shown with your next message");
    terminal.shows("> ");
    // The home folder.
    terminal.types("/image ~/my\t\r");
    terminal.shows("shown with your next message, as is the one before it");
    terminal.shows("> ");
    // Several begin alike: once to see that there are several, once to see them.
    terminal.types("/\t\t");
    for command in ["/image", "/clear", "/help", "/exit"] {
        terminal.shows(command);
    }
    terminal.types("ex\t\r");
    assert!(terminal.program.wait().unwrap().success());
}
