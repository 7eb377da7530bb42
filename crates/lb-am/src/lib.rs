//! Attention Matching: KV cache compaction on plain tensors.
