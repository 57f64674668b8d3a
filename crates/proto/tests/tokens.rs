//! Tokens with any content: what was signed is allowed, nothing else is, and no bytes make a verifier panic.

use gristmill_proto::auth::{BlockKey, Operation, Role, Secret, TOKEN_BYTES_MAX, TokenError, Wanted};
use gristmill_proto::ids::{BlockId, ClusterId, Generation};
use gristmill_proto::messages::BlockToken;
use proptest::collection::vec;
use proptest::prelude::*;

const CLUSTER: ClusterId = ClusterId([1; 16]);

fn secret() -> Secret {
    Secret::from_bytes(b"a secret of the tests of this crate").unwrap()
}

fn key() -> BlockKey {
    BlockKey::from_secret(&secret(), CLUSTER)
}

prop_compose! {
    fn tokens()(
        epoch: u64,
        block: u64,
        generation in 0..6_u64,
        operations in 0..8_u32,
        expires_ms in 0..6_u64,
        user in "\\PC{0,60}",
    ) -> BlockToken {
        let cluster_id = CLUSTER.0.to_vec().into();
        BlockToken { cluster_id, epoch, block, generation, operations, expires_ms, user }
    }
}

proptest! {
    #[test]
    fn a_token_allows_exactly_what_it_says(
        token in tokens(),
        other_block in any::<bool>(),
        generation in 0..6_u64,
        write: bool,
        now_ms in 0..6_u64,
    ) {
        let operation = if write { Operation::Write } else { Operation::Read };
        let block = BlockId(token.block.wrapping_add(u64::from(other_block)));
        let generation_fits =
            if write { generation == token.generation } else { generation >= token.generation };
        let allowed = !other_block
            && generation_fits
            && token.operations & operation.bit() != 0
            && now_ms < token.expires_ms;
        let want = Wanted { cluster: CLUSTER, block, generation: Generation(generation), operation, now_ms };
        match key().verify(&key().sign(&token), &want) {
            Ok(found) => {
                prop_assert!(allowed, "{token:?} allowed {want:?}");
                prop_assert_eq!(found, token);
            }
            Err(error) => prop_assert!(!allowed, "{token:?} does not allow {want:?}: {error}"),
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in vec(any::<u8>(), 0..2 * TOKEN_BYTES_MAX), text in "\\PC*") {
        let (block, generation) = (BlockId(1), Generation(1));
        let want = Wanted { cluster: CLUSTER, block, generation, operation: Operation::Read, now_ms: 0 };
        match key().verify(&bytes, &want).unwrap_err() {
            TokenError::TooLong { .. } => prop_assert!(bytes.len() > TOKEN_BYTES_MAX),
            error => prop_assert!(matches!(error, TokenError::Forged), "{error}"),
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for token in [hex, text] {
            secret().check_caller(&token, Role::Client, "namespace", 0).unwrap_err();
        }
    }

    #[test]
    fn a_block_token_is_no_caller_token(token in tokens()) {
        let hex: String = key().sign(&token).iter().map(|byte| format!("{byte:02x}")).collect();
        let error = secret().check_caller(&hex, Role::Client, "namespace", 0).unwrap_err();
        prop_assert!(matches!(error, TokenError::Forged), "{error}");
    }
}
