//! How much memory there is.

use std::{fs, path::Path};

/// Bytes of memory that this process may have: the machine's, or fewer where its control group has a
/// limit, as containers and batch systems set one. `None` where the system does not say.
pub fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = group_limit(&groups, Path::new("/sys/fs/cgroup"));
    Some(limit.unwrap_or(u64::MAX).min(kib * 1024))
}

/// Bytes of main memory that this process holds now, mapped files among them as far as they were read.
/// `None` where the system does not say.
pub fn process_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The lowest limit of a process's control groups and those above them, of either version. In a
/// container its own group is the root of what it sees.
fn group_limit(groups: &str, mounted: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let is_first = controllers.split(',').any(|name| name == "memory");
        let (root, file) = match is_first {
            true => (mounted.join("memory"), "memory.limit_in_bytes"),
            false => (mounted.to_owned(), "memory.max"),
        };
        let group = root.join(group.trim_start_matches('/'));
        let above = group
            .ancestors()
            .take_while(|folder| folder.starts_with(&root));
        let limits = above.filter_map(|folder| fs::read_to_string(folder.join(file)).ok());
        // No limit is `max`, or a number that no machine has.
        limits
            .filter_map(|text| text.trim().parse().ok())
            .collect::<Vec<u64>>()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_taken_is_held() {
        let before = process_memory().unwrap();
        let taken = vec![1u8; 64 << 20];
        let held = process_memory().unwrap();
        // Other tests' threads take and give back what is far less.
        assert!(held > before + (32 << 20), "{before} {held}");
        assert_eq!(taken[taken.len() / 2], 1);
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = mounted.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        assert_eq!(group_limit("0::/job/step", mounted.path()), None);
        write("job/memory.max", "2000\n");
        write("job/step/memory.max", "3000\n");
        assert_eq!(group_limit("0::/job/step", mounted.path()), Some(2000));
        write("memory/job/memory.limit_in_bytes", "1000\n");
        let both = "12:cpu,memory:/job\n1:name=systemd:/x\n0::/job/step";
        assert_eq!(group_limit(both, mounted.path()), Some(1000));
        // What is seen from within a container.
        write("memory.max", "500\n");
        assert_eq!(group_limit("0::/", mounted.path()), Some(500));
    }
}
