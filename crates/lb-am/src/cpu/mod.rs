//! The heavy stages on the CPU, head by head, by [`lb_kernels`]. Other devices run the same stages as tensor
//! operations over all heads at once; tests hold the two together.

mod fit;
mod gather;
mod layers;
mod nnls;
mod observe;

pub(crate) use fit::{BetaPart, HeadFit, ValuesPart, dual_of, knows};
pub(crate) use gather::gather;
pub(crate) use layers::{Cut, assemble, fit_layers, layers_together};
pub(crate) use observe::observe_all;
