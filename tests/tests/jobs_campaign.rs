//! One fault in each phase of a job, on real processes: the output is that of the local run, byte for byte. The long form
//! is `campaign kills` (docs/reliability.md).

use gristmill_tests::{Baseline, Campaign, Component, Fault, Phase, Scenario, patiently};

/// In each phase another component, so that all components and all faults have their turn.
const FAULTS: [(Phase, Component, Fault); 12] = [
    (Phase::Map, Component::Worker, Fault::Kill),
    (Phase::Map, Component::Driver, Fault::Kill),
    (Phase::Spill, Component::Attempt, Fault::Kill),
    (Phase::Merge, Component::Attempt, Fault::Starve),
    (Phase::Merge, Component::Master, Fault::Pause),
    (Phase::Shuffle, Component::Worker, Fault::Kill),
    (Phase::Shuffle, Component::Master, Fault::Kill),
    (Phase::ReduceMerge, Component::Worker, Fault::Pause),
    (Phase::Reduce, Component::Worker, Fault::Starve),
    (Phase::Commit, Component::Worker, Fault::Kill),
    (Phase::Publish, Component::Master, Fault::Kill),
    (Phase::Published, Component::Driver, Fault::Pause),
];

#[test]
fn a_fault_in_any_phase_changes_nothing_of_the_output_and_nothing_is_left() {
    let mut campaign = Campaign::begin(7);
    for (number, (phase, component, fault)) in FAULTS.into_iter().enumerate() {
        campaign.run(number as u64, Scenario { phase, component, fault });
    }
    let tally = campaign.tally();
    assert_eq!(tally.faults(), FAULTS.len() as u64, "each has proved that it fired: {tally}");
    assert!(tally.lost_attempts >= 1, "workers were killed with attempts on them: {tally}");
    patiently("a master and three workers to be all that runs", || {
        Baseline::of(campaign.cluster()).processes == 4
    });
}
