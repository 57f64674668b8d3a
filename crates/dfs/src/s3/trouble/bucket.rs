//! The bucket. Each call may fail before it has an effect, after it, or have its effect later.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use md5::{Digest, Md5};
use object_store::Error;

use super::super::failure::S3Error;
use super::super::layout::{Layout, hex, tag_of_parts};
use super::super::objects::{Completed, Created, Found, Objects, Open};
use super::super::records::{self, Decision};
use super::OUTPUT;

/// One call in so many fails, while there is trouble.
const ONE_IN: u64 = 8;

/// How often each fault has fired.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// 503, a reset in the middle of the body, 200 with an error in it: no effect.
    before: u32,
    /// 500 after success.
    after: u32,
    /// 409 of a conditional put, and nothing is there.
    conflict: u32,
    /// 412 of a conditional put that was ours: the client had tried again.
    own_precondition: u32,
    /// The request arrives when its sender has given it up.
    late: u32,
    /// NoSuchUpload of an upload that the same call has completed.
    no_such_upload: u32,
    /// An upload was begun, no answer came, and the client began another.
    begun_twice: u32,
}

impl Faults {
    pub(super) fn add(&mut self, other: &Faults) {
        self.before += other.before;
        self.after += other.after;
        self.conflict += other.conflict;
        self.own_precondition += other.own_precondition;
        self.late += other.late;
        self.no_such_upload += other.no_such_upload;
        self.begun_twice += other.begun_twice;
    }

    pub(super) fn each_fired(&self) -> bool {
        let Faults { before, after, conflict, own_precondition, late, no_such_upload, begun_twice } = *self;
        let all = [before, after, conflict, own_precondition, late, no_such_upload, begun_twice];
        all.iter().all(|count| *count >= 20)
    }
}

impl Change {
    fn possible(&self) -> &'static [Fault] {
        match self {
            Change::Create(..) => OF_CREATES,
            Change::Complete(..) => OF_COMPLETES,
            Change::Begin(_) => OF_BEGINS,
            Change::Put(..) | Change::Abort(_) | Change::Delete(_) => OF_OTHERS,
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, Bytes),
    Put(String, Bytes),
    Complete(String, String, Vec<String>),
    Begin(String),
    Abort(String),
    Delete(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Before,
    After,
    Late,
    /// What only this kind of call meets.
    Odd,
    /// 409 of a conditional put, and nothing is there.
    Conflict,
    /// Whoever calls dies before it has an effect,
    DiesBefore,
    /// or after.
    DiesAfter,
}

/// A call by its number, the first being 0, and what happens to it.
pub(super) type Planned = (usize, Fault);

/// What can happen to a read,
const OF_READS: &[Fault] = &[Fault::Before, Fault::DiesBefore];
/// and to a change.
const OF_CREATES: &[Fault] = &[
    Fault::Before,
    Fault::After,
    Fault::Late,
    Fault::Odd,
    Fault::Conflict,
    Fault::DiesBefore,
    Fault::DiesAfter,
];
const OF_COMPLETES: &[Fault] =
    &[Fault::Before, Fault::After, Fault::Late, Fault::Odd, Fault::DiesBefore, Fault::DiesAfter];
const OF_BEGINS: &[Fault] = &[Fault::Before, Fault::After, Fault::Odd, Fault::DiesBefore, Fault::DiesAfter];
const OF_OTHERS: &[Fault] = &[Fault::Before, Fault::After, Fault::DiesBefore, Fault::DiesAfter];

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Bytes, String)>,
    uploads: BTreeMap<String, (String, Bytes)>,
    former: BTreeMap<String, Bytes>,
    late: Vec<Change>,
    next_id: u64,
    dice: u64,
    troubled: bool,
    ignores_conditions: bool,
    faults: Faults,
    /// What is to happen, if it is not the dice that say it,
    planned: Vec<Planned>,
    /// and of each call what could.
    calls: Vec<&'static [Fault]>,
    /// Whoever called is dead: what it does has no effect.
    is_dead: bool,
}

pub(super) struct Bucket(Mutex<State>);

fn tag(body: &[u8]) -> String {
    format!("\"{}\"", hex(&Md5::digest(body)))
}

fn trouble() -> S3Error {
    Error::Generic { store: "S3", source: "trouble".into() }.into()
}

