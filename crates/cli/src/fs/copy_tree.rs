//! Files and directories copied from one file system to another, several at a time.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use gristmill_dfs::Uri;
use gristmill_dfs::file_system::{CreateOptions, DeleteOptions, FileSystem, FileWriter, Status};

use super::failure::Failure;
use super::progress::Progress;
use super::read::{PIECE_BYTES, Pieces};
use super::session::{Session, Target, look};

/// A file has this at the end of its name until it is whole, as in Hadoop.
const UNFINISHED: &str = "._COPYING_";

/// No file system here takes a longer name.
const NAME_BYTES_MAX: usize = 255;

/// The walk is at most so many files ahead of each copying thread: enough that none waits, and no memory for trees.
const AHEAD_PER_THREAD: usize = 16;

/// How files are copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyRules {
    /// Files that are there give way.
    pub(crate) overwrite: bool,
    /// Times, modes and, where one may, owners are kept.
    pub(crate) preserve: bool,
    pub(crate) threads: usize,
    /// Of the copies; 0: the default of where they go.
    pub(crate) replication: u32,
    pub(crate) block_bytes: u64,
}

/// Where something is to be copied.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) uri: Uri,
}

/// One file to copy.
struct Job {
    from: Target,
    to: Place,
}

/// What became of one file.
struct Outcome {
    from: Uri,
    to: Uri,
    copied: Result<(), Failure>,
}

/// Copies everything at each first to each second; says how many could not be. What can be copied is.
pub(crate) fn copy_all(
    session: &mut Session,
    pairs: Vec<(Target, Place)>,
    rules: CopyRules,
) -> Result<u64, Failure> {
    let progress = Progress::begin(session.shows_progress());
    let (jobs, to_do) = sync_channel::<Job>(rules.threads * AHEAD_PER_THREAD);
    let to_do = Mutex::new(to_do);
    let (outcomes, done) = channel::<Outcome>();
    let mut tree =
        Tree { session, rules, jobs: Some(jobs), done, progress: &progress, begun: 0, settled: 0, failed: 0 };
    let copied = thread::scope(|scope| {
        for _ in 0..rules.threads {
            let (to_do, outcomes, progress) = (&to_do, outcomes.clone(), progress.clone());
            scope.spawn(move || {
                while let Some(Job { from, to }) = next(to_do) {
                    let copied = copy_file(&from, &to, rules, &progress);
                    let outcome = Outcome { from: from.status.uri, to: to.uri, copied };
                    if outcomes.send(outcome).is_err() {
                        return;
                    }
                }
            });
        }
        drop(outcomes);
        let walked = pairs.into_iter().try_for_each(|(from, to)| tree.walk(from, to));
        // No more jobs: the threads end when all are done.
        tree.jobs = None;
        walked.and_then(|()| tree.settle_all())
    });
    progress.end();
    copied.map(|()| tree.failed)
}

fn next(to_do: &Mutex<Receiver<Job>>) -> Option<Job> {
    to_do.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The walk over what is to be copied.
struct Tree<'t, 's, 'a> {
    session: &'t mut Session<'s, 'a>,
    rules: CopyRules,
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Outcome>,
    progress: &'t Progress,
    /// Files that were handed out, and those of them whose outcome is known.
    begun: u64,
    settled: u64,
    failed: u64,
}

