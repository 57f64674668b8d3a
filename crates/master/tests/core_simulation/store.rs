//! What is durable: records by key, in the order in which they were written last.

use std::collections::BTreeMap;

use gristmill_proto::job_record::{Record, record};

type Key = (&'static str, Vec<u8>, u32, u32);

#[derive(Default)]
pub(crate) struct Store {
    records: BTreeMap<Key, (u64, Record)>,
    written: u64,
}

impl Store {
    pub(crate) fn write(&mut self, record: Record) {
        let key = key(&record);
        if key.0 == "forgotten" {
            self.records.retain(|other, _| other.1 != key.1);
            return;
        }
        self.written += 1;
        self.records.insert(key, (self.written, record));
    }

    pub(crate) fn in_order(&self) -> Vec<Record> {
        let mut all: Vec<&(u64, Record)> = self.records.values().collect();
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, record)| record.clone()).collect()
    }
}

fn key(record: &Record) -> Key {
    let of = |kind, id: &Option<gristmill_proto::task::AttemptId>| {
        let id = id.clone().expect("an attempt");
        (kind, id.job.to_vec(), id.stage, id.task)
    };
    match record.record.as_ref().expect("a record") {
        record::Record::Submitted(it) => ("submitted", it.spec.as_ref().expect("a spec").job.to_vec(), 0, 0),
        record::Record::Won(it) => of("won", &it.attempt),
        record::Record::Lost(it) => of("lost", &it.attempt),
        record::Record::Cut(it) => ("cut", it.job.to_vec(), it.shuffle, 0),
        record::Record::Committing(it) => ("committing", it.job.to_vec(), 0, 0),
        record::Record::Ended(it) => ("ended", it.status.as_ref().expect("a status").job.to_vec(), 0, 0),
        record::Record::TaskWorkers(_) => ("workers", Vec::new(), 0, 0),
        record::Record::Forgotten(it) => ("forgotten", it.job.to_vec(), 0, 0),
        // The cut's own, beside that of task 0.
        record::Record::Failures(it) => {
            ("failures", it.job.to_vec(), it.stage, it.task + (it.next_number >> 31 << 31))
        }
    }
}
