//! The derive of `Datum` goes through serde, so serde's derives have to be there.

use gristmill::Datum;

#[derive(Datum)]
struct Visit {
    seconds: u64,
}

fn main() {
    let _ = Visit { seconds: 1 }.seconds;
}
