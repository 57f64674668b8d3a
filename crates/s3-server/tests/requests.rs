//! What S3 promises, request by request.

mod server;

use std::collections::BTreeMap;

use server::raw::{path, url};
use server::{Client, Running};

const BUCKET: &str = "stories";
const MIB: usize = 1 << 20;

/// A server, and a client of it, with the bucket.
fn running() -> (tempfile::TempDir, Running, Client) {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), BUCKET);
    let client = running.client();
    (dir, running, client)
}

fn md5_of_hello() -> &'static str {
    "\"5d41402abc4b2a76b9719d911017c592\""
}

#[test]
fn an_object_comes_back_as_it_was_put() {
    let (_dir, _running, client) = running();
    let headers = [
        ("cache-control", "no-store"),
        ("content-disposition", "inline"),
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("content-type", "text/plain"),
        ("expires", "Thu, 01 Dec 2039 16:00:00 GMT"),
        ("x-amz-meta-colour", "blue"),
    ];
    let put = client.send("PUT", "/stories/a/b", &headers, b"hello").ok();
    assert_eq!(put.header("etag"), md5_of_hello());
    for method in ["GET", "HEAD"] {
        let got = client.send(method, "/stories/a/b", &[], b"").ok();
        assert_eq!(got.body, if method == "GET" { b"hello".as_slice() } else { b"" });
        assert_eq!((got.header("etag"), got.header("content-length")), (md5_of_hello(), "5"));
        for (name, value) in headers {
            assert_eq!(got.header(name), value);
        }
    }
    let listed = client.get("/stories?list-type=2").ok();
    assert_eq!(
        (listed.one("Key"), listed.one("Size"), listed.one("ETag")),
        ("a/b".to_owned(), "5".to_owned(), md5_of_hello().to_owned())
    );
    client.delete("/stories/a/b").ok();
    client.delete("/stories/a/b").ok();
    client.get("/stories/a/b").refused(404, "NoSuchKey");
    assert_eq!(client.send("HEAD", "/stories/a/b", &[], b"").status, 404);
    let metadata = ("x-amz-meta-long", "x".repeat(2049));
    let refused = client.send("PUT", "/stories/a", &[(metadata.0, &metadata.1)], b"");
    refused.refused(400, "MetadataTooLarge");
}

#[test]
fn keys_are_any_text_and_none_is_a_directory() {
    let (_dir, _running, client) = running();
    let long = "ü".repeat(512);
    let keys = [
        "x",
        "x/",
        "x/y",
        "x//y",
        "/",
        "..",
        "../up",
        "a b+c&d%",
        "<&>\"'",
        "日本",
        "\u{1}\u{7f}\n",
        "🦀",
        &long,
    ];
    for key in keys {
        client.put(&path(BUCKET, key), key.as_bytes()).ok();
    }
    for key in keys {
        assert_eq!(client.get(&path(BUCKET, key)).ok().text(), key);
    }
    let mut sorted: Vec<String> = keys.iter().map(|key| url(key).replace("%2F", "/")).collect();
    sorted.sort_by_key(|key| keys.iter().find(|k| url(k).replace("%2F", "/") == *key).copied());
    assert_eq!(client.get("/stories?list-type=2&encoding-type=url").ok().all("Key"), sorted);
    client.put(&path(BUCKET, &"x".repeat(1025)), b"").refused(400, "KeyTooLongError");
    // Deleting the one leaves the other.
    client.delete("/stories/x").ok();
    assert_eq!(client.get("/stories/x/y").ok().text(), "x/y");
}

#[test]
fn ranges_are_exact() {
    let (_dir, _running, client) = running();
    let body: Vec<u8> = (0..700_000u32).map(|at| (at % 251) as u8).collect();
    client.put("/stories/r", &body).ok();
    client.put("/stories/empty", b"").ok();
    let last = body.len() - 1;
    let ranges = [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=262143-262144", 262_143, 262_144),
        ("bytes=699999-", last, last),
        ("bytes=0-99999999", 0, last),
        ("bytes=-1", last, last),
        ("bytes=-99999999", 0, last),
    ];
    for (range, from, to) in ranges {
        let got = client.send("GET", "/stories/r", &[("range", range)], b"");
        assert_eq!(got.status, 206, "{range}");
        assert_eq!(got.header("content-range"), format!("bytes {from}-{to}/700000"));
        assert!(got.body == body[from..=to], "{range}");
        let head = client.send("HEAD", "/stories/r", &[("range", range)], b"");
        assert_eq!((head.status, head.header("content-length")), (206, (to - from + 1).to_string().as_str()));
    }
    for (key, range) in
        [("r", "bytes=700000-"), ("r", "bytes=-0"), ("empty", "bytes=0-"), ("empty", "bytes=-1")]
    {
        let refused = client.send("GET", &format!("/stories/{key}"), &[("range", range)], b"");
        refused.refused(416, "InvalidRange");
        assert!(refused.header("content-range").starts_with("bytes */"));
    }
    assert!(client.get("/stories/empty").ok().body.is_empty());
}

