//! A driver, or a person, who asks the master about jobs.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gristmill_dfs::Credential;
use gristmill_dfs::{DfsIdentity, Existing, SharedOutputs, Uri};
use gristmill_proto::auth::{CALLER_TOKEN_METADATA, Role, Secret};
use gristmill_proto::ids::{AttemptId, JobId};
use gristmill_proto::job::job_status::State;
use gristmill_proto::job::jobs_client::JobsClient;
use gristmill_proto::job::stage::{Origin, Target};
use gristmill_proto::job::submit_part::Part as SubmitKind;
use gristmill_proto::job::{
    JobSpec, JobStatus, KillAnswer, KillRequest, Output, Program, Stage, SubmitAnswer, SubmitPart, TaskHint,
    TaskHints, WatchRequest,
};
use gristmill_proto::task::Part;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::process::{Master, PATIENCE};

pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A connection to the service Jobs.
pub struct User {
    client: JobsClient<Channel>,
    secret: Option<Secret>,
}

impl User {
    pub async fn of(master: &Master) -> User {
        let client = JobsClient::connect(format!("http://{}", master.address())).await.unwrap();
        User { client, secret: master.secret() }
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(secret) = &self.secret {
            let token = secret.caller_token(Role::Client, "jobs", wall_ms());
            request.metadata_mut().insert(CALLER_TOKEN_METADATA, token.parse().unwrap());
        }
        request
    }

    pub fn client(&self) -> JobsClient<Channel> {
        self.client.clone()
    }

    pub async fn submit(&self, spec: &JobSpec) -> Result<SubmitAnswer, Status> {
        let hints = TaskHints {
            hints: vec![TaskHint::default(); spec.stages[0].tasks as usize],
            ..TaskHints::default()
        };
        let parts = [SubmitKind::Spec(spec.clone()), SubmitKind::Hints(hints)];
        let parts = parts.map(|part| SubmitPart { part: Some(part) });
        let answer = self.client().submit(self.request(tokio_stream::iter(parts))).await?;
        Ok(answer.into_inner())
    }

    pub async fn watch(&self, job: JobId) -> Result<Streaming<JobStatus>, Status> {
        let request = WatchRequest { job: job.0.to_vec().into(), driver: false };
        Ok(self.client().watch(self.request(request)).await?.into_inner())
    }

    /// Waits until the job is in a state; the watch must not end before.
    pub async fn wait_for(&self, job: JobId, wanted: State) -> JobStatus {
        let waiting = async {
            let mut states = self.watch(job).await.unwrap();
            while let Some(status) = states.message().await.unwrap() {
                if status.state() == wanted {
                    return status;
                }
                let over = [State::Done, State::Failed, State::Killed].contains(&status.state());
                assert!(!over, "the job is {:?}: {}", status.state(), status.reason);
            }
            panic!("the watch ended before the job was {wanted:?}");
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the job changes in time")
    }

    pub async fn kill(&self, job: JobId, user: &str) -> Result<KillAnswer, Status> {
        let (job, user) = (job.0.to_vec().into(), user.to_owned());
        let request = KillRequest { job, user, ..KillRequest::default() };
        Ok(self.client().kill(self.request(request)).await?.into_inner())
    }
}

/// A job of one map task that writes one part to a directory.
pub fn map_only(output: &Path) -> (JobId, JobSpec) {
    let job = JobId::random();
    let hex = "ab".repeat(32);
    let program = Program {
        sha256: vec![0xab; 32].into(),
        bytes: 1,
        path: format!("/.gristmill/programs/{hex}"),
        name: "word_count".to_owned(),
    };
    let stage = Stage {
        name: "map 1".to_owned(),
        origin: Origin::Input.into(),
        tasks: 1,
        target: Target::ToOutput.into(),
        part_bases: vec![0],
        ..Stage::default()
    };
    let spec = JobSpec {
        version: 1,
        job: job.0.to_vec().into(),
        name: "word count".to_owned(),
        user: "ann".to_owned(),
        program: Some(program),
        job_file: format!("/.gristmill/jobs/{job}/job"),
        job_file_sha256: vec![0xcd; 32].into(),
        fingerprint: "f".to_owned(),
        stages: vec![stage],
        outputs: vec![Output { uri: format!("file://{}", output.display()), extra: false }],
        master: "master:7070".to_owned(),
        ..JobSpec::default()
    };
    (job, spec)
}

/// What an attempt does with the output: it joins it and leaves a part there, as invisible as all that is staged.
pub fn write_part(spec: &JobSpec, attempt: AttemptId, text: &str) -> Part {
    use std::io::Write;
    let uris: Vec<Uri> = spec.outputs.iter().map(|output| Uri::parse(&output.uri).unwrap()).collect();
    let identity = DfsIdentity {
        user: spec.user.clone(),
        groups: Vec::new(),
        credential: Credential::None,
        aliases: Vec::new(),
        host: None,
        inside: true,
    };
    let outputs = SharedOutputs::new(&uris, attempt.task.job, Existing::Refuse, Some(&identity)).unwrap();
    let stagings = outputs.join().unwrap();
    let mut writer = stagings[0].create(&attempt.name(), "part-m-00000").unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    let file = writer.finish().unwrap();
    Part { output: 0, name: file.name, bytes: file.bytes, crc32c: 0, receipt: file.receipt }
}
