//! Peak memory of one step.

/// Runs `step` and tells by how many bytes the process grew beyond what it held before, at its peak.
///
/// Linux keeps the largest resident size of a process (`VmHWM` in `/proc/self/status`) and forgets it when 5 is written to
/// `/proc/self/clear_refs`. `None` elsewhere, and where that is not allowed. Memory that the allocator kept from earlier
/// steps is not seen, so what is to be measured should run first. Memory of a GPU is not seen at all.
pub fn peak_extra<T>(step: impl FnOnce() -> T) -> (T, Option<u64>) {
    let before = std::fs::write("/proc/self/clear_refs", "5").ok().and_then(|()| status_bytes("VmRSS:"));
    let result = step();
    let peak = before.and_then(|before| Some(status_bytes("VmHWM:")?.saturating_sub(before)));
    (result, peak)
}

/// The most memory that this process ever held, in MiB; `None` where Linux does not tell.
pub fn peak_mib() -> Option<f64> {
    Some(status_bytes("VmHWM:")? as f64 / f64::from(1 << 20))
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