#[test]
fn conditions_on_reads_follow_http() {
    let (_dir, _running, client) = running();
    let put = client.put("/stories/c", b"hello").ok();
    let etag = put.header("etag");
    let (before, after) = ("Mon, 01 Jan 2001 00:00:00 GMT", "Sun, 01 Jan 2090 00:00:00 GMT");
    let cases: [(&[(&str, &str)], u16); 12] = [
        (&[("if-match", etag)], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", "\"other\"")], 412),
        (&[("if-none-match", etag)], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"other\"")], 200),
        (&[("if-modified-since", before)], 200),
        (&[("if-modified-since", after)], 304),
        (&[("if-unmodified-since", before)], 412),
        (&[("if-unmodified-since", after)], 200),
        // The ETag overrules the date.
        (&[("if-match", etag), ("if-unmodified-since", before)], 200),
        (&[("if-none-match", "\"other\""), ("if-modified-since", after)], 200),
    ];
    for (headers, status) in cases {
        for method in ["GET", "HEAD"] {
            let answer = client.send(method, "/stories/c", headers, b"");
            assert_eq!(answer.status, status, "{method} {headers:?}");
            if status == 304 {
                assert_eq!((answer.header("etag"), answer.body.len()), (etag, 0));
            }
        }
    }
}

#[test]
fn conditions_on_writes_are_held() {
    let (_dir, _running, client) = running();
    let put = |condition: (&str, &str), body: &[u8]| client.send("PUT", "/stories/w", &[condition], body);
    put(("if-match", "\"x\""), b"").refused(404, "NoSuchKey");
    let first = put(("if-none-match", "*"), b"1").ok();
    put(("if-none-match", "*"), b"2").refused(412, "PreconditionFailed");
    put(("if-match", "\"x\""), b"2").refused(412, "PreconditionFailed");
    put(("if-none-match", first.header("etag")), b"2").refused(501, "NotImplemented");
    let second = put(("if-match", first.header("etag")), b"2").ok();
    assert_eq!(client.get("/stories/w").ok().text(), "2");
    let delete = |etag: &str| client.send("DELETE", "/stories/w", &[("if-match", etag)], b"");
    delete(first.header("etag")).refused(412, "PreconditionFailed");
    delete(second.header("etag")).ok();
    delete("*").refused(404, "NoSuchKey");
}

#[test]
fn copies_are_whole_and_conditional() {
    let (_dir, _running, client) = running();
    client.put("/other-bucket", b"").ok();
    client.send("PUT", "/stories/a%20b", &[("x-amz-meta-m", "1"), ("content-type", "text/x")], b"hello").ok();
    let copy = |to: &str, headers: &[(&str, &str)]| {
        let mut all = vec![("x-amz-copy-source", "/stories/a%20b")];
        all.extend(headers);
        client.send("PUT", to, &all, b"")
    };
    assert_eq!(copy("/other-bucket/c", &[]).ok().one("ETag"), md5_of_hello());
    let copied = client.get("/other-bucket/c").ok();
    assert_eq!(
        (copied.text().as_str(), copied.header("x-amz-meta-m"), copied.header("content-type")),
        ("hello", "1", "text/x")
    );
    let replace = [("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-m", "2")];
    copy("/stories/a%20b", &replace).ok();
    assert_eq!(client.get("/stories/a%20b").ok().header("x-amz-meta-m"), "2");
    copy("/stories/a%20b", &[]).refused(400, "InvalidRequest");
    copy("/other-bucket/c", &[("if-none-match", "*")]).refused(412, "PreconditionFailed");
    copy("/other-bucket/d", &[("if-none-match", "*")]).ok();
    copy("/other-bucket/e", &[("x-amz-copy-source-if-match", "\"x\"")]).refused(412, "PreconditionFailed");
    copy("/other-bucket/e", &[("x-amz-copy-source-if-none-match", md5_of_hello())])
        .refused(412, "PreconditionFailed");
    copy("/nowhere-at-all/e", &[]).refused(404, "NoSuchBucket");
    let missing = client.send("PUT", "/other-bucket/e", &[("x-amz-copy-source", "/stories/none")], b"");
    missing.refused(404, "NoSuchKey");
}

