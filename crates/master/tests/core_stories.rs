//! What the core decides, one theme a file: a cluster is driven by events, and what it orders is looked at.

#[path = "core_stories/cluster.rs"]
mod cluster;
#[path = "core_stories/consumers.rs"]
mod consumers;
#[path = "core_stories/endings.rs"]
mod endings;
#[path = "core_stories/failures.rs"]
mod failures;
#[path = "core_stories/losses.rs"]
mod losses;
#[path = "core_simulation/plans.rs"]
#[allow(dead_code)]
mod plans;
#[path = "core_stories/restarts.rs"]
mod restarts;
#[path = "core_stories/scheduling.rs"]
mod scheduling;
#[path = "core_stories/twins.rs"]
mod twins;
