//! What a job did: for people, and as the manifest of its outputs (`docs/formats.md`).

use serde::{Deserialize, Serialize};

/// What a job did: for the summary, `--json`, and what a program prints when its job has committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// Its id on a cluster; a job that ran in its own process has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Wall time, milliseconds.
    pub elapsed_ms: u64,
    /// Counters by name, in the order in which the plan made them.
    pub counters: Vec<CounterReport>,
    /// In the order of the plan.
    pub stages: Vec<StageReport>,
    /// Where the results are.
    pub outputs: Vec<OutputReport>,
    /// Bytes of input read, as stored.
    pub read_bytes: u64,
    /// Bytes that went from map to reduce tasks, as stored.
    pub shuffled_bytes: u64,
    /// Bytes written to scratch space because memory was full, as stored.
    pub spilled_bytes: u64,
    /// Bytes of output written.
    pub written_bytes: u64,
    /// Records that `skip_bad` skipped.
    pub bad_records: u64,
    /// What about the inputs cost time, a sentence each: files that could not be cut into splits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CounterReport {
    /// As the plan named it.
    pub name: String,
    /// Sum over committed attempts.
    pub value: u64,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputReport {
    /// Its directory.
    pub uri: String,
    /// Bytes of all part files.
    pub bytes: u64,
    /// Its part files.
    pub files: Vec<FileReport>,
}

/// One part file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its path within the output.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// CRC-32C of its bytes, eight hexadecimal digits.
    pub crc32c: String,
}

/// One stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// What it is called: `map 1`, `reduce 1`.
    pub name: String,
    /// Number of tasks.
    pub tasks: u64,
    /// Records read; values, in a reduce.
    pub records_in: u64,
    /// Bytes read, as stored.
    pub bytes_in: u64,
    /// Groups, in a reduce.
    pub groups: u64,
    /// Records given to the shuffle, before combining.
    pub records_collected: u64,
    /// Records in the shuffle, after combining.
    pub records_shuffled: u64,
    /// Bytes in the shuffle, as stored.
    pub bytes_shuffled: u64,
    /// Records written to outputs.
    pub records_out: u64,
    /// Bytes written to outputs.
    pub bytes_out: u64,
    /// Name of the slowest task.
    pub slowest_task: String,
    /// How long it ran, milliseconds.
    pub slowest_task_ms: u64,
    /// Bytes read by the task that read most, over the mean: 1 is even.
    pub skew: f64,
    /// Values of the largest group, in a reduce.
    pub largest_group: u64,
}

impl Report {
    /// The value of a counter; zero if the plan has none of this name.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|counter| counter.name == name).map_or(0, |counter| counter.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_the_same_after_json_and_a_local_one_has_no_id() {
        let counters = vec![CounterReport { name: "words".into(), value: 7 }];
        let mut report = Report { job: "word_count".into(), counters, ..Report::default() };
        let json = serde_json::to_string(&report).expect("a report is JSON");
        assert!(!json.contains("job_id"), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).expect("it reads what it wrote"), report);

        report.job_id = Some("00000000-0000-0000-0000-000000000001".into());
        let json = serde_json::to_string(&report).expect("a report is JSON");
        assert_eq!(serde_json::from_str::<Report>(&json).expect("it reads what it wrote"), report);
    }
}
