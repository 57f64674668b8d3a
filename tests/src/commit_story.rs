//! Jobs that commit to S3 while it fails in every way it can, and while their masters are killed: by real clients, over HTTP, on
//! the server of this workspace. What must be true at the end is in docs/commit.md.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::patience::patiently_for;
use crate::program::{Ended, Program, Running};
use crate::s3::S3;
use crate::s3_fault::{KillPoint, S3Fault};
use crate::text::Dice;
use crate::unreliable_s3::{OUTPUT, UnreliableS3, Verdict};

/// Jobs at a time: they wait for each other's disk and for pauses of their clients more than they compute.
const JOBS_AT_ONCE: usize = 6;
/// Masters that follow each other until one comes through; the trouble ends before the last ones.
const MASTERS_MAX: usize = 20;
/// One process of a story: with all tries of a client, a request may take a minute.
const PATIENCE: Duration = Duration::from_secs(300);

/// What all stories together have seen: what never happened proves nothing.
#[derive(Clone, Debug, Default)]
pub struct CommitTally {
    /// How often each fault met a request.
    pub faults: BTreeMap<S3Fault, u64>,
    /// How often a master was killed at each point.
    pub kills: BTreeMap<KillPoint, u64>,
    /// Jobs whose output appeared.
    pub committed: u64,
    /// Jobs that left everything as it was.
    pub aborted: u64,
    /// Masters that failed, and were followed by another.
    pub replayed: u64,
    /// Masters that found the opposite decided.
    pub overruled: u64,
    /// Jobs that two masters ended at once.
    pub races: u64,
    /// Attempts that came back from a partition when all was over.
    pub partitioned: u64,
}

/// How a job is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    OneMaster,
    /// Each believes to be the only one.
    TwoMasters,
    /// One publishes, the other was told to kill the job.
    PublishAndAbort,
    Abort,
}

const ENDINGS: [Ending; 4] = [Ending::OneMaster, Ending::TwoMasters, Ending::PublishAndAbort, Ending::Abort];

/// Runs the stories of these numbers, each on a bucket of its own. The same seed rolls the same dice; what requests meet depends
/// on their order, too.
///
/// # Panics
/// If an output is not what it must be.
pub fn commit_on_unreliable_s3(seed: u64, first: u64, count: u64) -> CommitTally {
    let server = S3::start();
    let way = UnreliableS3::before(server.address());
    let (next, tally) = (AtomicU64::new(first), Mutex::new(CommitTally::default()));
    thread::scope(|scope| {
        for _ in 0..JOBS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + count {
                        return;
                    }
                    let seen = Story::new(&server, &way, seed, number).run();
                    tally.lock().expect("a story that fails ends all").add(seen);
                }
            });
        }
    });
    tally.into_inner().expect("no story failed")
}

/// One job on its bucket.
struct Story<'a> {
    server: &'a S3,
    way: &'a UnreliableS3,
    seed: u64,
    number: u64,
    bucket: String,
    dir: TempDir,
    tally: CommitTally,
}

