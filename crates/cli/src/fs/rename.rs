//! `mv`: other names.

use clap::Args;

use super::copy::destinations;
use super::failure::Failure;
use super::session::Session;

/// Moves files and directories within a file system
#[derive(Args)]
pub(crate) struct Mv {
    /// A file, or an empty directory, that is there gives way
    #[arg(short = 'f', long)]
    force: bool,
    /// What to move, and where to
    #[arg(required = true, num_args = 2.., value_names = ["FROM", "TO"])]
    paths: Vec<String>,
}

impl Mv {
    pub(crate) fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        let to = self.paths.pop().unwrap_or_default();
        let sources = session.targets(&self.paths)?;
        if sources.is_empty() {
            return Ok(());
        }
        let several = self.paths.len() > 1 || sources.len() > 1;
        let to_uri = session.uri(&to)?;
        for (from, place) in destinations(session, sources, &to_uri, &to, several)? {
            if from.uri().place() != place.uri.place() {
                session.report(&Failure::refused(
                    "move",
                    from.uri(),
                    format!("{} is on another file system; copy it (cp), then delete it (rm)", place.uri),
                ));
                continue;
            }
            let moved = from.fs.rename(from.uri(), &place.uri, self.force);
            if session.survive(moved)?.is_some() {
                session.moved(from.uri(), &place.uri)?;
            }
        }
        Ok(())
    }
}
