//! `doctor`: finds what nobody looks after, and mends it.

use clap::Args;
use gristmill_cluster::{Finding, Registry, Remedy};
use gristmill_process::sentence;
use serde_json::{Value, json};

use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;

/// Finds clusters of this user that were never finished or are over, members that have ended, and what a Docker engine
/// has of clusters that are no more; removes it or starts it again
#[derive(Args)]
pub(crate) struct Doctor {
    /// Only says what there is
    #[arg(long)]
    dry_run: bool,
}

impl Doctor {
    pub(crate) fn run(self, console: &mut Console) -> Result<Exit, Failure> {
        let findings = Registry::from_environment()?.doctor(!self.dry_run)?;
        for finding in &findings {
            if console.json {
                console.object(&object(finding))?;
            } else {
                console.line(format!("{}{}", finding.what, outcome(finding)))?;
            }
        }
        if findings.is_empty() && !console.json {
            console.line("All is well.")?;
        }
        let is_mended = |finding: &Finding| matches!(finding.done, Some(Ok(())));
        Ok(if findings.iter().all(is_mended) { Exit::Done } else { Exit::Failed })
    }
}

/// What is or was done about it.
fn outcome(finding: &Finding) -> String {
    let remedy = match &finding.remedy {
        Remedy::Remove(name) => format!("`gristmill cluster terminate {name}` removes it"),
        Remedy::RemoveLeftovers(_) => "`gristmill cluster doctor` removes them".to_owned(),
        Remedy::Revive(..) => "`gristmill cluster doctor` starts them again".to_owned(),
        Remedy::LeaveCustodian(_) => "`gristmill cluster doctor` sees to that".to_owned(),
        Remedy::None => return String::new(),
    };
    match (&finding.done, &finding.remedy) {
        (None, _) => format!(": {remedy}"),
        (Some(Err(error)), _) => format!(": {}", sentence(error)),
        (Some(Ok(())), Remedy::Revive(..)) => ": started again".to_owned(),
        (Some(Ok(())), Remedy::LeaveCustodian(_)) => ": it has a new custodian".to_owned(),
        (Some(Ok(())), _) => ": removed".to_owned(),
    }
}

fn object(finding: &Finding) -> Value {
    let failure = finding.done.as_ref().and_then(|done| done.as_ref().err()).map(|error| sentence(error));
    json!({ "finding": finding.what, "mended": matches!(finding.done, Some(Ok(()))), "failure": failure })
}
