//! As whom a process reaches `dfs://`, where the environment is not to say.

use std::fmt;
use std::sync::OnceLock;

use gristmill_proto::auth::Secret;

/// As whom, and under which names, this process reaches `dfs://`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DfsIdentity {
    /// The name under which the caller acts. With [`Credential::Token`], the token's counts.
    pub user: String,
    /// The groups of the user.
    pub groups: Vec<String>,
    /// What proves it.
    pub credential: Credential,
    /// (from, to): a URI that names the master `from` (HOST:PORT) means the one at `to`. `dfs:///path` is on the
    /// cluster of the first, or, if there is none, on the one that GRISTMILL_MASTER names.
    pub aliases: Vec<(String, String)>,
    /// This machine's name, as its worker gives it: near replicas are found by it. None: what the system says.
    pub host: Option<String>,
    /// Whether this process is in the workers' network, whatever it calls the master: bytes go straight to workers.
    pub inside: bool,
}

/// What proves to a cluster who is asking.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Nothing: the cluster has no secret.
    None,
    /// The cluster's secret, of which a token for each stream is made.
    Secret(Secret),
    /// A token of a job, as it is.
    Token(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::None => "None",
            Credential::Secret(_) => "Secret(redacted)",
            Credential::Token(_) => "Token(redacted)",
        })
    }
}

static ASSUMED: OnceLock<DfsIdentity> = OnceLock::new();

/// From now on this process uses `dfs://` as `identity`, whatever its environment says. Once a process, before it uses
/// `dfs://` for the first time.
///
/// # Panics
/// If the process has assumed another identity: what it began would go on under the first.
pub fn assume(identity: DfsIdentity) {
    let assumed = ASSUMED.get_or_init(|| identity.clone());
    assert!(*assumed == identity, "a process has one identity");
}

/// What was assumed.
pub(super) fn assumed() -> Option<&'static DfsIdentity> {
    ASSUMED.get()
}
