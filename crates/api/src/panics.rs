//! Catches panics of author's functions, with their text and place.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `f`; if it panics, returns the panic's text and place instead of printing them.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        // A program that aborts on panic never comes back from here: then the text is for its stderr.
        let caught = || CATCHING.get() && cfg!(panic = "unwind");
        set_hook(Box::new(move |info| if caught() { keep(info) } else { print(info) }));
    });
    let outer = CATCHING.replace(true);
    // What `f` leaves half done is the attempt, which is thrown away.
    let result = catch_unwind(AssertUnwindSafe(f));
    CATCHING.set(outer);
    result.map_err(|payload| CAUGHT.take().unwrap_or_else(|| text(&*payload).to_owned()))
}

fn keep(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or(String::new(), |place| format!(", at {place}"));
    CAUGHT.set(Some(format!("{}{place}", text(info.payload()))));
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without text")
}
