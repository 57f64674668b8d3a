//! Chooses the cuts of a range shuffle from samples of the indexes of all map outputs (decision 3).

use super::errand::{Errand, OwnOutput};
use super::fault::Fault;
use super::fetch::{FetchError, FetchOptions, wait_for};
use super::fetcher::Fetcher;
use super::holder::HolderConnection;
use super::intake::Pack;
use super::sources::Sources;
use super::work::Wanted;
use crate::range::RangeCuts;
use crate::run_file::INDEX_KEY_BYTES;
use gristmill_proto::bulk::SAMPLE_ENTRIES_MAX;
use gristmill_proto::messages::SampleIndex;
use gristmill_proto::messages::request::Operation;

/// Entries of all samples together: about 16 MiB with their keys. Below it every block counts.
const ENTRIES_MAX: u32 = 200_000;
/// Of each map output, however many there are.
const ENTRIES_MIN: u32 = 4;

/// First keys and the bytes from each up to the next, ascending.
type Sample = Vec<(Vec<u8>, u64)>;

/// Chooses cuts for at most `partitions` ranges of about equal bytes, from all map outputs, and encodes them
/// (`docs/formats.md`). Blocks until the outputs of all map tasks are there.
pub fn cut(options: &FetchOptions, sources: &Sources, partitions: u32) -> Result<Vec<u8>, FetchError> {
    let expected = wait_for(options, sources, |news| news.expected.is_some())?.expected.unwrap_or(0);
    let entries_max = (ENTRIES_MAX / expected.max(1)).clamp(ENTRIES_MIN, SAMPLE_ENTRIES_MAX);
    let (samples, _) = Fetcher::new(options, sources, &SampleErrand { entries_max }).run()?;
    let sample = samples.iter().flatten().map(|(key, bytes)| (&key[..], *bytes)).collect();
    Ok(RangeCuts::of_sample(sample, partitions).encode())
}

struct SampleErrand {
    entries_max: u32,
}

impl Errand for SampleErrand {
    type Got = Sample;

    fn operation(&self, wanted: &Wanted) -> Operation {
        let output = Some(wanted.output.to_wire());
        Operation::SampleIndex(SampleIndex { output, entries_max: self.entries_max })
    }

    fn receive(
        &self,
        connection: &mut HolderConnection,
        wanted: &Wanted,
        _pack: &mut Pack,
    ) -> Result<Sample, Fault> {
        let nothing = |address: &str| Fault::Mismatch { address: address.to_owned(), what: "no sample" };
        let sample = connection.answer()?.sample.ok_or_else(|| nothing(connection.address()))?;
        connection.check_output(wanted, sample.output.as_ref(), &sample.digest)?;
        let fits = sample.entries.len() <= self.entries_max as usize
            && sample.entries.iter().all(|entry| entry.key.len() <= INDEX_KEY_BYTES);
        if !fits {
            let address = connection.address().to_owned();
            return Err(Fault::Mismatch { address, what: "a sample that is too long" });
        }
        Ok(sample.entries.into_iter().map(|entry| (entry.key.to_vec(), entry.bytes)).collect())
    }

    fn own(&self, own: OwnOutput, _wanted: &Wanted, _pack: &mut Pack) -> Result<Sample, Fault> {
        let sample = own.index.sample(self.entries_max);
        Ok(sample.into_iter().map(|(key, bytes)| (key.to_vec(), bytes)).collect())
    }
}
