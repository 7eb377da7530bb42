//! Tests of `lb-model`.
