//! Outputs on an S3 server that fails in every way S3 does, between real clients and the server, over HTTP. The long form is
//! `campaign commits`.

use gristmill_tests::{Program, S3, UnreliableS3, commit_on_unreliable_s3};

/// Every ending (4) with every point of a kill, and with none (7).
const JOBS: u64 = 28;

#[test]
fn whatever_fails_on_the_way_the_output_appears_once_and_whole_or_not_at_all() {
    let tally = commit_on_unreliable_s3(1, 0, JOBS);
    println!("{tally}");
    assert_eq!(tally.missing(1), Vec::<String>::new(), "what never happened proves nothing: {tally}");
    assert_eq!(tally.committed + tally.aborted, JOBS);
}

#[test]
fn an_endpoint_that_ignores_conditions_is_refused_before_anything_is_written() {
    let server = S3::start();
    let way = UnreliableS3::before(server.address());
    let text = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&text, "some words\n").expect("a text");
    let count = |output: &str| {
        let program = server.with_keys(Program::word_count());
        let program = program.env("AWS_ENDPOINT_URL", format!("http://{}", way.address()));
        program.arg("--input").arg(text.path()).args(["--output", &server.uri(output)]).run()
    };
    count("honest").succeeded();
    let (variables, hidden) = (server.variables(), format!("s3://{}/", S3::BUCKET));
    way.ignore_conditions(S3::BUCKET, move |path| {
        // It overwrites what is there, as such endpoints do.
        let uri = format!("s3:/{path}");
        let program =
            variables.iter().fold(Program::gristmill(), |program, (name, value)| program.env(name, value));
        let removed = program.args(["fs", "-rm", "-f", &uri]).run();
        assert!(removed.status.success(), "{}", removed.stderr);
    });
    let refused = count("refused").sentence();
    assert!(refused.contains("ignores If-None-Match"), "{refused}");
    let left = server.find("");
    assert!(!left.iter().any(|name| name.contains("refused")), "{hidden} has {left:?}");
}
