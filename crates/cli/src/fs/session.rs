//! One run of a command: which file systems it means, what it shows, and what has failed so far.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use gristmill_dfs::file_system::{Access, Cluster, FileSystem, FsError, Status, expand};
use gristmill_dfs::{Place, Uri, UriError};
use serde_json::{Value, json};

use super::escape::escape;
use super::failure::Failure;
use crate::Streams;
use crate::exit::Exit;

/// What a command works with.
pub(crate) struct Session<'s, 'a> {
    streams: &'s mut Streams<'a>,
    access: Access,
    /// The file system of bare paths.
    place: Place,
    pub(crate) json: bool,
    failures: u64,
}

/// Something that an argument named.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) status: Status,
}

impl Target {
    pub(crate) fn uri(&self) -> &Uri {
        &self.status.uri
    }
}

impl<'s, 'a> Session<'s, 'a> {
    pub(crate) fn new(streams: &'s mut Streams<'a>, master: Option<String>, json: bool) -> Session<'s, 'a> {
        let mut access = Access::from_environment();
        access.master = master.or(access.master);
        let place = if access.master.is_some() { Place::Dfs { master: None } } else { Place::Local };
        Session { streams, access, place, json, failures: 0 }
    }

    /// Whether progress is to be shown.
    pub(crate) fn shows_progress(&self) -> bool {
        self.streams.err_is_terminal
    }

    /// HOST:PORT of the cluster that is meant, if any.
    pub(crate) fn master(&self) -> Option<&str> {
        self.access.master.as_deref()
    }

    // ---- names ----

    /// The URI that an argument means; a bare path is one of the default file system.
    pub(crate) fn uri(&self, text: &str) -> Result<Uri, Failure> {
        let uri = Uri::parse(text)?;
        if self.place == Place::Local || !uri.is_local() || text.contains("://") {
            return Ok(uri);
        }
        let path = Uri::of(self.place.clone(), uri.path());
        if uri.path().is_absolute() { Ok(path) } else { Ok(self.home()?.join(text)) }
    }

    fn home(&self) -> Result<Uri, Failure> {
        let root = Uri::of(self.place.clone(), "/");
        Ok(Uri::of(self.place.clone(), self.fs(&root)?.home().path()))
    }

    /// The URI of an argument that has to be a path of this machine.
    pub(crate) fn local_uri(&self, text: &str) -> Result<Uri, Failure> {
        let uri = Uri::parse(text)?;
        if uri.is_local() {
            return Ok(uri);
        }
        Err(Failure::Usage(format!("cannot use {uri} here: it has to be a path of this machine")))
    }

    pub(crate) fn fs(&self, uri: &Uri) -> Result<Arc<dyn FileSystem>, UriError> {
        self.access.file_system(uri)
    }

    /// Everything that an argument names, as a glob if nothing has its very name.
    pub(crate) fn expand(&self, text: &str) -> Result<Vec<Target>, Failure> {
        self.expand_uri(&self.uri(text)?)
    }

    pub(crate) fn expand_uri(&self, uri: &Uri) -> Result<Vec<Target>, Failure> {
        let fs = self.fs(uri)?;
        let found = expand(&*fs, uri)?;
        Ok(found.into_iter().map(|status| Target { fs: fs.clone(), status }).collect())
    }

