//! The machine and the build.

use std::thread::available_parallelism;

use lb_model::DeviceChoice;
use serde_json::json;

use super::Finding;

pub(super) fn build() -> Finding {
    let features: Vec<&str> = [("hub", cfg!(feature = "hub")), ("full", cfg!(feature = "full"))]
        .into_iter()
        .filter_map(|(name, on)| on.then_some(name))
        .collect();
    let profile = if cfg!(debug_assertions) { "debug, which is a hundred times slower" } else { "release" };
    let version = env!("CARGO_PKG_VERSION");
    let with = if features.is_empty() { "light".to_owned() } else { format!("with {}", features.join(", ")) };
    Finding::ok(
        "build",
        format!("{version}, {with}, {profile}"),
        json!({ "version": version, "features": features }),
    )
}

pub(super) fn cores() -> Finding {
    let threads = available_parallelism().map_or(1, usize::from);
    let (arch, system) = (std::env::consts::ARCH, std::env::consts::OS);
    let said = format!("{threads} threads at once, {arch}, {system}");
    Finding::ok("cores", said, json!({ "threads": threads, "arch": arch, "os": system }))
}

/// Looked for at run time, as the kernels do.
pub(super) fn vectors() -> Finding {
    let units = units();
    let kernels = if units.contains(&"avx512f") {
        "512 bits"
    } else if units.contains(&"avx2") && units.contains(&"fma") {
        "256 bits"
    } else if units.contains(&"neon") {
        "128 bits"
    } else {
        return Finding::absent("vectors", "kernels run in plain instructions");
    };
    let said = format!("{}; kernels of {kernels}", units.join(" "));
    Finding::ok("vectors", said, json!({ "units": units, "kernels": kernels }))
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn units() -> Vec<&'static str> {
    let found = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    found.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

#[cfg(target_arch = "aarch64")]
fn units() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected as detected;
    let found = [
        ("neon", detected!("neon")),
        ("dotprod", detected!("dotprod")),
        ("i8mm", detected!("i8mm")),
        ("bf16", detected!("bf16")),
        ("sve", detected!("sve")),
    ];
    found.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn units() -> Vec<&'static str> {
    Vec::new()
}

/// Where the system tells.
pub(super) fn memory() -> Option<Finding> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    let (free, all) = (kib("MemAvailable")? << 10, kib("MemTotal")? << 10);
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let said = format!("{:.1} GiB of {:.1} GiB free", gib(free), gib(all));
    Some(Finding::ok("memory", said, json!({ "free_bytes": free, "bytes": all })))
}

pub(super) fn gpu() -> Finding {
    let gpus = [DeviceChoice::Cuda(0), DeviceChoice::Metal(0)];
    let Some(built) = gpus.into_iter().find(|gpu| gpu.is_built()) else {
        let driver = std::path::Path::new("/proc/driver/nvidia/version").exists();
        let there = if driver { "; there is an NVIDIA driver" } else { "" };
        return Finding::absent(
            "GPU",
            format!("this build is for the CPU (features `cuda`, `metal`){there}"),
        );
    };
    match built.open() {
        Ok(device) => Finding::ok(
            "GPU",
            format!("{built}, {:?}", device.location()),
            json!({ "device": built.to_string() }),
        ),
        Err(error) => Finding::failed("GPU", error.to_string()),
    }
}

/// Large files are written beside their place, others here.
pub(super) fn temporary_folder() -> Finding {
    let folder = std::env::temp_dir();
    match writable(&folder) {
        Ok(()) => Finding::ok("temp", format!("{}: writable", folder.display()), json!({ "dir": folder })),
        Err(error) => Finding::failed("temp", format!("{}: {error}", folder.display())),
    }
}

/// Whether a file can be made in a folder.
pub(super) fn writable(folder: &std::path::Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".latent-briefing-{}", std::process::id()));
    std::fs::write(&probe, b"doctor")?;
    std::fs::remove_file(&probe)
}
