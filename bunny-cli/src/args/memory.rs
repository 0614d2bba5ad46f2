//! Whether more memory may be taken than there is.

use anyhow::{Result, bail};
use bunny_base::machine_memory;

/// Whether more memory may be taken than there is.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct MemoryArgs {
    /// Go on where this takes more memory than the machine, or the job's control group, has
    #[arg(long)]
    over_memory: bool,
}

impl MemoryArgs {
    /// Stops before work that takes more memory than there is, unless it was said to go on.
    ///
    /// # Errors
    /// When `bytes` are more than the machine has. `what` takes them, and `mend` takes fewer.
    pub fn require(self, what: &str, bytes: u64, mend: &str) -> Result<()> {
        match machine_memory() {
            Some(machine) if bytes > machine && !self.over_memory => {
                bail!("{}", told(what, bytes, machine, mend))
            }
            _ => Ok(()),
        }
    }
}

fn told(what: &str, bytes: u64, machine: u64, mend: &str) -> String {
    let giga = |bytes: u64| bytes as f64 / 1e9;
    format!(
        "{what} takes about {:.1} GB of memory, and there are {:.1} GB here: {mend}, or say \
         --over-memory to go on",
        giga(bytes),
        giga(machine)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_more_than_there_is_needs_leave() {
        let careful = MemoryArgs::default();
        careful.require("nothing", 0, "").unwrap();
        if machine_memory().is_some() {
            let told = careful.require("all", u64::MAX, "take less").unwrap_err();
            assert!(
                told.to_string()
                    .ends_with("take less, or say --over-memory to go on")
            );
        }
        MemoryArgs { over_memory: true }
            .require("all", u64::MAX, "")
            .unwrap();
        let said = told("a step", 35_240_000_000, 24_000_000_000, "take fewer rows");
        assert!(
            said.starts_with("a step takes about 35.2 GB of memory, and there are 24.0 GB here")
        );
    }
}
