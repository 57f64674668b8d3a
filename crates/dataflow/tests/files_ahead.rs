//! Files that are opened before they are wanted: in which order, how many, and what becomes of one that is gone.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use gristmill_dataflow::memory::TaskMemory;
use gristmill_dataflow::read::{FILES_AHEAD_MAX, FilesAhead, LineReader, ReadError};
use gristmill_dataflow::split::FileRange;
use gristmill_dfs::{OPENING_BYTES_MAX, OpenError, Opening, ReadAt, Stamp, Uri};

const LARGE: TaskMemory = TaskMemory { bytes: 1 << 30 };

/// A file that holds its own name.
struct Named(Vec<u8>);

impl ReadAt for Named {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = &self.0[offset as usize..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

struct Request {
    uri: Uri,
    /// Those that were begun and neither finished nor given up.
    open: Arc<Mutex<usize>>,
}

impl Opening for Request {
    fn finish(self: Box<Self>) -> Result<Box<dyn ReadAt>, OpenError> {
        let (uri, text) = (self.uri.clone(), self.uri.to_string());
        if text.contains("gone") {
            return Err(OpenError::Open { uri, source: io::ErrorKind::NotFound.into() });
        }
        Ok(Box::new(Named(text.into_bytes())))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        *self.open.lock().expect("nobody panicked") -= 1;
    }
}

/// A store in which opening is a request.
#[derive(Clone, Default)]
struct Store {
    begun: Rc<RefCell<Vec<String>>>,
    open: Arc<Mutex<usize>>,
}

impl Store {
    fn files<'r>(&self, ranges: &'r [FileRange], memory: TaskMemory) -> FilesAhead<'r> {
        let store = self.clone();
        let begin = move |range: &FileRange| {
            store.begun.borrow_mut().push(range.uri.to_string());
            *store.open.lock().expect("nobody panicked") += 1;
            let request = Request { uri: range.uri.clone(), open: store.open.clone() };
            Some(Box::new(request) as Box<dyn Opening>)
        };
        FilesAhead::begun_by(ranges, memory, Box::new(begin))
    }

    fn open(&self) -> usize {
        *self.open.lock().expect("nobody panicked")
    }
}

fn ranges(count: usize, file_bytes: u64) -> Vec<FileRange> {
    let range = |number| {
        let uri = Uri::parse(&format!("/files/{number}")).expect("a path");
        FileRange { uri, start: 0, end: file_bytes, file_bytes, stamp: Stamp::UNKNOWN }
    };
    (0..count).map(range).collect()
}

#[test]
fn files_come_in_the_order_of_their_pieces_and_are_opened_in_it() {
    let (store, ranges) = (Store::default(), ranges(200, 10));
    let mut came = Vec::new();
    for (range, file) in store.files(&ranges, LARGE) {
        let (mut name, file) = (vec![0; 64], file.expect("it is there"));
        let bytes = file.read_at(&mut name, 0).expect("in memory");
        assert_eq!(range.uri.to_string().as_bytes(), &name[..bytes], "each piece has its own file");
        came.push(range.uri.to_string());
    }
    let wanted: Vec<String> = ranges.iter().map(|range| range.uri.to_string()).collect();
    assert_eq!((&came, &*store.begun.borrow()), (&wanted, &wanted));
}

#[test]
fn so_many_are_under_way_and_no_more() {
    const AT_ONCE: usize = FILES_AHEAD_MAX / 2;
    let (store, ranges) = (Store::default(), ranges(200, 10));
    let mut files = store.files(&ranges, LARGE);
    assert_eq!(store.open(), 0, "nothing is asked for before somebody reads");
    let mut open_before = 0;
    for read in 1..=200_usize {
        files.next().expect("200 files").1.expect("it is there");
        let (open, begun) = (store.open(), store.begun.borrow().len());
        // One is finished by each read. Where no other was begun, enough are under way.
        let wanted = if open >= open_before { FILES_AHEAD_MAX.min(200 - read) } else { open_before - 1 };
        assert_eq!(open, wanted, "after {read} files");
        assert!(open >= AT_ONCE.min(200 - read), "{open} after {read} files");
        assert!(begun == 200 || (begun - 1) % AT_ONCE == 0, "they are begun together, not {begun}");
        open_before = open;
    }
    assert!(files.next().is_none());
}

#[test]
fn what_is_under_way_fits_in_the_memory_of_the_task() {
    // A task of 8 MiB has 1 MiB for them: four beginnings of large files.
    let (store, ranges) = (Store::default(), ranges(20, 1 << 30));
    let memory = TaskMemory { bytes: 8 << 20 };
    let held_max = (memory.ahead_bytes() as u64 / OPENING_BYTES_MAX) as usize;
    assert_eq!(held_max, 4);
    let mut files = store.files(&ranges, memory);
    for read in 1..=20_usize {
        files.next().expect("20 files").1.expect("it is there");
        assert!(store.open() < held_max, "{} after {read} files", store.open());
    }
    // Where not even one has room, they come one after the other.
    let store = Store::default();
    let alone = store.files(&ranges, TaskMemory { bytes: 1 << 20 }).inspect(|_| assert_eq!(store.open(), 0));
    assert_eq!(alone.count(), 20);
}

#[test]
fn one_that_is_gone_is_an_error_of_its_own_turn_that_names_it() {
    let (store, mut ranges) = (Store::default(), ranges(3, 8));
    ranges[1].uri = Uri::parse("/files/gone").expect("a path");
    let came: Vec<_> = store.files(&ranges, LARGE).map(|(_, file)| file.map(drop)).collect();
    assert!(came[0].is_ok() && came[2].is_ok());
    let error = came[1].as_ref().expect_err("it is gone");
    assert!(matches!(error, ReadError::Open(_)) && error.to_string().contains("/files/gone"), "{error}");
}

#[test]
fn one_that_has_another_length_than_was_listed_is_refused_by_its_name() {
    // The file holds its name, which has eight bytes.
    let (store, ranges) = (Store::default(), ranges(1, 9));
    let (range, file) = store.files(&ranges, LARGE).next().expect("a file");
    let error = LineReader::over(file.expect("it opens"), range, LARGE).err().expect("it changed");
    assert!(
        matches!(&error, ReadError::Changed { uri, listed_bytes: 9, found_bytes: 8 } if *uri == range.uri),
        "{error}"
    );
}

#[test]
fn a_reader_that_stops_gives_up_what_is_under_way() {
    let (store, ranges) = (Store::default(), ranges(200, 10));
    let mut files = store.files(&ranges, LARGE);
    files.next().expect("200 files").1.expect("it is there");
    drop(files);
    assert_eq!(store.open(), 0);
}
