//! A bucket in memory that fails in all the ways that S3 does, and jobs that commit to it nevertheless.

mod bucket;
mod exhaustive;

use std::collections::BTreeMap;
use std::sync::Arc;

use bucket::{Bucket, Faults};
use bytes::Bytes;

use super::group::{Group, GroupError, Standing};
use super::objects::Objects;
use super::publication::PublicationError;
use super::records::{Receipt, Verdict};
use crate::store::{Existing, SUCCESS_FILE, StagedFile};

const ITERATIONS: u64 = 600;
const OUTPUT: &str = "data/out";
/// Masters that follow each other until one comes through: far more than the faults of an iteration.
const MASTERS_MAX: usize = 200;

fn group(bucket: &Arc<Bucket>, job: &str, existing: Existing) -> Group {
    Group::new(bucket.clone(), job, vec![OUTPUT.to_owned()], existing)
}

/// What all iterations together have seen: a fault that never fires proves nothing.
#[derive(Debug, Default)]
struct Seen {
    committed: u32,
    aborted: u32,
    /// Publications that failed and were done again by the next master.
    replayed: u32,
    /// Masters that found what another had decided against them.
    overruled: u32,
    zombies_refused: u32,
}

/// One job on a troubled bucket.
struct Story {
    bucket: Arc<Bucket>,
    group: Group,
    winners: Vec<StagedFile>,
    bodies: BTreeMap<String, Bytes>,
}

impl Story {
    /// Attempts of some tasks, several of each, some of which end in the middle. The first that reports wins.
    async fn write(bucket: Arc<Bucket>) -> Story {
        let group = group(&bucket, "job", Existing::Overwrite);
        let (mut winners, mut bodies) = (Vec::new(), BTreeMap::new());
        for task in 0..1 + bucket.roll(5) {
            let name = format!("part-r-{task:05}");
            let key = group.key(0, &name);
            let mut won = false;
            for number in 0.. {
                let attempt = format!("{task}-{number}");
                let begun = group.begin_upload(&attempt, &key).await;
                let dies = number < 20 && bucket.roll(4) == 0;
                let Ok(id) = begun else { continue };
                if dies {
                    continue;
                }
                let body = Bytes::from(format!("{name} of attempt {attempt}"));
                let tag = bucket.put_part(&id, body.clone());
                if !won {
                    won = true;
                    let receipt = serde_json::to_string(&Receipt { id, tags: vec![tag] }).expect("JSON");
                    let (bytes, name) = (body.len() as u64, name.clone());
                    winners.push(StagedFile { attempt, name, bytes, receipt });
                    bodies.insert(key.clone(), body);
                }
                // A twin that reports too late writes on.
                if bucket.roll(3) > 0 {
                    break;
                }
            }
        }
        Story { bucket, group, winners, bodies }
    }

    /// What one master does to publish.
    async fn publish(&self) -> Result<(), GroupError> {
        if self.group.standing().await? == Standing::Done {
            return self.group.clean_up().await;
        }
        let commit = self.group.commit_of(std::slice::from_ref(&self.winners), b"manifest").await?;
        self.group.publish(commit).await?;
        self.group.clean_up().await
    }

    /// What one master does to give up.
    async fn abort(&self) -> Result<(), GroupError> {
        self.group.abort().await?;
        self.group.clean_up().await
    }

    /// Masters until one comes through; the trouble ends before the last.
    async fn end(&self, aborts: bool, seen: &mut Seen) {
        for master in 0..MASTERS_MAX {
            if master == MASTERS_MAX / 2 {
                self.bucket.calm();
            }
            self.bucket.revive();
            let ended = if aborts { self.abort().await } else { self.publish().await };
            match ended {
                Ok(()) => return,
                Err(GroupError::Publication(PublicationError::Aborted)) => {
                    seen.overruled += 1;
                    return;
                }
                Err(GroupError::Publication(PublicationError::Lost { key })) => panic!("{key} is lost"),
                Err(_) => seen.replayed += 1,
            }
        }
        panic!("no master came through");
    }

    /// What must be true at the end, whatever happened.
    async fn check(&self, seen: &mut Seen) {
        self.bucket.calm();
        self.bucket.land_all();
        // An attempt that was cut off comes back after everything has ended.
        let zombie = self.group.begin_upload("zombie", &self.group.key(0, "part-r-00000")).await;
        assert!(matches!(zombie, Err(GroupError::Decided)), "{zombie:?}");
        seen.zombies_refused += 1;
        // Somebody cleans up once more: a master that restarts does.
        self.group.clean_up().await.expect("the bucket is calm");
        let mut visible = self.bucket.below(OUTPUT);
        match self.group.decision().await.expect("calm").expect("it was decided").verdict {
            Verdict::Commit(_) => {
                seen.committed += 1;
                let success = visible.remove(&self.group.key(0, SUCCESS_FILE));
                assert_eq!(success.as_deref(), Some(&b"manifest"[..]), "the output says that it is whole");
                assert_eq!(visible, self.bodies, "each task's file, of one attempt, whole");
            }
            Verdict::Abort => {
                seen.aborted += 1;
                assert_eq!(visible, self.bucket.former(), "nothing has changed");
            }
        }
        assert_eq!(self.bucket.open(), 0, "no upload is left open");
        assert_eq!(self.bucket.below(".gristmill/claims"), BTreeMap::new(), "the output is free again");
    }
}

