//! Mistakes that the compiler finds, and what it says: an author reads these sentences before any of ours.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
