//! What fingers that know Hadoop type, in our spelling.

use std::ffi::OsString;

/// Options that Hadoop spells with one dash, by command (`*`: any).
const OPTIONS: [(&str, &str, &str); 34] = [
    ("rm", "-skipTrash", "--skip-trash"),
    ("rmr", "-skipTrash", "--skip-trash"),
    ("rm", "-safely", "--safely"),
    ("expunge", "-immediate", "--immediate"),
    ("getmerge", "-nl", "--newline"),
    ("getmerge", "-skip-empty-file", "--skip-empty-file"),
    ("find", "-name", "--name"),
    ("find", "-iname", "--iname"),
    ("find", "-print", "--print"),
    ("find", "-print0", "--print0"),
    ("find", "-type", "--type"),
    ("put", "-threads", "--threads"),
    ("get", "-threads", "--threads"),
    ("cp", "-threads", "--threads"),
    ("get", "-crc", "--crc"),
    ("get", "-ignoreCrc", "--ignore-crc"),
    ("fsck", "-files", "--files"),
    ("fsck", "-blocks", "--blocks"),
    ("fsck", "-locations", "--locations"),
    ("fsck", "-racks", "--racks"),
    ("fsck", "-list-corruptfileblocks", "--list-corruptfileblocks"),
    ("fsck", "-openforwrite", "--openforwrite"),
    ("fsck", "-delete", "--delete"),
    ("fsck", "-move", "--move"),
    ("fsck", "-repair", "--repair"),
    ("recoverLease", "-path", "--path"),
    ("recoverLease", "-retries", "--retries"),
    ("distcp", "-update", "--update"),
    ("distcp", "-overwrite", "--overwrite"),
    ("distcp", "-skipcrccheck", "--skip-crc-check"),
    ("distcp", "--skipcrccheck", "--skip-crc-check"),
    ("tail", "-lines", "--lines"),
    ("tail", "-bytes", "--bytes"),
    ("*", "-help", "--help"),
];

/// Other names of commands, which are the same but for how they are typed.
const COMMANDS: [(&str, &str); 2] = [("copyFromLocal", "put"), ("copyToLocal", "get")];

/// The arguments of the program as we spell them: `fs -rm -skipTrash f` is `fs rm --skip-trash f`. What follows `--` is
/// left alone, and so is everything but `fs`.
pub(crate) fn as_we_spell(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_none_or(|command| command != "fs") {
        return args;
    }
    let Some(at) = command_position(&args) else { return args };
    let Some(typed) = args[at].to_str() else { return args };
    let command = typed.strip_prefix('-').unwrap_or(typed).to_owned();
    let names = COMMANDS.iter().find(|(name, _)| *name == command).map_or(command.as_str(), |(_, ours)| ours);
    for arg in args[at + 1..].iter_mut().take_while(|arg| *arg != "--") {
        let spelled = OPTIONS.iter().find(|(of, theirs, _)| (*of == names || *of == "*") && arg == theirs);
        if let Some((_, _, ours)) = spelled {
            *arg = OsString::from(ours);
        }
    }
    args[at] = OsString::from(command);
    args
}

/// Where the name of the command is: the first argument that is no option, or one with a single dash.
fn command_position(args: &[OsString]) -> Option<usize> {
    let mut at = 2;
    while let Some(arg) = args.get(at)?.to_str() {
        match arg {
            "--master" => at += 2,
            option if option.starts_with("--") => at += 1,
            _ => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> String {
        let args = line.split(' ').map(OsString::from).collect();
        as_we_spell(args).into_iter().map(|arg| arg.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn dashes_go_where_we_have_them() {
        assert_eq!(spelled("gristmill fs -ls -R /"), "gristmill fs ls -R /");
        assert_eq!(
            spelled("gristmill fs --json -rm -r -skipTrash /x"),
            "gristmill fs --json rm -r --skip-trash /x"
        );
        assert_eq!(spelled("gristmill fs --master h:1 -test -e -f"), "gristmill fs --master h:1 test -e -f");
        assert_eq!(spelled("gristmill fs find / -name -name"), "gristmill fs find / --name --name");
        assert_eq!(spelled("gristmill fs rm -- -skipTrash"), "gristmill fs rm -- -skipTrash");
        assert_eq!(spelled("gristmill job -ls"), "gristmill job -ls");
        assert_eq!(spelled("gristmill fs"), "gristmill fs");
    }
}
