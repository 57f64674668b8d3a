//! How long the publication of many files takes until `_SUCCESS` is there, beside as many bare completions of uploads: from its
//! call, which follows the job's journaled decision, and from when the bucket has the decision.
//!
//! `bench/s3/run parts` runs it on a server of its own, with the variables of the AWS tools.

use std::error::Error;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{StreamExt, TryStreamExt};
use gristmill_dfs::{Existing, SharedOutputs, Uri};
use gristmill_proto::ids::JobId;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use tokio::runtime::Runtime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

const BUCKET: &str = "bench";
const FILES: usize = 1000;
/// As many as a publication has.
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 21;

#[test]
#[ignore = "a measurement: bench/s3/run parts"]
fn a_publication_beside_bare_completions() -> Result<(), Box<dyn Error>> {
    let (runtime, moments) = (Runtime::new()?, Moments::default());
    let told = moments.clone().with_filter(Targets::new().with_target("gristmill_dfs::s3", Level::DEBUG));
    tracing_subscriber::registry().with(told).init();
    let store = AmazonS3Builder::from_env().with_bucket_name(BUCKET).with_allow_http(true).build()?;
    let place = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let (mut from_call, mut from_decision) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let bare = runtime.block_on(completed(&store, &format!("bare-{place}-{round}")))?;
        let (called, decided) = published(&format!("published-{place}-{round}"), &moments)?;
        let beside = |published: Duration| published.as_secs_f64() / bare.as_secs_f64();
        println!(
            "{FILES} files: bare {bare:.0?}, published {called:.0?}, ratio {:.2}; from the bucket's decision {decided:.0?}, {:.2}",
            beside(called),
            beside(decided)
        );
        from_call.push(beside(called));
        from_decision.push(beside(decided));
    }
    println!("median ratio from the call {} (at most 1.10)", median(from_call));
    println!("median ratio from the decision in the bucket {}", median(from_decision));
    Ok(())
}

fn median(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    format!("{:.2} [{:.2}..{:.2}]", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1])
}

/// Completes uploads of a byte each.
async fn completed(store: &AmazonS3, place: &str) -> object_store::Result<Duration> {
    let mut uploads = Vec::new();
    for number in 0..FILES {
        let path = Path::from(format!("{place}/part-r-{number:05}"));
        let id = store.create_multipart(&path).await?;
        let part = store.put_part(&path, &id, 0, "x".into()).await?;
        uploads.push((path, id, part));
    }
    let begun = Instant::now();
    let completions = futures::stream::iter(uploads)
        .map(|(path, id, part)| async move { store.complete_multipart(&path, &id, vec![part]).await });
    completions.buffer_unordered(IN_FLIGHT).try_collect::<Vec<_>>().await?;
    Ok(begun.elapsed())
}

/// Publishes files of a byte each: how long until `_SUCCESS` is there, from the call, and from when the decision was. The
/// publication tells of both: to look for them would take the server's time.
fn published(place: &str, moments: &Moments) -> Result<(Duration, Duration), Box<dyn Error>> {
    let output = Uri::parse(&format!("s3://{BUCKET}/{place}"))?;
    let outputs = SharedOutputs::new(&[output], JobId::random(), Existing::Refuse, None)?;
    outputs.begin()?;
    let staging = outputs.join()?.pop().ok_or("a job has an output")?;
    let mut files = Vec::new();
    for number in 0..FILES {
        let mut file = staging.create(&format!("{number}-0"), &format!("part-r-{number:05}"))?;
        file.write_all(b"x")?;
        files.push((0, file.finish()?));
    }
    moments.clear();
    let begun = Instant::now();
    outputs.publish(&files, b"manifest")?;
    let (decided, whole) = (moments.of("decided")?, moments.of("an output is whole")?);
    Ok((whole - begun, whole - decided))
}

/// When the publication told of what.
#[derive(Clone, Default)]
struct Moments(Arc<Mutex<Vec<(String, Instant)>>>);

impl Moments {
    fn clear(&self) {
        self.told().clear();
    }

    /// Of the only event with this message.
    fn of(&self, message: &str) -> Result<Instant, String> {
        let told = self.told();
        let mut times = told.iter().filter(|(told, _)| told == message).map(|(_, at)| *at);
        match (times.next(), times.next()) {
            (Some(at), None) => Ok(at),
            _ => Err(format!("it is to be told once: {message}")),
        }
    }

    fn told(&self) -> MutexGuard<'_, Vec<(String, Instant)>> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl<S: Subscriber> Layer<S> for Moments {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (now, mut message) = (Instant::now(), Message::default());
        event.record(&mut message);
        self.told().push((message.0, now));
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