impl State {
    fn roll(&mut self, sides: u64) -> u64 {
        // splitmix64
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// What happens to the next call, to which this may.
    fn fault(&mut self, possible: &'static [Fault]) -> Fault {
        if self.is_dead {
            return Fault::Before;
        }
        let number = self.calls.len();
        self.calls.push(possible);
        if let Some(at) = self.planned.iter().position(|planned| planned.0 == number) {
            let (_, fault) = self.planned.remove(at);
            self.is_dead = matches!(fault, Fault::DiesBefore | Fault::DiesAfter);
            return fault;
        }
        if !self.troubled || self.roll(ONE_IN) > 0 {
            return Fault::None;
        }
        match self.roll(4) {
            0 => {
                self.faults.before += 1;
                Fault::Before
            }
            1 => {
                self.faults.after += 1;
                Fault::After
            }
            2 => {
                self.faults.late += 1;
                Fault::Late
            }
            _ => Fault::Odd,
        }
    }

    /// Nothing of the output changes before a commit is decided.
    fn check(&self) {
        let decision = self.objects.get(&Layout::new("job").decision());
        let decision = decision.map(|(text, _)| records::decode::<Decision>(text).expect("a decision"));
        if decision.is_none_or(|decision| decision.commit().is_none()) {
            assert_eq!(self.below(OUTPUT), self.former, "seen before the decision");
        }
    }

    fn below(&self, prefix: &str) -> BTreeMap<String, Bytes> {
        let below =
            |key: &&String| prefix.is_empty() || key.starts_with(&format!("{prefix}/")) || *key == prefix;
        let found = self.objects.iter().filter(|(key, _)| below(key));
        found.map(|(key, (body, _))| (key.clone(), body.clone())).collect()
    }

    /// Whether there was what it needs.
    fn apply(&mut self, change: Change) -> bool {
        let found = match change {
            Change::Create(key, _) if self.objects.contains_key(&key) && !self.ignores_conditions => false,
            Change::Create(key, body) | Change::Put(key, body) => {
                let tag = tag(&body);
                self.objects.insert(key, (body, tag));
                true
            }
            Change::Complete(key, id, tags) => match self.uploads.remove(&id) {
                Some((of, body)) => {
                    assert_eq!(of, key);
                    self.objects.insert(key, (body, tag_of_parts(&tags).expect("MD5s")));
                    true
                }
                None => false,
            },
            Change::Begin(key) => {
                self.next_id += 1;
                self.uploads.insert(self.next_id.to_string(), (key, Bytes::new()));
                true
            }
            Change::Abort(id) => self.uploads.remove(&id).is_some(),
            Change::Delete(keys) => {
                keys.iter().for_each(|key| drop(self.objects.remove(key)));
                true
            }
        };
        self.check();
        found
    }
}

impl Bucket {
    pub(super) fn new(seed: u64) -> Bucket {
        Bucket(Mutex::new(State { dice: seed, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("an assertion failed in another task")
    }

    pub(super) fn roll(&self, sides: u64) -> u64 {
        self.state().roll(sides)
    }

    pub(super) fn trouble(&self) {
        self.state().troubled = true;
    }

    pub(super) fn calm(&self) {
        self.state().troubled = false;
    }

    /// From now on just this happens.
    pub(super) fn plan(&self, planned: &[Planned]) {
        self.state().planned = planned.to_vec();
    }

    /// What was planned, and has not happened.
    pub(super) fn planned(&self) -> Vec<Planned> {
        self.state().planned.clone()
    }

    /// What could have happened to each call so far.
    pub(super) fn calls(&self) -> Vec<&'static [Fault]> {
        self.state().calls.clone()
    }

    /// Another takes the place of whoever died.
    pub(super) fn revive(&self) {
        self.state().is_dead = false;
    }

    pub(super) fn ignore_conditions(&self) {
        self.state().ignores_conditions = true;
    }

    pub(super) fn faults(&self) -> Faults {
        self.state().faults.clone()
    }

    /// An object that was there before the job.
    pub(super) fn place(&self, key: &str, body: &str) {
        let mut state = self.state();
        let body = Bytes::copy_from_slice(body.as_bytes());
        if key == OUTPUT || key.starts_with(&format!("{OUTPUT}/")) {
            state.former.insert(key.to_owned(), body.clone());
        }
        let tag = tag(&body);
        state.objects.insert(key.to_owned(), (body, tag));
    }

    /// Takes it away again.
    pub(super) fn remove(&self, key: &str) {
        let mut state = self.state();
        state.former.remove(key);
        state.objects.remove(key);
    }

    pub(super) fn former(&self) -> BTreeMap<String, Bytes> {
        self.state().former.clone()
    }

    pub(super) fn below(&self, prefix: &str) -> BTreeMap<String, Bytes> {
        self.state().below(prefix)
    }

    pub(super) fn open(&self) -> usize {
        self.state().uploads.len()
    }

    /// An upload of one part.
    pub(super) fn put_part(&self, id: &str, body: Bytes) -> String {
        let tag = tag(&body);
        if let Some(upload) = self.state().uploads.get_mut(id) {
            upload.1 = body;
        }
        tag
    }

    /// What was under way arrives.
    pub(super) fn land_all(&self) {
        let mut state = self.state();
        for change in std::mem::take(&mut state.late) {
            state.apply(change);
        }
    }

    /// Makes a change, with trouble; whether it found what it needs.
    async fn change(&self, change: Change) -> Result<bool, S3Error> {
        // Others come in between.
        for _ in 0..self.roll(3) {
            tokio::task::yield_now().await;
        }
        let mut state = self.state();
        if !state.late.is_empty() && state.roll(4) == 0 {
            let late = state.late.remove(0);
            state.apply(late);
        }
        match state.fault(change.possible()) {
            Fault::None => Ok(state.apply(change)),
            Fault::Before | Fault::DiesBefore => Err(trouble()),
            Fault::After | Fault::DiesAfter => {
                state.apply(change);
                Err(trouble())
            }
            // An upload that begins late, or a record that is old, are told from none by nobody: not of this protocol.
            Fault::Late => {
                if matches!(change, Change::Create(..) | Change::Complete(..)) {
                    state.late.push(change);
                } else {
                    state.apply(change);
                }
                Err(trouble())
            }
            Fault::Conflict => Ok(false),
            Fault::Odd => match &change {
                Change::Create(..) if state.troubled && state.roll(2) == 0 => {
                    state.faults.conflict += 1;
                    Ok(false)
                }
                Change::Create(..) => {
                    state.faults.own_precondition += 1;
                    state.apply(change);
                    Ok(false)
                }
                Change::Complete(..) => {
                    state.faults.no_such_upload += 1;
                    state.apply(change);
                    Ok(false)
                }
                Change::Begin(_) => {
                    state.faults.begun_twice += 1;
                    state.apply(change.clone());
                    Ok(state.apply(change))
                }
                _ => Ok(state.apply(change)),
            },
        }
    }

    async fn read(&self) -> Result<MutexGuard<'_, State>, S3Error> {
        for _ in 0..self.roll(3) {
            tokio::task::yield_now().await;
        }
        let mut state = self.state();
        match state.fault(OF_READS) {
            Fault::None | Fault::Odd => Ok(state),
            _ => Err(trouble()),
        }
    }
}

fn found(key: &str, (body, tag): &(Bytes, String)) -> Found {
    Found { key: key.to_owned(), bytes: body.len() as u64, tag: Some(tag.clone()), modified_ms: 0 }
}

#[async_trait]
impl Objects for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, S3Error> {
        Ok(self.read().await?.objects.get(key).map(|(body, _)| body.clone()))
    }

