//! Faults by number: each message, each journal write and each call of a publication has one, so that a run can be
//! repeated with just these faults.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::storage;

/// Where a fault may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// A call to the master, or the answer to one: on no stream.
    Call,
    /// A message on a stream between the master and a worker, either way.
    Message,
    /// A question to a worker, and its answer: a read, a fetch, a map output to keep, bytes of a pipeline.
    Exchange,
    /// A turn of the jobs' core that is to be durable.
    Turn,
    /// A write or sync of the namespace's store.
    Step,
    /// A call of a job's publication.
    Publication,
}

/// What goes wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flaw {
    /// It has no effect, and fails: a stream breaks before it.
    Before,
    /// It has its effect, and fails.
    After,
    /// It arrives again.
    Twice,
    /// It arrives when nobody waits for it any more.
    Late,
    /// The master dies before it; of a store: nothing that was not synced is left.
    DiesBefore,
    /// The master dies after it; of a store: what was not synced is left, torn where it can be.
    DiesAfter,
}

const POINTS: [Point; 6] =
    [Point::Call, Point::Message, Point::Exchange, Point::Turn, Point::Step, Point::Publication];
/// How many of each point were passed.
pub(crate) type Passed = [u64; POINTS.len()];

impl Point {
    fn flaws(self) -> &'static [Flaw] {
        match self {
            Point::Call => &[Flaw::Before, Flaw::Twice, Flaw::Late],
            Point::Message | Point::Exchange => &[Flaw::Before, Flaw::After],
            Point::Turn | Point::Step => &[Flaw::DiesBefore, Flaw::DiesAfter],
            Point::Publication => &[Flaw::Before, Flaw::After, Flaw::DiesBefore, Flaw::DiesAfter],
        }
    }
}

/// A fault: the first of a point has the number 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Planned {
    point: Point,
    number: u64,
    flaw: Flaw,
}

impl Planned {
    /// All that lie between what was passed at a time and later.
    pub(crate) fn all(from: &Passed, to: &Passed) -> Vec<Planned> {
        let mut all = Vec::new();
        for point in POINTS {
            for number in from[point as usize]..to[point as usize] {
                all.extend(point.flaws().iter().map(|&flaw| Planned { point, number, flaw }));
            }
        }
        all
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}:{:?}", self.point, self.number, self.flaw)
    }
}

impl FromStr for Planned {
    type Err = String;

    fn from_str(text: &str) -> Result<Planned, String> {
        let mut words = text.split(':');
        let mut next = || words.next().ok_or(format!("{text} is not POINT:NUMBER:FLAW"));
        let (point, number, flaw) = (next()?, next()?, next()?);
        let point = POINTS.into_iter().find(|known| format!("{known:?}") == point);
        let point = point.ok_or(format!("{text} names no point"))?;
        let flaw = point.flaws().iter().find(|known| format!("{known:?}") == flaw);
        let number = number.parse().map_err(|error| format!("{text}: {error}"))?;
        Ok(Planned { point, number, flaw: *flaw.ok_or(format!("{text} names nothing that fails there"))? })
    }
}

/// What is to fail, and what has failed. Empty and shut, it does nothing.
#[derive(Default)]
pub(crate) struct Script {
    is_open: bool,
    planned: Vec<Planned>,
    /// Of steps: those of former lives of the master.
    passed: Passed,
    /// Steps that were syncs.
    syncs: BTreeSet<u64>,
    /// Each fault, and what had been passed when it had fired.
    pub(crate) fired: Vec<(Planned, Passed)>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fired = self.fired.iter().map(|(planned, _)| planned);
        fired.chain(&self.planned).enumerate().try_for_each(|(at, planned)| {
            write!(f, "{}{planned}", if at == 0 { ", GRISTMILL_FAULTS=" } else { "," })
        })
    }
}

impl Script {
    pub(crate) fn new(planned: &[Planned]) -> Script {
        Script { is_open: true, planned: planned.to_vec(), ..Script::default() }
    }

    /// One more of these; what goes wrong with it. The store has done so many steps in this life.
    pub(crate) fn pass(&mut self, point: Point, steps: u64) -> Option<Flaw> {
        if !self.is_open {
            return None;
        }
        let number = self.passed[point as usize];
        self.passed[point as usize] += 1;
        let is_here = |planned: &Planned| (planned.point, planned.number) == (point, number);
        let planned = self.planned.remove(self.planned.iter().position(is_here)?);
        self.fired.push((planned, self.passed(steps)));
        Some(planned.flaw)
    }

    fn passed(&self, steps: u64) -> Passed {
        let mut passed = self.passed;
        passed[Point::Step as usize] += steps;
        passed
    }

    /// The step of this life of the store that fails, and all after it.
    pub(crate) fn failing_step(&self) -> Option<storage::Fault> {
        let done = self.passed[Point::Step as usize];
        let steps = self.planned.iter().filter(|planned| planned.point == Point::Step);
        let next = steps.filter(|planned| planned.number >= done).map(|planned| planned.number).min();
        next.map(|number| storage::Fault { step: number - done, for_ever: true })
    }

    /// The master's machine loses power after so many steps of its store; the dice say what is left of what was not
    /// synced, if the script does not.
    pub(crate) fn power_lost(&mut self, storage: &storage::Disk, dice: u64) -> u64 {
        let done = self.passed[Point::Step as usize];
        self.end_life(storage);
        let failed = self.planned.iter().position(|planned| {
            planned.point == Point::Step
                && (done..self.passed[Point::Step as usize]).contains(&planned.number)
        });
        let Some(failed) = failed else { return dice };
        assert!(storage.faults() > 0, "the step failed");
        let planned = self.planned.remove(failed);
        self.fired.push((planned, self.passed));
        let kept_of_ten = if planned.flaw == Flaw::DiesAfter { 10 } else { 0 };
        (1..).find(|dice| storage::Dice(dice | 1).below(11) == kept_of_ten).expect("some dice say so")
    }

    fn end_life(&mut self, storage: &storage::Disk) {
        if self.is_open {
            let done = self.passed[Point::Step as usize];
            self.syncs.extend(storage.syncs().into_iter().map(|step| done + step));
            self.passed = self.passed(storage.steps());
        }
    }

    /// From now on nothing is counted, and nothing fails.
    pub(crate) fn shut(&mut self, storage: &storage::Disk) -> Passed {
        self.end_life(storage);
        self.is_open = false;
        self.passed
    }

    /// The fault is on the journal or commit path. Of a store's steps the syncs stand for the writes before them: what is
    /// written and not synced is lost, or left, as it is when the sync fails.
    pub(crate) fn is_of_record(&self, planned: &Planned) -> bool {
        match planned.point {
            Point::Turn | Point::Publication => true,
            Point::Step => self.syncs.contains(&planned.number),
            Point::Call | Point::Message | Point::Exchange => false,
        }
    }
}
