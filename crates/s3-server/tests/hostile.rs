//! Requests that nobody honest sends.

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;

use server::raw::hex;
use server::{ACCESS_KEY, Client, Running};
use sha2::{Digest, Sha256};

const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

fn running() -> (tempfile::TempDir, Running, Client) {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), "hostile");
    let client = running.client();
    client.put("/hostile/there", b"secret").ok();
    (dir, running, client)
}

#[test]
fn nobody_comes_in_without_the_key() {
    let (_dir, running, client) = running();
    let stranger = Client::new(running.address, "stranger", "the-secret-of-the-tests");
    stranger.get("/hostile/there").refused(403, "InvalidAccessKeyId");
    let guesser = Client::new(running.address, ACCESS_KEY, "not-the-secret-of-the-tests");
    guesser.get("/hostile/there").refused(403, "SignatureDoesNotMatch");
    guesser.put("/hostile/there", b"mine").refused(403, "SignatureDoesNotMatch");
    let unsigned = |request: &str| client.exchange(request.as_bytes(), b"", false);
    let host = running.address;
    unsigned(&format!("GET /hostile/there HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
        .refused(403, "AccessDenied");
    unsigned(&format!("DELETE /hostile/there HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
        .refused(403, "AccessDenied");
    assert_eq!(client.get("/hostile/there").ok().text(), "secret");
}

#[test]
fn what_was_signed_cannot_be_changed() {
    let (_dir, _running, client) = running();
    let empty = hex(&Sha256::digest(b""));
    let signed = client.sign("GET", "/hostile/none", &[], &empty);
    let changed = signed.head.replace("/hostile/none", "/hostile/there");
    client.exchange(changed.as_bytes(), b"", false).refused(403, "SignatureDoesNotMatch");
    let old = signed.head.replace(&signed.date, "20200101T000000Z").replace(&signed.date[..8], "20200101");
    client.exchange(old.as_bytes(), b"", false).refused(403, "RequestTimeTooSkewed");
    // Another body than the one that was signed.
    let length = [("content-length", "4")];
    let signed = client.sign("PUT", "/hostile/body", &length, &hex(&Sha256::digest(b"good")));
    client.exchange(signed.head.as_bytes(), b"evil", false).refused(400, "BadDigest");
    client.get("/hostile/body").refused(404, "NoSuchKey");
}

#[test]
fn signed_chunks_are_checked_one_by_one() {
    let (_dir, _running, client) = running();
    let chunks: [&[u8]; 2] = [&[b'a'; 9000], b"end"];
    let send = |change: &dyn Fn(&mut Vec<u8>), decoded: usize| {
        let lengths = |body: &[u8]| (body.len().to_string(), decoded.to_string());
        let target = "/hostile/chunked";
        // The length of the body does not depend on its signatures.
        let draft = client.sign("PUT", target, &[], STREAMING);
        let mut body = client.chunked(&draft, &chunks);
        change(&mut body);
        let (length, decoded) = lengths(&body);
        let headers = [("content-length", length.as_str()), ("x-amz-decoded-content-length", &decoded)];
        let signed = client.sign("PUT", target, &headers, STREAMING);
        let mut body = client.chunked(&signed, &chunks);
        change(&mut body);
        client.exchange(signed.head.as_bytes(), &body, false)
    };
    send(&|_| {}, 9003).ok();
    assert_eq!(client.get("/hostile/chunked").ok().body, chunks.concat());
    client.delete("/hostile/chunked").ok();

    let last_data = |body: &mut Vec<u8>| {
        let at = body.windows(5).rposition(|five| five == b"end\r\n").unwrap();
        body[at] = b'E';
    };
    send(&last_data, 9003).refused(403, "SignatureDoesNotMatch");
    let first_signature = |body: &mut Vec<u8>| {
        let at = body.windows(10).position(|ten| ten == b"signature=").unwrap() + 10;
        body[at] = if body[at] == b'0' { b'1' } else { b'0' };
    };
    send(&first_signature, 9003).refused(403, "SignatureDoesNotMatch");
    // The last chunks cut off, at a border and within one.
    let after_first = |body: &mut Vec<u8>| {
        let at = body.windows(5).rposition(|five| five == b"end\r\n").unwrap();
        let head = body[..at - 2].iter().rposition(|byte| *byte == b'\n').unwrap();
        body.truncate(head + 1);
    };
    send(&after_first, 9003).refused(400, "IncompleteBody");
    send(&|body| body.truncate(4000), 9003).refused(400, "IncompleteBody");
    // Another length than was said.
    send(&|_| {}, 9002).refused(400, "IncompleteBody");
    send(&|_| {}, 9004).refused(400, "IncompleteBody");
    send(&|body| *body = b"no chunks".to_vec(), 9).refused(400, "IncompleteBody");
    client.get("/hostile/chunked").refused(404, "NoSuchKey");
}

#[test]
fn huge_headers_and_bodies_are_refused_before_they_are_held() {
    let (_dir, running, client) = running();
    let host = running.address;
    let long = "x".repeat(64 * 1024);
    let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-long: {long}\r\nconnection: close\r\n\r\n");
    assert_eq!(client.exchange(head.as_bytes(), b"", false).status, 431);
    let many: String = (0..500).map(|at| format!("x-{at}: 1\r\n")).collect();
    let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{many}connection: close\r\n\r\n");
    assert_eq!(client.exchange(head.as_bytes(), b"", false).status, 431);
    // Five GiB and a byte are announced; none needs to come.
    let length = [("content-length", "5368709121")];
    let signed = client.sign("PUT", "/hostile/huge", &length, "UNSIGNED-PAYLOAD");
    client.exchange(signed.head.as_bytes(), b"", false).refused(400, "EntityTooLarge");
    let xml = "x".repeat(9 << 20);
    let refused = client.send("POST", "/hostile?delete", &[], xml.as_bytes());
    refused.refused(400, "MaxMessageLengthExceeded");
    assert_eq!(client.get("/hostile/there").ok().text(), "secret");
}

#[test]
fn nonsense_is_answered_and_breaks_nothing() {
    let (_dir, running, client) = running();
    let nonsense = [
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /%ff%fe HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /hostile/k?a=%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "PUT /hostile/k HTTP/1.1\r\nhost: x\r\nauthorization: AWS4-HMAC-SHA256 \r\nconnection: close\r\n\r\n",
        "PUT /hostile/k HTTP/1.1\r\nhost: x\r\nauthorization: AWS a:b\r\nconnection: close\r\n\r\n",
        "PUT /hostile/k HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST /hostile HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 3\r\n\
         connection: close\r\n\r\n--b",
    ];
    for request in nonsense {
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501"),
            "{request:?}: {answer}"
        );
    }
    for xml in ["", "<", "<Delete>", "<Delete></Delete>", "<Delete><Object/></Delete>", "<a>&b;</a>"] {
        let answer = client.send("POST", "/hostile?delete", &[], xml.as_bytes());
        assert!((400..500).contains(&answer.status), "{xml:?}: {}", answer.text());
    }
    assert_eq!(client.get("/hostile/there").ok().text(), "secret");
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let (dir, running, client) = running();
    for sent in [0, 10, 3 << 20] {
        let body = vec![b'x'; 4 << 20];
        let length = body.len().to_string();
        let signed = client.sign("PUT", "/hostile/half", &[("content-length", &length)], "UNSIGNED-PAYLOAD");
        let mut stream = TcpStream::connect(running.address).unwrap();
        stream.write_all(signed.head.as_bytes()).unwrap();
        stream.write_all(&body[..sent]).unwrap();
        drop(stream);
    }
    client.get("/hostile/half").refused(404, "NoSuchKey");
    drop(running);
    assert_eq!(std::fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
}
