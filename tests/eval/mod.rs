//! Tests of `lb-eval`.

mod episodes;
mod overhead;
mod study;
mod tensor_job;
mod tensor_job_fuzz;
mod trial;
