//! Which type each tensor of a written file gets.

use candle_core::quantized::GgmlDType;

/// How the weights of a GGUF file are stored; names as llama.cpp uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GgufFormat {
    /// 32 bits.
    F32,
    /// 16 bits, IEEE.
    F16,
    /// 16 bits, the exponent of f32.
    Bf16,
    /// 8.5 bits per weight, blocks of 32.
    Q8_0,
    /// 6.6 bits, blocks of 256.
    Q6K,
    /// 5.5 bits; values and down projections of half the layers, and the head, in Q6_K.
    Q5KM,
    /// 4.5 bits; values and down projections of half the layers, and the head, in Q6_K.
    Q4KM,
    /// 3.4 bits, the head in Q6_K.
    Q3K,
    /// 2.6 bits, the head in Q6_K.
    Q2K,
    /// 6 bits with an offset, blocks of 32; the head in Q6_K.
    Q5_1,
    /// 5.5 bits, blocks of 32; the head in Q6_K.
    Q5_0,
    /// 5 bits with an offset, blocks of 32; the head in Q6_K.
    Q4_1,
    /// 4.5 bits, blocks of 32; the head in Q6_K.
    Q4_0,
}

/// Name, type of most weights, and `general.file_type`.
const FORMATS: [(GgufFormat, &str, GgmlDType, u32); 13] = [
    (GgufFormat::F32, "f32", GgmlDType::F32, 0),
    (GgufFormat::F16, "f16", GgmlDType::F16, 1),
    (GgufFormat::Bf16, "bf16", GgmlDType::BF16, 32),
    (GgufFormat::Q8_0, "q8_0", GgmlDType::Q8_0, 7),
    (GgufFormat::Q6K, "q6_k", GgmlDType::Q6K, 18),
    (GgufFormat::Q5KM, "q5_k_m", GgmlDType::Q5K, 17),
    (GgufFormat::Q4KM, "q4_k_m", GgmlDType::Q4K, 15),
    (GgufFormat::Q3K, "q3_k", GgmlDType::Q3K, 11),
    (GgufFormat::Q2K, "q2_k", GgmlDType::Q2K, 10),
    (GgufFormat::Q5_1, "q5_1", GgmlDType::Q5_1, 9),
    (GgufFormat::Q5_0, "q5_0", GgmlDType::Q5_0, 8),
    (GgufFormat::Q4_1, "q4_1", GgmlDType::Q4_1, 3),
    (GgufFormat::Q4_0, "q4_0", GgmlDType::Q4_0, 2),
];

/// A matrix among the tensors of a file.
pub(super) struct Matrix<'a> {
    pub(super) name: &'a str,
    pub(super) columns: usize,
    pub(super) layers: usize,
    pub(super) tied: bool,
}

impl GgufFormat {
    /// Every format, from the widest to the narrowest.
    pub fn all() -> impl Iterator<Item = Self> {
        FORMATS.iter().map(|row| row.0)
    }

    /// Its name in lower case, such as `q4_k_m`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The format of a name, in either case.
    pub fn from_name(name: &str) -> Option<Self> {
        FORMATS.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, GgmlDType, u32) {
        FORMATS.iter().find(|row| row.0 == self).unwrap_or(&FORMATS[0])
    }

    pub(super) fn file_type(self) -> u32 {
        self.row().3
    }

    /// The type of a matrix.
    pub(super) fn dtype(self, matrix: &Matrix<'_>) -> GgmlDType {
        let base = self.row().2;
        if matrix.name.contains("ffn_gate_inp") {
            return GgmlDType::F32;
        }
        if base.block_size() == 1 || self == Self::Q8_0 {
            return fitting(base, matrix.columns);
        }
        let head = matrix.name == "output.weight" || (matrix.tied && matrix.name == "token_embd.weight");
        let mixed = matches!(self, Self::Q4KM | Self::Q5KM);
        let fine = ["attn_v", "ffn_down"].iter().any(|part| matrix.name.contains(part));
        let more = mixed && fine && layer(matrix.name).is_some_and(|layer| wants_more(layer, matrix.layers));
        fitting(if head || more { GgmlDType::Q6K } else { base }, matrix.columns)
    }
}

/// N of `blk.N.`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// The layers that llama.cpp's mixes give more bits: the first and last eighth, and every third between.
fn wants_more(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// Where rows are no whole blocks of 256, a type of blocks of 32 with as many bits or more; f16 where they are not
/// even that. As llama.cpp does.
fn fitting(dtype: GgmlDType, columns: usize) -> GgmlDType {
    let fits = |dtype: GgmlDType| columns.is_multiple_of(dtype.block_size());
    let smaller = match dtype {
        GgmlDType::Q2K | GgmlDType::Q3K => GgmlDType::Q4_0,
        GgmlDType::Q4K => GgmlDType::Q5_0,
        GgmlDType::Q5K => GgmlDType::Q5_1,
        GgmlDType::Q6K => GgmlDType::Q8_0,
        other => other,
    };
    [dtype, smaller].into_iter().find(|dtype| fits(*dtype)).unwrap_or(GgmlDType::F16)
}

#[cfg(test)]
mod tests {
    use super::{GgmlDType, GgufFormat, Matrix};

    fn dtype(format: GgufFormat, name: &str, columns: usize) -> GgmlDType {
        format.dtype(&Matrix { name, columns, layers: 28, tied: false })
    }

    #[test]
    fn mixes_are_those_of_llama_cpp() {
        let q4 = |name| dtype(GgufFormat::Q4KM, name, 1024);
        assert_eq!(q4("blk.0.attn_v.weight"), GgmlDType::Q6K);
        assert_eq!(q4("blk.3.attn_v.weight"), GgmlDType::Q4K);
        assert_eq!(q4("blk.5.ffn_down.weight"), GgmlDType::Q6K);
        assert_eq!(q4("blk.5.ffn_down_exps.weight"), GgmlDType::Q6K);
        assert_eq!(q4("blk.24.attn_v.weight"), GgmlDType::Q6K);
        assert_eq!(q4("blk.0.attn_k.weight"), GgmlDType::Q4K);
        assert_eq!(q4("output.weight"), GgmlDType::Q6K);
        assert_eq!(q4("token_embd.weight"), GgmlDType::Q4K);
        assert_eq!(q4("blk.0.ffn_gate_inp.weight"), GgmlDType::F32);
        assert_eq!(dtype(GgufFormat::Q8_0, "output.weight", 1024), GgmlDType::Q8_0);
        assert_eq!(dtype(GgufFormat::Q4KM, "blk.3.attn_q.weight", 192), GgmlDType::Q5_0);
        assert_eq!(dtype(GgufFormat::Q5KM, "blk.3.attn_q.weight", 192), GgmlDType::Q5_1);
        assert_eq!(dtype(GgufFormat::Q6K, "blk.3.attn_q.weight", 192), GgmlDType::Q8_0);
        assert_eq!(dtype(GgufFormat::Q8_0, "blk.3.attn_q.weight", 40), GgmlDType::F16);
    }

    #[test]
    fn formats_go_by_their_names() {
        for format in GgufFormat::all() {
            assert_eq!(GgufFormat::from_name(&format.name().to_uppercase()), Some(format));
        }
        assert_eq!(GgufFormat::from_name("iq4_xs"), None);
    }
}
