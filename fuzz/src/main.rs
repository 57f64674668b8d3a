//! The driver of libFuzzer for all targets; the environment says which one. `fuzz/run` starts it.
#![no_main]

#[path = "../metered.rs"]
mod metered;

use gristmill_fuzz::{TARGETS, Target};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::LazyLock;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("GRISTMILL_FUZZ_TARGET").expect("GRISTMILL_FUZZ_TARGET names a target");
    TARGETS.iter().find(|target| target.name == name).expect("GRISTMILL_FUZZ_TARGET names a target")
});

fuzz_target!(|input: &[u8]| -> Corpus {
    if input.len() > TARGET.input_bytes_max {
        return Corpus::Reject;
    }
    metered::run(&TARGET, input);
    Corpus::Keep
});
