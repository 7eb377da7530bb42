//! Metadata of a GGUF file.

use std::ops::Range;

/// Types of a value; integers of all widths are alike once read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

/// In the order of their numbers.
const TYPES: [Type; 13] = [
    Type::U8,
    Type::I8,
    Type::U16,
    Type::I16,
    Type::U32,
    Type::I32,
    Type::F32,
    Type::Bool,
    Type::Text,
    Type::Array,
    Type::U64,
    Type::I64,
    Type::F64,
];

impl Type {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        TYPES.get(number as usize).copied()
    }

    pub(super) fn number(self) -> u32 {
        self as u32
    }

    /// Bytes of one value, the fewest for strings and lists.
    pub(super) fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::Text | Self::Array | Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// A value; strings and lists are places in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    List { kind: Type, count: usize, range: Range<usize> },
}

impl Value {
    /// A value of fixed size from its bytes; `None` for a boolean other than 0 and 1.
    pub(super) fn scalar(kind: Type, bytes: &[u8]) -> Option<Self> {
        let wide = |fill: u8| -> [u8; 8] { std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(fill)) };
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        match kind {
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => Some(Self::Unsigned(u64::from_le_bytes(wide(0)))),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => {
                Some(Self::Signed(i64::from_le_bytes(wide(if negative { 0xFF } else { 0 }))))
            }
            Type::F32 => {
                let bits = u32::from_le_bytes(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0)));
                Some(Self::Float(f64::from(f32::from_bits(bits))))
            }
            Type::F64 => Some(Self::Float(f64::from_le_bytes(wide(0)))),
            Type::Bool => match bytes {
                [0] => Some(Self::Bool(false)),
                [1] => Some(Self::Bool(true)),
                _ => None,
            },
            Type::Text | Type::Array => None,
        }
    }

    /// What it is, for errors.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Text(_) => "a string",
            Self::List { .. } => "a list",
        }
    }

    /// A number of any type.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Unsigned(n) => Some(*n as f64),
            Self::Signed(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::Text(_) | Self::List { .. } => None,
        }
    }

    /// An integer that is not negative.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::Unsigned(n) => usize::try_from(*n).ok(),
            Self::Signed(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Type, Value};

    #[test]
    fn integers_of_every_width_keep_their_sign() {
        assert_eq!(Value::scalar(Type::I8, &[0xFE]), Some(Value::Signed(-2)));
        assert_eq!(Value::scalar(Type::I16, &[0x01, 0x80]), Some(Value::Signed(-32767)));
        assert_eq!(Value::scalar(Type::U16, &[0x01, 0x80]), Some(Value::Unsigned(32769)));
        assert_eq!(Value::scalar(Type::I32, &7i32.to_le_bytes()), Some(Value::Signed(7)));
        assert_eq!(Value::scalar(Type::F32, &1.5f32.to_le_bytes()), Some(Value::Float(1.5)));
        assert_eq!(Value::scalar(Type::Bool, &[2]), None);
        assert_eq!(Value::Signed(-1).count(), None);
    }
}
