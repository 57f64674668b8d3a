//! How long the publication of many files takes until `_SUCCESS` is there, beside as many bare completions of uploads: from its
//! call, which follows the job's journaled decision, and from when the bucket has the decision.
//!
//! `bench/s3/run parts` runs it on a server of its own, with the variables of the AWS tools.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::{StreamExt, TryStreamExt};
use gristmill_dfs::{Existing, SharedOutputs, Uri};
use gristmill_proto::ids::JobId;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use tokio::runtime::Runtime;

const BUCKET: &str = "bench";
const FILES: usize = 1000;
/// As many as a publication has.
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 11;
/// Of the time that bare completions take: a publication is not over before that.
const UNSEEN: f64 = 0.8;
/// Looks one after the other would take a third of two processors from what is measured.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

#[test]
#[ignore = "a measurement: bench/s3/run parts"]
fn a_publication_beside_bare_completions() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let store = AmazonS3Builder::from_env().with_bucket_name(BUCKET).with_allow_http(true).build()?;
    let place = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let (mut from_call, mut from_decision) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let bare = runtime.block_on(completed(&store, &format!("bare-{place}-{round}")))?;
        let (called, decided) = published(&runtime, &store, &format!("published-{place}-{round}"), bare)?;
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

/// Publishes files of a byte each: how long until `_SUCCESS` is seen, from the call, and from when the decision was seen. Nobody
/// looks for `_SUCCESS` before the time that the completions take alone has nearly passed, as looks cost the server time. What is
/// there at the first look was quicker than is said.
fn published(
    runtime: &Runtime,
    store: &AmazonS3,
    place: &str,
    bare: Duration,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let output = Uri::parse(&format!("s3://{BUCKET}/{place}"))?;
    let job = JobId::random();
    let outputs = SharedOutputs::new(&[output], job, Existing::Refuse, None)?;
    outputs.begin()?;
    let staging = outputs.join()?.pop().ok_or("a job has an output")?;
    let mut files = Vec::new();
    for number in 0..FILES {
        let mut file = staging.create(&format!("{number}-0"), &format!("part-r-{number:05}"))?;
        file.write_all(b"x")?;
        files.push((0, file.finish()?));
    }
    let decision = Path::from(format!(".gristmill/jobs/{job}/decision"));
    let success = Path::from(format!("{place}/_SUCCESS"));
    let begun = Instant::now();
    thread::scope(|scope| -> Result<(Duration, Duration), Box<dyn Error>> {
        let publishing = scope.spawn(|| outputs.publish(&files, b"manifest"));
        let see = |path: &Path| {
            while runtime.block_on(object_store::ObjectStoreExt::head(store, path)).is_err() {
                if publishing.is_finished() {
                    break;
                }
                thread::sleep(BETWEEN_LOOKS);
            }
            begun.elapsed()
        };
        let decided = see(&decision);
        thread::sleep(bare.mul_f64(UNSEEN));
        let seen = see(&success);
        publishing.join().expect("publishing does not panic")?;
        runtime.block_on(object_store::ObjectStoreExt::head(store, &decision))?;
        Ok((seen, seen - decided))
    })
}
