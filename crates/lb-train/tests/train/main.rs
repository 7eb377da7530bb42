//! Tests of what is trained: the path against the decoder, gradients against differences, texts and briefings on small workers.

mod briefings;
mod gradients;
mod path;
mod texts;

use lb_testkit as support;
