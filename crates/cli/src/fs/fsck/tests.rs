//! Stories of a cluster that says what it is told to say.

use std::cell::RefCell;
use std::sync::Mutex;

use clap::Parser;
use gristmill_dfs::file_system::{FsError, WorkerState};
use gristmill_proto::namespace::{CheckReport, ClusterReport, LocatedFile, Replica};

use super::*;
use crate::Streams;
use crate::exit::Exit;

/// Pages of a check, and the blocks of any file.
#[derive(Default)]
struct Scripted {
    pages: Mutex<Vec<CheckReport>>,
    asked: Mutex<Vec<String>>,
    blocks: Vec<LocatedBlock>,
}

impl Cluster for Scripted {
    fn report(&self) -> Result<ClusterReport, FsError> {
        Ok(ClusterReport::default())
    }

    fn check(&self, _uri: &Uri, after: &str) -> Result<CheckReport, FsError> {
        self.asked.lock().unwrap().push(after.to_owned());
        Ok(self.pages.lock().unwrap().remove(0))
    }

    fn repair(&self, _uri: &Uri) -> Result<(), FsError> {
        Ok(())
    }

    /// Two blocks a page.
    fn locate(&self, _file: &Uri, offset: u64) -> Result<LocatedFile, FsError> {
        let rest: Vec<LocatedBlock> =
            self.blocks.iter().filter(|block| block.offset >= offset).cloned().collect();
        let more = rest.len() > 2;
        Ok(LocatedFile { entry: None, blocks: rest.into_iter().take(2).collect(), more })
    }

    fn set_safe_mode(&self, _on: bool) -> Result<(), FsError> {
        Ok(())
    }

    fn set_worker_state(&self, _worker: u64, _state: WorkerState) -> Result<(), FsError> {
        Ok(())
    }

    fn expunge_trash(&self, _everyones: bool) -> Result<(), FsError> {
        Ok(())
    }

    fn set_quota(&self, _uri: &Uri, _names: Option<u64>, _space_bytes: Option<u64>) -> Result<(), FsError> {
        Ok(())
    }

    fn recover_lease(&self, _file: &Uri) -> Result<bool, FsError> {
        Ok(true)
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    fsck: Fsck,
}

/// What `fsck OPTIONS /` does with `act`: its output and its exit.
fn with(
    options: &[&str],
    json: bool,
    act: impl FnOnce(&Fsck, &mut Session) -> Result<(), Failure>,
) -> (Vec<String>, Exit) {
    let Line { fsck } = Line::try_parse_from([&["fsck"], options, &["/"]].concat()).unwrap();
    let out = RefCell::new(Vec::new());
    let exit = {
        let mut guard = out.borrow_mut();
        let mut streams = Streams {
            input: Box::new(std::io::empty()),
            out: Box::new(&mut *guard),
            err: Box::new(std::io::sink()),
            out_is_terminal: false,
            err_is_terminal: false,
        };
        let mut session = Session::new(&mut streams, None, json);
        act(&fsck, &mut session).unwrap();
        session.exit()
    };
    let text = String::from_utf8(out.into_inner()).unwrap();
    (text.lines().map(str::to_owned).collect(), exit)
}

fn problem(path: &str, block: u64, kind: Kind, replicas: u32, target: u32) -> Problem {
    Problem { path: path.to_owned(), block, kind: kind.into(), replicas, target, workers: Vec::new() }
}

fn page(problems: Vec<Problem>, last: &str) -> CheckReport {
    CheckReport { problems, last: last.to_owned(), files: 10, blocks: 20, bytes: 30 }
}

fn root() -> Uri {
    Uri::dfs("h:1", "/")
}

fn check(options: &[&str], json: bool, pages: Vec<CheckReport>) -> (Vec<String>, BTreeSet<String>) {
    let cluster = Scripted { pages: Mutex::new(pages), ..Scripted::default() };
    let mut broken = BTreeSet::new();
    let (lines, _) = with(options, json, |fsck, session| {
        let findings = fsck.check(session, &cluster, &root())?;
        fsck.show_findings(session, &root(), &findings)?;
        broken = findings.broken;
        Ok(())
    });
    (lines, broken)
}

#[test]
fn pages_are_followed_to_the_last_and_added_up() {
    let cluster = Scripted::default();
    *cluster.pages.lock().unwrap() =
        vec![page(Vec::new(), "/a"), page(Vec::new(), "/b"), page(Vec::new(), "")];
    let (lines, exit) = with(&[], false, |fsck, session| {
        let findings = fsck.check(session, &cluster, &root())?;
        fsck.show_findings(session, &root(), &findings)
    });
    assert_eq!(*cluster.asked.lock().unwrap(), ["", "/a", "/b"]);
    assert_eq!(lines[0], "dfs://h:1/ is HEALTHY");
    assert!(lines[1].starts_with("  30 files, 60 blocks, 90 bytes; 0 missing, "), "{}", lines[1]);
    assert_eq!(exit, Exit::Done);
}

#[test]
fn a_page_that_leads_nowhere_is_the_last() {
    let (lines, _) = check(&[], false, vec![page(Vec::new(), "/a"), page(Vec::new(), "/a")]);
    assert!(lines[1].starts_with("  20 files"), "{}", lines[1]);
}

#[test]
fn what_is_lost_makes_it_corrupt_and_what_is_thin_does_not() {
    let thin = vec![problem("/a", 7, Kind::UnderReplicated, 1, 3), problem("/b", 0, Kind::Open, 0, 0)];
    let (lines, broken) = check(&[], false, vec![page(thin.clone(), "")]);
    assert_eq!(lines[..2], ["/a: block-7 is under-replicated, 1 of 3 copies", "dfs://h:1/ is HEALTHY"]);
    assert!(
        lines[2].contains("1 under-replicated") && lines[2].ends_with("1 open file") && broken.is_empty()
    );
    let (lines, _) = check(&["--openforwrite"], false, vec![page(thin, "")]);
    assert_eq!(lines[1], "/b: it is being written");
    let mut lost = problem("/c\n", 8, Kind::Corrupt, 2, 2);
    lost.workers = vec!["worker-1".to_owned(), "worker-2".to_owned()];
    let (lines, broken) =
        check(&[], false, vec![page(vec![lost, problem("/d", 9, Kind::Missing, 0, 2)], "")]);
    assert!(lines.contains(&"/d: block-9 is missing, 0 of 2 copies".to_owned()));
    assert!(
        lines.iter().any(|line| line.ends_with("block-8 is corrupt, 2 of 2 copies (on worker-1, worker-2)"))
    );
    assert!(lines.iter().any(|line| line == "dfs://h:1/ is CORRUPT"));
    assert_eq!(broken.into_iter().collect::<Vec<_>>(), ["/c\n", "/d"]);
}

#[test]
fn lost_blocks_alone_are_listed_on_demand() {
    let problems = vec![problem("/a", 7, Kind::UnderReplicated, 1, 3), problem("/d", 9, Kind::Missing, 0, 2)];
    let (lines, _) = check(&["--list-corruptfileblocks"], false, vec![page(problems, "")]);
    assert_eq!(lines[0], "/d: block-9 is missing, 0 of 2 copies");
    assert_eq!(lines[1], "dfs://h:1/ is CORRUPT");
}

#[test]
fn programs_get_problems_and_a_verdict() {
    let (lines, _) = check(&[], true, vec![page(vec![problem("/d", 9, Kind::Missing, 0, 2)], "")]);
    let objects: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&objects[0]["problem"], &objects[0]["block"]), (&"missing".into(), &9.into()));
    assert_eq!((&objects[1]["healthy"], &objects[1]["missing"]), (&false.into(), &1.into()));
}

