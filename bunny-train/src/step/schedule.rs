//! Learning rates over the steps of a run, as transformers' schedules have them.

use std::f64::consts::PI;

use crate::recipe::SchedulerKind;

/// The share of its learning rate that each step uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    kind: SchedulerKind,
    steps: u64,
    warmup: u64,
}

impl Schedule {
    /// A schedule over `steps` steps, of which the first `ceil(warmup_ratio * steps)` rise to the
    /// full rate, the first of all using none.
    pub fn new(kind: SchedulerKind, steps: u64, warmup_ratio: f64) -> Self {
        Self {
            kind,
            steps,
            warmup: (warmup_ratio * steps as f64).ceil() as u64,
        }
    }

    /// How many steps rise.
    pub fn warmup(&self) -> u64 {
        self.warmup
    }

    /// The factor on the learning rate in `step`, from 0.
    pub fn factor(&self, step: u64) -> f64 {
        let rising = step < self.warmup && self.kind != SchedulerKind::Constant;
        if rising {
            return step as f64 / self.warmup.max(1) as f64;
        }
        let left = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let done = step.saturating_sub(self.warmup) as f64 / left;
        match self.kind {
            SchedulerKind::Cosine => (0.5 * (1.0 + (PI * done).cos())).max(0.0),
            SchedulerKind::Linear => (1.0 - done).max(0.0),
            SchedulerKind::ConstantWithWarmup | SchedulerKind::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::training_fixture_json;

    #[test]
    fn rates_are_transformers() {
        let expected = training_fixture_json("expected.json");
        for (name, run) in expected["runs"].as_object().unwrap() {
            let trace = run["trace"].as_array().unwrap();
            let schedule = Schedule::new(SchedulerKind::Cosine, trace.len() as u64, 0.03);
            let full = run["stage"]["learning_rate"].as_f64().unwrap();
            for (step, line) in trace.iter().enumerate() {
                let expected = line["learning_rate"].as_f64().unwrap();
                let found = full * schedule.factor(step as u64);
                assert!(
                    (found - expected).abs() <= 1e-15,
                    "{name} {step}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn warm_up_rises_in_a_line_and_the_end_is_zero() {
        let schedule = Schedule::new(SchedulerKind::Cosine, 100, 0.1);
        assert_eq!(schedule.warmup(), 10);
        assert_eq!(schedule.factor(0), 0.0);
        assert_eq!(schedule.factor(5), 0.5);
        assert_eq!(schedule.factor(10), 1.0);
        assert!(schedule.factor(55) - 0.5 < 1e-12);
        assert!(schedule.factor(100) < 1e-12);
        let linear = Schedule::new(SchedulerKind::Linear, 100, 0.0);
        assert_eq!(linear.factor(25), 0.75);
        let constant = Schedule::new(SchedulerKind::Constant, 100, 0.1);
        assert_eq!(constant.factor(0), 1.0);
    }
}
