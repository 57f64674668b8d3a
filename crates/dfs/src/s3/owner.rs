//! The process that a claim belongs to, so that others on its machine can see that it is dead.
//!
//! Nothing rests on it but comfort: whoever takes a claim over decides first, by a conditional put, that the former job is
//! aborted. A process that is thought dead and lives finds that, and fails.

use serde::{Deserialize, Serialize};
use std::fs;

/// A process, as no other one ever is it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// Of the machine's life.
    boot: String,
    /// In which the process has its number: containers have their own.
    namespace: String,
    pid: u32,
    /// In ticks since the machine started.
    started: u64,
}

impl Owner {
    /// None where the system does not say.
    pub(super) fn of_this_process() -> Option<Owner> {
        let pid = std::process::id();
        let Life::Alive { started } = life(pid) else { return None };
        let (boot, namespace) = here()?;
        Some(Owner { boot, namespace, pid, started })
    }

    /// Whether it has ended for sure. Of another machine's nobody can say.
    pub(super) fn is_dead(&self) -> bool {
        let is_here =
            here().is_some_and(|(boot, namespace)| boot == self.boot && namespace == self.namespace);
        is_here
            && match life(self.pid) {
                Life::Ended => true,
                // Another process has its number.
                Life::Alive { started } => started != self.started,
                Life::Unknown => false,
            }
    }
}

enum Life {
    Alive { started: u64 },
    Ended,
    Unknown,
}

/// This life of the machine, and where in it numbers of processes count.
fn here() -> Option<(String, String)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some((boot.trim().to_owned(), namespace.to_str()?.to_owned()))
}

fn life(pid: u32) -> Life {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Life::Ended,
        Err(_) => Life::Unknown,
        Ok(stat) => of_stat(&stat),
    }
}

/// `PID (NAME) STATE ...`, where the name may hold anything; the start is the 22nd field (proc_pid_stat(5)).
fn of_stat(stat: &str) -> Life {
    let Some((_, fields)) = stat.rsplit_once(')') else { return Life::Unknown };
    let mut fields = fields.split_whitespace();
    match (fields.next(), fields.nth(18).map(str::parse)) {
        // Dead, and its parent has not asked yet.
        (Some("Z" | "X"), _) => Life::Ended,
        (_, Some(Ok(started))) => Life::Alive { started },
        _ => Life::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_dead_when_its_number_is_free_or_anothers() {
        let own = Owner::of_this_process().expect("this system says");
        assert!(!own.is_dead());
        assert!(Owner { started: own.started + 1, ..own.clone() }.is_dead(), "another one has the number");
        let mut child = Command::new("true").spawn().expect("a process");
        let pid = child.id();
        child.wait().expect("it ends");
        assert!(Owner { pid, ..own.clone() }.is_dead());
        let elsewhere = Owner { pid, boot: "another".to_owned(), ..own };
        assert!(!elsewhere.is_dead(), "nobody here can say");
    }

    #[test]
    fn a_name_may_look_like_the_fields_after_it() {
        let stat = "7 (a) Z 1) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert!(matches!(of_stat(stat), Life::Alive { started: 4242 }));
        assert!(matches!(of_stat("7 (a) Z 1"), Life::Ended));
        assert!(matches!(of_stat(""), Life::Unknown));
    }
}
