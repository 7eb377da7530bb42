//! What the process of a session gives up before code runs in it.
//!
//! | | Linux on x86-64, AArch64 and RISC-V | other Linux | macOS, other Unix | Windows |
//! |---|---|---|---|---|
//! | inherited descriptors closed | yes | yes | yes | not inherited |
//! | killed when its host dies | yes, also while stopped | yes, also while stopped | when it next reads | when it next reads |
//! | no new privileges | yes | yes | no such thing | no such thing |
//! | list of system calls | yes | no | no | no |
//!
//! Limits of memory, files and processes are beside the interpreters.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
mod calls;

/// Systems that know no such lists.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
mod calls {
    #[cfg(feature = "monty")]
    pub(super) fn allow_computing() {}

    pub(super) fn forbid_harm() -> Vec<String> {
        Vec::new()
    }
}

/// Closes what this process inherited, and ties it to its parent. To be called before it has threads or files of its own.
#[cfg(feature = "monty")]
pub(super) fn detach() {
    #[cfg(unix)]
    close_inherited();
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        let _ = rustix::thread::set_no_new_privs(true);
    }
}

/// Forbids every system call that an interpreter at work does not need, for all threads and for good. Where the system
/// knows no such list, nothing happens: the interpreter itself is the boundary, this is what stands behind it.
#[cfg(feature = "monty")]
pub(super) fn only_compute() {
    calls::allow_computing();
}

/// Programs for the kernel that keep a CPython from changing files, talking to anyone and starting processes, as hexadecimal
/// digits of `struct sock_filter`; none where the system knows no such thing.
pub(super) fn harmless() -> Vec<String> {
    calls::forbid_harm()
}

/// Closes every descriptor but the three of the standard streams.
#[cfg(all(unix, feature = "monty"))]
fn close_inherited() {
    /// Numbers that are tried where the system does not list what is open.
    const TRIED: i32 = 4096;
    let listed = ["/proc/self/fd", "/dev/fd"].iter().find_map(|folder| std::fs::read_dir(folder).ok());
    let numbers: Vec<i32> = match listed {
        Some(entries) => entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect(),
        None => (0..TRIED).collect(),
    };
    for number in numbers.into_iter().filter(|&number| number > 2) {
        // That of the listing itself is closed already.
        let _ = nix::unistd::close(number);
    }
}