#[test]
fn blocks_are_shown_with_their_workers_over_all_pages() {
    let replica = Replica {
        worker: 3,
        address: "10.0.0.3:70".to_owned(),
        rack: "/r1".to_owned(),
        ..Replica::default()
    };
    let block = |number: u64| LocatedBlock {
        block: number,
        generation: 2,
        offset: (number - 1) * 100,
        bytes: 100,
        replicas: vec![replica.clone()],
        ..LocatedBlock::default()
    };
    let cluster = Scripted { blocks: (1..=5).map(block).collect(), ..Scripted::default() };
    let blocks = all_blocks(&cluster, &root()).unwrap();
    assert_eq!(blocks.iter().map(|block| block.block).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let home = Uri::parse("memory://fsck/f").unwrap();
    let fs = home.file_system().unwrap();
    fs.create(&home, &gristmill_dfs::file_system::CreateOptions::default()).unwrap().finish().unwrap();
    let target = Target { status: fs.stat(&home).unwrap(), fs };
    let (lines, _) = with(&["--racks"], false, |fsck, session| fsck.show_files(session, &cluster, &target));
    assert_eq!(lines[0], "memory://fsck/f: 0 bytes, 5 blocks");
    assert_eq!(lines[5], "  block-5 g2 100 bytes, 1 copies worker-3@10.0.0.3:70/r1");
    let (lines, _) = with(&["--files"], false, |fsck, session| fsck.show_files(session, &cluster, &target));
    assert_eq!(lines.len(), 1);
    let (lines, _) = with(&["--blocks"], false, |fsck, session| fsck.show_files(session, &cluster, &target));
    assert_eq!(lines[1], "  block-1 g2 100 bytes, 1 copies");
}

#[test]
fn what_is_beyond_repair_is_moved_or_deleted_on_demand_only() {
    let home = Uri::parse("memory://salvage/").unwrap();
    let fs = home.file_system().unwrap();
    let create = |name: &str| {
        fs.create(&home.join(name), &gristmill_dfs::file_system::CreateOptions::default())
            .unwrap()
            .finish()
            .unwrap();
    };
    ["d/moved", "d/deleted", "d/kept"].iter().for_each(|name| create(name));
    let target = Target { status: fs.stat(&home).unwrap(), fs: fs.clone() };
    let broken = |path: &str| Findings { broken: BTreeSet::from([path.to_owned()]), ..Findings::default() };
    for (options, path) in
        [(&["--move"] as &[&str], "/d/moved"), (&["--delete"], "/d/deleted"), (&[], "/d/kept")]
    {
        let (_, exit) =
            with(options, false, |fsck, session| fsck.settle(session, &*fs, &target, &broken(path)));
        assert_eq!(exit, Exit::Done);
    }
    let there = |path: &str| fs.stat(&home.join(path)).is_ok();
    assert!(there("lost+found/d/moved") && there("d/kept") && !there("d/moved") && !there("d/deleted"));
    let (_, exit) =
        with(&["--delete"], false, |fsck, session| fsck.settle(session, &*fs, &target, &broken("/none")));
    assert_eq!(exit, Exit::Failed);
}
