//! The page /metrics, in Prometheus' text format: what changes, by name and label.

use std::fmt::Write;

use gristmill_proto::job::ClusterStatus;

use crate::core::CoreCounts;
use crate::gateway::GatewayFigures;

/// The page.
pub(super) fn text(status: &ClusterStatus, counts: &CoreCounts, gateway: GatewayFigures) -> String {
    let mut page = Page(String::new());
    page.gauge("gristmill_epoch", "The master's term: rises with each start.", &[("", status.epoch)]);
    page.gauge("gristmill_uptime_ms", "Since the start of the master.", &[("", status.uptime_ms)]);
    page.gauge(
        "gristmill_jobs",
        "Jobs by state.",
        &[
            ("state=\"preparing\"", counts.jobs_preparing),
            ("state=\"running\"", counts.jobs_running),
            ("state=\"committing\"", counts.jobs_committing),
            ("state=\"ended\"", counts.jobs_remembered),
        ],
    );
    page.counter("gristmill_jobs_submitted_total", "Jobs taken.", counts.jobs_submitted);
    page.counter("gristmill_jobs_ended_total", "Jobs that have ended.", counts.jobs_ended);
    page.gauge(
        "gristmill_tasks",
        "Tasks of live jobs by state.",
        &[
            ("state=\"waiting\"", counts.tasks_waiting),
            ("state=\"running\"", counts.tasks_running),
            ("state=\"done\"", counts.tasks_done),
        ],
    );
    add_attempts(&mut page, counts);
    page.counter("gristmill_map_outputs_lost_total", "Map outputs that were lost.", counts.map_outputs_lost);
    page.counter(
        "gristmill_fetch_failures_total",
        "Fetches of map outputs that failed.",
        counts.fetch_failures,
    );
    page.gauge(
        "gristmill_workers",
        "Workers by state.",
        &[
            ("state=\"live\"", counts.workers_live),
            ("state=\"suspect\"", counts.workers_suspect),
            ("state=\"lost\"", counts.workers_lost),
        ],
    );
    page.counter("gristmill_workers_lost_total", "Workers that were lost.", counts.workers_lost_ever);
    page.gauge(
        "gristmill_slots",
        "Attempts that can run at once.",
        &[
            ("state=\"free\"", counts.slots_free),
            ("state=\"taken\"", counts.slots.saturating_sub(counts.slots_free)),
        ],
    );
    add_gateway(&mut page, gateway);
    page.0
}

fn add_attempts(page: &mut Page, counts: &CoreCounts) {
    page.counter("gristmill_attempts_launched_total", "Attempts given to workers.", counts.attempts_launched);
    page.counter("gristmill_attempts_done_total", "Attempts that won.", counts.attempts_done);
    page.counter(
        "gristmill_attempts_failed_total",
        "Attempts that failed by themselves.",
        counts.attempts_failed,
    );
    page.counter(
        "gristmill_attempts_lost_total",
        "Attempts lost with workers or taken away.",
        counts.attempts_lost,
    );
    page.counter(
        "gristmill_attempts_adopted_total",
        "Attempts of the master before.",
        counts.attempts_adopted,
    );
    page.counter("gristmill_twins_launched_total", "Attempts beside slow ones.", counts.twins_launched);
    page.counter("gristmill_twins_won_total", "Of those, who were done first.", counts.twins_won);
}

fn add_gateway(page: &mut Page, gateway: GatewayFigures) {
    page.gauge("gristmill_gateway_connections", "Connections to workers.", &[("", gateway.connections)]);
    page.counter(
        "gristmill_gateway_passages_total",
        "Connections that were led to workers.",
        gateway.passages,
    );
    page.counter("gristmill_gateway_refused_total", "Connections that were not.", gateway.refused);
    page.counter("gristmill_gateway_bytes_total", "Bytes passed on, both ways.", gateway.bytes);
}

struct Page(String);

impl Page {
    /// Numbers that rise and fall, each with its label.
    fn gauge(&mut self, name: &str, help: &str, samples: &[(&str, u64)]) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for (label, value) in samples {
            let label = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
            self.write(format_args!("{name}{label} {value}\n"));
        }
    }

    /// A number that only rises while the master runs.
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_name_and_a_number() {
        let counts = CoreCounts { jobs_running: 3, slots: 5, slots_free: 2, ..CoreCounts::default() };
        let gateway = GatewayFigures { bytes: 9, ..GatewayFigures::default() };
        let page = text(&ClusterStatus { epoch: 7, ..ClusterStatus::default() }, &counts, gateway);
        assert!(page.contains("\ngristmill_gateway_bytes_total 9\n"));
        assert!(page.contains("\ngristmill_epoch 7\n"));
        assert!(page.contains("\ngristmill_jobs{state=\"running\"} 3\n"));
        assert!(page.contains("\ngristmill_slots{state=\"taken\"} 3\n"));
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once(' ').unwrap();
            assert!(name.starts_with("gristmill_"), "{line}");
            value.parse::<u64>().unwrap();
        }
    }
}