impl Tree<'_, '_, '_> {
    fn walk(&mut self, from: Target, to: Place) -> Result<(), Failure> {
        let mut finished = Vec::new();
        let mut above = Vec::new();
        let walked = self.enter(from, to, &mut above, &mut finished);
        // Copying into a directory changes its times: they are set when nothing more goes there.
        if self.rules.preserve && !finished.is_empty() {
            self.wait_for_threads()?;
            for (status, to) in finished.iter().rev() {
                let kept = preserve(status, to);
                self.survive(kept)?;
            }
        }
        walked
    }

    fn enter(
        &mut self,
        from: Target,
        to: Place,
        above: &mut Vec<Uri>,
        finished: &mut Vec<(Status, Place)>,
    ) -> Result<(), Failure> {
        self.settle()?;
        if !from.status.is_directory() {
            self.begun += 1;
            self.progress.name(self.begun);
            let Some(jobs) = &self.jobs else { return Ok(()) };
            // The threads are there as long as the jobs are.
            return jobs
                .send(Job { from, to })
                .map_err(|_| Failure::Output(std::io::Error::other("the copying threads are gone")));
        }
        let checked = refuse_loop(&from, above);
        let made = checked.and_then(|()| Ok(to.fs.make_directory(&to.uri, true)?));
        let listing = made.and_then(|()| Ok(from.fs.list(from.uri())?));
        let Some(listing) = self.survive(listing)? else { return Ok(()) };
        above.push(from.uri().clone());
        for entry in listing {
            let Some(status) = self.survive(entry.map_err(Failure::from))? else { continue };
            let to = Place { fs: to.fs.clone(), uri: to.uri.join(status.uri.name()) };
            self.enter(Target { fs: from.fs.clone(), status }, to, above, finished)?;
        }
        above.pop();
        if self.rules.preserve {
            finished.push((from.status, to));
        }
        Ok(())
    }

    fn survive<T>(&mut self, result: Result<T, Failure>) -> Result<Option<T>, Failure> {
        let (session, progress) = (&mut self.session, self.progress);
        let survived = progress.aside(|| session.survive(result))?;
        self.failed += u64::from(survived.is_none());
        Ok(survived)
    }

    /// Takes note of what is done already.
    fn settle(&mut self) -> Result<(), Failure> {
        loop {
            match self.done.try_recv() {
                Ok(outcome) => self.note(outcome)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    fn settle_all(&mut self) -> Result<(), Failure> {
        while let Ok(outcome) = self.done.recv() {
            self.note(outcome)?;
        }
        Ok(())
    }

    /// Waits until everything that was begun is done, so that directories may be touched again.
    fn wait_for_threads(&mut self) -> Result<(), Failure> {
        while self.settled < self.begun {
            let Ok(outcome) = self.done.recv() else { return Ok(()) };
            self.note(outcome)?;
        }
        Ok(())
    }

    fn note(&mut self, outcome: Outcome) -> Result<(), Failure> {
        self.settled += 1;
        if self.survive(outcome.copied)?.is_some() {
            self.session.copied(&outcome.from, &outcome.to)?;
        }
        Ok(())
    }
}

/// Refuses a link to a directory that holds it: following it would never end.
fn refuse_loop(from: &Target, above: &[Uri]) -> Result<(), Failure> {
    if !from.status.is_link {
        return Ok(());
    }
    let store = from.uri().store()?;
    let target = store.resolve(from.uri())?;
    for directory in above {
        if store.resolve(directory)? == target {
            return Err(Failure::refused("copy", from.uri(), format!("it is a link back to {directory}")));
        }
    }
    Ok(())
}

/// Copies one file; it has its name only once it is whole.
fn copy_file(from: &Target, to: &Place, rules: CopyRules, progress: &Progress) -> Result<(), Failure> {
    if !from.status.is_file() {
        return Err(Failure::refused("copy", from.uri(), "it is neither a file nor a directory"));
    }
    refuse_self(from, to)?;
    let pieces = Pieces::of(&*from.fs, from.uri())?;
    let kept = rules.preserve.then_some(&from.status);
    whole_file(to, rules, kept, |out| pour(pieces, out, &to.uri, progress))
}

/// Makes a file of what `fill` writes: under a name of its own, then by one rename.
pub(crate) fn whole_file(
    to: &Place,
    rules: CopyRules,
    like: Option<&Status>,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match look(&*to.fs, &to.uri)? {
        Some(there) if there.is_directory() => {
            return Err(Failure::refused("write", &to.uri, "it is a directory"));
        }
        Some(_) if !rules.overwrite => {
            return Err(Failure::refused("write", &to.uri, "it exists (-f replaces it)"));
        }
        _ => {}
    }
    let unfinished = Place { fs: to.fs.clone(), uri: unfinished_name(&to.uri) };
    let written = fill_unfinished(&unfinished, rules, like, fill)
        .and_then(|()| Ok(to.fs.rename(&unfinished.uri, &to.uri, rules.overwrite)?));
    if written.is_err() {
        let options = DeleteOptions { recursive: false, skip_trash: true };
        if let Err(error) = to.fs.delete(&unfinished.uri, options) {
            tracing::debug!(%error, "an unfinished file stays");
        }
    }
    written
}

fn fill_unfinished(
    unfinished: &Place,
    rules: CopyRules,
    like: Option<&Status>,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let CopyRules { replication, block_bytes, .. } = rules;
    let options = CreateOptions { overwrite: true, replication, block_bytes, ..CreateOptions::default() };
    let mut writer: Box<dyn FileWriter> = unfinished.fs.create(&unfinished.uri, &options)?;
    fill(&mut writer)?;
    writer.finish()?;
    like.map_or(Ok(()), |status| preserve(status, unfinished))
}

/// Writes a file's pieces to `out`, which is to become `to`.
pub(crate) fn pour(
    mut from: Pieces,
    out: &mut dyn Write,
    to: &Uri,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut offset = 0;
    while let Some(piece) = from.next_piece()? {
        out.write_all(piece).map_err(|source| Failure::Write { uri: to.clone(), offset, source })?;
        offset += piece.len() as u64;
        progress.add(piece.len() as u64);
    }
    Ok(())
}

/// Writes all of stdin to `out`, which is to become `to`.
pub(crate) fn pour_input(
    input: &mut dyn Read,
    out: &mut dyn Write,
    to: &Uri,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let count = match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(Failure::Input)?,
        };
        out.write_all(&piece[..count]).map_err(|source| Failure::Write {
            uri: to.clone(),
            offset,
            source,
        })?;
        offset += count as u64;
        progress.add(count as u64);
    }
}

