//! A small job, of whose calls each fails once in each way it can, and then each two of them.

use super::bucket::{Fault, Planned};
use super::*;

/// Attempts of each task that come to their end: the first wins.
const ATTEMPTS: [u64; 2] = [2, 1];

/// What each call of a run could have met, and how the job ended.
struct Told {
    calls: Vec<&'static [Fault]>,
    begun: bool,
}

/// The beginning, by one master after the other. False: the job is refused.
async fn begin(bucket: &Arc<Bucket>) -> bool {
    for _ in 0..MASTERS_MAX {
        bucket.revive();
        match group(bucket, "job", Existing::Overwrite).begin().await {
            Ok(()) => return true,
            Err(GroupError::Request(_)) => {}
            Err(GroupError::Claimed { staging, .. }) if staging.is_empty() => return false,
            Err(GroupError::NoConditions) => return false,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("no master came through")
}

async fn write(bucket: &Arc<Bucket>) -> Story {
    let group = group(bucket, "job", Existing::Overwrite);
    let (mut winners, mut bodies) = (Vec::new(), BTreeMap::new());
    for (task, attempts) in ATTEMPTS.into_iter().enumerate() {
        let (name, mut ended) = (format!("part-r-{task:05}"), 0);
        let key = group.key(0, &name);
        for number in 0.. {
            bucket.revive();
            let attempt = format!("{task}-{number}");
            let Ok(id) = group.begin_upload(&attempt, &key).await else { continue };
            let body = Bytes::from(format!("{name} of attempt {attempt}"));
            let tags = vec![bucket.put_part(&id, body.clone())];
            if ended == 0 {
                let receipt = serde_json::to_string(&Receipt { id, tags }).expect("JSON");
                let (bytes, name) = (body.len() as u64, name.clone());
                winners.push(StagedFile { attempt, name, bytes, receipt });
                bodies.insert(key.clone(), body);
            }
            ended += 1;
            if ended == attempts {
                break;
            }
        }
    }
    Story { bucket: bucket.clone(), group, winners, bodies }
}

/// Runs the job with just these faults, all of which must fire.
fn tell(aborts: bool, faults: &[Planned]) -> Told {
    let bucket = Arc::new(Bucket::new(1));
    bucket.place(&format!("{OUTPUT}/part-old"), "former");
    bucket.plan(faults);
    run(async {
        let begun = begin(&bucket).await;
        let (mut calls, mut left) = (bucket.calls(), bucket.planned());
        if begun {
            let (story, mut seen) = (write(&bucket).await, Seen::default());
            story.end(aborts, &mut seen).await;
            (calls, left) = (bucket.calls(), bucket.planned());
            story.check(&mut seen).await;
            assert_eq!((seen.committed, seen.aborted), if aborts { (0, 1) } else { (1, 0) });
        } else {
            bucket.land_all();
            assert_eq!(bucket.below(OUTPUT), bucket.former(), "nothing has changed");
        }
        assert_eq!(left, [], "this did not come up, of {faults:?}");
        Told { calls, begun }
    })
}

/// Each fault of the calls from this one on, after these.
fn later(first: &[Planned], from: usize, told: &Told) -> Vec<Vec<Planned>> {
    let calls = told.calls.iter().enumerate().skip(from);
    let faults = calls.flat_map(|(number, possible)| possible.iter().map(move |fault| (number, *fault)));
    faults.map(|fault| [first, &[fault]].concat()).collect()
}

#[test]
fn each_call_fails_once_and_each_two_calls_and_the_output_is_whole_or_not_there() {
    for aborts in [false, true] {
        let singles = later(&[], 0, &tell(aborts, &[]));
        let (mut pairs, mut refused) = (0, 0);
        for single in &singles {
            let told = tell(aborts, single);
            refused += u32::from(!told.begun);
            for pair in later(single, single[0].0 + 1, &told) {
                refused += u32::from(!tell(aborts, &pair).begun);
                pairs += 1;
            }
        }
        println!("{} faults, {pairs} pairs, {refused} jobs refused", singles.len());
    }
}
