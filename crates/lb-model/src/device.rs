//! Which device to run on.

use candle_core::Device;

use crate::{Error, Result};

/// The best device this build can use: the first GPU with the features `cuda` or `metal`, else the CPU.
///
/// # Errors
/// [`Error::Device`] when the build has a GPU feature and the GPU cannot be opened: no silent step back to the CPU.
pub fn auto() -> Result<Device> {
    if cfg!(feature = "cuda") {
        return open("cuda:0", Device::new_cuda(0));
    }
    if cfg!(feature = "metal") {
        return open("metal:0", Device::new_metal(0));
    }
    Ok(Device::Cpu)
}

fn open(name: &str, device: candle_core::Result<Device>) -> Result<Device> {
    device.map_err(|e| Error::Device { device: name.to_string(), reason: e.to_string() })
}
