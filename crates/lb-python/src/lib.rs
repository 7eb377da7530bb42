//! The native half of the Python package `latent_briefing`; what each function takes is documented there.

mod briefing;
mod compact;
mod dlpack;
mod errors;
mod interrupt;
mod rlm;
mod selector;
mod serve;
mod session;
mod settings;
mod tensors;
mod worker;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// Why an object cannot be pickled or copied.
fn refuse_copy(reason: &'static str) -> PyResult<()> {
    Err(PyTypeError::new_err(format!("cannot pickle: {reason}")))
}

/// The module.
#[pymodule(name = "_native")]
fn native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<dlpack::Array>()?;
    module.add_class::<worker::Worker>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<session::Snapshot>()?;
    module.add_class::<session::Answer>()?;
    module.add_class::<briefing::Briefing>()?;
    module.add_class::<rlm::Rlm>()?;
    module.add_class::<rlm::Run>()?;
    module.add_class::<serve::Server>()?;
    module.add_function(wrap_pyfunction!(compact::compact, module)?)?;
    module.add_function(wrap_pyfunction!(selector::register_selector, module)?)?;
    module.add_function(wrap_pyfunction!(selector::selectors, module)?)?;
    module.add_function(wrap_pyfunction!(selector::parse_selector, module)?)?;
    module.add_function(wrap_pyfunction!(worker::settings_json, module)?)?;
    module.add_function(wrap_pyfunction!(serve::serve, module)?)?;
    Ok(())
}
