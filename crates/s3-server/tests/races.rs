//! Many want the same: exactly one gets it.

mod server;

use std::sync::Arc;

use futures::future::join_all;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use server::Running;
use server::raw::{Answer, hex};
use tokio::sync::Barrier;

const BUCKET: &str = "races";
const RACERS: usize = 16;

fn running(dir: &std::path::Path) -> (Running, Arc<AmazonS3>) {
    let running = Running::with_bucket(dir, BUCKET);
    let store = Arc::new(running.store(BUCKET));
    (running, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_that_create_a_key_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (_running, store) = running(dir.path());
    for round in 0..60 {
        let key = Path::from(format!("key/{round}"));
        let barrier = Arc::new(Barrier::new(RACERS));
        let racers = (0..RACERS).map(|racer| {
            let (store, key, barrier) = (Arc::clone(&store), key.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                store.put_opts(&key, format!("racer {racer}").into(), PutMode::Create.into()).await
            })
        });
        let outcomes = join_all(racers).await;
        let mut winners = Vec::new();
        for (racer, outcome) in outcomes.into_iter().enumerate() {
            match outcome.unwrap() {
                Ok(_) => winners.push(racer),
                Err(Error::AlreadyExists { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let there = store.get(&key).await.unwrap().bytes().await.unwrap();
        assert_eq!(there, format!("racer {}", winners[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_of_a_counter_is_lost() {
    const UPDATES: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let (_running, store) = running(dir.path());
    let key = Path::from("counter");
    store.put(&key, "0".into()).await.unwrap();
    let writers = (0..8).map(|_| {
        let (store, key) = (Arc::clone(&store), key.clone());
        tokio::spawn(async move {
            let mut done = 0;
            while done < UPDATES {
                let found = store.get(&key).await.unwrap();
                let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: None };
                let text = String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap();
                let next = (text.parse::<u64>().unwrap() + 1).to_string();
                match store.put_opts(&key, next.into(), PutMode::Update(version).into()).await {
                    Ok(_) => done += 1,
                    Err(Error::Precondition { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "80");
}

#[test]
fn of_sixteen_uploads_that_complete_into_a_new_key_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), BUCKET);
    let client = running.client();
    for round in 0..10 {
        let target = format!("/{BUCKET}/commit/{round}");
        let uploads: Vec<String> = (0..RACERS)
            .map(|_| client.send("POST", &format!("{target}?uploads"), &[], b"").ok().one("UploadId"))
            .collect();
        let barrier = std::sync::Barrier::new(RACERS);
        let (client, target, barrier) = (&client, target.as_str(), &barrier);
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let racers: Vec<_> = uploads
                .iter()
                .map(|upload| {
                    scope.spawn(move || {
                        let part = client.put(&format!("{target}?partNumber=1&uploadId={upload}"), upload.as_bytes());
                        let etag = part.ok().header("etag").to_owned();
                        let xml = format!(
                            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
                             </CompleteMultipartUpload>"
                        );
                        barrier.wait();
                        let create = [("if-none-match", "*")];
                        client.send("POST", &format!("{target}?uploadId={upload}"), &create, xml.as_bytes())
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..RACERS).filter(|racer| answers[*racer].status == 200).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        let losers = answers.iter().filter(|answer| answer.status != 200);
        losers.for_each(|answer| answer.refused(412, "PreconditionFailed"));
        assert_eq!(client.get(target).ok().text(), uploads[winners[0]]);
        // The others are as they were, and can be aborted.
        for (racer, upload) in uploads.iter().enumerate() {
            let aborted = client.delete(&format!("{target}?uploadId={upload}"));
            assert_eq!(aborted.status, if racer == winners[0] { 404 } else { 204 });
        }
    }
    // What lost has left no file.
    drop(running);
    assert_eq!(data_files(dir.path()), 10);
}

#[test]
fn readers_see_one_version_or_another_and_each_whole() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_bucket(dir.path(), BUCKET);
    let (client, target) = (running.client(), format!("/{BUCKET}/busy"));
    // More than a chunk, so that a version can vanish in the middle of it.
    let version = |letter: u8| vec![letter; 700_000];
    client.put(&target, &version(b'a')).ok();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..40 {
                client.put(&target, &version(b'a' + round % 26)).ok();
            }
        });
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = 0;
                    while seen < 40 {
                        let body = client.get(&target).ok().body;
                        assert_eq!(body, version(body[0]));
                        seen += 1;
                    }
                })
            })
            .collect();
        writer.join().unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    drop(running);
    assert_eq!(data_files(dir.path()), 1, "old versions are removed after their last reader");
}

fn data_files(dir: &std::path::Path) -> usize {
    let shards = (0..=255u8).map(|shard| dir.join("objects").join(hex(&[shard])));
    shards.map(|shard| std::fs::read_dir(shard).unwrap().count()).sum()
}
