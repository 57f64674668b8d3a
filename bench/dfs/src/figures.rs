//! How figures are printed.

use std::time::Duration;

/// The middle of some ratios, and their range, as `0.92x [0.90..0.97]`.
pub(crate) fn ratio(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let (first, last) = (ratios[0], ratios[ratios.len() - 1]);
    format!("{:.2}x [{first:.2}..{last:.2}]", ratios[ratios.len() / 2])
}

/// The middle of some times.
pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// MiB a second.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    format!("{:.0} MiB/s", bytes as f64 / 1048576.0 / time.as_secs_f64())
}

/// The value below which `share` of the sorted times lie.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    sorted[index.min(sorted.len() - 1)]
}
