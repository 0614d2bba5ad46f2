//! How long things take: `std`'s [`Instant`], which a browser tab lacks. There the program that embeds the
//! model says what time it is (`set_clock`); until then time stands still.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod told {
    use std::{
        ops::Sub,
        sync::{Mutex, PoisonError},
        time::Duration,
    };

    static CLOCK: Mutex<Option<fn() -> Duration>> = Mutex::new(None);

    /// Says who knows the time, as passed since any moment.
    pub fn set_clock(clock: fn() -> Duration) {
        *CLOCK.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    }

    /// A moment.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Instant(Duration);

    impl Instant {
        /// This one.
        pub fn now() -> Self {
            let clock = *CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
            Self(clock.map_or(Duration::ZERO, |clock| clock()))
        }

        /// What has passed since.
        pub fn elapsed(&self) -> Duration {
            Self::now() - *self
        }
    }

    impl Sub for Instant {
        type Output = Duration;

        fn sub(self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub use std::time::Instant;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub use told::{Instant, set_clock};
