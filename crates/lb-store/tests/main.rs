//! The store from outside: what is asked for comes back, and nothing else ever does.

mod damage;
mod full_disk;
mod index;
mod journals;
mod killed;
mod names;
mod objects;
mod races;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "s3")]
mod s3;
mod support;
mod sweeps;