impl<'a> Story<'a> {
    fn new(server: &'a S3, way: &'a UnreliableS3, seed: u64, number: u64) -> Story<'a> {
        let dir = tempfile::tempdir().expect("a directory");
        let bucket = format!("story-{number}");
        let seed = Dice::new(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).roll();
        Story { server, way, seed, number, bucket, dir, tally: CommitTally::default() }
    }

    fn run(mut self) -> CommitTally {
        self.part("prepare", self.server.address()).run().succeeded();
        let former = self.look();
        let number = self.number as usize;
        let awaited = S3Fault::ALL[number % S3Fault::ALL.len()];
        // Every ending meets every point, and some stories have no kill.
        let kill = KillPoint::ALL.get(number / ENDINGS.len() % (KillPoint::ALL.len() + 1)).copied();
        self.way.trouble(&self.bucket, self.seed, awaited, kill);
        let mut attempts = self.part("attempts", self.way.address()).start();
        patiently_for(PATIENCE, "all tasks to report", || {
            self.dir.path().join("reported").exists() || !attempts.is_running()
        });
        if !attempts.is_running() {
            panic!("{self}: {}", attempts.end().stderr);
        }
        assert_eq!(self.look().objects, former.objects, "{self}: nothing is seen before the decision");
        let ending = ENDINGS[number % ENDINGS.len()];
        self.decide(ending, kill);
        self.heal(attempts, ending);
        self.check(former);
        let (faults, early) = self.way.seen(&self.bucket);
        assert_eq!(early, Vec::<String>::new(), "{self}: asked before the decision");
        self.tally.faults = faults;
        self.tally
    }

    fn decide(&mut self, ending: Ending, kill: Option<KillPoint>) {
        let parts: &[&str] = match ending {
            Ending::OneMaster => &["publish"],
            Ending::TwoMasters => &["publish", "publish"],
            Ending::PublishAndAbort => &["publish", "abort"],
            Ending::Abort => &["abort"],
        };
        self.tally.races += u64::from(parts.len() > 1);
        // A master is killed while it is alone, or while another works.
        let mut left: Vec<&str> = parts.to_vec();
        for round in 0..MASTERS_MAX {
            if round == MASTERS_MAX / 2 {
                self.way.calm(&self.bucket);
            }
            let mut masters: Vec<Running> =
                left.iter().map(|part| self.part(part, self.way.address()).start()).collect();
            patiently_for(PATIENCE, "masters to end or to be killed", || {
                self.way.is_halted(&self.bucket) || masters.iter_mut().all(|master| !master.is_running())
            });
            if self.way.is_halted(&self.bucket) {
                for master in &mut masters {
                    if master.is_running() {
                        master.signal(Signal::KILL);
                    }
                }
                *self.tally.kills.entry(kill.expect("it was asked for")).or_default() += 1;
            }
            let ended: Vec<Ended> = masters.into_iter().map(Running::end).collect();
            self.way.resume(&self.bucket);
            let still = left.iter().zip(&ended).filter(|(part, ended)| !self.is_over(part, ended));
            let still: Vec<&str> = still.map(|(part, _)| *part).collect();
            self.tally.replayed += still.len() as u64;
            if still.is_empty() {
                return;
            }
            left = still;
        }
        panic!("{self}: no master came through");
    }

    /// Whether a master has done what it can.
    fn is_over(&mut self, part: &str, ended: &Ended) -> bool {
        let opposite = if part == "publish" { Verdict::Abort } else { Verdict::Commit };
        let is_overruled = !ended.status.success() && self.way.verdict(&self.bucket) == Some(opposite);
        self.tally.overruled += u64::from(is_overruled);
        ended.status.success() || is_overruled
    }

    /// What was late, cut off, or left to others comes back after the end.
    fn heal(&mut self, attempts: Running, ending: Ending) {
        self.way.calm(&self.bucket);
        self.way.land_all(&self.bucket);
        fs::write(self.dir.path().join("healed"), "").expect("a file");
        let healed = attempts.end_within(PATIENCE).succeeded().stdout;
        let healed: Value = serde_json::from_str(&healed).expect("attempts say what they were");
        self.tally.partitioned += healed["partitioned"].as_u64().expect("a number");
        // A master that restarts does it all once more.
        let verdict = self.way.verdict(&self.bucket).unwrap_or_else(|| panic!("{self}: {ending:?} decides"));
        let part = if verdict == Verdict::Commit { "publish" } else { "abort" };
        let again = self.part(part, self.way.address()).run();
        assert!(again.status.success(), "{self}: {}", again.stderr);
    }

    /// What must be true at the end, whatever happened.
    fn check(&mut self, former: Seen) {
        let seen = self.look();
        match self.way.verdict(&self.bucket).expect("it was looked at") {
            Verdict::Commit => {
                self.tally.committed += 1;
                let mut wanted = self.winners();
                wanted.insert("_SUCCESS".to_owned(), "manifest".to_owned());
                assert_eq!(seen.objects, wanted, "{self}: each task's records once, of one attempt");
            }
            Verdict::Abort => {
                self.tally.aborted += 1;
                assert_eq!(seen.objects, former.objects, "{self}: nothing has changed");
            }
        }
        assert_eq!(seen.open, Vec::<String>::new(), "{self}: no upload is left open");
        assert_eq!(seen.claims, 0, "{self}: the output is free again");
    }

    /// The files of those that reported first, as they wrote them.
    fn winners(&self) -> BTreeMap<String, String> {
        let reports = fs::read_to_string(self.dir.path().join("reports")).expect("there were reports");
        let mut winners = BTreeMap::new();
        for report in reports.lines() {
            let report: Value = serde_json::from_str(report).expect("a report");
            let (name, attempt) = (report["name"].as_str(), report["attempt"].as_str());
            let (name, attempt) = (name.expect("a name"), attempt.expect("an attempt"));
            let task = attempt.split('-').next().expect("its task");
            let text = format!("record of task {task}, of attempt {attempt}\n").repeat(10);
            winners.entry(name.to_owned()).or_insert(text);
        }
        winners
    }

    /// What anybody sees, asked for on the way without trouble.
    fn look(&self) -> Seen {
        let said = self.part("look", self.server.address()).run().succeeded().stdout;
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let objects = said["objects"].as_object().expect("objects").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Seen {
            objects: objects.map(|(name, value)| (name.clone(), text(value))).collect(),
            open: said["open"].as_array().expect("uploads").iter().map(text).collect(),
            claims: said["claims"].as_u64().expect("a number"),
        }
    }

    fn part(&self, part: &str, address: &str) -> Program {
        let id = format!("{:08x}-0000-4000-8000-{:012x}", self.number, self.seed & 0xffff_ffff_ffff);
        let program = self.server.with_keys(Program::job("committer"));
        let program = program.env("AWS_ENDPOINT_URL", format!("http://{address}"));
        let program = program.arg("--output").arg(format!("s3://{}/{OUTPUT}", self.bucket));
        let program = program.args(["--job", &id, "--seed", &self.seed.to_string(), "--dir"]);
        program.arg(self.dir.path()).arg(part)
    }
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "story {} (seed {})", self.number, self.seed)
    }
}

