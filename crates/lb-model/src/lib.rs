//! Qwen3-class decoder on candle with an explicit, compactable KV cache.
