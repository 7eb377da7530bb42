//! What the process that runs code may take from the machine: it sets its own limits, and it watches its own memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// How often the memory is looked at while code runs.
const EVERY: Duration = Duration::from_millis(4);
/// Memory beyond twice that of the session that the process may map: copies under way, buffers.
const ROOM: usize = 128 << 20;

/// Tells the interpreter how much memory the process holds. It compares that with the session's limit at its own
/// checkpoints; an allocator that counts would be exact, but only a program can install one, not a library.
#[derive(Debug)]
pub(super) struct MemoryMeter {
    running: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl MemoryMeter {
    /// Starts to watch, and takes from the process for good what it will not need: files, processes, a core dump, memory
    /// beyond `memory` by far.
    pub(super) fn start(memory: usize) -> Self {
        let running = Arc::new(AtomicBool::new(false));
        let thread = imp::Meter::open().and_then(|mut meter| {
            let resident = meter.read().resident;
            monty_types::BASELINE_MEMORY.store(resident, Ordering::Relaxed);
            monty_types::LIVE_MEMORY.store(resident, Ordering::Relaxed);
            let running = Arc::clone(&running);
            let watching = std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
                loop {
                    while running.load(Ordering::Acquire) {
                        monty_types::LIVE_MEMORY.store(meter.read().resident, Ordering::Relaxed);
                        std::thread::sleep(EVERY);
                    }
                    std::thread::park();
                }
            });
            watching.ok().map(|handle| handle.thread().clone())
        });
        imp::confine(memory.saturating_mul(2).saturating_add(ROOM));
        Self { running, thread }
    }

    /// Watches until the guard is dropped.
    pub(super) fn running(&self) -> Running<'_> {
        self.running.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
        Running { meter: self }
    }
}

/// Code runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    meter: &'a MemoryMeter,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.meter.running.store(false, Ordering::Release);
    }
}

/// Bytes of the process.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    resident: usize,
    /// What is mapped to be written, which the kernel limits.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux is told a limit"))]
    data: usize,
}

#[cfg(target_os = "linux")]
mod imp {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use rustix::process::{Resource, Rlimit, setrlimit};

    use super::Memory;

    /// `/proc/self/statm`, kept open because the process will not open files later.
    #[derive(Debug)]
    pub(super) struct Meter(File);

    impl Meter {
        pub(super) fn open() -> Option<Self> {
            File::open("/proc/self/statm").ok().map(Self)
        }

        pub(super) fn read(&mut self) -> Memory {
            let mut line = [0_u8; 256];
            let read = self.0.read_at(&mut line, 0).unwrap_or_default();
            let line = String::from_utf8_lossy(&line[..read]);
            let pages = |column: usize| line.split(' ').nth(column).and_then(|n| n.parse::<usize>().ok());
            let bytes = |column| pages(column).unwrap_or_default().saturating_mul(rustix::param::page_size());
            Memory { resident: bytes(1), data: bytes(5) }
        }
    }

    pub(super) fn confine(memory: usize) {
        let mapped = Meter::open().map_or(0, |mut meter| meter.read().data);
        let limit = |resource, most: usize| {
            let most = Some(most as u64);
            // A limit that is lower already cannot be raised, and need not be.
            let _ = setrlimit(resource, Rlimit { current: most, maximum: most });
        };
        limit(Resource::Data, mapped.saturating_add(memory));
        limit(Resource::Fsize, 0);
        limit(Resource::Core, 0);
        limit(Resource::Nproc, 0);
        limit(Resource::Nofile, 0);
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::Memory;

    #[derive(Debug)]
    pub(super) struct Meter;

    impl Meter {
        pub(super) fn open() -> Option<Self> {
            None
        }

        pub(super) fn read(&mut self) -> Memory {
            Memory::default()
        }
    }

    pub(super) fn confine(_memory: usize) {}
}
