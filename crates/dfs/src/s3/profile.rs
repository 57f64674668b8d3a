//! The shared files of AWS: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

/// What a profile says that is of use here.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Profile {
    values: BTreeMap<String, String>,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProfileError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("AWS_PROFILE names the profile {name}, which is not in {looked_in}")]
    Missing { name: String, looked_in: String },
    #[error(
        "the profile {name} gets its keys by {by}, which is not supported: put keys into the profile or the environment"
    )]
    Unsupported { name: String, by: &'static str },
}

/// Ways to get keys that only the AWS tools know.
const UNSUPPORTED: [&str; 4] = ["role_arn", "credential_process", "sso_session", "sso_start_url"];

impl Profile {
    /// The profile that the environment names, or `default`. Empty if there is none and none was named.
    pub(super) fn from_environment() -> Result<Profile, ProfileError> {
        let named = env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
        let name = named.clone().unwrap_or_else(|| "default".to_owned());
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let config = file("AWS_CONFIG_FILE", "config");
        let section = if name == "default" { name.clone() } else { format!("profile {name}") };
        let from_config = section_of(&read(config.as_ref())?, &section);
        let from_credentials = section_of(&read(credentials.as_ref())?, &name);
        if named.is_some() && from_config.is_none() && from_credentials.is_none() {
            return Err(ProfileError::Missing { name, looked_in: looked_in(credentials, config) });
        }
        let mut values = from_config.unwrap_or_default();
        values.extend(from_credentials.unwrap_or_default());
        let profile = Profile { values };
        match UNSUPPORTED.iter().find(|by| profile.get(by).is_some()) {
            Some(by) if profile.get("aws_access_key_id").is_none() => {
                Err(ProfileError::Unsupported { name, by })
            }
            _ => Ok(profile),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}

/// Who has no home has no files there. Never are they looked for in the working directory.
fn file(variable: &str, name: &str) -> Option<PathBuf> {
    let set = |path: &PathBuf| !path.as_os_str().is_empty();
    let chosen = env::var_os(variable).map(PathBuf::from).filter(set);
    chosen.or_else(|| Some(env::home_dir().filter(set)?.join(".aws").join(name)))
}

fn looked_in(credentials: Option<PathBuf>, config: Option<PathBuf>) -> String {
    let files: Vec<String> =
        [credentials, config].into_iter().flatten().map(|path| path.display().to_string()).collect();
    if files.is_empty() { "any file: there is no home directory".to_owned() } else { files.join(" or ") }
}

fn read(path: Option<&PathBuf>) -> Result<String, ProfileError> {
    let Some(path) = path else { return Ok(String::new()) };
    match fs::read_to_string(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        read => read.map_err(|source| ProfileError::Read { path: path.clone(), source }),
    }
}

/// The lines `key = value` below `[section]`. Lines that are indented belong to the one above and are not for us.
fn section_of(text: &str, section: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut within = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[') {
            within = header.split(']').next().is_some_and(|name| name.trim() == section);
            if within {
                found.get_or_insert_default();
            }
        } else if within
            && !line.starts_with([' ', '\t'])
            && let Some((key, value)) = trimmed.split_once('=')
            && let Some(values) = &mut found
        {
            values.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_its_lines_and_no_others() {
        let text =
            "[default]\naws_access_key_id = a\n# no\n s3 =\n  region = nested\n[profile two]\nREGION=r=1\n";
        let default = section_of(text, "default").expect("it is there");
        assert_eq!(default.into_iter().collect::<Vec<_>>(), [("aws_access_key_id".into(), "a".into())]);
        assert_eq!(section_of(text, "profile two").expect("it is there")["region"], "r=1");
        assert_eq!(section_of(text, "two"), None);
    }
}
