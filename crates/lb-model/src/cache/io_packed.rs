//! Packed chunks of a saved cache: codes in U8 and grids in F16, under the names of keys and values.

use candle_core::{DType, Device, Tensor};
use lb_am::PackedLayer;
use lb_kernels::{Grids, PackedBits, PackedRows};

use super::slots::PackedSlots;
use crate::safefile::SafeFile;
use crate::{Error, Result};

/// The tensors of a packed chunk whose keys and values have these names.
pub(super) fn to_tensors(packed: &PackedSlots, [keys, values]: [&str; 2]) -> Result<Vec<(String, Tensor)>> {
    // Only views that live for one attention begin elsewhere.
    if packed.range.start > 0 {
        return Err(Error::cache("packed slots that do not begin with their run are not saved"));
    }
    let mut tensors = Vec::new();
    for (name, rows) in [(keys, &packed.keys), (values, &packed.values)] {
        let rows = rows.first(packed.range.end);
        tensors.push((format!("{name}.codes"), Tensor::new(rows.codes(), &Device::Cpu)?));
        tensors.push((format!("{name}.grid"), Tensor::new(rows.grid(), &Device::Cpu)?));
    }
    Ok(tensors)
}

/// Reads what [`to_tensors`] has written, for heads of so many slots.
pub(super) fn load(
    file: &mut SafeFile,
    [keys, values]: [&str; 2],
    counts: &[usize],
    width: usize,
    (bits, dtype): (PackedBits, DType),
) -> Result<PackedSlots> {
    let mut rows = |name: &str, grids: Grids| -> Result<PackedRows> {
        let [codes_len, grid_len] = PackedRows::lens(counts, width, grids, bits);
        let codes = file.load_codes(&format!("{name}.codes"), codes_len)?;
        let name = format!("{name}.grid");
        let expected = vec![grid_len];
        if let Some(got) = file.shape(&name).filter(|got| *got != expected) {
            let (file, got) = (file.path().to_path_buf(), got.to_vec());
            return Err(Error::TensorShape { name, file, expected, got });
        }
        let grid = file.load_finite(&name, &Device::Cpu)?;
        if grid.dtype() != DType::F16 {
            let reason = format!("`{name}` is {:?}, not F16", grid.dtype());
            return Err(Error::Corrupt { path: file.path().to_path_buf(), reason });
        }
        Ok(PackedRows::from_parts(counts.to_vec(), width, grids, bits, codes, grid.to_vec1()?)?)
    };
    let (keys, values) = (rows(keys, Grids::PerChannel)?.into(), rows(values, Grids::PerRow)?.into());
    Ok(PackedSlots::new(&PackedLayer { keys, values }, dtype))
}

/// The dtype of a cache by its name in a header.
pub(super) fn dtype_of(name: &str) -> Option<DType> {
    [DType::F32, DType::F16, DType::BF16].into_iter().find(|dtype| dtype.as_str() == name)
}
