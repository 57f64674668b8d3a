//! Job tokens: caller tokens of attempts. They open the namespace as the job's user, and nothing else.

use uuid::Uuid;

use super::caller_token::{from_hex, to_hex};
use super::signature;
use super::{Role, Secret, TokenError};
use crate::ids::JobId;
use crate::messages::CallerToken;

/// How long a job token is good. Attempts get one at each start of the job on a worker's stream and cannot renew it, so
/// it bounds how long one attempt can run (Hadoop: `dfs.namenode.delegation.token.max-lifetime`, 7 days).
pub const JOB_TOKEN_LIFETIME_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// A clock may be set back by so much while a job runs: its token is for so much longer then.
const CLOCK_STEP_MS: u64 = 2 * 60 * 60 * 1000;

/// The one service that takes job tokens.
const AUDIENCE: &str = "namespace";

/// Who an attempt is, as its token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCaller {
    /// Whose attempt it is.
    pub job: JobId,
    /// As whom it calls.
    pub user: String,
    /// The groups of the user.
    pub groups: Vec<String>,
}

impl Secret {
    /// A token for the attempts of `job`, in hexadecimal, good for [`JOB_TOKEN_LIFETIME_MS`] from `now_ms` (wall time
    /// since 1970). It is refused by all if its user and groups make it longer than [`super::TOKEN_BYTES_MAX`].
    pub fn job_token(&self, job: JobId, user: &str, groups: &[String], now_ms: u64) -> String {
        let token = CallerToken {
            role: Role::Attempt as u32,
            nonce: Uuid::new_v4().as_bytes().to_vec().into(),
            expires_ms: now_ms.saturating_add(JOB_TOKEN_LIFETIME_MS),
            audience: AUDIENCE.to_owned(),
            job: job.0.to_vec().into(),
            user: user.to_owned(),
            groups: groups.to_vec(),
        };
        to_hex(&signature::sign(&self.caller_key(), &token))
    }

    /// Whom a job token stands for, if it was made with this secret and is still good.
    pub fn check_job(&self, token: &str, now_ms: u64) -> Result<JobCaller, TokenError> {
        let token: CallerToken = signature::open(&self.caller_key(), &from_hex(token)?)?;
        if token.role != Role::Attempt as u32 {
            return Err(TokenError::WrongRole { wanted: Role::Attempt });
        }
        if token.audience != AUDIENCE {
            return Err(TokenError::WrongAudience { theirs: token.audience, wanted: AUDIENCE.to_owned() });
        }
        if now_ms >= token.expires_ms {
            return Err(TokenError::Expired { ago_ms: now_ms - token.expires_ms });
        }
        let ahead_ms = token.expires_ms - now_ms;
        if ahead_ms > JOB_TOKEN_LIFETIME_MS + CLOCK_STEP_MS {
            return Err(TokenError::TooFarAhead { ahead_ms, lifetime_ms: JOB_TOKEN_LIFETIME_MS });
        }
        let job = JobId::from_wire(&token.job).ok_or(TokenError::NoJob)?;
        if token.user.is_empty() {
            return Err(TokenError::NoJob);
        }
        Ok(JobCaller { job, user: token.user, groups: token.groups })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;
    const JOB: JobId = JobId([7; 16]);

    fn secret() -> Secret {
        Secret::from_bytes(&[b's'; 32]).unwrap()
    }

    fn token() -> String {
        secret().job_token(JOB, "ann", &["staff".to_owned()], NOW_MS)
    }

    #[test]
    fn an_attempt_is_its_jobs_user() {
        let caller = secret().check_job(&token(), NOW_MS + JOB_TOKEN_LIFETIME_MS - 1).unwrap();
        assert_eq!(caller, JobCaller { job: JOB, user: "ann".into(), groups: vec!["staff".into()] });
    }

    #[test]
    fn it_is_no_client_and_no_worker() {
        for (role, audience) in [
            (Role::Client, "namespace"),
            (Role::Client, "jobs"),
            (Role::Worker, "attendance"),
            (Role::Worker, "tasks"),
        ] {
            let error = secret().check_caller(&token(), role, audience, NOW_MS).unwrap_err();
            assert!(matches!(error, TokenError::WrongRole { .. }), "{error}");
            let other = secret().caller_token(role, audience, NOW_MS);
            let error = secret().check_job(&other, NOW_MS).unwrap_err();
            assert_eq!(error.to_string(), "the token is not that of a job's attempt");
        }
    }

    #[test]
    fn it_has_its_time_and_its_secret() {
        let late = secret().check_job(&token(), NOW_MS + JOB_TOKEN_LIFETIME_MS).unwrap_err();
        assert!(matches!(late, TokenError::Expired { ago_ms: 0 }), "{late}");
        let early = secret().check_job(&token(), NOW_MS - CLOCK_STEP_MS - 1).unwrap_err();
        assert!(matches!(early, TokenError::TooFarAhead { .. }), "{early}");
        let stranger = Secret::from_bytes(&[b't'; 32]).unwrap();
        assert!(matches!(stranger.check_job(&token(), NOW_MS), Err(TokenError::Forged)));
        let nobody = secret().job_token(JOB, "", &[], NOW_MS);
        assert!(matches!(secret().check_job(&nobody, NOW_MS), Err(TokenError::NoJob)));
    }

    #[test]
    fn every_digit_of_a_token_counts() {
        let token = token();
        for at in 0..token.len() {
            let other = if token.as_bytes()[at] == b'0' { "1" } else { "0" };
            let forged = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            let error = secret().check_job(&forged, NOW_MS).unwrap_err();
            assert!(matches!(error, TokenError::Forged), "digit {at}: {error}");
        }
    }
}
