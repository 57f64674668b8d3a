//! What the namespace does for its clients and for the keepers of blocks, call by call.

mod attributes;
mod crashes;
mod damage;
mod deletion;
mod disk;
mod leases;
mod model;
mod names;
mod permissions;
mod properties;
mod quotas;
mod reads;
mod renaming;
mod retries;
mod services;
mod store;
mod story;
mod writing;
