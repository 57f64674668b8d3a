//! Files that are named by their SHA-256: fetched once, however many attempts wait for them, verified while they are
//! copied, and removed when there are too many. (Programs, and the files of jobs.)

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gristmill_dfs::client::DfsError;
use sha2::{Digest, Sha256};
use thiserror::Error;

const PIECE_BYTES: usize = 256 << 10;
/// Whoever waits for another's fetch looks so often whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// Limits of a directory of such files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileLimits {
    /// Of a file.
    pub(crate) file_bytes: u64,
    /// Of all that nobody uses, together with those that somebody does.
    pub(crate) bytes: u64,
    /// Likewise.
    pub(crate) files: usize,
    /// Permissions of the files.
    pub(crate) mode: u32,
}

/// A file to be fetched.
pub(crate) struct Remote {
    pub(crate) bytes: u64,
    pub(crate) content: Box<dyn Read>,
}

/// Why a file is not there.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("{path} cannot be opened")]
    Open {
        path: String,
        #[source]
        source: DfsError,
    },
    #[error("{path} cannot be read")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path} has {bytes} bytes, of at most {bytes_max}")]
    TooLarge { path: String, bytes: u64, bytes_max: u64 },
    #[error("{path} is not the file that was submitted: its SHA-256 is {}, not {}", hex(found), hex(wanted))]
    WrongSum { path: String, found: [u8; 32], wanted: [u8; 32] },
    #[error("a SHA-256 has 32 bytes, that of {path} has {bytes}")]
    NoSum { path: String, bytes: usize },
    #[error("the job names no program")]
    NoProgram,
    #[error("cannot {action} {}", path.display())]
    Disk {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the attempt was ended while it waited for {path}")]
    Cancelled { path: String },
}

/// A directory of verified files.
#[derive(Debug)]
pub(crate) struct VerifiedFiles {
    dir: PathBuf,
    limits: FileLimits,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<[u8; 32], Entry>,
    /// Rises with each use.
    clock: u64,
}

#[derive(Debug)]
enum Entry {
    Fetching,
    Here { bytes: u64, used: u64, users: usize },
}

/// The use of a file: it stays for as long.
#[derive(Debug)]
pub(crate) struct InUse {
    files: Arc<VerifiedFiles>,
    sha256: [u8; 32],
    path: PathBuf,
}

impl InUse {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = self.files.state();
        if let Some(Entry::Here { users, .. }) = state.files.get_mut(&self.sha256) {
            *users -= 1;
        }
    }
}

