//! What the page gives the module: the time, random bits, and an ear for panics.

use std::time::Duration;

#[link(wasm_import_module = "bunny")]
unsafe extern "C" {
    /// Milliseconds since some moment.
    safe fn now() -> f64;
    /// Fills `length` bytes with random bits.
    fn random(to: *mut u8, length: usize);
    /// Hears the words of a panic, before the module ends.
    fn panicked(text: *const u8, length: usize);
}

/// Has the crates below use them.
pub fn set_up() {
    bunny_base::clock::set_clock(|| Duration::from_secs_f64(now().max(0.0) / 1000.0));
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        // SAFETY: as many bytes are there, and are not kept.
        unsafe { panicked(text.as_ptr(), text.len()) };
    }));
}

/// Where crates without an operating system look for random bits: `getrandom`'s hook, of 0.3 and of 0.4.
///
/// # Safety
/// `length` bytes can be written at `to`.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(
    to: *mut u8,
    length: usize,
) -> Result<(), getrandom::Error> {
    // SAFETY: the caller's promise.
    unsafe { random(to, length) };
    Ok(())
}
