//! One input at a target, with what it allocates counted. A part of the test and of the libFuzzer driver, because
//! their library forbids unsafe code.
#![expect(unsafe_code, reason = "an allocator cannot be written without it; this one only counts")]

use gristmill_fuzz::Target;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes allocated by this thread; those that another one frees are never subtracted.
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

struct Metered;

#[global_allocator]
static GLOBAL: Metered = Metered;

fn count(bytes: isize) {
    let live = LIVE_BYTES.get() + bytes;
    LIVE_BYTES.set(live);
    PEAK_BYTES.set(PEAK_BYTES.get().max(live));
}

// SAFETY: every call is the system allocator's. What is counted has no destructor and allocates nothing.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes as isize - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// Runs one input and holds the target to the memory that it may take for it.
pub(crate) fn run(target: &Target, input: &[u8]) {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    (target.run)(input);
    let peak = (PEAK_BYTES.get() - before) as usize;
    let limit = target.memory_bytes_max(input);
    assert!(peak <= limit, "{}: {peak} bytes of memory for {} of input", target.name, input.len());
}