/// Gives a copy the times and the mode of what it is a copy of; and its owner, if the caller may.
fn preserve(like: &Status, to: &Place) -> Result<(), Failure> {
    to.fs.set_mode(&to.uri, like.mode)?;
    if let Err(error) = to.fs.set_owner(&to.uri, Some(&like.owner), Some(&like.group)) {
        tracing::debug!(%error, "the copy keeps its owner");
    }
    Ok(to.fs.set_times(&to.uri, Some(like.modified_ms), Some(like.accessed_ms))?)
}

fn refuse_self(from: &Target, to: &Place) -> Result<(), Failure> {
    let same = from.uri().place() == to.uri.place()
        && from.uri().store()?.resolve(from.uri())? == to.uri.store()?.resolve(&to.uri)?;
    if same { Err(Failure::refused("copy", from.uri(), "it would be copied onto itself")) } else { Ok(()) }
}

/// The name of a file until it is whole. A name so long that nothing can be added is cut, and told from others that are
/// cut alike by its checksum.
fn unfinished_name(uri: &Uri) -> Uri {
    let name = uri.name();
    let mut unfinished = if name.len() + UNFINISHED.len() <= NAME_BYTES_MAX {
        name.to_owned()
    } else {
        let mut kept = NAME_BYTES_MAX - UNFINISHED.len() - 9;
        // Not within a character, which some file systems insist on.
        while name.as_bytes()[kept] & 0xC0 == 0x80 {
            kept -= 1;
        }
        let mut cut: OsString = OsStr::from_bytes(&name.as_bytes()[..kept]).to_owned();
        cut.push(format!(".{:08x}", crc32c::crc32c(name.as_bytes())));
        cut
    };
    unfinished.push(UNFINISHED);
    // What has no name of its own is a directory, and never made as a file.
    uri.parent().unwrap_or_else(|| uri.clone()).join(unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_file_has_a_name_that_fits() {
        assert_eq!(unfinished_name(&Uri::local("/a/b")), Uri::local("/a/b._COPYING_"));
        assert_eq!(unfinished_name(&Uri::local("b")), Uri::local("./b._COPYING_"));
        for letter in ["x", "é", "日"] {
            let long =
                |end: &str| Uri::local("/a").join(format!("{}{end}", letter.repeat(250 / letter.len())));
            let [one, other] = ["1", "2"].map(|end| unfinished_name(&long(end)));
            assert_ne!(one, other);
            assert!(one.name().len() <= NAME_BYTES_MAX && one.name().to_str().is_some(), "{one}");
        }
    }
}
