//! One integration test binary; each module pins one stage of the data flow.
mod support;

mod cli;
mod eval;
mod hostile;
mod model;
mod orchestrate;
