//! Calls a second, in the shape of Hadoop's NNThroughputBenchmark: one kind of call after the other on the same files.

use std::future::Future;
use std::time::Instant;

use futures::stream::{StreamExt, TryStreamExt};
use gristmill_dfs::client::{ClientOptions, DfsClient};
use gristmill_proto::namespace::answer::Outcome as Answer;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::{Complete, Create, Delete, Locate, MakeDirectory, Rename, Stat, rename};

use crate::Outcome;

/// Options of `dfs-bench metadata`.
#[derive(clap::Args)]
pub(crate) struct MetadataOptions {
    /// HOST:PORT of the master
    #[arg(long, default_value = "127.0.0.1:7070")]
    master: String,
    /// Files of the benchmark
    #[arg(long, default_value_t = 100_000)]
    files: u64,
    /// Files of a directory
    #[arg(long, default_value_t = 1_000)]
    per_directory: u64,
    /// Calls in flight
    #[arg(long, default_value_t = 1_024)]
    in_flight: usize,
}

const ROOT: &str = "/benchmark";

/// Runs all kinds of calls, and prints a line for each.
pub(crate) fn run(options: &MetadataOptions) -> Outcome<()> {
    let client = DfsClient::connect(ClientOptions::new(&options.master))?;
    client.delete(ROOT, true, true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bench = Bench { client, options };
    println!("| call | count | seconds | per second |\n|---|---|---|---|");
    runtime.block_on(bench.run_all())
}

struct Bench<'o> {
    client: DfsClient,
    options: &'o MetadataOptions,
}

impl Bench<'_> {
    async fn run_all(&self) -> Outcome<()> {
        let files = self.options.files;
        self.run("mkdirs", files.div_ceil(self.options.per_directory), |index| {
            self.ask(Request::MakeDirectory(MakeDirectory {
                path: directory(index),
                parents: true,
                mode: 0o755,
            }))
        })
        .await?;
        self.run("create and complete", files, |index| self.create(index)).await?;
        self.run("stat", files, |index| self.ask(Request::Stat(Stat { path: self.file(index) }))).await?;
        self.run("open", files, |index| {
            let path = self.file(index);
            self.ask(Request::Locate(Locate { path, offset: 0, bytes: u64::MAX, limit: 0 }))
        })
        .await?;
        self.run("rename", files, |index| {
            let (from, to) = (self.file(index), format!("{}.renamed", self.file(index)));
            let mode = rename::Mode::Refuse.into();
            self.ask(Request::Rename(Rename { from, to, mode, inode: 0, version: 0 }))
        })
        .await?;
        self.run("delete", files, |index| {
            let path = format!("{}.renamed", self.file(index));
            self.ask(Request::Delete(Delete { path, recursive: false, skip_trash: true }))
        })
        .await
    }

    async fn run<F, W>(&self, name: &str, count: u64, work: W) -> Outcome<()>
    where
        W: Fn(u64) -> F,
        F: Future<Output = Outcome<()>>,
    {
        let started = Instant::now();
        let calls = futures::stream::iter(0..count).map(work).buffer_unordered(self.options.in_flight);
        calls.try_collect::<()>().await?;
        let seconds = started.elapsed().as_secs_f64();
        println!("| {name} | {count} | {seconds:.2} | {:.0} |", count as f64 / seconds);
        Ok(())
    }

    fn file(&self, index: u64) -> String {
        format!("{}/file-{index}", directory(index / self.options.per_directory))
    }

    async fn create(&self, index: u64) -> Outcome<()> {
        let create = Create {
            path: self.file(index),
            overwrite: false,
            parents: false,
            replication: 0,
            block_bytes: 0,
            mode: 0o644,
        };
        let Answer::OpenFile(open) = self.client.call_async(Request::Create(create)).await? else {
            return Err("create has an open file as its answer".into());
        };
        let inode = open.entry.ok_or("an open file has an entry")?.inode;
        self.ask(Request::Complete(Complete { inode, last: None })).await
    }

    fn ask(&self, request: Request) -> impl Future<Output = Outcome<()>> + use<'_> {
        let call = self.client.call_async(request);
        async move {
            call.await?;
            Ok(())
        }
    }
}

fn directory(index: u64) -> String {
    format!("{ROOT}/directory-{index}")
}
