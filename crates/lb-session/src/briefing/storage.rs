//! What slots are stored in.

use lb_am::PackedBits;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What keys and values are stored in. In fewer bits a cache takes fewer bytes for as many positions: keys lie on a grid for each
/// channel of 32 slots, values on one for each 32 channels of a slot (KIVI, arXiv 2402.02750). On the CPU alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// The dtype of the worker's cache.
    #[default]
    Full,
    /// 8 bits and the grids.
    Bits8,
    /// 4 bits and the grids.
    Bits4,
    /// 2 bits and the grids.
    Bits2,
}

impl Storage {
    /// The bits of a number, where slots are packed.
    pub fn bits(self) -> Option<PackedBits> {
        match self {
            Self::Full => None,
            Self::Bits8 => Some(PackedBits::Eight),
            Self::Bits4 => Some(PackedBits::Four),
            Self::Bits2 => Some(PackedBits::Two),
        }
    }

    /// From the number of bits as a short text has it; 16 stands for [`Full`](Self::Full).
    ///
    /// # Errors
    /// [`Error::Config`] for any other number.
    pub fn of_bits(bits: &str) -> Result<Self> {
        match bits {
            "16" => Ok(Self::Full),
            "8" => Ok(Self::Bits8),
            "4" => Ok(Self::Bits4),
            "2" => Ok(Self::Bits2),
            other => Err(Error::config("bits", format!("{other:?}"), "want 16, 8, 4 or 2")),
        }
    }
}