#[test]
fn checksums_are_verified_and_given_back() {
    let (_dir, _running, client) = running();
    // Of "hello", from other programs.
    let right = [
        ("x-amz-checksum-crc32", "NhCmhg=="),
        ("x-amz-checksum-crc32c", "mnG7TA=="),
        ("x-amz-checksum-sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="),
        ("x-amz-checksum-sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="),
        ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
    ];
    for (name, value) in right {
        client.send("PUT", "/stories/sum", &[(name, value)], b"hello").ok();
        if name != "content-md5" {
            let got = client.send("GET", "/stories/sum", &[("x-amz-checksum-mode", "ENABLED")], b"").ok();
            assert_eq!(got.header(name), value);
            let ranged = [("x-amz-checksum-mode", "ENABLED"), ("range", "bytes=0-1")];
            assert!(!client.send("GET", "/stories/sum", &ranged, b"").headers.contains_key(name));
        }
        let wrong = client.send("PUT", "/stories/wrong", &[(name, value)], b"hellO");
        wrong.refused(400, "BadDigest");
    }
    client.get("/stories/wrong").refused(404, "NoSuchKey");
    client.send("PUT", "/stories/wrong", &[("content-md5", "x")], b"").refused(400, "InvalidDigest");
}

fn complete(client: &Client, target: &str, upload: &str, parts: &[(usize, &str)]) -> server::raw::Answer {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    let xml = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    client.send("POST", &format!("{target}?uploadId={upload}"), &[], xml.as_bytes())
}

#[test]
fn an_upload_becomes_the_parts_that_are_named() {
    let (_dir, _running, client) = running();
    let target = "/stories/big";
    let begun = client.send("POST", "/stories/big?uploads", &[("x-amz-meta-m", "1")], b"").ok();
    let upload = begun.one("UploadId");
    let bodies = [vec![b'1'; 5 * MIB], vec![b'2'; 5 * MIB + 1], vec![b'3'; 10], vec![b'4'; 10]];
    let etags: Vec<String> = bodies
        .iter()
        .zip([1, 3, 7, 9])
        .map(|(body, number)| {
            let part = client.put(&format!("{target}?partNumber={number}&uploadId={upload}"), body).ok();
            part.header("etag").to_owned()
        })
        .collect();
    let [one, three, seven, nine] = [0, 1, 2, 3].map(|at| etags[at].as_str());
    client.get(target).refused(404, "NoSuchKey");

    let first = client.get(&format!("{target}?uploadId={upload}&max-parts=2")).ok();
    assert_eq!(
        (first.all("PartNumber"), first.one("IsTruncated").as_str()),
        (vec!["1".into(), "3".into()], "true")
    );
    let marker = first.one("NextPartNumberMarker");
    let second = client.get(&format!("{target}?uploadId={upload}&part-number-marker={marker}")).ok();
    assert_eq!(
        (second.all("PartNumber"), second.one("IsTruncated").as_str()),
        (vec!["7".into(), "9".into()], "false")
    );

    let refused =
        |parts: &[(usize, &str)], code: &str| complete(&client, target, &upload, parts).refused(400, code);
    refused(&[], "MalformedXML");
    refused(&[(3, three), (1, one)], "InvalidPartOrder");
    refused(&[(1, one), (1, one)], "InvalidPartOrder");
    refused(&[(1, one), (2, three)], "InvalidPart");
    refused(&[(1, three)], "InvalidPart");
    refused(&[(7, seven), (9, nine)], "EntityTooSmall");
    refused(&[(0, one)], "InvalidArgument");
    let done = complete(&client, target, &upload, &[(1, one), (3, three), (7, seven)]).ok();
    assert!(done.one("ETag").ends_with("-3\""));
    complete(&client, target, &upload, &[(1, one)]).refused(404, "NoSuchUpload");

    let whole = bodies[..3].concat();
    let got = client.get(target).ok();
    assert!(got.body == whole);
    assert_eq!((got.header("etag"), got.header("x-amz-meta-m")), (done.one("ETag").as_str(), "1"));
    let across = client.send("GET", target, &[("range", "bytes=5242870-10485762")], b"");
    assert!(across.body == whole[5_242_870..=10_485_762]);
    let part = client.get(&format!("{target}?partNumber=2"));
    assert_eq!((part.status, part.header("x-amz-mp-parts-count"), part.body.len()), (206, "3", 5 * MIB + 1));
    // The CRC-32C of the whole is known, though nobody gave it.
    let sums = client.send("GET", target, &[("x-amz-checksum-mode", "ENABLED")], b"").ok();
    assert!(sums.header("x-amz-checksum-crc32c").ends_with("=="));
}

