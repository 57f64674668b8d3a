//! Messages of the control streams, of bulk headers and of the namenode's store.

use super::Target;
use gristmill_proto::{attendance, messages, namespace, record};
use prost::Message;
use std::fmt::Debug;

pub(super) const TARGET: Target = Target {
    name: "message",
    input_bytes_max: 2048,
    memory_bytes: 16 << 10,
    // A message within a message takes two bytes if it is empty, and memory as if it were not.
    memory_bytes_per_byte: 1200,
    run,
};

const TYPES: [fn(&[u8]); 14] = [
    check::<namespace::Calls>,
    check::<namespace::Answers>,
    check::<attendance::Notice>,
    check::<attendance::Orders>,
    check::<attendance::BlockReport>,
    check::<attendance::ReportAnswer>,
    check::<messages::Request>,
    check::<messages::Reply>,
    check::<messages::Packet>,
    check::<messages::Ack>,
    check::<messages::Broken>,
    check::<messages::BlockToken>,
    check::<messages::CallerToken>,
    check::<record::Inode>,
];

/// One byte: which message. The rest is one.
fn run(bytes: &[u8]) {
    if let Some((&number, encoded)) = bytes.split_first() {
        TYPES[usize::from(number) % TYPES.len()](encoded);
    }
}

fn check<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    match M::decode(bytes) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(message) => {
            let encoded = message.encode_to_vec();
            assert_eq!(encoded.len(), message.encoded_len());
            let again = M::decode(&encoded[..]).expect("it was written");
            assert_eq!(again, message);
            assert_eq!(again.encode_to_vec(), encoded);
        }
    }
}
