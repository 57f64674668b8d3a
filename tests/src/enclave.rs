//! A network of its own for the daemons of a cluster: from this process only the master's port leads there.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::program::Program;

/// A network namespace and a pair of interfaces between it and this process's network. Gone when dropped.
pub struct Enclave {
    name: String,
    address: String,
}

impl Enclave {
    /// Makes one; or, where this process may not, says so and why.
    pub fn make() -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        // Four addresses for each, of a range that nobody else has: by process, so that programs run side by side.
        let quad = (process.wrapping_mul(4) + number) % (1 << 14) * 4;
        let address = |host: u32| format!("10.213.{}.{}", (quad + host) >> 8, (quad + host) & 255);
        let enclave = Self { name: format!("gm-{process}-{number}"), address: address(2) };
        let (name, near, far) = (&enclave.name, format!("gmn{quad}"), format!("gmf{quad}"));
        ip(&["netns", "add", name])?;
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", name])?;
        ip(&["addr", "add", &format!("{}/30", address(1)), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{}/30", address(2)), "dev", &far])?;
        ip(&["-n", name, "link", "set", &far, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(enclave)
    }

    /// Where this process finds what listens on all addresses in there.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A program that runs in there, with this process as its parent.
    pub fn program(&self, path: &std::path::Path) -> Program {
        // `ip netns exec` would hide the control groups.
        Program::at("nsenter").arg(format!("--net=/run/netns/{}", self.name)).arg(path)
    }
}

impl Drop for Enclave {
    fn drop(&mut self) {
        // Its interfaces go with it.
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("cannot remove the network {}: {error}", self.name);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output =
        Command::new("ip").args(args).output().map_err(|error| format!("ip cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
