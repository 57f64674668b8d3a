//! Random lives of clusters: masters die at any moment, ends of tries come twice or late, users come and go. After each
//! event the invariants of the core are checked; what does not survive a master's death is only what was not durable.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_proto::cluster::{AddStepsRequest, CancelStepsRequest, Cluster, Step, StepSpec, step};

use super::{Command, Core, Now, Outcome, has_ended, spec};

/// Lives, each of its own seed.
const LIVES: u64 = 400;
const EVENTS: usize = 250;

/// A small generator: the same numbers for the same seed, for ever.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*, G. Marsaglia and S. Vigna.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// A cluster, what its store has, and what runs.
struct World {
    dice: Dice,
    core: Core,
    now_ms: u64,
    stored: (Cluster, BTreeMap<u64, Step>),
    running: BTreeSet<(u64, u32)>,
    /// (step, try) of which an end was told in this life of the master.
    told: Vec<(u64, u32)>,
    ended: bool,
    masters_died: u32,
    taken_up: u32,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let cluster = Cluster {
            cluster_id: vec![1; 16].into(),
            workers_wanted: 1,
            step_concurrency: 1 + dice.below(3) as u32,
            transient: dice.below(2) == 0,
            idle_timeout_ms: 500,
            ..Cluster::default()
        };
        let core = Core::new(cluster.clone(), Vec::new(), Now { mono_ms: 0, wall_ms: 1 });
        let stored = (cluster, BTreeMap::new());
        let (running, told) = (BTreeSet::new(), Vec::new());
        World { dice, core, now_ms: 0, stored, running, told, ended: false, masters_died: 0, taken_up: 0 }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: self.now_ms + 1 }
    }

    fn happen(&mut self) {
        self.now_ms += self.dice.below(40);
        let now = self.now();
        match self.dice.below(12) {
            0 | 1 => self.add(),
            2..=5 => self.end_one(),
            6 => {
                let text = format!("step-{}", 1 + self.dice.below(12));
                let kill = self.dice.below(2) == 0;
                let request = CancelStepsRequest { steps: vec![text], user: "ann".to_owned(), kill };
                // It may not be there.
                drop(self.core.cancel(now, &request));
            }
            7 => self.die(),
            8 if self.dice.below(20) == 0 => drop(self.core.terminate(now, "ann")),
            9 => self.tell_again(),
            _ => {
                self.core.observe(now, 1, 0);
                self.core.tick(now);
            }
        }
        self.follow_up();
    }

    fn add(&mut self) {
        let numbers: Vec<u64> = (0..1 + self.dice.below(2)).collect();
        let id = self.dice.below(u64::MAX).to_be_bytes().repeat(2);
        let steps = numbers.into_iter().map(|number| {
            let known = self.core.steps().count() as u64;
            let after = (known > 0 && self.dice.below(3) == 0)
                .then(|| format!("step-{}", 1 + self.dice.below(known)));
            StepSpec {
                name: format!("s{number}"),
                program: "file:///bin/true".to_owned(),
                on_failure: self.dice.below(3) as i32,
                depends_on: after.into_iter().collect(),
                retries: self.dice.below(3) as u32,
                timeout_ms: self.dice.below(2) * 100,
                ..StepSpec::default()
            }
        });
        let request = AddStepsRequest { request: id.into(), steps: steps.collect(), user: "ann".to_owned() };
        // A cluster that ends takes none.
        drop(self.core.add(self.now(), &request));
    }

    fn end_one(&mut self) {
        let Some(&(number, try_number)) = self.running.iter().nth(self.dice.below(3) as usize) else {
            return;
        };
        self.running.remove(&(number, try_number));
        self.told.push((number, try_number));
        let outcome = self.outcome();
        self.core.ended(self.now(), number, try_number, outcome);
    }

    fn outcome(&mut self) -> Outcome {
        match self.dice.below(2) {
            0 => Outcome::Completed,
            _ => Outcome::Failed { reason: "EXITED", message: "status 1".to_owned() },
        }
    }

    /// What was told is told again, with another outcome: it changes nothing.
    fn tell_again(&mut self) {
        let Some(&(number, try_number)) = self.told.last() else { return };
        let before: Vec<Step> = self.core.steps().cloned().collect();
        let outcome = self.outcome();
        if !self.running.contains(&(number, try_number)) {
            self.core.ended(self.now(), number, try_number, outcome);
            assert_eq!(before, self.core.steps().cloned().collect::<Vec<Step>>(), "an end counts once");
        }
    }

    /// The master dies, and its processes with it; the next has what was stored.
    fn die(&mut self) {
        self.masters_died += 1;
        self.running.clear();
        self.told.clear();
        let (cluster, steps) = self.stored.clone();
        self.core = Core::new(cluster, steps.into_values().collect(), self.now());
    }

    fn follow_up(&mut self) {
        let changes = self.core.take_changes();
        for step in changes.steps {
            if let Some(before) = self.stored.1.get(&step.number) {
                assert!(
                    !has_ended(before) || *before == step,
                    "an ended step changes: {before:?} to {step:?}"
                );
            }
            self.stored.1.insert(step.number, step);
        }
        self.stored.0 = changes.cluster.unwrap_or_else(|| self.stored.0.clone());
        for command in self.core.take_commands() {
            self.obey(command);
        }
        self.check();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start { number, try_number } => {
                assert!(!self.ended, "nothing begins after the end");
                assert!(self.running.insert((number, try_number)), "a try is begun once");
                let step = self.core.step(number).expect("it is there");
                let done =
                    |on: &u64| self.core.step(*on).is_some_and(|on| on.state() == step::State::Completed);
                assert!(step.depends_on.iter().all(done), "what it depends on is completed");
                assert!(try_number <= spec(step).retries + 1, "no more tries than it may have");
                self.taken_up += u32::from(self.masters_died > 0);
            }
            Command::Stop { number, try_number, .. } => {
                assert!(self.running.contains(&(number, try_number)), "what is stopped runs");
            }
            Command::KillJob(_) => {}
            Command::End => {
                assert!(self.running.is_empty(), "nothing runs at the end");
                self.ended = true;
            }
        }
    }

    fn check(&self) {
        let cluster = self.core.cluster();
        let running: BTreeSet<u64> = self.running.iter().map(|(number, _)| *number).collect();
        assert_eq!(running.len(), self.running.len(), "one try of a step at a time");
        assert!(running.len() <= cluster.step_concurrency as usize, "no more than may run at once");
        for number in &running {
            assert_eq!(self.core.step(*number).expect("it is there").state(), step::State::Running);
        }
        assert_eq!(self.ended, self.core.has_ended(), "an end is told");
        if self.ended {
            assert!(self.core.steps().all(has_ended), "an ended cluster has ended steps only");
        }
    }
}

#[test]
fn whatever_happens_the_invariants_hold() {
    let (mut ended, mut died, mut taken_up, mut completed) = (0, 0, 0, 0);
    for seed in 1..=LIVES {
        let mut world = World::new(seed);
        world.follow_up();
        for _ in 0..EVENTS {
            world.happen();
        }
        ended += u32::from(world.ended);
        died += world.masters_died;
        taken_up += world.taken_up;
        completed += world.core.cluster().steps_completed;
    }
    // That the lives were worth looking at.
    assert!(
        ended > 100 && died > 1000 && taken_up > 100 && completed > 500,
        "{ended} {died} {taken_up} {completed}"
    );
}
