//! What the HTTP port shows, and what it does not take.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::process::Master;
use crate::user::{User, map_only};

/// Sends some bytes and reads until the other side closes.
fn exchange(master: &Master, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(master.http_address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // A master that refuses a long request may close before it has read all of it.
    if let Err(error) = stream.write_all(request) {
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8(answer).unwrap()
}

fn get(master: &Master, path: &str, header: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: master\r\nConnection: close\r\n{header}\r\n");
    exchange(master, request.as_bytes())
}

fn json(answer: &str) -> serde_json::Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn pages_show_the_cluster_its_jobs_and_its_numbers() {
    let master = Master::start();
    let (job, spec) = map_only(&master.dir.path().join("out"));
    User::of(&master).await.submit(&spec).await.unwrap();

    let status = json(&get(&master, "/status", ""));
    assert_eq!((status["workers"].as_array().unwrap().len(), &status["epoch"]), (0, &1.into()));
    let jobs = json(&get(&master, "/jobs", ""));
    assert_eq!(jobs["jobs"][0]["job"], job.to_string());
    let one = json(&get(&master, &format!("/jobs/{job}"), ""));
    assert_eq!((&one["name"], &one["stages"][0]["tasks"]), (&"word count".into(), &1.into()));
    let metrics = get(&master, "/metrics", "");
    assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\ngristmill_jobs_submitted_total 1\n"), "{metrics}");
    for nowhere in
        ["/", "/jobs/", "/jobs/nobody", "/jobs/00000000-0000-4000-8000-000000000000", "/../etc/passwd"]
    {
        let answer = get(&master, nowhere, "");
        assert!(answer.starts_with("HTTP/1.1 404"), "{nowhere}: {answer}");
    }
}

#[test]
fn nonsense_is_refused_and_the_pages_stay() {
    let master = Master::start();
    let long_head = format!("GET /status HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(64 << 10));
    let many_lines = format!("GET /status HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200));
    for nonsense in [
        "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n",
        "GET\r\n\r\n",
        "GET /status HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &long_head,
        &many_lines,
    ] {
        let answer = exchange(&master, nonsense.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let posted = "POST /jobs HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let answer = exchange(&master, posted.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let slow = exchange(&master, b"GET /status HTTP/1.1\r\nHost:");
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408"), "half a head ends by itself: {slow}");
    json(&get(&master, "/status", ""));
}

#[test]
fn with_a_secret_pages_are_for_who_shows_the_token() {
    let master = Master::start_with_secret();
    let token = std::fs::read_to_string(master.data_dir().join("http-token")).unwrap();
    let right = format!("Authorization: Bearer {token}").replace('\n', "\r\n");
    json(&get(&master, "/status", &right));
    for wrong in [
        "".to_owned(),
        "Authorization: Bearer 00\r\n".to_owned(),
        right.replace("Bearer ", "Basic "),
        right.replace("Bearer ", "Bearer 0"),
        right.replace("Authorization", "X-Authorization"),
    ] {
        for path in ["/status", "/metrics", "/jobs", "/nowhere"] {
            let answer = get(&master, path, &wrong);
            assert!(answer.starts_with("HTTP/1.1 401"), "{wrong}: {answer}");
        }
    }
}
