//! Ways in for fuzz targets, which private readers of hostile bytes have no other.

use crate::protocol::{Event, Frame, read_frame};

/// What a process that runs code may write to its host, as [`MontyRepl`](lb_sandbox::MontyRepl) reads it. Returns the number of
/// frames that were taken.
pub fn wire(mut bytes: &[u8]) -> usize {
    const SNAPSHOT: u64 = 1 << 20;
    let mut taken = 0;
    while let Ok(Some(frame)) = read_frame(&mut bytes, SNAPSHOT) {
        if let Frame::Message(content) = frame
            && serde_json::from_slice::<Event>(&content).is_err()
        {
            break;
        }
        taken += 1;
    }
    taken
}
