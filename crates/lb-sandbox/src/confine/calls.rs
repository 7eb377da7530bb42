//! Lists of system calls: the few that a computation needs, and those by which a program does harm.

use std::collections::BTreeMap;
use std::fmt::Write;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What an interpreter needs that only computes, reads and writes pipes that are open, and ends.
#[cfg(feature = "monty")]
const COMPUTING: &[c_long] = &[
    // The pipes, and the process's own memory figures.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_close,
    // Memory that no code lies in: see `allow_computing`.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads that run already.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    // The end.
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What changes, sends or starts something: no code of a session has a use for it.
const HARM: &[c_long] = &[
    // Programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_setpriority,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setaffinity,
    libc::SYS_ioprio_set,
    libc::SYS_tgkill,
    libc::SYS_unshare,
    libc::SYS_setns,
    // The network.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    // Files.
    libc::SYS_mknodat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_chroot,
    libc::SYS_memfd_create,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    // The system.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_mount_setattr,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Those of them that only older architectures have.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_creat,
    libc::SYS_mknod,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[c_long] = &[libc::SYS_renameat];
#[cfg(target_arch = "riscv64")]
const OLDER: &[c_long] = &[];

/// What C libraries try first and do without where the kernel does not know it.
const UNKNOWN: &[c_long] = &[libc::SYS_clone3, libc::SYS_openat2, FCHMODAT2, SETXATTRAT, REMOVEXATTRAT];

/// Younger than the C library's list, and of the same number everywhere.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;

/// The bit of x86-64's second way to make the same calls.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// Only [`COMPUTING`] from here on, in every thread.
#[cfg(feature = "monty")]
pub(super) fn allow_computing() {
    // A kernel without such lists: the interpreter knows no way to such calls anyway.
    let _ = computing().map(|program| seccompiler::apply_filter_all_threads(&program));
}

#[cfg(feature = "monty")]
fn computing() -> Result<BpfProgram, BackendError> {
    let mut rules = whole(COMPUTING);
    let no_code = || when(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    rules.insert(libc::SYS_mmap, vec![no_code()?]);
    rules.insert(libc::SYS_mprotect, vec![no_code()?]);
    // How abort() ends a process: a signal to a thread of its own.
    rules.insert(libc::SYS_tgkill, vec![when(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    compile(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

/// See [`harmless`](super::harmless).
pub(super) fn forbid_harm() -> Vec<String> {
    let refuse = |errno: i32| SeccompAction::Errno(errno as u32);
    let harm = harm().and_then(|rules| compile(rules, SeccompAction::Allow, refuse(libc::EPERM)));
    let unknown = compile(whole(UNKNOWN), SeccompAction::Allow, refuse(libc::ENOSYS));
    [harm, unknown].into_iter().flatten().map(|program| digits(&program)).collect()
}

fn harm() -> Result<Rules, BackendError> {
    let mut rules = whole(HARM);
    rules.extend(whole(OLDER));
    // Opening is for reading alone; each way to write has a bit of its own.
    let writing = |argument| -> Result<Vec<_>, BackendError> {
        let bits = [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_APPEND];
        bits.map(|bit| when(argument, SeccompCmpOp::MaskedEq(bit as u64), bit as u64)).into_iter().collect()
    };
    rules.insert(libc::SYS_openat, writing(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, writing(1)?);
    // Limits of another process; 0 is this one.
    rules.insert(libc::SYS_prlimit64, vec![when(0, SeccompCmpOp::Ne, 0)?]);
    // A clone that is no thread is a process.
    let process = when(0, SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64), 0)?;
    rules.insert(libc::SYS_clone, vec![process]);
    // Characters typed into the terminal that the host runs in.
    let typed = [TIOCSTI, TIOCLINUX].map(|request| when(1, SeccompCmpOp::Eq, request));
    rules.insert(libc::SYS_ioctl, typed.into_iter().collect::<Result<_, _>>()?);
    #[cfg(target_arch = "x86_64")]
    {
        let second: Vec<_> = rules.iter().map(|(call, when)| (call | X32, when.clone())).collect();
        rules.extend(second);
    }
    Ok(rules)
}

const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;

fn whole(calls: &[c_long]) -> Rules {
    calls.iter().map(|&call| (call, Vec::new())).collect()
}

fn when(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)?])
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matched, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// A list of `struct sock_filter` as the kernel reads it, in hexadecimal digits.
fn digits(program: &BpfProgram) -> String {
    let mut digits = String::new();
    for instruction in program {
        let ([a, b], [c, d, e, f]) = (instruction.code.to_ne_bytes(), instruction.k.to_ne_bytes());
        for byte in [a, b, instruction.jt, instruction.jf, c, d, e, f] {
            let _ = write!(digits, "{byte:02x}");
        }
    }
    digits
}