impl VerifiedFiles {
    /// In a directory that is this process's alone. Files that are there are verified when they are first used, and
    /// those that no fetch ended well are removed.
    pub(crate) fn open(dir: PathBuf, limits: FileLimits) -> io::Result<Arc<VerifiedFiles>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            match entry.file_name().to_str().is_some_and(|name| name.len() == 64) {
                true => kept.push((entry.metadata()?.modified()?, entry.path(), entry.metadata()?.len())),
                false => fs::remove_file(entry.path())?,
            }
        }
        // Latest first: what an earlier life left beyond the limits is removed.
        kept.sort_by(|a, b| b.cmp(a));
        let mut bytes = 0_u64;
        for (place, (_, path, file_bytes)) in kept.iter().enumerate() {
            bytes = bytes.saturating_add(*file_bytes);
            if place >= limits.files || bytes > limits.bytes {
                fs::remove_file(path)?;
            }
        }
        Ok(Arc::new(VerifiedFiles { dir, limits, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// The file with this sum, fetched from `path` of the file system if it is not here. `cancelled` is asked while it
    /// waits.
    pub(crate) fn get(
        self: &Arc<Self>,
        path: &str,
        sha256: &[u8],
        open: impl FnOnce() -> Result<Remote, DfsError>,
        cancelled: impl Fn() -> bool,
    ) -> Result<InUse, FetchError> {
        let no_sum = || FetchError::NoSum { path: path.to_owned(), bytes: sha256.len() };
        let sha256: [u8; 32] = sha256.try_into().map_err(|_| no_sum())?;
        let local = self.dir.join(hex(&sha256));
        if let Some(found) = self.wait_for(path, &sha256, &local, &cancelled)? {
            return Ok(found);
        }
        // Fetching is this thread's now.
        let fetched = self.fetch(path, &sha256, &local, open, &cancelled);
        let mut state = self.state();
        match fetched {
            Ok(bytes) => {
                state.clock += 1;
                let used = state.clock;
                state.files.insert(sha256, Entry::Here { bytes, used, users: 1 });
            }
            Err(_) => drop(state.files.remove(&sha256)),
        }
        drop(state);
        self.changed.notify_all();
        fetched?;
        let found = InUse { files: Arc::clone(self), sha256, path: local };
        self.make_room()?;
        Ok(found)
    }

    /// Removes a file that nobody uses.
    pub(crate) fn remove(&self, sha256: &[u8]) -> Result<(), FetchError> {
        let Ok(sha256) = <[u8; 32]>::try_from(sha256) else { return Ok(()) };
        let mut state = self.state();
        match state.files.get(&sha256) {
            Some(Entry::Here { users: 0, .. }) => {
                state.files.remove(&sha256);
                remove(&self.dir.join(hex(&sha256)))
            }
            _ => Ok(()),
        }
    }

    /// The file, if it is here or another thread fetches it; none if this thread is to.
    fn wait_for(
        self: &Arc<Self>,
        path: &str,
        sha256: &[u8; 32],
        local: &Path,
        cancelled: &impl Fn() -> bool,
    ) -> Result<Option<InUse>, FetchError> {
        let mut state = self.state();
        loop {
            let State { files, clock } = &mut *state;
            match files.get_mut(sha256) {
                None => {
                    files.insert(*sha256, Entry::Fetching);
                    return Ok(None);
                }
                Some(Entry::Here { used, users, .. }) => {
                    *clock += 1;
                    (*used, *users) = (*clock, *users + 1);
                    let files = Arc::clone(self);
                    return Ok(Some(InUse { files, sha256: *sha256, path: local.to_owned() }));
                }
                Some(Entry::Fetching) if cancelled() => {
                    return Err(FetchError::Cancelled { path: path.to_owned() });
                }
                Some(Entry::Fetching) => {
                    let waited = self.changed.wait_timeout(state, LOOK);
                    (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn fetch(
        &self,
        path: &str,
        sha256: &[u8; 32],
        local: &Path,
        open: impl FnOnce() -> Result<Remote, DfsError>,
        cancelled: &impl Fn() -> bool,
    ) -> Result<u64, FetchError> {
        if let Some(bytes) = still_good(local, sha256)? {
            return Ok(bytes);
        }
        remove(local)?;
        let opened = open().map_err(|source| FetchError::Open { path: path.to_owned(), source });
        let Remote { bytes, content } = opened?;
        let bytes_max = self.limits.file_bytes;
        if bytes > bytes_max {
            return Err(FetchError::TooLarge { path: path.to_owned(), bytes, bytes_max });
        }
        let draft = local.with_extension("draft");
        remove(&draft)?;
        let found = copy(path, content.take(bytes), &draft, cancelled);
        // Half a program is large, and nobody may ever ask for it again.
        let found = found.or_else(|error| remove(&draft).and(Err(error)))?;
        if found != *sha256 {
            remove(&draft)?;
            return Err(FetchError::WrongSum { path: path.to_owned(), found, wanted: *sha256 });
        }
        let permissions = Permissions::from_mode(self.limits.mode);
        fs::set_permissions(&draft, permissions).map_err(|source| disk("set the mode of", &draft, source))?;
        fs::rename(&draft, local).map_err(|source| disk("rename", &draft, source))?;
        tracing::info!(%path, bytes, file = %local.display(), "fetched and verified");
        Ok(bytes)
    }

    /// Removes what was used longest ago, as long as there is too much.
    fn make_room(&self) -> Result<(), FetchError> {
        let mut state = self.state();
        loop {
            let sizes = state.files.values().map(|entry| match entry {
                Entry::Here { bytes, .. } => *bytes,
                Entry::Fetching => 0,
            });
            let (files, bytes) = sizes.fold((0, 0), |(files, sum), bytes| (files + 1, sum + bytes));
            if files <= self.limits.files && bytes <= self.limits.bytes {
                return Ok(());
            }
            let unused = state.files.iter().filter_map(|(sha256, entry)| match entry {
                Entry::Here { used, users: 0, .. } => Some((*used, *sha256)),
                _ => None,
            });
            let Some((_, oldest)) = unused.min() else { return Ok(()) };
            state.files.remove(&oldest);
            remove(&self.dir.join(hex(&oldest)))?;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies a file of the cluster to a new one here. Returns its SHA-256.
fn copy(
    path: &str,
    mut content: impl Read,
    draft: &Path,
    cancelled: &impl Fn() -> bool,
) -> Result<[u8; 32], FetchError> {
    let mut options = File::options();
    let opened = options.write(true).create_new(true).mode(0o600).open(draft);
    let mut file = opened.map_err(|source| disk("create", draft, source))?;
    let (mut sum, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        if cancelled() {
            return Err(FetchError::Cancelled { path: path.to_owned() });
        }
        let now = content.read(&mut piece);
        let now = now.map_err(|source| FetchError::Read { path: path.to_owned(), source })?;
        if now == 0 {
            return Ok(sum.finalize().into());
        }
        sum.update(&piece[..now]);
        file.write_all(&piece[..now]).map_err(|source| disk("write", draft, source))?;
    }
}

/// The length of a file of an earlier life, if it is there and has this sum.
fn still_good(local: &Path, sha256: &[u8; 32]) -> Result<Option<u64>, FetchError> {
    let mut file = match File::open(local) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(disk("open", local, source)),
    };
    let (mut sum, mut piece, mut bytes) = (Sha256::new(), vec![0; PIECE_BYTES], 0);
    loop {
        match file.read(&mut piece).map_err(|source| disk("read", local, source))? {
            0 => break,
            now => {
                sum.update(&piece[..now]);
                bytes += now as u64;
            }
        }
    }
    let found: [u8; 32] = sum.finalize().into();
    Ok((found == *sha256).then_some(bytes))
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(disk("remove", path, source)),
        _ => Ok(()),
    }
}

fn disk(action: &'static str, path: &Path, source: io::Error) -> FetchError {
    FetchError::Disk { action, path: path.to_owned(), source }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LIMITS: FileLimits = FileLimits { file_bytes: 1000, bytes: 25, files: 3, mode: 0o500 };

    fn sum(content: &[u8]) -> [u8; 32] {
        Sha256::digest(content).into()
    }

    fn remote(content: &'static [u8]) -> Result<Remote, DfsError> {
        Ok(Remote { bytes: content.len() as u64, content: Box::new(Cursor::new(content)) })
    }

    fn get(files: &Arc<VerifiedFiles>, content: &'static [u8]) -> Result<InUse, FetchError> {
        files.get("/p", &sum(content), || remote(content), || false)
    }

    fn nobody_asks() -> Result<Remote, DfsError> {
        panic!("it is here already")
    }

    #[test]
    fn a_file_is_fetched_once_however_many_wait() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = VerifiedFiles::open(directory.path().to_owned(), LIMITS).expect("opened");
        let fetched = AtomicUsize::new(0);
        let wanted = sum(b"program");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let open = || {
                        fetched.fetch_add(1, Ordering::Relaxed);
                        remote(b"program")
                    };
                    let found = files.get("/p", &wanted, open, || false).expect("fetched");
                    assert_eq!(fs::read(found.path()).expect("read"), b"program");
                });
            }
        });
        assert_eq!(fetched.into_inner(), 1);
        drop(files);
        // The next life verifies it, and fetches it again only if it was changed.
        let files = VerifiedFiles::open(directory.path().to_owned(), LIMITS).expect("opened");
        let found = files.get("/p", &wanted, nobody_asks, || false).expect("still good");
        let mode = fs::metadata(found.path()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o500);
        fs::set_permissions(found.path(), Permissions::from_mode(0o700)).expect("set");
        fs::write(found.path(), "tampered").expect("written");
        drop((found, files));
        let files = VerifiedFiles::open(directory.path().to_owned(), LIMITS).expect("opened");
        let found = get(&files, b"program").expect("fetched again");
        assert_eq!(fs::read(found.path()).expect("read"), b"program");
    }

    #[test]
    fn what_is_not_what_was_submitted_is_refused_and_can_be_tried_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = VerifiedFiles::open(directory.path().to_owned(), LIMITS).expect("opened");
        let wanted = sum(b"right");
        let wrong = files.get("/p", &wanted, || remote(b"wrong"), || false).expect_err("refused");
        assert!(matches!(wrong, FetchError::WrongSum { .. }), "{wrong}");
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 0);
        let stopped = files.get("/p", &wanted, || remote(b"right"), || true).expect_err("cancelled");
        assert!(matches!(stopped, FetchError::Cancelled { .. }), "{stopped}");
        let large = || Ok(Remote { bytes: 1001, content: Box::new(io::empty()) });
        let large = files.get("/p", &wanted, large, || false).expect_err("refused");
        assert!(matches!(large, FetchError::TooLarge { bytes: 1001, .. }), "{large}");
        let no_sum = files.get("/p", b"short", nobody_asks, || false).expect_err("refused");
        assert!(matches!(no_sum, FetchError::NoSum { bytes: 5, .. }), "{no_sum}");
        get(&files, b"right").expect("fetched at last");
    }

    #[test]
    fn what_was_used_longest_ago_makes_room_unless_it_is_in_use() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = VerifiedFiles::open(directory.path().to_owned(), LIMITS).expect("opened");
        let _held = get(&files, b"0123456789").expect("fetched");
        drop(get(&files, b"abcdefghij").expect("fetched"));
        drop(get(&files, b"ABCDEFGHIJ").expect("fetched"));
        let is_here = |content: &[u8]| directory.path().join(hex(&sum(content))).exists();
        assert_eq!(
            [is_here(b"0123456789"), is_here(b"abcdefghij"), is_here(b"ABCDEFGHIJ")],
            [true, false, true]
        );
        files.remove(&sum(b"0123456789")).expect("in use: stays");
        files.remove(&sum(b"ABCDEFGHIJ")).expect("removed");
        assert_eq!([is_here(b"0123456789"), is_here(b"ABCDEFGHIJ")], [true, false]);
    }
}
