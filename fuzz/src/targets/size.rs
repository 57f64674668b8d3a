//! Sizes in bytes as people write them.

use super::Target;
use gristmill::fuzzing::ByteSize;

pub(super) const TARGET: Target =
    Target { name: "size", input_bytes_max: 64, memory_bytes: 4 << 10, memory_bytes_per_byte: 20, run };

fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match text.parse::<ByteSize>() {
        Err(error) => assert!(error.to_string().contains("64MiB"), "it shows how: {error}"),
        Ok(size) => {
            assert_eq!(size.0.to_string().parse(), Ok(size), "{text}");
            // What is shown has one digit behind the point: a twentieth of the unit is lost, at most.
            let shown: ByteSize = size.to_string().parse().expect("what is shown is read");
            assert!(shown.0.abs_diff(size.0) <= size.0 / 20 + 1, "{text} is shown as {size}");
        }
    }
}
