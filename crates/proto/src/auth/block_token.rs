//! Block tokens: the master signs them, clients carry them, workers check them. No worker asks the master.

use std::fmt;

use super::signature;
use super::{Secret, TokenError};
use crate::ids::{BlockId, ClusterId, Generation};
use crate::messages::BlockToken;

/// How long a block token is good. A token is checked when a transfer starts, so this bounds how long a reader can use
/// what it located at the start of a file; after that it locates the rest again.
pub const BLOCK_TOKEN_LIFETIME_MS: u64 = 10 * 60 * 60 * 1000;

const LABEL: &str = "gristmill block key 1\n";

/// What is done to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Its bytes are read.
    Read,
    /// A replica of it is made, rebuilt or appended to.
    Write,
}

impl Operation {
    /// Its bit in `BlockToken.operations`.
    pub fn bit(self) -> u32 {
        match self {
            Operation::Read => 1,
            Operation::Write => 2,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Read => "read",
            Operation::Write => "write",
        })
    }
}

/// What a request needs a token for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The worker's cluster.
    pub cluster: ClusterId,
    /// The block.
    pub block: BlockId,
    /// As in the request: what a write makes; the least that a reader takes.
    pub generation: Generation,
    /// What is to be done.
    pub operation: Operation,
    /// Wall time, since 1970.
    pub now_ms: u64,
}

/// The key of a cluster's block tokens.
#[derive(Clone)]
pub struct BlockKey {
    bytes: [u8; 32],
}

impl BlockKey {
    /// The key of the cluster with this secret: the same in every process, and another one in every cluster.
    pub fn from_secret(secret: &Secret, cluster: ClusterId) -> BlockKey {
        BlockKey { bytes: secret.derive(LABEL, &cluster.0) }
    }

    /// A new key, for one life of a master of a cluster without a secret.
    pub fn random() -> BlockKey {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        BlockKey { bytes }
    }

    /// The key in a message (`Welcome.open_key`), if it has 32 bytes.
    pub fn from_wire(bytes: &[u8]) -> Option<BlockKey> {
        bytes.try_into().ok().map(|bytes| BlockKey { bytes })
    }

    /// The key for a message, to workers of a cluster without a secret only.
    pub fn to_wire(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }

    /// The token that says so. It is refused by all if it is longer than [`super::TOKEN_BYTES_MAX`], which can only be
    /// by its user's name.
    pub fn sign(&self, token: &BlockToken) -> Vec<u8> {
        signature::sign(&self.bytes, token)
    }

    /// The content of `token`, if it allows what is wanted: a write in exactly its generation, a read in its generation
    /// or a later one.
    ///
    /// The epoch in it is for the record. It is not checked, as a token may outlive the master that gave it out: what
    /// fences old writers is the generation, in the replica and here.
    pub fn verify(&self, token: &[u8], want: &Wanted) -> Result<BlockToken, TokenError> {
        let token: BlockToken = signature::open(&self.bytes, token)?;
        let Wanted { cluster, block, generation: wanted, operation, now_ms } = *want;
        let theirs = ClusterId::from_wire(&token.cluster_id);
        if theirs != Some(cluster) {
            return Err(TokenError::WrongCluster { theirs, ours: cluster });
        }
        if token.block != block.0 {
            return Err(TokenError::WrongBlock { theirs: BlockId(token.block), wanted: block });
        }
        if token.operations & operation.bit() == 0 {
            return Err(TokenError::NotAllowed { block, operation });
        }
        let theirs = Generation(token.generation);
        let good = match operation {
            Operation::Read => wanted >= theirs,
            Operation::Write => wanted == theirs,
        };
        if !good {
            return Err(TokenError::WrongGeneration { block, theirs, wanted, operation });
        }
        if now_ms >= token.expires_ms {
            return Err(TokenError::Expired { ago_ms: now_ms - token.expires_ms });
        }
        Ok(token)
    }
}

