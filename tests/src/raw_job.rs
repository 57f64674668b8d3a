//! Jobs that no driver would submit: of programs that are none.

use std::io::Write;

use gristmill_dfs::client::CreateOptions;
use gristmill_proto::ids::JobId;
use gristmill_proto::job::jobs_client::JobsClient;
use gristmill_proto::job::submit_part::Part;
use gristmill_proto::job::{
    JobFile, JobSpec, Program, Stage, StageInputs, SubmitPart, TaskHint, TaskHints, TaskInput,
};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::cluster::Cluster;
use crate::job::Job;

/// Submits a job with one map task, for which `program` is to be run. Only for clusters without a secret.
pub fn submit_raw(cluster: &Cluster, name: &str, program: &[u8]) -> Job {
    let job = JobId::random();
    let hash = Sha256::digest(program).to_vec();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let program_path = format!("/.gristmill/programs/{hex}");
    write(cluster, &program_path, program);
    let input = StageInputs { stage: 0, tasks: vec![TaskInput::default()], uris: Vec::new() };
    let file = JobFile { version: 1, job: job.0.to_vec().into(), inputs: vec![input], ..JobFile::default() };
    let file = file.encode_to_vec();
    let file_path = format!("/.gristmill/jobs/{job}/job");
    write(cluster, &file_path, &file);
    let spec = JobSpec {
        version: 1,
        job: job.0.to_vec().into(),
        name: name.to_owned(),
        user: cluster.client_options().user,
        program: Some(Program {
            bytes: program.len() as u64,
            path: program_path,
            name: name.to_owned(),
            sha256: hash.into(),
        }),
        job_file: file_path,
        job_file_sha256: Sha256::digest(&file).to_vec().into(),
        fingerprint: "none".to_owned(),
        stages: vec![Stage { name: "map 1".to_owned(), tasks: 1, ..Stage::default() }],
        master: cluster.master().to_owned(),
        ..JobSpec::default()
    };
    let hints = TaskHints { stage: 0, first_task: 0, hints: vec![TaskHint::default()] };
    let parts = [Part::Spec(spec), Part::Hints(hints)].map(|part| SubmitPart { part: Some(part) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let master = format!("http://{}", cluster.master());
        let mut jobs = JobsClient::connect(master).await.expect("the master takes calls");
        jobs.submit(tokio_stream::iter(parts)).await.expect("the job is taken");
    });
    cluster.known_job(&job.to_string())
}

fn write(cluster: &Cluster, path: &str, bytes: &[u8]) {
    let client = cluster.client();
    let parent = path.rsplit_once('/').expect("a path").0;
    client.make_directory(parent, true, 0o777).expect("a directory");
    if client.stat(path).is_ok() {
        return;
    }
    let mut writer = client.create(path, CreateOptions::default()).expect("a file");
    writer.write_all(bytes).expect("the bytes are taken");
    writer.finish().expect("the file is whole");
}
