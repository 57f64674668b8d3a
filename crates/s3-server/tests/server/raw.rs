//! HTTP and signatures by hand: what no library would send can be sent, and nothing is taken from `s3s`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const REGION: &str = "us-east-1";

/// Signs requests with one key pair, and sends each on a connection of its own.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    access_key: String,
    secret_key: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn ok(self) -> Answer {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text());
        self
    }

    /// Fails unless it was refused with this status and code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.all("Code"), [code], "{}", self.text());
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What is in all elements of this name.
    pub fn all(&self, element: &str) -> Vec<String> {
        let text = self.text();
        let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
        let found = text.split(&begin).skip(1).filter_map(|rest| rest.split(&end).next());
        found.map(|value| value.replace("&quot;", "\"").replace("&lt;", "<").replace("&amp;", "&")).collect()
    }

    #[track_caller]
    pub fn one(&self, element: &str) -> String {
        let mut all = self.all(element);
        assert_eq!(all.len(), 1, "{element} in {}", self.text());
        all.remove(0)
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }
}

/// A request that is signed, but not yet sent.
pub struct Signed {
    pub head: String,
    pub signature: String,
    pub date: String,
}

impl Client {
    pub fn new(address: SocketAddr, access_key: &str, secret_key: &str) -> Client {
        Client { address, access_key: access_key.to_owned(), secret_key: secret_key.to_owned() }
    }

    pub fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], b"")
    }

    pub fn put(&self, target: &str, body: &[u8]) -> Answer {
        self.send("PUT", target, &[], body)
    }

    pub fn delete(&self, target: &str) -> Answer {
        self.send("DELETE", target, &[], b"")
    }

    /// Sends a signed request. `target` is a path and a query, both encoded.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let mut all = vec![("content-length", length.as_str())];
        all.extend(headers);
        let signed = self.sign(method, target, &all, &hex(&Sha256::digest(body)));
        self.exchange(signed.head.as_bytes(), body, method == "HEAD")
    }

    /// The head of a request with its signature.
    pub fn sign(&self, method: &str, target: &str, headers: &[(&str, &str)], payload: &str) -> Signed {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut pairs: Vec<String> =
            query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
        for pair in &mut pairs {
            if !pair.contains('=') {
                pair.push('=');
            }
        }
        pairs.sort();
        let date = amz_date();
        let host = self.address.to_string();
        let mut all = BTreeMap::from([
            ("host", host.as_str()),
            ("x-amz-content-sha256", payload),
            ("x-amz-date", date.as_str()),
        ]);
        all.extend(headers.iter().copied());
        let names = all.keys().copied().collect::<Vec<_>>().join(";");
        let canonical: String =
            all.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let request = format!("{method}\n{path}\n{}\n{canonical}\n{names}\n{payload}", pairs.join("&"));
        let scope = format!("{}/{REGION}/s3/aws4_request", &date[..8]);
        let digest = hex(&Sha256::digest(request.as_bytes()));
        let signature = self.signature(&format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"), &date);
        let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in &all {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!(
            "authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}\r\n\r\n",
            self.access_key
        ));
        Signed { head, signature, date }
    }

    /// A body in signed chunks, behind the head `signed`.
    pub fn chunked(&self, signed: &Signed, chunks: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut before = signed.signature.clone();
        for chunk in chunks.iter().copied().chain([b"".as_slice()]) {
            let scope = format!("{}/{REGION}/s3/aws4_request", &signed.date[..8]);
            let (empty, digest) = (hex(&Sha256::digest(b"")), hex(&Sha256::digest(chunk)));
            let text =
                format!("AWS4-HMAC-SHA256-PAYLOAD\n{}\n{scope}\n{before}\n{empty}\n{digest}", signed.date);
            before = self.signature(&text, &signed.date);
            body.extend(format!("{:x};chunk-signature={before}\r\n", chunk.len()).into_bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body
    }

    fn signature(&self, text: &str, date: &str) -> String {
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in [&date[..8], REGION, "s3", "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        hex(&hmac(&key, text.as_bytes()))
    }

    /// Sends bytes as they are; reads the answer to the end of the connection.
    pub fn exchange(&self, head: &[u8], body: &[u8], is_head: bool) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent = stream.write_all(head).and_then(|()| stream.write_all(body));
        let mut answer = Vec::new();
        // A server that refuses early may close before it has all.
        let read = stream.read_to_end(&mut answer);
        assert!(!answer.is_empty(), "no answer: {sent:?}, {read:?}");
        parse(&answer, is_head)
    }
}

fn parse(bytes: &[u8], is_head: bool) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = bytes[end + 4..].to_vec();
    if let Some(length) = headers.get("content-length").filter(|_| !is_head && status != 304) {
        assert_eq!(body.len().to_string(), *length, "{head}");
    }
    Answer { status, headers, body }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a URL cannot have as it is, encoded; slashes too.
pub fn url(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The path of a key: its slashes are those of the URL.
pub fn path(bucket: &str, key: &str) -> String {
    let parts: Vec<String> = key.split('/').map(url).collect();
    format!("/{bucket}/{}", parts.join("/"))
}

/// Now, as signatures write it.
fn amz_date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days, for days after 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}
