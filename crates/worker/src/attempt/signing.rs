//! Signs what an attempt asks of `s3://`, with the keys of this worker's environment, if its job may ask it.

use gristmill_dfs::Uri;
use gristmill_dfs::s3::{Permission, UnsignedRequest};
use gristmill_proto::attempt::{Sign, Signed};
use gristmill_proto::ids::AttemptId;
use gristmill_proto::job::JobSpec;

/// What one attempt may have signed.
pub(crate) struct Signing {
    attempt: AttemptId,
    permission: Permission,
}

impl Signing {
    pub(crate) fn new(attempt: AttemptId, spec: &JobSpec) -> Signing {
        // What is no URI is no output that anybody can write to.
        let outputs: Vec<Uri> =
            spec.outputs.iter().filter_map(|output| Uri::parse(&output.uri).ok()).collect();
        let own: Vec<Uri> = spec.makes_files_below.iter().filter_map(|uri| Uri::parse(uri).ok()).collect();
        let permission = Permission::new(&attempt.task.job.to_string(), &outputs).making_files_below(&own);
        Signing { attempt, permission }
    }

    /// The answer; never an error: the attempt is to say what it could not do.
    pub(crate) fn sign(&self, sign: Sign) -> Signed {
        let query = sign.query.into_iter().map(|parameter| (parameter.name, parameter.value)).collect();
        let request = UnsignedRequest { method: sign.method, bucket: sign.bucket, key: sign.key, query };
        let signed = if self.permission.allows(&request) {
            request.sign().map_err(|error| error.to_string())
        } else {
            let UnsignedRequest { method, bucket, key, .. } = &request;
            tracing::warn!(attempt = %self.attempt, method, bucket, key, "an attempt asks S3 for what its job may not");
            Err(format!(
                "a job may not ask {method} of s3://{bucket}/{key}: it reads, and writes below its outputs"
            ))
        };
        let request = sign.request;
        match signed {
            Ok(url) => Signed { request, url, refusal: String::new() },
            Err(refusal) => Signed { request, url: String::new(), refusal },
        }
    }
}
