//! `gristmill fs` within the test, on a store in memory.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of it")]

use std::ffi::OsString;
use std::io::Cursor;

use gristmill_cli::{Exit, Streams};

/// What one run of the program said.
#[derive(Debug)]
pub struct Said {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

impl Said {
    /// What it wrote, if all was done and nothing was complained of.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!((self.exit, self.err.as_str()), (Exit::Done, ""), "it wrote {:?}", self.out);
        self.out
    }

    /// What it complained of, if it failed.
    #[track_caller]
    pub fn failed(self) -> String {
        assert_eq!(self.exit, Exit::Failed, "it wrote {:?} and {:?}", self.out, self.err);
        self.err
    }

    #[track_caller]
    pub fn lines(self) -> Vec<String> {
        self.done().lines().map(str::to_owned).collect()
    }

    /// Each line as JSON.
    #[track_caller]
    pub fn objects(self) -> Vec<serde_json::Value> {
        self.done().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// A store, and a directory in it.
pub struct Shell {
    pub home: String,
}

impl Shell {
    pub fn new(name: &str) -> Shell {
        let home = format!("memory://{name}/home");
        let shell = Shell { home };
        shell.fs("mkdir -p @").done();
        shell
    }

    /// Runs a command; its words are cut at spaces, and `@` stands for the home.
    pub fn fs(&self, line: &str) -> Said {
        let words: Vec<String> = line.split(' ').map(|word| word.replacen('@', &self.home, 1)).collect();
        run(&words.iter().map(String::as_str).collect::<Vec<_>>(), b"", false)
    }

    /// Makes a file with this text.
    pub fn write(&self, name: &str, text: &str) {
        let path = format!("{}/{name}", self.home);
        let parent = &path[..path.rfind('/').expect("a path")];
        run(&["mkdir", "-p", parent], b"", false).done();
        run(&["put", "-f", "-", &path], text.as_bytes(), false).done();
    }

    pub fn read(&self, name: &str) -> String {
        run(&["cat", &format!("{}/{name}", self.home)], b"", false).done()
    }

    /// Everything below the home, without its name.
    pub fn tree(&self) -> Vec<String> {
        let found = run(&["find", &self.home], b"", false).lines();
        found.iter().skip(1).map(|name| name[self.home.len() + 1..].to_owned()).collect()
    }
}

/// Runs `gristmill fs` with these words.
pub fn run(words: &[&str], input: &[u8], out_is_terminal: bool) -> Said {
    let args = ["gristmill", "fs"].iter().chain(words).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        input: Box::new(Cursor::new(input.to_vec())),
        out: Box::new(&mut out),
        err: Box::new(&mut err),
        out_is_terminal,
        err_is_terminal: false,
    };
    let exit = gristmill_cli::run(args, &mut streams);
    drop(streams);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { exit, out: text(out), err: text(err) }
}
