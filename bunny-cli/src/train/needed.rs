//! What memory a stage takes in all: of a device, or of the machine.

use bunny_base::process_memory;
use bunny_train::report::MemoryPlan;

use crate::{backend::Numbers, data::show_bytes, machine::Memory};

/// What ranks hold is divided by this for what the system's allocator leaves unused on top: gradients that
/// stay come to lie in the holes of activations that have gone, which are not of their size. Runs on glibc lost
/// up to six in a hundred so in their first steps, and up to ten in a hundred within a thousand; this is no sum,
/// but an allowance.
const UNUSED_SHARE: u64 = 8;

/// What memory a stage takes in all.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    /// Of each rank.
    plan: MemoryPlan,
    ranks: u64,
    /// What the records take of main memory, once for all ranks.
    records: u64,
    /// What the program holds before: its code, what was read, and what earlier work has left.
    program: u64,
    numbers: Numbers,
}

impl Needed {
    /// What `ranks` take by `plan` on a backend, beside `records` and what the program holds now.
    pub fn new(plan: MemoryPlan, numbers: Numbers, ranks: usize, records: u64) -> Self {
        Self {
            plan: match numbers.stores_attention() {
                true => plan,
                false => plan.with_fused_attention(),
            },
            ranks: ranks as u64,
            records,
            program: process_memory().unwrap_or_default(),
            numbers,
        }
    }

    /// Bytes of main memory where that is where models are, or else of the ranks' devices.
    pub fn total(&self) -> u64 {
        let on_devices = self.plan.total().saturating_mul(self.ranks);
        if !self.numbers.is_in_main_memory() {
            return on_devices;
        }
        let pictures = self.plan.pictures.saturating_mul(self.ranks);
        let ranks = on_devices.saturating_add(pictures);
        let unused = ranks / UNUSED_SHARE;
        [self.program, self.records, unused]
            .into_iter()
            .fold(ranks, u64::saturating_add)
    }

    /// Says it part by part, computed for what is `of`, what the machine has, and what takes less where it
    /// has too little. A GPU's memory is its own.
    pub fn say(&self, of: &str, less: &str) {
        let (plan, bytes) = (&self.plan, |bytes: u64| show_bytes(bytes as f64));
        println!(
            "  memory       {:>16}, computed for {of}{}",
            bytes(self.total()),
            match self.ranks {
                1 => String::new(),
                ranks => format!(", {ranks} ranks"),
            }
        );
        let say = |part: &str, of_part: u64| {
            if of_part > 0 {
                println!("    {part:<12} {:>14}", bytes(of_part));
            }
        };
        if self.numbers.is_in_main_memory() {
            say("program", self.program);
            say("records", self.records);
        }
        if self.ranks > 1 {
            println!("    of each rank");
        }
        for (part, of_part) in [
            ("weights", plan.weights),
            ("learners", plan.trainables),
            ("kept", plan.kept),
            ("one layer", plan.layer),
            ("attention", plan.attention),
            ("scores", plan.scores),
            ("or else", plan.other_phases),
            ("pictures", plan.pictures),
        ] {
            say(part, of_part);
        }
        if self.numbers.is_in_main_memory() {
            self.say_machine(less);
        }
    }

    fn say_machine(&self, less: &str) {
        let Some(machine) = Memory::of_machine() else {
            return;
        };
        let free = machine
            .free
            .map(|free| format!(", {} of it free", show_bytes(free as f64)));
        println!(
            "  this machine {:>16}{}",
            show_bytes(machine.total as f64),
            free.unwrap_or_default()
        );
        if self.total() > machine.total {
            println!("  it will not fit: {less}");
        }
    }
}
