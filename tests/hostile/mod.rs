//! Inputs and neighbours that mean harm: nothing escapes a limit, nothing that was synced is lost.

#[cfg(feature = "monty")]
mod full_disk;
#[cfg(feature = "monty")]
mod host_calls;
mod readers;
mod shown;
mod templates;
mod two_processes;
mod writers;
