//! Tests of `lb-am` against a naive f64 reference.
