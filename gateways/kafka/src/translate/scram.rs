//! SCRAM mechanisms as requests number them (KIP-554).

use gateway_runtime::scram::Hash;

pub const SCRAM_HASHES: [Hash; 2] = [Hash::Sha256, Hash::Sha512];

pub fn mechanism_code(hash: Hash) -> i8 {
    match hash {
        Hash::Sha256 => 1,
        Hash::Sha512 => 2,
    }
}

pub fn hash_of(code: i8) -> Option<Hash> {
    SCRAM_HASHES.into_iter().find(|hash| mechanism_code(*hash) == code)
}
