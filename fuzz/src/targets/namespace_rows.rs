//! Rows of the namenode's store.

use super::Target;
use crate::input::Input;
use gristmill_dfs::namenode::namespace::fuzzing;
use gristmill_proto::ids::InodeId;

pub(super) const TARGET: Target = Target {
    name: "namespace_rows",
    input_bytes_max: 1024,
    memory_bytes: 4 << 10,
    memory_bytes_per_byte: 200,
    run,
};

/// One byte: which table. The rest is the row.
fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let table = input.byte();
    let row = input.rest();
    match table % 5 {
        0 => match fuzzing::inode(InodeId(99), row) {
            Err(error) => assert!(error.to_string().contains("inode 99"), "{error}"),
            Ok((entry, space)) => {
                assert_eq!(entry.inode, 99);
                let replicas = u64::from(entry.replication);
                assert!(entry.is_directory || space >= entry.bytes.saturating_mul(replicas));
            }
        },
        1 => match fuzzing::name_in_key(row) {
            Ok(name) => assert_eq!(name.as_bytes(), &row[8..]),
            Err(error) => assert!(error.to_string().contains("entry"), "{error}"),
        },
        2 => match fuzzing::counters(row) {
            Ok(again) => assert_eq!(again, row),
            Err(error) => assert!(row.len() != 64 && error.to_string().contains("counters"), "{error}"),
        },
        3 => {
            let Some(row) = row.first_chunk() else { return };
            let again = fuzzing::block(row);
            assert_eq!((&again[..28], again[28]), (&row[..28], u8::from(row[28] != 0)));
        }
        _ => {
            let Some(row) = row.first_chunk() else { return };
            assert_eq!(fuzzing::client(row), *row);
        }
    }
}
