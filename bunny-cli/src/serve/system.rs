//! What the system gives a server: memory, and files that it may have open.

use std::fs;

/// Bytes that programs may still take on this machine, or in this container; `None` where the system does not
/// say.
pub fn free_memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| field(&text, "MemAvailable:")?.checked_mul(1024));
    match (machine, container()) {
        (Some(machine), Some(container)) => Some(machine.min(container)),
        (machine, container) => machine.or(container),
    }
}

/// What a container of cgroup v2 leaves: what it holds of files is given up where it is needed.
fn container() -> Option<u64> {
    let read = |name| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let number = |name| read(name)?.trim().parse::<u64>().ok();
    let files = field(&read("memory.stat")?, "inactive_file").unwrap_or(0);
    let taken = number("memory.current")?.saturating_sub(files);
    Some(number("memory.max")?.saturating_sub(taken))
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().map(|line| line.split_whitespace());
    let mut line = line.filter_map(|mut words| (words.next()? == name).then_some(words));
    line.next()?.next()?.parse().ok()
}

/// Allows as many open files as the system would: each connection is one, and shells allow 1,024.
pub fn allow_open_files() {
    #[cfg(unix)]
    // SAFETY: both calls read or write the numbers that they are given, and are refused or not.
    unsafe {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            // Where more are refused, those that were allowed have to do.
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "MemTotal:       24 kB\nMemAvailable:   21 kB\ninactive_file 7\n";
        assert_eq!(field(text, "MemAvailable:"), Some(21));
        assert_eq!(field(text, "inactive_file"), Some(7));
        assert_eq!(field(text, "inactive"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_how_much_is_free() {
        assert!(free_memory().unwrap() > 1 << 20);
    }
}