    /// Everything that the arguments name; what names nothing is reported.
    pub(crate) fn targets(&mut self, texts: &[String]) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        for text in texts {
            let found = self.expand(text);
            targets.extend(self.survive(found)?.unwrap_or_default());
        }
        Ok(targets)
    }

    /// The default file system as a cluster, or `text`'s.
    pub(crate) fn cluster_at(&self, text: Option<&str>) -> Result<(Arc<dyn FileSystem>, Uri), Failure> {
        let uri = text.map_or_else(|| Ok(Uri::of(self.place.clone(), "/")), |text| self.uri(text))?;
        Ok((self.fs(&uri)?, uri))
    }

    /// A name as people see it: without the scheme if it is of the default file system, and harmless to a terminal.
    pub(crate) fn name(&self, uri: &Uri) -> String {
        let name = match uri.place() {
            place if *place == self.place => uri.path().display().to_string(),
            Place::Local if uri.path().is_absolute() => format!("file://{uri}"),
            _ => uri.to_string(),
        };
        self.text(&name)
    }

    /// A text of others' making as people see it.
    pub(crate) fn text(&self, text: &str) -> String {
        if self.streams.out_is_terminal { escape(text).into_owned() } else { text.to_owned() }
    }

    // ---- output ----

    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> Result<(), Failure> {
        self.bytes(line.as_ref().as_bytes())?;
        self.bytes(b"\n")
    }

    pub(crate) fn object(&mut self, object: &Value) -> Result<(), Failure> {
        self.line(object.to_string())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.streams.out.write_all(bytes).map_err(Failure::Output)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.streams.out.flush().map_err(Failure::Output)
    }

    /// Says, to programs only, that something was done.
    pub(crate) fn done(&mut self, action: &str, uri: &Uri) -> Result<(), Failure> {
        if self.json { self.object(&json!({ "done": action, "path": self.path(uri) })) } else { Ok(()) }
    }

    /// Says, to programs only, that something is now also at `to`.
    pub(crate) fn copied(&mut self, from: &Uri, to: &Uri) -> Result<(), Failure> {
        self.done_to("copy", from, to)
    }

    /// Says, to programs only, that something is now at `to`.
    pub(crate) fn moved(&mut self, from: &Uri, to: &Uri) -> Result<(), Failure> {
        self.done_to("mv", from, to)
    }

    fn done_to(&mut self, action: &str, from: &Uri, to: &Uri) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        self.object(&json!({ "done": action, "path": self.path(from), "to": self.path(to) }))
    }

    /// A name as programs see it: the same, but as it is.
    pub(crate) fn path(&self, uri: &Uri) -> String {
        uri.to_string()
    }

    pub(crate) fn input(&mut self) -> &mut dyn Read {
        &mut self.streams.input
    }

    /// Whether whoever sits at the terminal says yes.
    pub(crate) fn ask(&mut self, question: &str) -> Result<bool, Failure> {
        let err = &mut self.streams.err;
        write!(err, "{question} (y/n) ").and_then(|()| err.flush()).map_err(Failure::Output)?;
        let mut answer = String::new();
        // An answer is short; whoever sends more has not understood the question.
        let mut input = BufReader::new((&mut self.streams.input).take(64));
        input.read_line(&mut answer).map_err(Failure::Input)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
    }

    // ---- failures ----

    /// Reports a failure that the rest of the command survives.
    pub(crate) fn survive<T, E: Into<Failure>>(
        &mut self,
        result: Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        match result.map_err(Into::into) {
            Ok(done) => Ok(Some(done)),
            // Nobody hears the rest; and a wrong usage is no failure of one part.
            Err(failure @ (Failure::Output(_) | Failure::Usage(_))) => Err(failure),
            Err(failure) => {
                self.report(&failure);
                Ok(None)
            }
        }
    }

    /// Says on stderr what failed; the command will end as failed.
    pub(crate) fn report(&mut self, failure: &Failure) {
        self.failures += 1;
        self.say(&failure.to_string());
    }

    /// One sentence on stderr.
    pub(crate) fn say(&mut self, sentence: &str) {
        let err = &mut self.streams.err;
        // With stderr gone there is nobody to tell; the exit code still says it.
        if let Err(error) = writeln!(err, "gristmill: {}", escape(sentence)) {
            tracing::debug!(%error, "stderr is gone");
        }
    }

    /// Counts a failure that is said elsewhere.
    pub(crate) fn fail(&mut self) {
        self.failures += 1;
    }

    pub(crate) fn exit(&self) -> Exit {
        if self.failures == 0 { Exit::Done } else { Exit::Failed }
    }
}

/// What only clusters do, or a sentence that says so.
pub(crate) fn cluster<'f>(
    fs: &'f Arc<dyn FileSystem>,
    operation: &'static str,
    uri: &Uri,
) -> Result<&'f dyn Cluster, Failure> {
    fs.cluster().ok_or_else(|| {
        Failure::refused(
            operation,
            uri,
            "only a cluster has that; name one by --master or dfs://HOST:PORT/path",
        )
    })
}

/// Whether `text` ends like a directory's name.
pub(crate) fn names_directory(text: &str) -> bool {
    text.ends_with('/') || Path::new(text).file_name().is_none()
}

/// What is at `uri`, if anything.
pub(crate) fn look(fs: &dyn FileSystem, uri: &Uri) -> Result<Option<Status>, FsError> {
    match fs.stat(uri) {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(master: Option<&str>, text: &str) -> String {
        let mut streams = Streams {
            input: Box::new(std::io::empty()),
            out: Box::new(std::io::sink()),
            err: Box::new(std::io::sink()),
            out_is_terminal: false,
            err_is_terminal: false,
        };
        let mut session = Session::new(&mut streams, master.map(str::to_owned), false);
        session.access.user = "ann".to_owned();
        let uri = session.uri(text).unwrap();
        format!("{uri} as {}", session.name(&uri))
    }

    #[test]
    fn bare_paths_are_the_clusters_if_there_is_one() {
        assert_eq!(uri(Some("h:1"), "/x"), "dfs:///x as /x");
        assert_eq!(uri(Some("h:1"), "x/../y"), "dfs:///user/ann/y as /user/ann/y");
        assert_eq!(uri(Some("h:1"), "."), "dfs:///user/ann as /user/ann");
        assert_eq!(uri(Some("h:1"), "dfs:///x"), "dfs:///x as /x");
        assert_eq!(uri(Some("h:1"), "dfs://other:1/x"), "dfs://other:1/x as dfs://other:1/x");
        assert_eq!(uri(Some("h:1"), "file:///x"), "/x as file:///x");
        assert_eq!(uri(Some("h:1"), "memory://m/x"), "memory://m/x as memory://m/x");
    }
}
