//! Threads that wait awake for what comes next, and fall asleep when nothing does.

use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;

/// Looks at the state before a member falls asleep: some 50 µs, longer than what lies between two kernels of a pass.
const LOOKS: usize = 2_000;
/// Looks before a thread that waits for another lets others have its processor.
const LOOKS_BEFORE_YIELDING: usize = 10_000;

/// Runs `task(0)` to `task(tasks - 1)` on this thread and on the team's. Does nothing and returns `false` where the
/// team works for another thread, or has no member.
///
/// # Panics
/// With what a task panicked with, after all threads have left.
pub(super) fn run(tasks: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
    static TEAM: OnceLock<&'static Team> = OnceLock::new();
    let team = TEAM.get_or_init(|| Team::of(rayon::current_num_threads() - 1));
    team.run(tasks, task)
}

/// The state of a team: how many members are at work, whether more may join, and the number of the work.
struct State;

impl State {
    const INSIDE: u64 = (1 << 16) - 1;
    const OPEN: u64 = 1 << 16;
    const NUMBER: u64 = 1 << 17;

    fn number(state: u64) -> u64 {
        state / Self::NUMBER
    }
}

/// What there is to do.
#[derive(Clone, Copy)]
struct Work {
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

struct Team {
    members: usize,
    /// Whether some thread has them work.
    is_taken: AtomicBool,
    state: AtomicU64,
    work: UnsafeCell<Option<Work>>,
    /// The next task.
    next: AtomicUsize,
    asleep: AtomicUsize,
    bed: Mutex<()>,
    alarm: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: the work is written only by the thread that took the team, while no member is inside and none may join, and
// read only by members inside. What it points to is `Sync`, and outlives the time in which members are inside.
unsafe impl Sync for Team {}
// SAFETY: as above.
unsafe impl Send for Team {}

impl Team {
    /// A team of so many threads, or of as many as the system gives.
    fn of(wanted: usize) -> &'static Self {
        let team: &'static mut Self = Box::leak(Box::new(Self {
            members: 0,
            is_taken: AtomicBool::new(false),
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            alarm: Condvar::new(),
            panic: Mutex::new(None),
        }));
        // Members wait for this before they look at the team.
        let (made, is_made) = (std::sync::Arc::new(OnceLock::new()), wanted.min(1 << 15));
        for at in 0..is_made {
            let made = made.clone();
            let member = move || {
                let team: &OnceLock<&'static Self> = &made;
                team.wait().attend();
            };
            let name = format!("kernels-{at}");
            if thread::Builder::new().name(name).spawn(member).is_err() {
                break;
            }
            team.members += 1;
        }
        let team: &'static Self = team;
        made.get_or_init(|| team)
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) -> bool {
        if self.members == 0 || self.is_taken.swap(true, Ordering::Acquire) {
            return false;
        }
        // SAFETY: no member is inside, and the lifetime is only forgotten until all have left below.
        unsafe {
            let task: *const (dyn Fn(usize) + Sync + '_) = task;
            *self.work.get() = Some(Work {
                task: std::mem::transmute::<
                    *const (dyn Fn(usize) + Sync + '_),
                    *const (dyn Fn(usize) + Sync + 'static),
                >(task),
                tasks,
            });
        }
        self.next.store(0, Ordering::Relaxed);
        let number = State::number(self.state.load(Ordering::Relaxed)) + 1;
        let open = number * State::NUMBER + State::OPEN;
        self.state.store(open, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            let _bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
            self.alarm.notify_all();
        }
        self.work(tasks, task);
        self.state.fetch_and(!State::OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while self.state.load(Ordering::Acquire) & State::INSIDE > 0 {
            looks += 1;
            match looks > LOOKS_BEFORE_YIELDING {
                true => thread::yield_now(),
                false => spin_loop(),
            }
        }
        let panic = self.panic.lock();
        let panic = panic.unwrap_or_else(PoisonError::into_inner).take();
        self.is_taken.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        true
    }

    /// Takes tasks until there are none. A panic is kept, and ends the work.
    fn work(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let all = || {
            loop {
                let at = self.next.fetch_add(1, Ordering::Relaxed);
                if at >= tasks {
                    return;
                }
                task(at);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            self.next.store(tasks, Ordering::Relaxed);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
        }
    }

    /// What a member does all its life.
    fn attend(&self) {
        let (mut seen, mut looks) = (0, 0);
        loop {
            let state = self.state.load(Ordering::SeqCst);
            if self.calls(state, seen) {
                let joined = self.state.compare_exchange(
                    state,
                    state + 1,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if joined.is_ok() {
                    (seen, looks) = (State::number(state), 0);
                    // SAFETY: this member is inside, so the work stands, and what it points to lives.
                    unsafe {
                        if let Some(Work { task, tasks }) = *self.work.get() {
                            self.work(tasks, &*task);
                        }
                    }
                    self.state.fetch_sub(1, Ordering::Release);
                }
                continue;
            }
            looks += 1;
            match looks > LOOKS {
                true => {
                    self.sleep(seen);
                    looks = 0;
                }
                false => spin_loop(),
            }
        }
    }

    /// Whether there is work that a member has not seen.
    fn calls(&self, state: u64, seen: u64) -> bool {
        state & State::OPEN != 0 && State::number(state) != seen
    }

    /// Sleeps until there is.
    fn sleep(&self, seen: u64) {
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        // Counted before the state is looked at again: whoever changes it looks at the count afterwards.
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while !self.calls(self.state.load(Ordering::SeqCst), seen) {
            bed = self.alarm.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_task_runs_once_awake_or_asleep() {
        let team = Team::of(3);
        assert_eq!(team.members, 3);
        for round in 0..2_000 {
            if round % 500 == 0 {
                // Long enough for all to fall asleep.
                thread::sleep(Duration::from_millis(20));
            }
            let tasks = 2 + round % 37;
            let runs: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            let ran = team.run(tasks, &|task| {
                runs[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(ran);
            assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn several_threads_share_the_work() {
        let team = Team::of(1);
        let threads = Mutex::new(std::collections::HashSet::new());
        team.run(2, &|_| {
            threads.lock().unwrap().insert(thread::current().id());
            // Neither ends before the other has begun.
            while threads.lock().unwrap().len() < 2 {
                thread::yield_now();
            }
        });
        assert_eq!(threads.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_team_at_work_takes_no_more() {
        let team = Team::of(1);
        let taken = AtomicBool::new(true);
        assert!(team.run(2, &|_| {
            taken.fetch_and(!team.run(2, &|_| ()), Ordering::Relaxed);
        }));
        assert!(taken.load(Ordering::Relaxed), "none of the inner ones ran");
        assert!(team.run(2, &|_| ()), "and it is free again");
    }

    #[test]
    fn a_panic_comes_back_and_the_team_goes_on() {
        let team = Team::of(2);
        for _ in 0..3 {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                team.run(10, &|task| assert!(task != 7, "seven"))
            }));
            let panic = panic.expect_err("a task panicked");
            assert!(
                panic
                    .downcast_ref::<&str>()
                    .is_some_and(|text| text.contains("seven"))
                    || panic
                        .downcast_ref::<String>()
                        .is_some_and(|text| text.contains("seven"))
            );
            assert!(team.run(10, &|_| ()));
        }
    }

    #[test]
    fn nobody_is_nobody() {
        assert!(!Team::of(0).run(2, &|_| panic!("it ran")));
    }
}
