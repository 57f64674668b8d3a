//! URIs as a user writes them.

use super::Target;
use gristmill_dfs::Uri;

pub(super) const TARGET: Target =
    Target { name: "uri", input_bytes_max: 256, memory_bytes: 4 << 10, memory_bytes_per_byte: 60, run };

/// The first line is a URI, the second a name below it.
fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (text, below) = text.split_once('\n').unwrap_or((text, "below"));
    let uri = match Uri::parse(text) {
        Ok(uri) => uri,
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("cannot use"), "{said}");
            return;
        }
    };
    check(&uri);
    let name = uri.name().to_str().expect("it was text");
    assert!(!name.contains('/') && uri.to_string().ends_with(name));
    if let Some(above) = uri.parent() {
        check(&above);
        assert!(uri.is_local() || uri.is_within(&above), "{uri} is below {above}");
    }

    let joined = uri.join(below);
    if !joined.to_string().contains('\0') {
        check(&joined);
    }
    let climbs = !uri.is_local() && below.split('/').any(|part| part == "..");
    assert!(climbs || joined.is_within(&uri), "{joined} is below {uri}");
}

/// Its text names it, in the one form that it has.
fn check(uri: &Uri) {
    let text = uri.to_string();
    assert_eq!(Uri::parse(&text).as_ref(), Ok(uri), "{text}");
    let path = uri.path().to_str().expect("it was text");
    assert!(!path.is_empty() && !path.contains("//"), "{path}");
    assert!(path == "/" || !path.ends_with('/'), "{path}");
    let dots = |part: &str| matches!(part, "." | "..");
    assert!(uri.is_local() || path.starts_with('/') && !path.split('/').any(dots), "{path}");
}