impl fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([7; 16]);
    const NOW_MS: u64 = 1_800_000_000_000;

    fn secret() -> Secret {
        Secret::from_bytes(&[b's'; 32]).unwrap()
    }

    fn key() -> BlockKey {
        BlockKey::from_secret(&secret(), CLUSTER)
    }

    fn token(operation: Operation) -> BlockToken {
        BlockToken {
            cluster_id: CLUSTER.0.to_vec().into(),
            epoch: 3,
            block: 42,
            generation: 9,
            operations: operation.bit(),
            expires_ms: NOW_MS + 1,
            user: "ann".to_owned(),
        }
    }

    fn want(operation: Operation) -> Wanted {
        let (block, generation) = (BlockId(42), Generation(9));
        Wanted { cluster: CLUSTER, block, generation, operation, now_ms: NOW_MS }
    }

    #[test]
    fn a_token_allows_what_it_says() {
        for operation in [Operation::Read, Operation::Write] {
            let signed = key().sign(&token(operation));
            assert_eq!(key().verify(&signed, &want(operation)).unwrap(), token(operation));
        }
        let mut both = token(Operation::Read);
        both.operations |= Operation::Write.bit();
        let signed = key().sign(&both);
        key().verify(&signed, &want(Operation::Read)).unwrap();
        key().verify(&signed, &want(Operation::Write)).unwrap();
    }

    #[test]
    fn and_nothing_else() {
        let (key, signed) = (key(), key().sign(&token(Operation::Write)));
        let write = want(Operation::Write);
        let refused = |want: Wanted| key.verify(&signed, &want).unwrap_err();
        let cluster = ClusterId([8; 16]);
        let error = refused(Wanted { cluster, ..write });
        assert!(matches!(error, TokenError::WrongCluster { theirs: Some(CLUSTER), .. }), "{error}");
        let error = refused(Wanted { block: BlockId(43), ..write });
        assert_eq!(error.to_string(), "the token is for block-42, not for block-43");
        let error = refused(want(Operation::Read));
        assert_eq!(error.to_string(), "the token does not allow a read of block-42");
        let error = refused(Wanted { now_ms: NOW_MS + 1, ..write });
        assert!(matches!(error, TokenError::Expired { ago_ms: 0 }), "{error}");
    }

    #[test]
    fn a_writer_has_one_generation_and_a_reader_all_from_one_on() {
        let outcome = |operation, generation| {
            let wanted = Wanted { generation: Generation(generation), ..want(operation) };
            key().verify(&key().sign(&token(operation)), &wanted)
        };
        for generation in [8, 10] {
            let error = outcome(Operation::Write, generation).unwrap_err();
            let said = format!(
                "the token is for generation g9: it allows no write of block-42 in generation g{generation}"
            );
            assert_eq!(error.to_string(), said);
        }
        assert!(matches!(outcome(Operation::Read, 8), Err(TokenError::WrongGeneration { .. })));
        outcome(Operation::Read, 10).unwrap();
        outcome(Operation::Read, u64::MAX).unwrap();
    }

    #[test]
    fn every_bit_of_a_token_counts() {
        let signed = key().sign(&token(Operation::Write));
        for bit in 0..signed.len() * 8 {
            let mut forged = signed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let error = key().verify(&forged, &want(Operation::Write)).unwrap_err();
            assert!(matches!(error, TokenError::Forged), "bit {bit}: {error}");
        }
        for length in 0..signed.len() {
            let error = key().verify(&signed[..length], &want(Operation::Write)).unwrap_err();
            assert!(matches!(error, TokenError::Forged), "{length} bytes: {error}");
        }
    }

    #[test]
    fn a_key_is_of_one_secret_and_one_cluster() {
        let signed = key().sign(&token(Operation::Write));
        let other_secret = BlockKey::from_secret(&Secret::from_bytes(&[b't'; 32]).unwrap(), CLUSTER);
        let other_cluster = BlockKey::from_secret(&secret(), ClusterId([8; 16]));
        for other in [other_secret, other_cluster, BlockKey::random()] {
            let error = other.verify(&signed, &want(Operation::Write)).unwrap_err();
            assert!(matches!(error, TokenError::Forged), "{error}");
        }
    }

    #[test]
    fn an_open_key_travels() {
        let key = BlockKey::random();
        assert_ne!(key.to_wire(), BlockKey::random().to_wire());
        let arrived = BlockKey::from_wire(&key.to_wire()).unwrap();
        arrived.verify(&key.sign(&token(Operation::Read)), &want(Operation::Read)).unwrap();
        assert!(BlockKey::from_wire(&key.to_wire()[1..]).is_none());
        assert!(BlockKey::from_wire(&[]).is_none());
        assert_eq!(format!("{key:?}"), "BlockKey(redacted)");
    }

    #[test]
    fn what_is_signed_but_strange_is_refused() {
        let no_cluster = BlockToken { cluster_id: Default::default(), ..token(Operation::Read) };
        let error = key().verify(&key().sign(&no_cluster), &want(Operation::Read)).unwrap_err();
        assert!(matches!(error, TokenError::WrongCluster { theirs: None, .. }), "{error}");

        let long = BlockToken { user: "u".repeat(1024), ..token(Operation::Read) };
        let error = key().verify(&key().sign(&long), &want(Operation::Read)).unwrap_err();
        assert!(matches!(error, TokenError::TooLong { max: 1024, .. }), "{error}");

        let mut no_message = signature::hmac(&key().bytes, &[b"\xff\xff"]).to_vec();
        no_message.extend(b"\xff\xff");
        let error = key().verify(&no_message, &want(Operation::Read)).unwrap_err();
        assert!(matches!(error, TokenError::Decode(_)), "{error}");
    }
}
