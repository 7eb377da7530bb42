//! Model shapes: as many numbers as a cache and a layer need.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Width of a head of every named shape.
const HEAD_DIM: usize = 128;
/// Largest number of layers, KV heads or query heads a KV head, and largest head width, of a shape that is given.
const MOST: usize = 1024;

/// The sizes of a decoder that its cache, its compaction and its prefill depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// What it goes by: `qwen3-4b`, or `LxHxGxD`.
    pub name: String,
    /// Decoder layers.
    pub layers: usize,
    /// KV heads a layer.
    pub kv_heads: usize,
    /// Query heads per KV head.
    pub group_size: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Width of the residual stream; all query heads together for a shape that is given by its cache alone.
    pub hidden: usize,
    /// Inner width of the MLP; three times `hidden` for a shape that is given by its cache alone.
    pub intermediate: usize,
}

impl Shape {
    /// Qwen3-0.6B: 28 layers, 8 KV heads, 2 query heads each.
    pub fn qwen3_0_6b() -> Self {
        Self::named("qwen3-0.6b", 28, 2, 1024, 3072)
    }

    /// Qwen3-4B: 36 layers, 8 KV heads, 4 query heads each.
    pub fn qwen3_4b() -> Self {
        Self::named("qwen3-4b", 36, 4, 2560, 9728)
    }

    /// Qwen3-14B: 40 layers, 8 KV heads, 5 query heads each.
    pub fn qwen3_14b() -> Self {
        Self::named("qwen3-14b", 40, 5, 5120, 17408)
    }

    fn named(name: &str, layers: usize, group_size: usize, hidden: usize, intermediate: usize) -> Self {
        let (kv_heads, head_dim) = (8, HEAD_DIM);
        Self { name: name.to_owned(), layers, kv_heads, group_size, head_dim, hidden, intermediate }
    }

    /// Query heads a layer.
    pub fn query_heads(&self) -> usize {
        self.kv_heads * self.group_size
    }

    /// Numbers in the keys and values of one layer at one position.
    pub fn per_position(&self) -> usize {
        2 * self.kv_heads * self.head_dim
    }

    /// Floating point operations of one layer's linear maps for one token: two per weight.
    pub fn linear_flops(&self) -> f64 {
        let attention = 2 * self.hidden * self.head_dim * (self.query_heads() + self.kv_heads);
        2.0 * (attention + 3 * self.hidden * self.intermediate) as f64
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Shape {
    type Err = Error;

    /// `qwen3-0.6b`, `qwen3-4b`, `qwen3-14b` (the `qwen3-` may be left out), or `LxHxGxD`: layers, KV heads, query heads
    /// per KV head, head width.
    ///
    /// # Errors
    /// [`Error::Config`] for anything else, zeros, odd head widths and numbers above 1024.
    fn from_str(name: &str) -> Result<Self> {
        match name.strip_prefix("qwen3-").unwrap_or(name) {
            "0.6b" => return Ok(Self::qwen3_0_6b()),
            "4b" => return Ok(Self::qwen3_4b()),
            "14b" => return Ok(Self::qwen3_14b()),
            _ => {}
        }
        let refuse = |reason| Error::config("shape", name, reason);
        let form = "need qwen3-0.6b, 4b, 14b, or LAYERSxKV_HEADSxGROUP_SIZExHEAD_DIM such as 28x8x2x128";
        let number = |part: &str| part.parse().map_err(|_| refuse(form));
        let numbers: Vec<usize> = name.split('x').map(number).collect::<Result<_>>()?;
        let &[layers, kv_heads, group_size, head_dim] = &numbers[..] else { return Err(refuse(form)) };
        if !numbers.iter().all(|number| (1..=MOST).contains(number)) {
            return Err(refuse("each number must be within 1..=1024"));
        }
        if head_dim % 2 == 1 {
            return Err(refuse("the head width must be even, as rotation needs"));
        }
        let hidden = kv_heads * group_size * head_dim;
        let intermediate = 3 * hidden;
        Ok(Self { name: name.to_owned(), layers, kv_heads, group_size, head_dim, hidden, intermediate })
    }
}
