//! Shared helpers.
pub(crate) mod caches;
pub(crate) mod oracle;
pub(crate) mod checkpoints;
pub(crate) mod compare;
pub(crate) mod naive_model;
