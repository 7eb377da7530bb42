//! Tests of `lb-eval`.

mod bench;
mod bench_episodes;
mod bench_report;
mod chain;
mod coordination;
mod datasets;
mod episodes;
mod logs;
mod metrics;
mod prompts;
mod questions;
mod retained;
mod ruler;
mod servers;
mod stats;
mod study;
mod tensor_job;
mod tensor_job_fuzz;
mod trial;
