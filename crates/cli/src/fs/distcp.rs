//! `distcp`: copies trees by a job, many files at a time, in this process or on the cluster.
//!
//! ```text
//!   walk SRC ── patterns ──> the list, a line for each file ──> the job: one task copies some files, each of which
//!   (this process)           (in dfs://, or a temporary file)   appears whole, with its checksum compared
//! ```
//! Modules in reading order: `patterns` (what is copied, and as what), `listing` (the list), `job` (the plan), `copying` (one
//! file), `leftovers` (of copies that were killed).

mod copying;
pub(crate) mod job;
mod leftovers;
mod listing;
mod patterns;

use std::ffi::OsString;
use std::fs::File;

use clap::Args;
use gristmill::Ended;
use gristmill_dfs::file_system::DeleteOptions;
use gristmill_dfs::{Place, Uri};
use gristmill_proto::ids::JobId;
use tempfile::TempDir;

use super::failure::Failure;
use super::format::parse_size;
use super::session::{Session, Target, look};
use job::Existing;
use listing::{Listing, Totals};
use patterns::Patterns;

/// The name of the job, and of its program in messages.
const NAME: &str = "distcp";
/// Where jobs have their files, in dfs://: the master removes them with the job.
const JOBS: &str = "/.gristmill/jobs";
/// Files that are not whole yet are in a directory of this name and the job's id, in DST.
const UNFINISHED: &str = ".distcp-";

/// Copies files and all below directories into the directory DST, by a job: on the cluster if there is a master. Between
/// dfs://, s3:// and file://; empty directories are not copied. Options after `--` are run options, as of job programs
#[derive(Args)]
pub(crate) struct Distcp {
    /// Copies into a DST that is not empty: files that are there and equal (length and CRC32C) are skipped, others replaced
    #[arg(long, conflicts_with = "overwrite")]
    update: bool,
    /// Copies into a DST that is not empty, and every file anew
    #[arg(long)]
    overwrite: bool,
    /// Compares lengths only, with --update and after each copy
    #[arg(long)]
    skip_crc_check: bool,
    /// At most so many tasks
    #[arg(short = 'm', long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    maps: u32,
    /// Only files whose path below SRC matches; `*` matches `/` too
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Not files whose path below SRC matches
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Only files whose whole URI matches
    #[arg(long, alias = "srcPattern", value_name = "REGEX")]
    src_pattern: Option<String>,
    /// Concatenates the files whose URIs match and have the same text in the pattern's groups, in the order of their URIs, into
    /// one file of that text as its name; other files are not copied
    #[arg(long, alias = "groupBy", value_name = "REGEX")]
    group_by: Option<String>,
    /// With --group-by: begins a further file (name0, name1, ...) where one would be longer than this
    #[arg(long, alias = "targetSize", value_name = "SIZE", requires = "group_by", value_parser = parse_size)]
    target_size: Option<u64>,
    /// Writes what was copied into this directory, as JSON lines
    #[arg(long, alias = "outputManifest", value_name = "DIR")]
    output_manifest: Option<String>,
    /// Skips files that are in this manifest with the same length; the new manifest has its entries too
    #[arg(long, alias = "previousManifest", value_name = "DIR")]
    previous_manifest: Option<String>,
    /// Runs the job in this process, on so many threads, even if there is a master
    #[arg(long, value_name = "THREADS", num_args = 0..=1, require_equals = true)]
    local: Option<Option<u16>>,
    /// What is copied, then where to
    #[arg(required = true, num_args = 2.., value_name = "SRC... DST")]
    paths: Vec<String>,
    /// Run options of the job
    #[arg(last = true, value_name = "RUN OPTIONS")]
    run: Vec<OsString>,
}

/// Where the job runs.
enum Site {
    Here { threads: Option<u16>, list: TempDir, _alive: File },
    Cluster { master: String, job: JobId },
}

impl Distcp {
    pub(crate) fn run(self, session: &mut Session) -> Result<(), Failure> {
        let patterns = Patterns::new(&self)?;
        let (to, from) = self.paths.split_last().expect("there are at least two");
        let site = self.site(session)?;
        let to = site.named(session, to)?;
        let list = site.list();
        // A step that a new master takes up again has its list from the first time; what is in DST may be its own.
        let total = match look(&*session.fs(&list)?, &list)? {
            Some(_) => Totals::unknown(self.maps),
            None => self.list(session, &site, from, &to, patterns)?,
        };
        if total.files == 0 && self.output_manifest.is_none() {
            site.forget(session)?;
            session.say("there is nothing to copy");
            return Ok(());
        }
        let arguments = self.arguments(session, &site, &to, &total)?;
        let ended = gristmill::run(NAME, arguments, job::job);
        if !self.run.iter().any(|option| option == "--detach") {
            remove_unfinished(session, &site.unfinished(&to));
        }
        ended.map_err(|ended| match ended {
            Ended::Usage(sentence) => Failure::Usage(sentence),
            Ended::Failed(error) => Failure::Job(error.to_string()),
        })
    }

    fn site(&self, session: &Session) -> Result<Site, Failure> {
        match (self.local, session.master()) {
            (None, Some(master)) => {
                let job = gristmill::job_of_step().unwrap_or_else(JobId::random);
                Ok(Site::Cluster { master: master.to_owned(), job })
            }
            (threads, _) => {
                let (list, alive) = leftovers::begin().map_err(Failure::Scratch)?;
                Ok(Site::Here { threads: threads.flatten(), list, _alive: alive })
            }
        }
    }

