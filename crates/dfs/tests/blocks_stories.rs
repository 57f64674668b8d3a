//! Each rule of the block core, as a story.

#[path = "blocks_stories/attendance.rs"]
mod attendance;
#[path = "blocks_stories/cluster.rs"]
mod cluster;
#[path = "blocks_stories/healing.rs"]
mod healing;
#[path = "blocks_stories/leaving.rs"]
mod leaving;
#[path = "blocks_stories/placement.rs"]
mod placement;
#[path = "blocks_stories/recovery.rs"]
mod recovery;
#[path = "blocks_stories/replicas.rs"]
mod replicas;
#[path = "blocks_stories/reports.rs"]
mod reports;
