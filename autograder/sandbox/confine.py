"""The walls around student code, and which threat each answers.

- user, PID, mount, network, IPC and UTS namespaces: it sees no other process, no file but those it needs, no network,
  and when its first process is killed, the kernel kills them all;
- a file system in memory at /scratch, of limited size, and nothing else that it can write;
- resource limits: address space, processes, file size, no core dumps;
- Landlock: files again, for where namespaces are not to be had or have a hole;
- seccomp: no execution of programs, no tracing, no mounts, no sockets but local ones, nothing exotic.

`outside` is entered by the supervisor, `inside` by its child, which afterwards runs student code. This file imports
nothing of the autograder, so that `escape` can try it within a moment.
"""

import ctypes
import ctypes.util
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from errno import EACCES, ENOSYS, EPERM

with suppress(ImportError):  # this file is imported on Windows, too, and does nothing there
    import resource

FULL, LANDLOCK, CHROOT = "full", "landlock", "chroot"
SCRATCH = "/scratch"

_CLONE = {"mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000, "pid": 0x20000000}
_CLONE |= {"net": 0x40000000, "cgroup": 0x02000000}
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 16384, 1 << 18
_INT = 0xFFFFFFFF  # the kernel looks at no more of an int, whatever stands in the upper half of the register
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_CAPABILITY_VERSION_3 = 0x20080522

# System calls that an older libseccomp does not know by name; new ones have the same number on every processor.
_NEWER = {"open_tree_attr": 467, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448}
_NEWER |= {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def throwaway_uid() -> int:
    """A user id of nobody's, for what the calling process starts; of the range that no system hands out."""
    uid = 1_900_000_000 + os.getpid()
    with open("/proc/self/uid_map") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return uid if any(first <= uid < first + length for first, _, length in ranges) else 65534


def become(uid: int) -> None:
    """Give up being root, for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_DUMPABLE, 1)  # its own files in /proc stay its own


def outside(tier: str) -> None:
    """The supervisor's half: its children are born into a PID namespace, or else their orphans come back to it."""
    if tier == FULL:
        uid, gid = os.getuid(), os.getgid()
        _unshare("user", "pid")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    else:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def inside(tier: str, scratch: str, readable: Sequence[str], system_calls, limits, uid: int | None = None) -> None:
    """The child's half: go behind every wall of the tier, in an order in which each can still be put up.

    scratch: the folder it may write to. readable: paths it may read. system_calls: what `prepare` returned.
    uid: whom to become, where the caller is root and has no user namespace.
    Raises OSError where a wall cannot be put up; nothing untrusted may run then.
    """
    # A single huge request fails at once. What creeps is seen and stopped by the supervisor, before it gets this far.
    address_space, processes = _address_space() + 2 * limits.memory, limits.processes
    _write("/proc/self/oom_score_adj", "1000")  # if the kernel must kill, then these processes first
    if tier == FULL:
        _hide(limits.scratch_bytes, limits.scratch_files)
    elif not uid:
        processes += _own_tasks()  # all of one user's count together
    os.setsid()  # else a signal to its own process group would reach the supervisor
    os.chdir(scratch)
    if tier == CHROOT:
        os.chroot(".")
    else:
        _landlock(readable, scratch, optional=tier == FULL)  # as root still, who can open whatever leads to these paths
    if uid:
        become(uid)
    if tier == FULL:
        _drop_capabilities()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _limit(address_space, processes, limits.file_bytes)
    system_calls.load()


def prepare(tier: str):
    """What cannot be done behind the walls: import the libraries, and build the filter that `inside` takes."""
    pyseccomp = _import_pyseccomp()
    if tier != CHROOT:
        _has_landlock()
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)

    def refuse(names: str, *conditions, error: int = EPERM) -> None:
        for name in names.split():
            number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            number = _NEWER.get(name, -1) if number < 0 else number
            if number >= 0:  # each processor has its own set
                rules.add_rule(pyseccomp.ERRNO(error), number, *conditions)

    def argument(place: int, comparison: str, *values: int):
        return pyseccomp.Arg(place, getattr(pyseccomp, comparison), *values)

    # glibc falls back on clone, whose flags can be looked at: those of clone3 lie in memory, out of a filter's sight.
    refuse("clone3", error=ENOSYS)
    for flag in _CLONE.values():
        refuse("clone", argument(0, "MASKED_EQ", flag, flag))
    refuse(
        "execve execveat ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp", error=EACCES
    )
    refuse("pidfd_open pidfd_getfd pidfd_send_signal unshare setns chroot pivot_root")
    refuse("mount umount umount2 move_mount open_tree open_tree_attr mount_setattr fsopen fsconfig fsmount fspick")
    refuse("io_uring_setup io_uring_enter io_uring_register", error=ENOSYS)
    refuse("memfd_create memfd_secret shmget shmat shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl")
    refuse("mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr")
    refuse("bpf perf_event_open userfaultfd keyctl add_key request_key personality modify_ldt seccomp uselib")
    refuse("init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff syslog acct")
    refuse("settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm quotactl")
    refuse(
        "quotactl_fd mknod mknodat name_to_handle_at open_by_handle_at fanotify_init migrate_pages move_pages vhangup"
    )
    refuse("ioctl", argument(1, "MASKED_EQ", _INT, 0x5412))  # TIOCSTI types into a terminal
    refuse("ioctl", argument(1, "MASKED_EQ", _INT, 0x541C))  # TIOCLINUX does, too
    refuse("prctl", argument(0, "MASKED_EQ", _INT, _PR_SET_PDEATHSIG))  # it dies when its supervisor does
    refuse("prlimit64", argument(0, "NE", 0))
    refuse("socket socketpair", argument(0, "NE", 1), error=EACCES)  # 1 is AF_UNIX
    if tier != FULL:
        _refuse_more(refuse, argument)
    return rules


def _import_pyseccomp():
    """It asks /sbin/ldconfig and gcc for its library, which are not in the sandbox. Raises RuntimeError without it."""
    search = ctypes.util.find_library
    ctypes.util.find_library = {"c": "libc.so.6", "seccomp": "libseccomp.so.2"}.get
    try:
        import pyseccomp
    except OSError as error:
        raise RuntimeError(f"libseccomp is missing: {error}") from None
    finally:
        ctypes.util.find_library = search
    return pyseccomp


def _refuse_more(refuse, argument) -> None:
    """Without namespaces there are other processes of the user's, and sockets and files that Landlock lets pass."""
    refuse("socket connect bind listen accept accept4", error=EACCES)
    for datagram in (2, 3):  # could be sent to any path, connected or not
        refuse("socketpair", argument(1, "MASKED_EQ", 0xF, datagram), error=EACCES)
    refuse("kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo")
    refuse("fcntl", argument(1, "MASKED_EQ", _INT, 8))  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals by way of a file
    refuse("fcntl", argument(1, "MASKED_EQ", _INT, 10))
    refuse("fcntl", argument(1, "MASKED_EQ", _INT, 15))
    refuse("ioctl", argument(1, "MASKED_EQ", _INT, 0x8901))  # FIOSETOWN
    refuse("ioctl", argument(1, "MASKED_EQ", _INT, 0x8902))  # SIOCSPGRP
    refuse("setpriority ioprio_set sched_setscheduler sched_setparam sched_setattr")
    refuse("sched_setaffinity", argument(0, "NE", 0))
    refuse("chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat")
    refuse("setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr")


def _hide(scratch_bytes: int, scratch_files: int) -> None:
    _unshare("mount", "ipc", "uts", "net", "cgroup")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    size = f"size={scratch_bytes},nr_inodes={scratch_files},mode=0700"
    _mount("scratch", SCRATCH, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, size)
    _mount("nothing", "/proc", "tmpfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "size=4k,nr_inodes=2")


def _limit(address_space: int, processes: int, file_bytes: int) -> None:
    for what, most in {
        resource.RLIMIT_AS: address_space,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }.items():
        resource.setrlimit(what, (most, most))


def _landlock(readable: Sequence[str], scratch: str, optional: bool) -> None:
    from landlockpy import AccessFS, Ruleset, Scope

    if optional and not _has_landlock():
        return
    read = AccessFS.READ_FILE | AccessFS.READ_DIR
    with Ruleset(scoped=Scope.ABSTRACT_UNIX_SOCKET | Scope.SIGNAL) as rules:
        for path in readable:
            rules.allow_path(path, read if os.path.isdir(path) else AccessFS.READ_FILE)
        rules.allow_path("/dev/null", AccessFS.READ_FILE | AccessFS.WRITE_FILE)
        rules.allow_path(scratch, rules.handled_fs & ~(AccessFS.EXECUTE | AccessFS.MAKE_CHAR | AccessFS.MAKE_BLOCK))
        rules.restrict()


def _has_landlock() -> bool:
    from landlockpy import UnsupportedError, abi_version

    try:
        return abi_version() > 0
    except UnsupportedError:
        return False


def _own_tasks() -> int:
    """How many processes and threads the user has."""
    uid, count = os.getuid(), 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid == uid:
                count += len(os.listdir(f"/proc/{pid}/task"))
        except OSError:
            continue  # it has ended meanwhile
    return count


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, none), "drop its capabilities")


def _unshare(*namespaces: str) -> None:
    flags = sum(_CLONE[name] for name in namespaces)
    _check(_libc.unshare(flags), f"enter its own namespaces ({', '.join(namespaces)})")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [text and text.encode() for text in (source, target, kind, options)]
    _check(_libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"set process option {option}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _check(result: int, action: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot {action}: {os.strerror(error)}")
