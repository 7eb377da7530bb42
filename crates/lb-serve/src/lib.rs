#![doc = include_str!("../README.md")]

mod config;
mod engine;
mod error;
mod http;
mod journal;
mod keys;
mod listen;
mod metrics;
mod refusal;
mod server;
mod tenant;
mod trajectories;
mod wire;

pub use config::ServeConfig;
pub use error::{Error, Result};
pub use http::openapi;
pub use keys::Keys;
pub use refusal::Refusal;
pub use server::{Running, Server};
pub use tenant::Tenant;
