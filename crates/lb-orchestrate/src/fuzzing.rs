//! Ways in for fuzz targets, which private readers of hostile bytes have no other.

/// What a server may send as a streamed reply; the first byte chooses the protocol. Returns whether it is a completion.
#[cfg(feature = "api")]
pub fn stream(bytes: &[u8]) -> bool {
    crate::orchestrator::api::fuzzing::stream(bytes)
}
