//! Memory that a run holds: of its GPU, or else of this process.

use bunny_core::ops::device_memory;
use burn::tensor::backend::Backend;

/// Bytes held now, where the device or the system says.
pub fn held<B: Backend>(device: &B::Device) -> Option<u64> {
    device_memory::<B>(device).or_else(|| of_process("VmRSS:"))
}

/// The most bytes held so far, where the device or the system says.
pub fn most_held<B: Backend>(device: &B::Device) -> Option<u64> {
    device_memory::<B>(device).or_else(|| of_process("VmHWM:"))
}

/// A line of what Linux says of this process, in bytes.
fn of_process(start: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(start))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}
