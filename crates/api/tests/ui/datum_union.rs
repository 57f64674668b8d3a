//! A union does not say which field it holds.

use gristmill::Datum;

#[derive(Datum)]
union Bits {
    number: u32,
    float: f32,
}

fn main() {}