#[test]
fn a_part_may_be_copied_and_replaced_and_an_upload_aborted() {
    let (_dir, _running, client) = running();
    client.put("/stories/source", b"0123456789").ok();
    let begin = || client.send("POST", "/stories/to?uploads", &[], b"").ok().one("UploadId");
    let (upload, doomed) = (begin(), begin());
    let part = |upload: &str| format!("/stories/to?partNumber=1&uploadId={upload}");
    client.put(&part(&upload), b"to be replaced").ok();
    let ranged = [("x-amz-copy-source", "stories/source"), ("x-amz-copy-source-range", "bytes=2-4")];
    let etag = client.send("PUT", &part(&upload), &ranged, b"").ok().one("ETag");
    complete(&client, "/stories/to", &upload, &[(1, &etag)]).ok();
    assert_eq!(client.get("/stories/to").ok().text(), "234");

    assert_eq!(client.get("/stories?uploads").ok().all("UploadId"), [doomed.as_str()]);
    client.put(&part(&doomed), b"nothing of this stays").ok();
    client.delete("/stories").refused(409, "BucketNotEmpty");
    client.delete(&format!("/stories/to?uploadId={doomed}")).ok();
    client.put(&part(&doomed), b"x").refused(404, "NoSuchUpload");
    client.delete(&format!("/stories/to?uploadId={doomed}")).refused(404, "NoSuchUpload");
    assert!(client.get("/stories?uploads").ok().all("UploadId").is_empty());
}

#[test]
fn uploads_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), BUCKET);
    let client = running.client();
    let upload = client.send("POST", "/stories/k?uploads", &[], b"").ok().one("UploadId");
    let put = |client: &Client, number: usize, body: &[u8]| {
        let part = client.put(&format!("/stories/k?partNumber={number}&uploadId={upload}"), body).ok();
        part.header("etag").to_owned()
    };
    let first = put(&client, 1, &vec![b'a'; 5 * MIB]);
    client.put("/stories/there", b"before").ok();
    drop(running);

    let running = Running::start(dir.path());
    let client = running.client();
    assert_eq!(client.get("/stories/there").ok().text(), "before");
    let second = put(&client, 2, b"end");
    complete(&client, "/stories/k", &upload, &[(1, &first), (2, &second)]).ok();
    assert!(client.get("/stories/k").ok().body.ends_with(b"aaaend"));
}

#[test]
fn listings_page_through_what_is_there() {
    let (_dir, _running, client) = running();
    let keys = ["a", "a/1", "a/2", "b/1", "b/2/3", "c", "c-d", "d/"];
    for key in keys {
        client.put(&path(BUCKET, key), b"").ok();
    }
    client.put("/aaa", b"").ok();
    client.put("/zzz", b"").ok();
    client.put("/zzz/other", b"").ok();
    for max in 1..=9 {
        // Version 2, with its token.
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = client.get(&format!("/stories?list-type=2&delimiter=%2F&max-keys={max}{token}")).ok();
            assert!(page.one("KeyCount").parse::<usize>().unwrap() <= max);
            seen.extend(page.all("Key"));
            seen.extend(page.all("Prefix").into_iter().filter(|prefix| !prefix.is_empty()));
            if page.one("IsTruncated") == "false" {
                break;
            }
            token = format!("&continuation-token={}", page.one("NextContinuationToken"));
        }
        seen.sort();
        assert_eq!(seen, ["a", "a/", "b/", "c", "c-d", "d/"], "max {max}");
        // Version 1, with the last key.
        let (mut seen, mut marker) = (Vec::new(), String::new());
        loop {
            let page = client.get(&format!("/stories?max-keys={max}&marker={}", url(&marker))).ok();
            seen.extend(page.all("Key"));
            if page.one("IsTruncated") == "false" {
                break;
            }
            marker = seen.last().unwrap().clone();
        }
        assert_eq!(seen, keys, "max {max}");
    }
    let after = client.get("/stories?list-type=2&start-after=b%2F1").ok();
    assert_eq!(after.all("Key"), ["b/2/3", "c", "c-d", "d/"]);
    assert_eq!(client.get("/stories?list-type=2&prefix=c").ok().all("Key"), ["c", "c-d"]);
    assert_eq!(client.get("/stories?list-type=2&max-keys=0").ok().one("IsTruncated"), "false");
    client.get("/stories?list-type=2&max-keys=-1").refused(400, "InvalidArgument");
    client.get("/stories?list-type=2&continuation-token=xyz").refused(400, "InvalidArgument");
    client.get("/no-such-bucket?list-type=2").refused(404, "NoSuchBucket");
}

