//! What an attempt may ask of S3, as its worker sees it before it signs.

use super::layout::{HIDDEN, Layout};
use super::signing::UnsignedRequest;
use crate::uri::{Place, Uri};

/// What requests of one job are signed: reading, uploads below its outputs, its own records. Nothing appears or
/// vanishes by what is signed here: completing and deleting are the master's. But for jobs that make files themselves, as a
/// copying one does: those may make objects, and delete none, where their plan says so.
#[derive(Clone, Debug)]
pub struct Permission {
    /// (bucket, name of the output)
    outputs: Vec<(String, String)>,
    /// (bucket, name of a directory) in which attempts make files themselves.
    own: Vec<(String, String)>,
    /// The records of the job's uploads.
    records: String,
}

impl Permission {
    /// For the job of this name with these outputs; those that are not on S3 do not count.
    pub fn new(job: &str, outputs: &[Uri]) -> Permission {
        Permission { outputs: on_s3(outputs), own: Vec::new(), records: Layout::new(job).uploads() }
    }

    /// And it may make files below these, if they are on S3.
    pub fn making_files_below(self, directories: &[Uri]) -> Permission {
        Permission { own: on_s3(directories), ..self }
    }

    /// Whether it may be signed.
    pub fn allows(&self, request: &UnsignedRequest) -> bool {
        let mut names: Vec<&str> = request.query.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let key = request.key.as_str();
        if key.is_empty() || key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return false;
        }
        let makes_it = || {
            let below = |directory: &str| directory.is_empty() || is_below(key, directory);
            !is_below(key, HIDDEN) && self.own.iter().any(|(own, name)| *own == request.bucket && below(name))
        };
        match (request.method.as_str(), &names[..]) {
            ("PUT", [] | ["partNumber", "uploadId"])
            | ("POST", ["uploads"] | ["uploadId"])
            | ("DELETE", ["uploadId"])
                if makes_it() =>
            {
                true
            }
            ("GET" | "HEAD", []) => true,
            ("POST", ["uploads"]) | ("PUT", ["partNumber", "uploadId"]) | ("DELETE", ["uploadId"]) => {
                !is_below(key, HIDDEN) && self.writes_to(&request.bucket, |output| is_below(key, output))
            }
            ("PUT", []) => is_below(key, &self.records) && self.writes_to(&request.bucket, |_| true),
            _ => false,
        }
    }

    fn writes_to(&self, bucket: &str, holds: impl Fn(&str) -> bool) -> bool {
        self.outputs.iter().any(|(own, output)| own == bucket && holds(output))
    }
}

/// Bucket and name of those that are on S3.
fn on_s3(uris: &[Uri]) -> Vec<(String, String)> {
    let named = |uri: &Uri| match uri.place() {
        Place::S3 { bucket } => {
            Some((bucket.to_string(), uri.path().to_str()?.trim_start_matches('/').to_owned()))
        }
        _ => None,
    };
    uris.iter().filter_map(named).collect()
}

fn is_below(key: &str, directory: &str) -> bool {
    key.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(method: &str, bucket: &str, key: &str, query: &[&str]) -> bool {
        let outputs = [Uri::parse("s3://out/a/b").expect("a URI"), Uri::parse("dfs://h:1/x").expect("a URI")];
        let query = query.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect();
        let (method, bucket, key) = (method.to_owned(), bucket.to_owned(), key.to_owned());
        Permission::new("7", &outputs).allows(&UnsignedRequest { method, bucket, key, query })
    }

    #[test]
    fn an_attempt_reads_everything_and_writes_parts_of_its_own_outputs() {
        assert!(allowed("GET", "any", "x/y", &[]));
        assert!(allowed("HEAD", "any", "x", &[]));
        assert!(allowed("POST", "out", "a/b/part-r-00000", &["uploads"]));
        assert!(allowed("PUT", "out", "a/b/part-r-00000", &["uploadId", "partNumber"]));
        assert!(allowed("DELETE", "out", "a/b/part-r-00000", &["uploadId"]));
        assert!(allowed("PUT", "out", ".gristmill/jobs/7/uploads/attempt/0", &[]));
    }

    #[test]
    fn a_job_that_copies_makes_objects_where_its_plan_says_and_deletes_none() {
        let own = [Uri::parse("s3://copies/to").expect("a URI"), Uri::parse("s3://whole").expect("a URI")];
        let permission = Permission::new("7", &[]).making_files_below(&own);
        let allowed = |method: &str, bucket: &str, key: &str, query: &[&str]| {
            let query = query.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect();
            let (method, bucket, key) = (method.to_owned(), bucket.to_owned(), key.to_owned());
            permission.allows(&UnsignedRequest { method, bucket, key, query })
        };
        assert!(allowed("PUT", "copies", "to/x", &[]));
        assert!(allowed("POST", "copies", "to/x", &["uploads"]));
        assert!(allowed("POST", "copies", "to/x", &["uploadId"]));
        assert!(allowed("PUT", "whole", "x", &[]));
        assert!(!allowed("PUT", "copies", "together", &[]));
        assert!(!allowed("PUT", "copies", "to/../x", &[]));
        assert!(!allowed("PUT", "whole", ".gristmill/jobs/8/decision", &[]));
        assert!(!allowed("DELETE", "copies", "to/x", &[]));
        assert!(!allowed("POST", "whole", "x", &["delete"]));
    }

    #[test]
    fn nothing_appears_or_vanishes_by_what_an_attempt_asks() {
        for (method, bucket, key, query) in [
            ("PUT", "out", "a/b/part-r-00000", &[][..]),
            ("POST", "out", "a/b/part-r-00000", &["uploadId"]),
            ("DELETE", "out", "a/b/part-r-00000", &[]),
            ("POST", "out", "a/bc/part", &["uploads"]),
            ("POST", "out", "a/b", &["uploads"]),
            ("POST", "other", "a/b/part", &["uploads"]),
            ("PUT", "out", "a/b/../../c", &["partNumber", "uploadId"]),
            ("PUT", "out", ".gristmill/jobs/7/decision", &[]),
            ("PUT", "out", ".gristmill/jobs/8/uploads/attempt/0", &[]),
            ("PUT", "other", ".gristmill/jobs/7/uploads/attempt/0", &[]),
            ("GET", "out", "", &[]),
            ("GET", "out", "a", &["acl"]),
            ("POST", "out", "a/b/x", &["delete"]),
        ] {
            assert!(!allowed(method, bucket, key, query), "{method} {bucket} {key} {query:?}");
        }
    }
}
