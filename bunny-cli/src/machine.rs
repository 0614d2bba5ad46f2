//! What the machine has of memory.

/// Main memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What this program may have of it in all.
    pub total: u64,
    /// What nobody uses now, where the system says.
    pub free: Option<u64>,
}

impl Memory {
    /// That of this machine, or of the container that the program runs in, if that has less; `None`
    /// where the system does not say.
    pub fn of_machine() -> Option<Self> {
        let described = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let machine = match parse(&described) {
            Some(memory) => memory,
            None => Self {
                total: physical()?,
                free: None,
            },
        };
        let limits = ["memory.max", "memory/memory.limit_in_bytes"];
        let limits = limits.map(|file| std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")));
        let limits = limits.into_iter().flatten();
        // "max", where there is none, is no number.
        let limit = limits.filter_map(|text| text.trim().parse().ok()).min();
        Some(machine.within(limit))
    }

    fn within(self, limit: Option<u64>) -> Self {
        let total = limit.map_or(self.total, |limit| limit.min(self.total));
        Self {
            total,
            free: self.free.map(|free| free.min(total)),
        }
    }
}

/// Reads what Linux says in `/proc/meminfo`.
fn parse(described: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = described.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(1024 * kilobytes)
    };
    Some(Memory {
        total: bytes("MemTotal:")?,
        free: bytes("MemAvailable:"),
    })
}

#[cfg(unix)]
fn physical() -> Option<u64> {
    // SAFETY: both calls only ask.
    let (pages, size) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    u64::try_from(pages)
        .ok()?
        .checked_mul(u64::try_from(size).ok()?)
}

#[cfg(not(unix))]
fn physical() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_may_have_less_than_its_machine() {
        let described =
            "MemTotal:       24576000 kB\nMemFree:         100 kB\nMemAvailable:    8000000 kB\n";
        let memory = parse(described).unwrap();
        assert_eq!(memory.total, 24_576_000 * 1024);
        assert_eq!(memory.free, Some(8_000_000 * 1024));
        // A limit above what there is says nothing, as version 1 of control groups has it.
        assert_eq!(memory.within(Some(1 << 60)), memory);
        let small = memory.within(Some(1 << 30));
        assert_eq!((small.total, small.free), (1 << 30, Some(1 << 30)));
        assert_eq!(parse(""), None);
    }

    #[test]
    #[cfg(unix)]
    fn this_machine_says_what_it_has() {
        let memory = Memory::of_machine().unwrap();
        assert!(memory.total >= 1 << 28, "{memory:?}");
        assert!(physical().unwrap() >= memory.total, "{memory:?}");
    }
}
