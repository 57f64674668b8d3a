//! How long the publication of many files takes until `_SUCCESS` is there, beside as many bare completions of uploads.
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
const ROUNDS: usize = 5;
/// Between two looks for `_SUCCESS`: far less than a publication takes.
const LOOK: Duration = Duration::from_millis(5);

#[test]
#[ignore = "a measurement: bench/s3/run parts"]
fn a_publication_beside_bare_completions() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let store = AmazonS3Builder::from_env().with_bucket_name(BUCKET).with_allow_http(true).build()?;
    let place = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let bare = runtime.block_on(completed(&store, &format!("bare-{place}-{round}")))?;
        let published = published(&runtime, &store, &format!("published-{place}-{round}"))?;
        let ratio = published.as_secs_f64() / bare.as_secs_f64();
        println!("{FILES} files: bare {bare:.0?}, published {published:.0?}, ratio {ratio:.2}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2} (at most 1.10)", ratios[ROUNDS / 2]);
    Ok(())
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

/// Publishes files of a byte each; from its beginning until `_SUCCESS` is there.
fn published(runtime: &Runtime, store: &AmazonS3, place: &str) -> Result<Duration, Box<dyn Error>> {
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
    let success = Path::from(format!("{place}/_SUCCESS"));
    let begun = Instant::now();
    thread::scope(|scope| -> Result<Duration, Box<dyn Error>> {
        let publishing = scope.spawn(|| outputs.publish(&files, b"manifest"));
        let seen = loop {
            let look = runtime.block_on(object_store::ObjectStoreExt::head(store, &success));
            if look.is_ok() || publishing.is_finished() {
                break begun.elapsed();
            }
            thread::sleep(LOOK);
        };
        publishing.join().expect("publishing does not panic")?;
        Ok(seen)
    })
}
