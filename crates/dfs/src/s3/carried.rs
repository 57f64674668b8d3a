//! What a process elsewhere, as in a container, needs to reach the buckets that this one reaches: what anybody may see,
//! and the keys, as a file.

use std::env;

use super::profile::{Profile, ProfileError};

/// Variables that say where buckets are and how they are asked. None is secret.
const OPEN_VARIABLES: [&str; 8] = [
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ALLOW_HTTP",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_SKIP_SIGNATURE",
    "AWS_EC2_METADATA_DISABLED",
];
/// What a profile says of the same.
const OPEN_SETTINGS: [&str; 2] = ["region", "endpoint_url"];
/// Keys: as a variable, and as a profile has them.
const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "aws_access_key_id"),
    ("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key"),
    ("AWS_SESSION_TOKEN", "aws_session_token"),
];

/// Why the settings of this process cannot be carried elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// The shared files of AWS.
    #[error("cannot take the keys of S3 along: {0}")]
    Profile(String),
    /// A key that is none.
    #[error("cannot take the keys of S3 along: {name} has a line break in it")]
    Key {
        /// The variable or setting.
        name: String,
    },
}

impl From<ProfileError> for CarryError {
    fn from(error: ProfileError) -> CarryError {
        CarryError::Profile(error.to_string())
    }
}

/// The settings of S3 of this process.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// Variables and their values, which anybody may see.
    pub variables: Vec<(String, String)>,
    /// The text of a file for `AWS_SHARED_CREDENTIALS_FILE`, which nobody may see; none if there are no keys.
    pub keys: Option<String>,
}

impl Carried {
    /// Of the environment and of the profile that it names. Keys that the machine itself has, as by a role, stay there.
    pub fn from_environment() -> Result<Carried, CarryError> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let profile = Profile::from_environment()?;
        Carried::of(&variable, &|name| profile.get(name).map(str::to_owned))
    }

    fn of(
        variable: &dyn Fn(&str) -> Option<String>,
        setting: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Carried, CarryError> {
        let open = |name: &str| variable(name).map(|value| (name.to_owned(), value));
        let variables = OPEN_VARIABLES.iter().filter_map(|name| open(name)).collect();
        let by_variable = variable(KEYS[0].0).is_some();
        let mut lines = Vec::new();
        for (name, key) in KEYS {
            let value = if by_variable { variable(name) } else { setting(key) };
            lines.extend(value.map(|value| (key, value)));
        }
        let has_keys = !lines.is_empty();
        lines.extend(OPEN_SETTINGS.iter().filter_map(|key| Some((*key, setting(key)?))));
        if let Some((name, _)) = lines.iter().find(|(_, value)| value.contains(['\n', '\r'])) {
            return Err(CarryError::Key { name: (*name).to_owned() });
        }
        let text = lines.iter().map(|(key, value)| format!("{key} = {value}\n"));
        let keys = has_keys.then(|| std::iter::once("[default]\n".to_owned()).chain(text).collect());
        Ok(Carried { variables, keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(variables: &[(&str, &str)], settings: &[(&str, &str)]) -> Result<Carried, CarryError> {
        let find = |all: &[(&str, &str)], name: &str| {
            all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Carried::of(&|name| find(variables, name), &|name| find(settings, name))
    }

    #[test]
    fn keys_are_in_the_file_and_nowhere_else() {
        let variables = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of this machine"),
        ];
        let carried = carried(&variables, &[("aws_access_key_id", "other")]).unwrap();
        assert_eq!(carried.variables, [("AWS_REGION".to_owned(), "eu-west-1".to_owned())]);
        let file = "[default]\naws_access_key_id = id\naws_secret_access_key = key\n";
        assert_eq!(carried.keys.as_deref(), Some(file), "the environment counts, as it does here");
    }

    #[test]
    fn a_profile_is_carried_with_its_place() {
        let settings =
            [("aws_access_key_id", "a"), ("aws_secret_access_key", "b"), ("endpoint_url", "http://h:9")];
        let carried = carried(&[], &settings).unwrap();
        let file = "[default]\naws_access_key_id = a\naws_secret_access_key = b\nendpoint_url = http://h:9\n";
        assert_eq!((carried.variables.len(), carried.keys.as_deref()), (0, Some(file)));
    }

    #[test]
    fn who_has_no_keys_carries_none() {
        assert_eq!(carried(&[], &[("region", "r")]).unwrap().keys, None);
        let broken = carried(&[("AWS_ACCESS_KEY_ID", "a\nb = c")], &[]);
        assert!(matches!(broken, Err(CarryError::Key { name }) if name == "aws_access_key_id"));
    }
}
