//! A process as the system knows it: signals, limits, what it has open and how large it is.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::patience::patiently;

/// A process by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    id: u32,
}

impl Process {
    /// The one with this number, whether it is there or not.
    pub fn of(id: u32) -> Process {
        Process { id }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Who started it; nothing if it is gone.
    pub fn parent(&self) -> Option<u32> {
        self.fields()?.get(1)?.parse().ok()
    }

    /// It has ended: there is nothing, or nothing but its number.
    pub fn is_gone(&self) -> bool {
        self.state().is_none_or(|state| state == "Z" || state == "X")
    }

    /// Sends it a signal, if it is there still.
    pub fn signal(&self, signal: Signal) {
        match kill_process(self.pid(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => panic!("process {} cannot be signalled: {errno}", self.id),
        }
    }

    /// SIGSTOP; returns when the system says that it has stopped.
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        patiently("the process to stop", || self.state().is_some_and(|state| state == "T"));
    }

    /// It can open nothing from now on, neither files nor connections. Returns its limit before.
    #[track_caller]
    pub fn starve(&self) -> Rlimit {
        let before = self.limit(Rlimit { current: Some(0), maximum: None });
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.id)).expect("the process is there");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
        assert_eq!(line.split_whitespace().nth(3), Some("0"), "it may open nothing: {line}");
        before
    }

    /// It has its limit again, if it is there still.
    pub fn feed(&self, before: Rlimit) {
        match prlimit(Some(self.pid()), Resource::Nofile, before) {
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => panic!("the limit of process {} cannot be set: {errno}", self.id),
        }
    }

    /// Descriptors that it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id)).expect("the process is there").count()
    }

    /// Memory that it has resident.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("in KiB");
        kib * 1024
    }

    /// Sets the limit on descriptors. With a `maximum` of none the one there is stays.
    fn limit(&self, wanted: Rlimit) -> Rlimit {
        let unchanged = rustix::process::getrlimit(Resource::Nofile);
        let before =
            prlimit(Some(self.pid()), Resource::Nofile, Rlimit { maximum: unchanged.maximum, ..wanted });
        before.expect("the process is there, and ours")
    }

    fn pid(&self) -> Pid {
        let id = i32::try_from(self.id).expect("a process's number");
        Pid::from_raw(id).expect("no process has the number 0")
    }

    fn state(&self) -> Option<String> {
        self.fields()?.first().cloned()
    }

    /// Time of the processors that it has had, to the hundredth of a second; none if it is gone.
    pub fn processor_time(&self) -> Duration {
        let ticks = |field: &String| field.parse::<u32>().expect("ticks");
        let spent = self.fields().map_or(0, |fields| fields[11..=12].iter().map(ticks).sum());
        Duration::from_millis(10) * spent
    }

    /// From the state on: the name before it may hold anything.
    fn fields(&self) -> Option<Vec<String>> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).ok()?;
        let (_, behind) = stat.rsplit_once(") ")?;
        Some(behind.split(' ').map(str::to_owned).collect())
    }
}
