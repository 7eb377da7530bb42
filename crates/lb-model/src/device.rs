//! Which device to run on.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::{Error, Result};

/// The environment variable that [`auto`] heeds: `auto`, `cpu`, `cuda`, `cuda:1`, `metal`, `metal:1`.
pub const VARIABLE: &str = "LATENT_BRIEFING_DEVICE";

/// A device by name, as in a flag or in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// What [`VARIABLE`] says; without it the first GPU that this build can use, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, by number.
    Cuda(usize),
    /// An Apple GPU, by number.
    Metal(usize),
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`] when this build lacks the feature for it or it cannot be opened: no silent step back to the
    /// CPU. [`Error::Config`] for a value of [`VARIABLE`] that names no device.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => self.gpu("cuda", || cuda(index)),
            Self::Metal(index) => self.gpu("metal", || Device::new_metal(index)),
            Self::Auto => match from_environment()? {
                Self::Auto => first(),
                named => named.open(),
            },
        }
    }

    /// Whether this build has what the device takes; whether the machine has one shows [`open`](Self::open).
    pub fn is_built(self) -> bool {
        match self {
            Self::Auto | Self::Cpu => true,
            Self::Cuda(_) => cfg!(feature = "cuda"),
            Self::Metal(_) => cfg!(feature = "metal"),
        }
    }

    fn gpu(self, feature: &str, open: impl FnOnce() -> candle_core::Result<Device>) -> Result<Device> {
        let error = |reason: String| Error::Device { device: self.to_string(), reason };
        if !self.is_built() {
            return Err(error(format!("this build lacks the feature `{feature}`")));
        }
        open().map_err(|e| error(e.to_string()))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal(index) => write!(f, "metal:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let unknown = || Error::Config {
            field: "device",
            value: name.to_owned(),
            reason: "auto, cpu, cuda, cuda:N, metal or metal:N".to_owned(),
        };
        let (kind, index) = match name.split_once(':') {
            None => (name, 0),
            Some((kind, index)) => (kind, index.parse().map_err(|_| unknown())?),
        };
        match kind {
            "auto" if kind == name => Ok(Self::Auto),
            "cpu" if kind == name => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(index)),
            "metal" => Ok(Self::Metal(index)),
            _ => Err(unknown()),
        }
    }
}

/// The device of [`VARIABLE`], or the best one this build can use.
///
/// # Errors
/// Those of [`DeviceChoice::open`].
pub fn auto() -> Result<Device> {
    DeviceChoice::Auto.open()
}

fn from_environment() -> Result<DeviceChoice> {
    match std::env::var(VARIABLE) {
        Ok(name) if !name.is_empty() => name.parse().map_err(|_| Error::Config {
            field: VARIABLE,
            value: name.clone(),
            reason: "auto, cpu, cuda, cuda:N, metal or metal:N".to_owned(),
        }),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(DeviceChoice::Auto),
        Err(std::env::VarError::NotUnicode(value)) => Err(Error::Config {
            field: VARIABLE,
            value: value.to_string_lossy().into_owned(),
            reason: "valid unicode".to_owned(),
        }),
    }
}

fn first() -> Result<Device> {
    if cfg!(feature = "cuda") {
        return DeviceChoice::Cuda(0).open();
    }
    if cfg!(feature = "metal") {
        return DeviceChoice::Metal(0).open();
    }
    Ok(Device::Cpu)
}

fn cuda(index: usize) -> candle_core::Result<Device> {
    Device::new_cuda(index)
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice;
    use crate::Error;

    #[test]
    fn names_are_read_and_written() {
        for (name, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("metal:3", DeviceChoice::Metal(3)),
        ] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1", "CUDA"] {
            let error = name.parse::<DeviceChoice>().unwrap_err();
            assert!(matches!(error, Error::Config { field: "device", .. }), "{error}");
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_this_build_lacks_is_an_error() {
        assert!(DeviceChoice::Cpu.open().unwrap().is_cpu());
        for choice in [DeviceChoice::Cuda(0), DeviceChoice::Metal(1)] {
            let error = choice.open().unwrap_err();
            assert!(matches!(error, Error::Device { .. }), "{error}");
            assert!(error.to_string().contains(&choice.to_string()), "{error}");
        }
    }
}
