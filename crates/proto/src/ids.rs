//! Names of things, each a type of its own.

mod attempt;

use std::fmt;

pub use attempt::{AttemptId, BadAttemptId, CUT_BIT, TaskId};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number_id!(
    /// A block of a file. Given out by the namenode, rising, never again. 0 is no block.
    BlockId,
    "block-"
);
number_id!(
    /// The term of a block's writers: rises with each pipeline rebuild, append and recovery, over all blocks.
    Generation,
    "g"
);
number_id!(
    /// A file or directory of the namespace. 1 is the root, 0 is none.
    InodeId,
    "inode-"
);
number_id!(
    /// A worker of this cluster. 0 is none.
    WorkerId,
    "worker-"
);
number_id!(
    /// A master's term: rises with each start of a master on a data directory.
    Epoch,
    "e"
);

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A new one, from the system's random numbers.
            pub fn random() -> $name {
                $name(*uuid::Uuid::new_v4().as_bytes())
            }

            /// The id in a message, if it has 16 bytes.
            pub fn from_wire(bytes: &[u8]) -> Option<$name> {
                bytes.try_into().ok().map($name)
            }

            /// The id in a text, if the text is one as it is displayed.
            pub fn from_text(text: &str) -> Option<$name> {
                let id = $name(*uuid::Uuid::try_parse(text).ok()?.as_bytes());
                (id.to_string() == text).then_some(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).fmt(f)
            }
        }
    };
}

random_id!(
    /// A cluster, for the whole life of its namespace.
    ClusterId
);
random_id!(
    /// A client: one open connection of a program to the namenode, over all its streams.
    ClientId
);
random_id!(
    /// A job, for ever. Made by its driver.
    JobId
);
random_id!(
    /// One life of a worker process.
    Incarnation
);
random_id!(
    /// A directory in which a worker keeps replicas, for as long as it has them.
    VolumeId
);
