//! Share memory between agents as a compacted KV cache.
pub use lb_am as am;
pub use lb_eval as eval;
pub use lb_model as model;
pub use lb_orchestrate as orchestrate;