/// What there is of an output, and of the jobs that write it.
struct Seen {
    objects: BTreeMap<String, String>,
    open: Vec<String>,
    claims: u64,
}

impl CommitTally {
    fn add(&mut self, other: CommitTally) {
        let CommitTally { faults, kills, committed, aborted, replayed, overruled, races, partitioned } =
            other;
        for (fault, count) in faults {
            *self.faults.entry(fault).or_default() += count;
        }
        for (point, count) in kills {
            *self.kills.entry(point).or_default() += count;
        }
        self.committed += committed;
        self.aborted += aborted;
        self.replayed += replayed;
        self.overruled += overruled;
        self.races += races;
        self.partitioned += partitioned;
    }

    /// What happened less than `least` times.
    pub fn missing(&self, least: u64) -> Vec<String> {
        let fault = |fault: &S3Fault| (format!("{fault:?}"), self.faults.get(fault).copied());
        let kill = |point: &KillPoint| (format!("{point:?}"), self.kills.get(point).copied());
        let counts = S3Fault::ALL.iter().map(fault).chain(KillPoint::ALL.iter().map(kill));
        let few = counts.filter(|(_, count)| count.unwrap_or_default() < least);
        let others = [
            ("committed", self.committed),
            ("aborted", self.aborted),
            ("replayed", self.replayed),
            ("races", self.races),
            ("partitioned", self.partitioned),
        ];
        let others = others.iter().filter(|(_, count)| *count < least).map(|(name, _)| (*name).to_owned());
        few.map(|(name, _)| name).chain(others).collect()
    }
}

impl fmt::Display for CommitTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, count) in &self.faults {
            writeln!(f, "{count:7}  {fault:?}")?;
        }
        for (point, count) in &self.kills {
            writeln!(f, "{count:7}  master killed: {point:?}")?;
        }
        write!(
            f,
            "{} committed, {} aborted, {} masters replayed, {} overruled, {} races, {} attempts back from a partition",
            self.committed, self.aborted, self.replayed, self.overruled, self.races, self.partitioned
        )
    }
}
