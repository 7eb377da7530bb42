//! Tests of `lb-eval`.

mod episodes;
mod trial;