    async fn create(&self, key: &str, body: Bytes) -> Result<Created, S3Error> {
        let made = self.change(Change::Create(key.to_owned(), body)).await?;
        Ok(if made { Created::New } else { Created::Exists })
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<(), S3Error> {
        self.change(Change::Put(key.to_owned(), body)).await.map(drop)
    }

    async fn look(&self, key: &str) -> Result<Option<Found>, S3Error> {
        Ok(self.read().await?.objects.get(key).map(|object| found(key, object)))
    }

    async fn list(&self, below: &str) -> Result<Vec<Found>, S3Error> {
        let state = self.read().await?;
        let prefix = format!("{below}/");
        let within = state.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        Ok(within.map(|(key, object)| found(key, object)).collect())
    }

    async fn delete(&self, keys: Vec<String>) -> Result<(), S3Error> {
        self.change(Change::Delete(keys)).await.map(drop)
    }

    async fn begin_upload(&self, key: &str) -> Result<String, S3Error> {
        self.change(Change::Begin(key.to_owned())).await?;
        // No other task runs between the change and this.
        Ok(self.state().next_id.to_string())
    }

    async fn complete(&self, key: &str, id: &str, tags: &[String]) -> Result<Completed, S3Error> {
        let made = self.change(Change::Complete(key.to_owned(), id.to_owned(), tags.to_vec())).await?;
        Ok(if made { Completed::Done } else { Completed::Gone })
    }

    async fn abort_upload(&self, _: &str, id: &str) -> Result<(), S3Error> {
        self.change(Change::Abort(id.to_owned())).await.map(drop)
    }

    async fn open_uploads(&self, prefix: &str) -> Result<Vec<Open>, S3Error> {
        let state = self.read().await?;
        let below = state.uploads.iter().filter(|(_, (key, _))| key.starts_with(prefix));
        let open =
            below.map(|(id, (key, _))| Open { key: key.clone(), id: id.clone(), initiated: String::new() });
        Ok(open.collect())
    }
}
