//! Panics of libraries on broken files: caught, made errors, and not reported on stderr.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread would be caught here.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// What `call` returns; `None` where it panics. All other panics are reported as before.
///
/// `call` must not wait for work that may panic on other threads.
pub fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !CATCHING.get() {
                before(panic);
            }
        }));
    });
    let outer = CATCHING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(call));
    CATCHING.set(outer);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_is_none_and_one_outside_is_none_of_its_business() {
        assert_eq!(caught(|| 7), Some(7));
        assert_eq!(caught(|| -> u8 { panic!("broken file") }), None);
        assert!(!CATCHING.get());
        let nested = caught(|| (caught(|| -> u8 { panic!("inner") }), CATCHING.get()));
        assert_eq!(nested, Some((None, true)));
    }
}
