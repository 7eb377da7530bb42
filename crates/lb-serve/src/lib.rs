#![doc = include_str!("../README.md")]

mod config;
mod engine;
mod error;
mod house;
mod http;
mod journal;
mod keys;
mod listen;
mod metrics;
mod refusal;
mod server;
mod service;
mod tenant;
mod trajectories;
mod wire;

pub use config::ServeConfig;
pub use engine::{Finish, Usage};
pub use error::{Error, Result};
pub use http::openapi;
pub use keys::Keys;
pub use refusal::Refusal;
pub use server::{Running, Server};
pub use service::{Answer, Heard, Manner, Service, Written};
pub use tenant::Tenant;
