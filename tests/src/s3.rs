//! A local S3 server as a process, with one bucket, and programs that know its keys.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::containers::docker;
use crate::program::{Program, Running};

/// `gristmill s3-server` on a directory of its own. It ends with this.
pub struct S3 {
    server: Option<Running>,
    chosen: Option<[&'static str; 2]>,
    address: String,
    dir: TempDir,
}

impl S3 {
    /// The bucket that every story has.
    pub const BUCKET: &str = "stories";

    /// A server with an empty bucket.
    pub fn start() -> S3 {
        S3::at("127.0.0.1", None)
    }

    /// One that containers of this machine reach, too: at the address that the machine has in their engine's own network,
    /// the first one there.
    pub fn for_containers() -> S3 {
        let subnet =
            docker(&["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Subnet}}"]);
        let network: Ipv4Addr =
            subnet.trim().split('/').next().and_then(|text| text.parse().ok()).expect("a subnet");
        let address = Ipv4Addr::from_bits(network.to_bits() + 1).to_string();
        S3::at(&address, Some(["stories-access-key", "stories-secret-key-of-nobody"]))
    }

    /// Where strangers could come by, the keys are chosen.
    fn at(host: &str, chosen: Option<[&'static str; 2]>) -> S3 {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut s3 = S3 { server: None, chosen, address: format!("{host}:0"), dir };
        if let Some([id, key]) = chosen {
            let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {key}\n");
            fs::write(s3.keys_file(), text).expect("the keys");
        }
        s3.start_server();
        s3.fs().args(["-mkdir", &format!("s3://{}", Self::BUCKET)]).run().succeeded();
        s3
    }

    fn start_server(&mut self) {
        let said = self.dir.path().join("address");
        let mut program = Program::gristmill().args(["s3-server", "--listen", &self.address]);
        if let Some([id, key]) = self.chosen {
            program =
                program.env("GRISTMILL_S3_ACCESS_KEY_ID", id).env("GRISTMILL_S3_SECRET_ACCESS_KEY", key);
        }
        let mut server = program.arg("--dir").arg(self.dir.path()).start();
        server.runs_until("the S3 server to listen", || {
            fs::read_to_string(&said).is_ok_and(|address| TcpStream::connect(address.trim()).is_ok())
        });
        self.address = fs::read_to_string(said).expect("the address").trim().to_owned();
        self.server = Some(server);
    }

    /// kill -9, and a new server on the same directory and address.
    pub fn restart(&mut self) {
        let server = self.server.take().expect("it runs");
        server.signal(Signal::KILL);
        server.end();
        fs::remove_file(self.dir.path().join("address"))
            .expect("a killed server cannot take its address back");
        self.start_server();
    }

    /// A name in the bucket.
    pub fn uri(&self, path: &str) -> String {
        format!("s3://{}/{path}", Self::BUCKET)
    }

    /// The program, with the keys where the AWS tools keep them.
    pub fn with_keys(&self, program: Program) -> Program {
        self.variables().into_iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    /// How a process is told of the server.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        let keys = self.keys_file().to_string_lossy().into_owned();
        [
            ("AWS_SHARED_CREDENTIALS_FILE", keys),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// The file with the keys.
    pub fn keys_file(&self) -> PathBuf {
        self.dir.path().join("credentials")
    }

    /// The secret key.
    pub fn secret(&self) -> String {
        let text = fs::read_to_string(self.keys_file()).expect("the keys");
        let line = text.lines().find(|line| line.starts_with("aws_secret_access_key")).expect("a secret");
        line.split_once(" = ").expect("a value").1.to_owned()
    }

    /// HOST:PORT.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `gristmill fs`, to be given arguments.
    pub fn fs(&self) -> Program {
        self.with_keys(Program::gristmill().arg("fs"))
    }

    /// Puts a file of this machine.
    pub fn put(&self, from: &Path, to: &str) {
        self.fs().arg("-put").arg(from).arg(self.uri(to)).run().succeeded();
    }

    /// What `fs -find` says of a path.
    pub fn find(&self, path: &str) -> Vec<String> {
        let said = self.fs().args(["-find", &self.uri(path)]).run().succeeded().stdout;
        said.lines().map(str::to_owned).collect()
    }
}
