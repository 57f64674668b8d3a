//! Checksums that come after the body, as today's clients of AWS send them.

mod server;

use server::{Client, Running};

const UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// CRC-32C of `hello`.
const SUM: &str = "mnG7TA==";

/// Puts a body of these bytes, which says that it holds `hello`.
fn put(client: &Client, body: &str) -> server::raw::Answer {
    let length = body.len().to_string();
    let headers = [
        ("content-length", length.as_str()),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32c"),
    ];
    let signed = client.sign("PUT", "/trailers/object", &headers, UNSIGNED_TRAILER);
    client.exchange(signed.head.as_bytes(), body.as_bytes(), false)
}

fn trailed(chunks: &str, sum: &str) -> String {
    format!("{chunks}0\r\nx-amz-checksum-crc32c:{sum}\r\n\r\n")
}

#[test]
fn a_sum_that_comes_last_is_verified_and_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), "trailers");
    let client = running.client();
    for chunks in ["5\r\nhello\r\n", "2\r\nhe\r\n3\r\nllo\r\n"] {
        put(&client, &trailed(chunks, SUM)).ok();
        let got = client.send("GET", "/trailers/object", &[("x-amz-checksum-mode", "ENABLED")], b"").ok();
        assert_eq!((got.text().as_str(), got.header("x-amz-checksum-crc32c")), ("hello", SUM));
        client.delete("/trailers/object").ok();
    }
}

#[test]
fn a_body_whose_sum_is_wrong_or_missing_is_no_object() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), "trailers");
    let client = running.client();
    for body in [
        // Another body than was summed; another sum; none; and a body that lacks its end.
        trailed("5\r\nhallo\r\n", SUM),
        trailed("5\r\nhello\r\n", "AAAAAA=="),
        "5\r\nhello\r\n0\r\n\r\n".to_owned(),
        trailed("2\r\nhe\r\n", SUM),
    ] {
        let answer = put(&client, &body);
        assert!((400..500).contains(&answer.status), "{body:?}: {} {}", answer.status, answer.text());
        client.get("/trailers/object").refused(404, "NoSuchKey");
    }
}
