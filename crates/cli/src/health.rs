//! `gristmill health`: whether a daemon of this machine takes connections; for the health checks of containers.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::Streams;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::{self, Failure};

/// A daemon that does not even accept within this time is not well.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Says whether a daemon takes connections: exit code 0, or 1 and why not
#[derive(Args)]
pub(crate) struct Health {
    /// Its data directory; of several, those that are there
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

impl Health {
    pub(crate) fn run(self, streams: &mut Streams<'_>) -> Exit {
        let mut console = Console::new(streams, false);
        let done = self.examine();
        failure::end(&mut console, done)
    }

    fn examine(&self) -> Result<Exit, Failure> {
        let there: Vec<&PathBuf> = self.dirs.iter().filter(|dir| dir.is_dir()).collect();
        if there.is_empty() {
            let dirs: Vec<String> = self.dirs.iter().map(|dir| dir.display().to_string()).collect();
            return Err(Failure::Refused(format!("no daemon has begun in {}", dirs.join(" or "))));
        }
        for dir in there {
            let address = announced(dir)?;
            TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(|error| {
                Failure::Refused(format!(
                    "cannot connect to the daemon of {}, {address}: {error}",
                    dir.display()
                ))
            })?;
        }
        Ok(Exit::Done)
    }
}

/// Where a daemon says that it listens, as this machine reaches it.
fn announced(dir: &Path) -> Result<SocketAddr, Failure> {
    let file = dir.join("address");
    let refused = |why: String| {
        Failure::Refused(format!("{} does not say where a daemon listens: {why}", file.display()))
    };
    let text = fs::read_to_string(&file).map_err(|error| refused(error.to_string()))?;
    let address: SocketAddr =
        text.trim().parse().map_err(|_| refused(format!("{:?} is no address", text.trim())))?;
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_daemon_is_well_as_long_as_it_accepts() {
        let dir = tempfile::tempdir().unwrap();
        let (master, worker) = (dir.path().join("master"), dir.path().join("worker"));
        let health = Health { dirs: vec![master.clone(), worker] };
        let refused = |health: &Health| health.examine().err().map(|failure| failure.to_string());
        assert!(refused(&health).unwrap().starts_with("no daemon has begun in"));
        fs::create_dir(&master).unwrap();
        assert!(refused(&health).unwrap().contains("does not say where a daemon listens"));
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        fs::write(master.join("address"), format!("0.0.0.0:{port}\n")).unwrap();
        assert_eq!(refused(&health), None);
        drop(listener);
        assert!(refused(&health).unwrap().starts_with("cannot connect to the daemon of"));
    }
}
