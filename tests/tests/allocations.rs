//! Counting words takes no allocation for a record or a word: four times the lines, the same number of allocations.

use gristmill::{Dataset, Emit, Keyed, Lines, Plan, TextOutput, run_local, words};
use gristmill_tests::{Dice, Home, Output};

mod counting {
    #![expect(unsafe_code, reason = "an allocator cannot be written without it; this one only counts")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicU64, Ordering};

    static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

    struct Counting;

    #[global_allocator]
    static GLOBAL: Counting = Counting;

    // SAFETY: every call is the system allocator's.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller's promise is passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller's promise is passed on.
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller's promise is passed on.
            unsafe { System.realloc(pointer, layout, bytes) }
        }
    }

    /// Allocations while `f` runs, of all threads.
    pub(crate) fn during(f: impl FnOnce()) -> u64 {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        f();
        ALLOCATIONS.load(Ordering::Relaxed) - before
    }
}

/// A job on lines.
type Job = fn(Dataset<Vec<u8>>) -> Keyed<Vec<u8>, u64>;

/// The map and reduce of `word_count`.
fn count_words(lines: Dataset<Vec<u8>>) -> Keyed<Vec<u8>, u64> {
    lines
        .map(|line, out: &mut Emit<Vec<u8>, u64>| words(line).for_each(|word| out.emit(word, 1)))
        .combine(|sum, n| *sum += n)
        .reduce(|word, counts, out| out.emit(word, counts.sum()))
}

/// The same, but each line is copied.
fn count_words_of_copies(lines: Dataset<Vec<u8>>) -> Keyed<Vec<u8>, u64> {
    lines
        .map(|line, out: &mut Emit<Vec<u8>, u64>| {
            words(&Box::<[u8]>::from(line)).for_each(|word| out.emit(word, 1))
        })
        .combine(|sum, n| *sum += n)
        .reduce(|word, counts, out| out.emit(word, counts.sum()))
}

/// Lines of ten words out of a thousand; all thousand come up early.
fn text(lines: usize) -> String {
    let mut dice = Dice::new(1);
    let mut line = || (0..10).map(|_| format!("word{:03} ", dice.below(1_000))).collect::<String>() + "\n";
    (0..lines).map(|_| line()).collect()
}

/// How many allocations it takes to run `job` on `lines` lines with one thread.
fn allocations(lines: usize, job: Job) -> u64 {
    let home = Home::new();
    let input = home.write("in", text(lines));
    let mut options = home.options();
    (options.threads, options.split_bytes) = (1, Some(1 << 30));
    let counted = counting::during(|| {
        let done = run_local(&options, |plan: &mut Plan| {
            job(plan.read(Lines::at(&input))).write(TextOutput::at(home.uri("out")));
        });
        assert_eq!(done.expect("the job is done").stages[0].records_in, lines as u64);
    });
    let output = Output::read(home.path("out"));
    let words: u64 = output.counts().concat().into_iter().map(|(_, count)| count).sum();
    assert_eq!(words, 10 * lines as u64);
    counted
}

/// One test, because it counts what all threads of the process allocate.
#[test]
fn four_times_the_lines_take_the_same_number_of_allocations() {
    const LINES: usize = 50_000;
    // The first run allocates what stays.
    allocations(LINES, count_words);
    let (once, four_times) = (allocations(LINES, count_words), allocations(4 * LINES, count_words));
    // 150,000 lines and 1,500,000 words more. Some buffers grow a few times more with a larger file.
    assert!(four_times.abs_diff(once) < 200, "{once} allocations, and {four_times} for four times the lines");
    // An allocation a line would have been seen.
    let (once, four_times) =
        (allocations(LINES, count_words_of_copies), allocations(4 * LINES, count_words_of_copies));
    assert!(four_times - once >= 3 * LINES as u64, "{once} and {four_times}");
}
