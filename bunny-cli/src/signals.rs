//! What signals do to this program.

/// A reader that closes the pipe, as `head` does, ends the program in silence, as it ends others;
/// Rust would have printing panic.
pub fn end_with_the_reader() {
    default_action(&[
        #[cfg(unix)]
        libc::SIGPIPE,
    ]);
}

/// What asks the program to end does so, and Ctrl-C alone is left to the handler that was set.
pub fn end_when_asked() {
    default_action(&[
        #[cfg(unix)]
        libc::SIGTERM,
        #[cfg(unix)]
        libc::SIGHUP,
    ]);
}

/// A file that outgrows the shell's limit (`ulimit -f`) is an error of whoever writes it, as on a full
/// disk, and not the end of the program.
pub fn outgrown_files_are_errors() {
    // SAFETY: to ignore a signal needs no handler.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

fn default_action(signals: &[i32]) {
    for signal in signals {
        // SAFETY: the default action needs no handler.
        #[cfg(unix)]
        unsafe {
            libc::signal(*signal, libc::SIG_DFL);
        }
    }
}

/// Under `nohup` the program outlives its terminal, whatever handler is set later.
pub fn heed_nohup() {
    // SAFETY: all that is passed lives here, and is written before it is read.
    #[cfg(unix)]
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut action);
        if action.sa_sigaction == libc::SIG_IGN {
            let mut blocked: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut blocked);
            libc::sigaddset(&mut blocked, libc::SIGHUP);
            // Threads that are started later block it too.
            libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
        }
    }
}
