//! A cluster by its URI does what any file system does.

mod fakes;

use std::io::Write;

use fakes::{FakeCluster, content};
use gristmill_dfs::file_system::{Cause, CreateOptions, DeleteOptions, FileSystem, FsError, Kind, expand};
use gristmill_dfs::{OpenError, Uri};

fn write(fs: &dyn FileSystem, uri: &Uri, bytes: &[u8]) {
    let mut writer = fs.create(uri, &CreateOptions::default()).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap();
}

fn cause<T>(result: Result<T, FsError>) -> Cause {
    result.err().expect("it should have failed").cause
}

#[test]
fn files_are_written_read_listed_moved_and_deleted_by_their_uris() {
    let cluster = FakeCluster::start(2);
    let home = Uri::dfs(&cluster.master.address(), "/home");
    let fs = home.file_system().unwrap();
    fs.make_directory(&home, true).unwrap();
    let bytes = content(5_000_000);
    write(&*fs, &home.join("a b"), &bytes);
    write(&*fs, &home.join("d/part-0"), b"0");
    let status = fs.stat(&home.join("a b")).unwrap();
    assert_eq!((status.kind, status.bytes, status.under_construction), (Kind::File, 5_000_000, false));
    let listed: Vec<Uri> = fs.list(&home).unwrap().map(|entry| entry.unwrap().uri).collect();
    assert_eq!(listed, [home.join("a b"), home.join("d")]);
    let found = expand(&*fs, &home.join("*/part-?")).unwrap();
    assert_eq!(found[0].uri, home.join("d/part-0"));
    fs.rename(&home.join("a b"), &home.join("d/moved"), false).unwrap();
    assert!(matches!(
        cause(fs.rename(&home.join("d/moved"), &home.join("d/part-0"), false)),
        Cause::AlreadyExists
    ));
    let file = home.join("d/moved").store().unwrap().open(&home.join("d/moved")).unwrap();
    let mut read = vec![0; bytes.len() + 1];
    assert_eq!(file.read_at(&mut read, 0).unwrap(), bytes.len());
    assert!(read[..bytes.len()] == bytes);
    fs.delete(&home, DeleteOptions { recursive: true, skip_trash: true }).unwrap();
    assert!(matches!(cause(fs.stat(&home)), Cause::NotFound));
    assert!(matches!(cause(fs.delete(&home, DeleteOptions::default())), Cause::NotFound));
}

#[test]
fn reads_here_and_there_and_reads_in_order_give_the_same_bytes() {
    let cluster = FakeCluster::start(1);
    let uri = Uri::dfs(&cluster.master.address(), "/f");
    let fs = uri.file_system().unwrap();
    let bytes = content(9_000_000);
    write(&*fs, &uri, &bytes);
    let file = fs.open(&uri).unwrap();
    let mut piece = vec![0; 300_000];
    let mut offset = 0;
    loop {
        let count = file.read_at(&mut piece, offset).unwrap();
        if count == 0 {
            break;
        }
        let at = offset as usize;
        assert!(piece[..count] == bytes[at..at + count], "at {offset}");
        offset += count as u64;
        // Somebody looks elsewhere in between.
        if offset % 900_000 == 0 {
            assert_eq!(file.read_at(&mut piece[..7], 77).unwrap(), 7);
            assert_eq!(piece[..7], bytes[77..84]);
        }
    }
    assert_eq!(offset, bytes.len() as u64);
}

#[test]
fn failures_name_the_thing_by_its_uri() {
    let cluster = FakeCluster::start(1);
    let uri = Uri::dfs(&cluster.master.address(), "/none");
    let fs = uri.file_system().unwrap();
    let said = fs.stat(&uri).unwrap_err().to_string();
    assert_eq!(said, format!("cannot look at {uri}: no such file or directory"));
    assert!(matches!(uri.store().unwrap().open(&uri), Err(OpenError::Open { .. })));
    fs.make_directory(&uri, false).unwrap();
    assert!(matches!(cause(fs.open(&uri).map(drop)), Cause::IsADirectory));
    let no_text = uri.join(std::os::unix::ffi::OsStrExt::from_bytes(b"\xff") as &std::ffi::OsStr);
    assert!(matches!(cause(fs.stat(&no_text)), Cause::InvalidName(_)));
}

#[test]
fn a_secret_that_cannot_be_read_is_said() {
    let secret_file = Some("/nonexistent/secret".into());
    let access = gristmill_dfs::file_system::Access {
        master: None,
        secret_file,
        user: "ann".to_owned(),
        identity: None,
    };
    let uri = Uri::parse("dfs://127.0.0.1:9/x").unwrap();
    let said = access.file_system(&uri).unwrap().stat(&uri).unwrap_err().to_string();
    let expected = format!(
        "cannot look at {uri}: cannot read the secret file /nonexistent/secret: No such file or directory (os error 2)"
    );
    assert_eq!(said, expected);
}