fn run<T>(story: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(story)
}

#[test]
fn whatever_fails_the_output_appears_once_and_whole_or_not_at_all() {
    let mut seen = Seen::default();
    let mut faults = Faults::default();
    for seed in 0..ITERATIONS {
        let bucket = Arc::new(Bucket::new(seed));
        run(async {
            for former in 0..bucket.roll(3) {
                bucket.place(&format!("{OUTPUT}/part-old-{former}"), "former");
            }
            group(&bucket, "job", Existing::Overwrite).begin().await.expect("the bucket is calm");
            bucket.trouble();
            let story = Story::write(bucket.clone()).await;
            match bucket.roll(4) {
                // Two masters at once, of which each believes to be the only one.
                0 => {
                    let (mut one, mut other) = (Seen::default(), Seen::default());
                    futures::join!(story.end(false, &mut one), story.end(false, &mut other));
                    seen.replayed += one.replayed + other.replayed;
                }
                // One publishes, the other has been told to kill the job.
                1 => {
                    let (mut one, mut other) = (Seen::default(), Seen::default());
                    futures::join!(story.end(false, &mut one), story.end(true, &mut other));
                    seen.overruled += one.overruled;
                }
                2 => story.end(true, &mut seen).await,
                _ => story.end(false, &mut seen).await,
            }
            story.check(&mut seen).await;
        });
        faults.add(&bucket.faults());
    }
    let Seen { committed, aborted, replayed, overruled, zombies_refused } = seen;
    let all = [committed, aborted, replayed, overruled, zombies_refused];
    assert!(all.iter().all(|count| *count >= 20), "{seen:?}");
    assert_eq!(u64::from(committed + aborted), ITERATIONS);
    assert!(faults.each_fired(), "{faults:?}");
}

#[test]
fn a_bucket_that_ignores_conditions_is_refused() {
    let bucket = Arc::new(Bucket::new(1));
    bucket.ignore_conditions();
    let refused = run(group(&bucket, "job", Existing::Refuse).begin());
    assert!(matches!(refused, Err(GroupError::NoConditions)), "{refused:?}");
    assert_eq!(bucket.below(""), BTreeMap::new(), "nothing is left");
}

#[test]
fn one_output_has_one_writer() {
    let bucket = Arc::new(Bucket::new(2));
    run(async {
        group(&bucket, "first", Existing::Refuse).begin().await.expect("it is free");
        group(&bucket, "first", Existing::Refuse).begin().await.expect("it is ours");
        let second = group(&bucket, "second", Existing::Overwrite).begin().await;
        assert!(matches!(second, Err(GroupError::Claimed { staging, .. }) if staging == "first"));
        let first = group(&bucket, "first", Existing::Refuse);
        assert!(first.abort().await.expect("calm"));
        first.clean_up().await.expect("calm");
        group(&bucket, "second", Existing::Refuse).begin().await.expect("it is free again");
    });
}

#[test]
fn an_output_that_exists_stays() {
    let bucket = Arc::new(Bucket::new(3));
    for occupied in [format!("{OUTPUT}/x"), OUTPUT.to_owned()] {
        bucket.place(&occupied, "former");
        let refused = run(group(&bucket, "job", Existing::Refuse).begin());
        assert!(matches!(refused, Err(GroupError::Exists { .. })), "{refused:?}");
        assert_eq!(bucket.below(".gristmill"), BTreeMap::new(), "no claim is left");
        bucket.remove(&occupied);
    }
    bucket.place(&format!("{OUTPUT}-beside"), "of somebody else");
    run(group(&bucket, "job", Existing::Refuse).begin()).expect("what is beside it is not in it");
}

#[test]
fn an_upload_that_became_something_else_is_not_taken_for_the_output() {
    let bucket = Arc::new(Bucket::new(4));
    run(async {
        group(&bucket, "job", Existing::Overwrite).begin().await.expect("calm");
        let story = Story::write(bucket.clone()).await;
        let lost = &story.winners[0];
        let receipt: Receipt = serde_json::from_str(&lost.receipt).expect("a receipt");
        let key = story.group.key(0, &lost.name);
        bucket.abort_upload(&key, &receipt.id).await.expect("calm");
        let published = story.publish().await;
        assert!(
            matches!(&published, Err(GroupError::Publication(PublicationError::Lost { key: lost })) if *lost == key),
            "{published:?}"
        );
        assert!(
            !bucket.below(OUTPUT).contains_key(&story.group.key(0, SUCCESS_FILE)),
            "it does not say it is whole"
        );
    });
}
