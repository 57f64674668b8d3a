//! Moto's S3 server, from PyPI: written by strangers, so that it does not share our misunderstandings.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Program, Running};

/// The version that the stories were written against.
const PACKAGE: &str = "moto[server]==5.2.5";

/// The server. It ends with this.
pub struct Moto {
    _server: Running,
    address: String,
}

impl Moto {
    /// Starts it, from an environment below the target directory that is made the first time. The error says what this
    /// machine lacks, which makes nobody's code wrong.
    pub fn start() -> Result<Moto, String> {
        let server = installed()?;
        // Free now; whoever takes it first in between makes this fail loudly.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = port.expect("a free port").to_string();
        let (_, port) = address.rsplit_once(':').expect("it has a port");
        let mut server = Program::at(server).args(["-H", "127.0.0.1", "-p", port]).start();
        server.runs_until("moto to listen", || TcpStream::connect(&address).is_ok());
        Ok(Moto { _server: server, address })
    }

    /// A program that reaches it.
    pub fn reached_by(&self, program: Program) -> Program {
        let program = program.env("AWS_ENDPOINT_URL", format!("http://{}", self.address));
        let program = program.env("AWS_ACCESS_KEY_ID", "moto").env("AWS_SECRET_ACCESS_KEY", "moto");
        program.env("AWS_REGION", "us-east-1").env("AWS_CONFIG_FILE", "/dev/null")
    }

    /// `gristmill fs`, to be given arguments.
    pub fn fs(&self) -> Program {
        self.reached_by(Program::gristmill().arg("fs"))
    }
}

/// The program, installed if need be.
fn installed() -> Result<PathBuf, String> {
    let test = std::env::current_exe().expect("a test is a file");
    // target/debug/deps/test
    let target = test.ancestors().nth(3).expect("a target directory");
    let (home, server) = (target.join("moto"), target.join("moto/bin/moto_server"));
    if !server.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        run(Command::new(Path::join(&home, "bin/pip")).args(["install", "--quiet", PACKAGE]))?;
    }
    Ok(server)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