#[test]
fn uploads_are_listed_by_key_and_age() {
    let (_dir, _running, client) = running();
    let mut begun: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in ["a", "b/1", "a", "b/2", "c", "a"] {
        let upload =
            client.send("POST", &format!("{}?uploads", path(BUCKET, key)), &[], b"").ok().one("UploadId");
        begun.entry(key.to_owned()).or_default().push(upload);
    }
    let all: Vec<String> = begun.values().flatten().cloned().collect();
    assert_eq!(client.get("/stories?uploads").ok().all("UploadId"), all);
    for max in 1..=7 {
        let (mut seen, mut markers) = (Vec::new(), String::new());
        loop {
            let page = client.get(&format!("/stories?uploads&max-uploads={max}{markers}")).ok();
            seen.extend(page.all("UploadId"));
            if page.one("IsTruncated") == "false" {
                break;
            }
            let (key, id) = (page.one("NextKeyMarker"), page.one("NextUploadIdMarker"));
            markers = format!("&key-marker={}&upload-id-marker={id}", url(&key));
        }
        assert_eq!(seen, all, "max {max}");
    }
    let grouped = client.get("/stories?uploads&delimiter=%2F&prefix=b").ok();
    assert!(grouped.all("UploadId").is_empty());
    assert!(grouped.text().contains("<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"));
}

#[test]
fn many_keys_are_deleted_at_once() {
    let (_dir, _running, client) = running();
    for key in ["a", "b", "c<d"] {
        client.put(&path(BUCKET, key), b"hello").ok();
    }
    let delete = |objects: &str| {
        client.send("POST", "/stories?delete", &[], format!("<Delete>{objects}</Delete>").as_bytes())
    };
    let done = delete(
        "<Object><Key>a</Key></Object><Object><Key>none</Key></Object><Object><Key>c&lt;d</Key></Object>\
         <Object><Key>b</Key><ETag>other</ETag></Object>",
    )
    .ok();
    assert_eq!(done.all("Code"), ["PreconditionFailed"]);
    assert_eq!(done.all("Key"), ["a", "none", "c<d", "b"]);
    assert_eq!(client.get("/stories?list-type=2").ok().all("Key"), ["b"]);
    delete(&"<Object><Key>k</Key></Object>".repeat(1001)).refused(400, "MalformedXML");
}

#[test]
fn buckets_come_and_go() {
    let (_dir, _running, client) = running();
    client.put("/second-bucket", b"").ok();
    client.put("/second-bucket", b"").refused(409, "BucketAlreadyOwnedByYou");
    assert_eq!(client.get("/").ok().all("Name"), ["second-bucket", "stories"]);
    assert_eq!(client.send("HEAD", "/second-bucket", &[], b"").status, 200);
    client.put("/second-bucket/k", b"").ok();
    client.delete("/second-bucket").refused(409, "BucketNotEmpty");
    client.delete("/second-bucket/k").ok();
    client.delete("/second-bucket").ok();
    client.delete("/second-bucket").refused(404, "NoSuchBucket");
    assert_eq!(client.send("HEAD", "/second-bucket", &[], b"").status, 404);
    client.put("/second-bucket/k", b"").refused(404, "NoSuchBucket");
    client.put("/No_Bucket", b"").refused(400, "InvalidBucketName");
}

#[test]
fn what_is_not_built_is_not_ignored() {
    let (_dir, _running, client) = running();
    for (name, value) in [("x-amz-tagging", "a=b"), ("x-amz-server-side-encryption", "AES256")] {
        client.send("PUT", "/stories/k", &[(name, value)], b"").refused(501, "NotImplemented");
    }
    client
        .send("PUT", "/stories/k", &[("x-amz-storage-class", "GLACIER")], b"")
        .refused(400, "InvalidStorageClass");
    client.get("/stories?versioning").refused(501, "NotImplemented");
    client.get("/stories/k?versionId=3").refused(501, "NotImplemented");
}
