//! The users and groups of this machine, as its account files name them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::OnceLock;

/// Beyond this an account file is no account file.
const ACCOUNT_FILE_BYTES_MAX: u64 = 16 << 20;

/// Names and numbers of one account file, both ways.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    names: HashMap<u32, String>,
    numbers: HashMap<String, u32>,
    /// The last field of a line, by name: of a group, its members.
    rest: HashMap<String, String>,
}

/// The users of `/etc/passwd`, read once.
pub(super) fn users() -> &'static Accounts {
    static USERS: OnceLock<Accounts> = OnceLock::new();
    USERS.get_or_init(|| Accounts::read("/etc/passwd"))
}

/// The user of this process: by name, if it has one.
pub(super) fn own_user() -> String {
    users().name(rustix::process::geteuid().as_raw())
}

/// The groups that this machine's accounts put a user in.
pub(super) fn groups_of(user: &str) -> Vec<String> {
    groups().with_member(user)
}

/// The groups of `/etc/group`, read once.
pub(super) fn groups() -> &'static Accounts {
    static GROUPS: OnceLock<Accounts> = OnceLock::new();
    GROUPS.get_or_init(|| Accounts::read("/etc/group"))
}

impl Accounts {
    /// A machine without such a file has accounts without names.
    fn read(path: &str) -> Accounts {
        let text = fs::metadata(path).and_then(|metadata| match metadata.len() {
            0..=ACCOUNT_FILE_BYTES_MAX => fs::read(path),
            _ => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
        });
        match text {
            Ok(text) => Accounts::parse(&String::from_utf8_lossy(&text)),
            Err(error) => {
                tracing::debug!(path, %error, "accounts are shown as numbers");
                Accounts::default()
            }
        }
    }

    /// Lines of `name:password:number:...`; others are skipped. The first line of a name or number counts.
    fn parse(text: &str) -> Accounts {
        let mut accounts = Accounts::default();
        for line in text.lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            accounts.names.entry(number).or_insert_with(|| name.to_owned());
            accounts.numbers.entry(name.to_owned()).or_insert(number);
            let rest = fields.next_back().unwrap_or_default().to_owned();
            accounts.rest.entry(name.to_owned()).or_insert(rest);
        }
        accounts
    }

    /// The name of an account, or its number if it has none.
    pub(super) fn name(&self, number: u32) -> String {
        self.names.get(&number).cloned().unwrap_or_else(|| number.to_string())
    }

    /// The groups that have `user` as a member, by name; one of the user's own name counts.
    fn with_member(&self, user: &str) -> Vec<String> {
        let has = |name: &str, members: &str| name == user || members.split(',').any(|member| member == user);
        let mut names: Vec<String> = self
            .rest
            .iter()
            .filter(|(name, members)| has(name, members))
            .map(|(name, _)| name.clone())
            .collect();
        names.sort_unstable();
        names
    }

    /// The number of an account, which may be named by it.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied().or_else(|| name.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_names_and_numbers() {
        let accounts =
            Accounts::parse("root:x:0:0:root:/root:/bin/sh\n# note\nann:x:1000:\nbob:x:1000:\nno:x:n:\n");
        assert_eq!(accounts.name(0), "root");
        assert_eq!(accounts.name(1000), "ann");
        assert_eq!(accounts.name(7), "7");
        assert_eq!(accounts.number("bob"), Some(1000));
        assert_eq!(accounts.number("7"), Some(7));
        assert_eq!(accounts.number("no"), None);
    }

    #[test]
    fn groups_have_members() {
        let groups = Accounts::parse("root:x:0:\nstaff:x:50:ann,bob\nann:x:1000:\ncrew:x:60:annabel\n");
        assert_eq!(groups.with_member("ann"), ["ann", "staff"]);
        assert_eq!(groups.with_member("nobody"), [""; 0]);
    }
}
