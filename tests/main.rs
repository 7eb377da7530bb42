//! One integration test binary; each module pins one stage of the data flow.
mod support;

mod am;
mod eval;
mod model;
mod orchestrate;
