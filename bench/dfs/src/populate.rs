//! Fills a namespace with files of one block each, through the namespace itself but without a network.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use gristmill_dfs::namenode::namespace::{
    Action, Caller, Command, Facts, LeaseClock, Namespace, NamespaceOptions,
};
use gristmill_proto::ids::{ClientId, WorkerId};
use gristmill_proto::namespace::answer::Outcome as Answer;
use gristmill_proto::namespace::call::Request;
use gristmill_proto::namespace::{AddBlock, BlockEnd, Complete, Create, MakeDirectory};

use crate::Outcome;

/// Options of `dfs-bench populate`.
#[derive(clap::Args)]
pub(crate) struct PopulateOptions {
    /// The master's data directory
    #[arg(long)]
    data_dir: PathBuf,
    /// Files to make
    #[arg(long, default_value_t = 10_000_000)]
    files: u64,
    /// Files of a directory
    #[arg(long, default_value_t = 1_000)]
    per_directory: u64,
    /// Where to write which blocks were made, for `report`: 24 bytes each
    #[arg(long)]
    blocks: PathBuf,
}

/// Length of each block.
const BLOCK_BYTES: u64 = 1024 * 1024;
/// Files of one transaction: the larger, the fewer syncs.
const GROUP_FILES: u64 = 10_000;

struct NobodyIdles;

impl LeaseClock for NobodyIdles {
    fn idle_ms(&self, _client: ClientId) -> u64 {
        0
    }
}

/// Makes the files.
pub(crate) fn run(options: &PopulateOptions) -> Outcome<()> {
    std::fs::create_dir_all(&options.data_dir)?;
    let store = options.data_dir.join("namespace.redb");
    let namespace = Namespace::create_or_open(&store, NamespaceOptions::default())?;
    let mut blocks = BufWriter::new(File::create(&options.blocks)?);
    let started = Instant::now();
    let mut made = 0;
    while made < options.files {
        let count = GROUP_FILES.min(options.files - made);
        make(&namespace, made..made + count, options.per_directory, &mut blocks)?;
        made += count;
        if made % 1_000_000 == 0 {
            eprintln!("{made} files in {:.0} s", started.elapsed().as_secs_f64());
        }
    }
    blocks.flush()?;
    println!("{made} files in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn make(
    namespace: &Namespace,
    files: std::ops::Range<u64>,
    per_directory: u64,
    blocks: &mut impl Write,
) -> Outcome<()> {
    let mut requests: Vec<Request> = Vec::new();
    for directory in files.start / per_directory..=(files.end - 1) / per_directory {
        let path = directory_path(directory);
        requests.push(Request::MakeDirectory(MakeDirectory { path, parents: true, mode: 0o755 }));
    }
    apply(namespace, requests)?;
    let creates = files.map(|file| Request::Create(create(file, per_directory))).collect();
    let mut inodes = Vec::new();
    for answer in apply(namespace, creates)? {
        let Answer::OpenFile(open) = answer else {
            return Err("create has an open file as its answer".into());
        };
        inodes.push(open.entry.ok_or("an open file has an entry")?.inode);
    }
    let adds = inodes
        .iter()
        .map(|&inode| Request::AddBlock(AddBlock { inode, previous: None, exclude: Vec::new() }));
    let mut completes = Vec::new();
    for (answer, &inode) in apply(namespace, adds.collect())?.into_iter().zip(&inodes) {
        let Answer::Block(block) = answer else { return Err("add block has a block as its answer".into()) };
        for number in [block.block, block.generation, BLOCK_BYTES] {
            blocks.write_all(&number.to_le_bytes())?;
        }
        let last = BlockEnd { block: block.block, generation: block.generation, bytes: BLOCK_BYTES };
        completes.push(Request::Complete(Complete { inode, last: Some(last) }));
    }
    apply(namespace, completes)?;
    Ok(())
}

fn create(file: u64, per_directory: u64) -> Create {
    Create {
        path: format!("{}/part-{file:08}", directory_path(file / per_directory)),
        overwrite: false,
        parents: false,
        replication: 1,
        block_bytes: BLOCK_BYTES,
        mode: 0o644,
    }
}

fn directory_path(directory: u64) -> String {
    format!("/many/directory-{directory:05}")
}

/// One transaction.
fn apply(namespace: &Namespace, requests: Vec<Request>) -> Outcome<Vec<Answer>> {
    let caller = Caller { client: ClientId([7; 16]), user: "root".to_owned(), groups: Vec::new() };
    let command = |request| Command {
        id: None,
        settled_below: 0,
        caller: caller.clone(),
        now_ms: 1_700_000_000_000,
        action: Action::Request(
            request,
            Facts { targets: vec![WorkerId(1)], durable: true, ..Facts::default() },
        ),
    };
    let commands: Vec<Command> = requests.into_iter().map(command).collect();
    let mut answers = Vec::with_capacity(commands.len());
    for applied in namespace.apply_group(&commands, &NobodyIdles)? {
        if let Answer::Failure(failure) = &applied.outcome {
            return Err(format!("{}: {}", failure.path, failure.detail).into());
        }
        answers.push(applied.outcome);
    }
    Ok(answers)
}
