//! What a core worker does with blocks.

pub mod block_store;
pub mod scrub;