    /// Writes the list of what is to be copied.
    fn list(
        &self,
        session: &mut Session,
        site: &Site,
        from: &[String],
        to: &Uri,
        patterns: Patterns,
    ) -> Result<Totals, Failure> {
        leftovers::remove_dead(session, site, to)?;
        if self.existing() == Existing::Refuse {
            refuse_occupied(session, to)?;
        }
        let mut sources = Vec::new();
        for text in from {
            let uri = site.named(session, text)?;
            let fs = session.fs(&uri)?;
            let status = fs.stat(&uri)?;
            refuse_within(to, &uri)?;
            sources.push(Target { fs, status });
        }
        let (path, part) = (site.list(), site.list_to_be());
        let fs = session.fs(&path)?;
        let mut listing = Listing::begin(&*fs, &part, patterns, self.maps)?;
        sources.into_iter().try_for_each(|source| listing.add(source))?;
        let total = listing.finish()?;
        // Under its name it is whole.
        fs.rename(&part, &path, false)?;
        Ok(total)
    }

    fn existing(&self) -> Existing {
        match (self.update, self.overwrite) {
            (true, _) => Existing::Update,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        }
    }

    /// The command line of the job.
    fn arguments(
        &self,
        session: &Session,
        site: &Site,
        to: &Uri,
        total: &Totals,
    ) -> Result<Vec<OsString>, Failure> {
        let mut line: Vec<String> = vec!["--list".into(), site.list().to_string()];
        let mut option = |name: &str, value: String| line.extend([name.to_owned(), value]);
        option("--to", to.to_string());
        option("--unfinished", site.unfinished(to).to_string());
        option("--tasks", total.tasks.to_string());
        option("--existing", self.existing().name().to_owned());
        if let Some(bytes) = self.target_size {
            option("--target-bytes", bytes.to_string());
        }
        for (name, uri) in [("--manifest", &self.output_manifest), ("--previous", &self.previous_manifest)] {
            if let Some(uri) = uri {
                option(name, site.named(session, uri)?.to_string());
            }
        }
        match site {
            Site::Here { threads: None, .. } => line.push("--local".to_owned()),
            Site::Here { threads: Some(threads), .. } => line.push(format!("--local={threads}")),
            Site::Cluster { master, job } => {
                option("--master", master.clone());
                option("--job-id", job.to_string());
            }
        }
        let flags = [
            (self.skip_crc_check, "--skip-crc-check"),
            (self.group_by.is_some(), "--concatenate"),
            (session.json, "--json"),
        ];
        line.extend(flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag.to_owned()));
        Ok(line.into_iter().map(OsString::from).chain(self.run.iter().cloned()).collect())
    }
}

impl Site {
    /// What an argument names, by a name that means the same to every task.
    fn named(&self, session: &Session, text: &str) -> Result<Uri, Failure> {
        let uri = session.uri(text)?;
        match (uri.place(), self) {
            (Place::Local, _) => Ok(Uri::local(std::path::absolute(uri.path()).map_err(|source| {
                Failure::refused("copy", &uri, format!("the working directory is gone ({source})"))
            })?)),
            (Place::Dfs { master: None }, Site::Cluster { master, .. }) => Ok(Uri::dfs(master, uri.path())),
            (Place::Memory { .. }, Site::Cluster { .. }) => Err(Failure::Usage(format!(
                "cannot copy {uri} on a cluster: memory:// is within one process"
            ))),
            _ => Ok(uri),
        }
    }

    fn directory(&self) -> Uri {
        match self {
            Site::Here { list, .. } => Uri::local(list.path()),
            Site::Cluster { master, job } => Uri::dfs(master, format!("{JOBS}/{job}")),
        }
    }

    /// The list of what is to be copied.
    fn list(&self) -> Uri {
        self.directory().join("copies")
    }

    fn list_to_be(&self) -> Uri {
        self.directory().join("copies.part")
    }

    /// The directory of files that are not whole.
    fn unfinished(&self, to: &Uri) -> Uri {
        match self {
            Site::Here { list, .. } => to.join(format!("{UNFINISHED}{}", leftovers::id(list.path()))),
            Site::Cluster { job, .. } => to.join(format!("{UNFINISHED}{job}")),
        }
    }

    /// Removes the list, which no job will read.
    fn forget(&self, session: &Session) -> Result<(), Failure> {
        let list = self.list();
        session.fs(&list)?.delete(&list, DeleteOptions { recursive: false, skip_trash: true })?;
        Ok(())
    }
}

/// What attempts left that were killed.
fn remove_unfinished(session: &mut Session, directory: &Uri) {
    // On S3 there is none: what is not whole is an upload.
    if matches!(directory.place(), Place::S3 { .. }) {
        return;
    }
    let options = DeleteOptions { recursive: true, skip_trash: true };
    let removed =
        session.fs(directory).map_err(Failure::from).and_then(|fs| Ok(fs.delete(directory, options)?));
    match removed {
        Err(failure) if !failure.is_absence() => session.say(&format!("unfinished copies stay: {failure}")),
        _ => {}
    }
}

fn refuse_occupied(session: &Session, to: &Uri) -> Result<(), Failure> {
    let fs = session.fs(to)?;
    let why = match look(&*fs, to)? {
        None => return Ok(()),
        Some(status) if !status.is_directory() => "it is a file",
        Some(_) => match fs.list(to)?.next().transpose()? {
            None => return Ok(()),
            Some(_) => "it is not empty (--update copies what is missing or differs, --overwrite everything)",
        },
    };
    Err(Failure::refused("copy to", to, why))
}

/// Refuses a copy whose files would be files to copy.
fn refuse_within(to: &Uri, from: &Uri) -> Result<(), Failure> {
    let (resolved, source) = (to.store()?.resolve(to)?, from.store()?.resolve(from)?);
    if resolved.is_within(&source) {
        return Err(Failure::refused("copy", from, format!("{to} is within it")));
    }
    Ok(())
}
