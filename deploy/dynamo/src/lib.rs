//! A latent-briefing worker as a backend of NVIDIA Dynamo: `dynamo-backend-common`'s trait over [`lb_serve::Service`]. Dynamo's front end
//! makes tokens of a request and text of an answer; README.md says how the field `briefing` travels through it.

mod args;
mod backend;
mod card;
mod reply;
mod request;

pub use args::Args;
pub use backend::Backend;
