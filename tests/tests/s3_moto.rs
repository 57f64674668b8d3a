//! The same against moto's S3 server, which was written by others.

use std::fs;

use gristmill_tests::{Home, Moto, Output, Program, corpus, noise};

#[test]
fn a_server_of_strangers_sees_the_same_s3() {
    let moto = match Moto::start() {
        Ok(moto) => moto,
        Err(why) => {
            eprintln!("LEFT OUT: nothing was tried against moto, which cannot be started here: {why}");
            return;
        }
    };
    let home = Home::new();
    let said = |args: &[&str]| moto.fs().args(args).run().succeeded().stdout;
    said(&["mkdir", "s3://strangers"]);
    // Bytes: an empty object, one of one part, one of three, and a name that URLs must escape.
    for (name, bytes) in [("empty", 0), ("one ü+%", 1000), ("three", 20_000_000)] {
        let file = home.write(name, noise(bytes, bytes as u64));
        let object = format!("s3://strangers/{name}");
        said(&["put", &file, &object]);
        let back = home.uri("back");
        said(&["get", &object, &back]);
        assert!(fs::read(&file).expect("put") == fs::read(&back).expect("got"), "{name}");
        fs::remove_file(back).expect("it is there");
    }
    // A commit: many uploads, of which moto knows nothing else than S3 does.
    let text = home.write("text", corpus(3 << 20, 5));
    said(&["put", &text, "s3://strangers/text"]);
    let job = |input: &str, output: &str| {
        let job = Program::word_count().args(["--input", input, "--output", output, "--reducers", "4"]);
        moto.reached_by(job).args(["--split-size", "1MiB"])
    };
    job(&text, &home.uri("local")).run().succeeded();
    job("s3://strangers/text", "s3://strangers/out").run().succeeded();
    said(&["get", "s3://strangers/out", &home.uri("got")]);
    assert_eq!(
        Output::read(home.path("got")).sorted_lines(),
        Output::read(home.path("local")).sorted_lines()
    );
    let again = job("s3://strangers/text", "s3://strangers/out").run();
    assert!(again.stderr.contains("exists"), "{}", again.stderr);
    assert_eq!(said(&["uploads", "s3://strangers"]), "", "nothing is left open");
}
