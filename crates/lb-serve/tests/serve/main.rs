//! A server on loopback, with the built-in worker, as clients see it.

#[cfg(unix)]
mod bounds;
mod chat;
mod dynamo;
mod engine;
mod messages;
mod operations;
mod service;
mod stored;
mod support;
mod tenants;
mod trajectories;
