"""Attacks on the kernel's interface: programs, tracing, namespaces, limits, raw system calls."""

import platform

import pytest

REFUSED = {
    "exec": "os.execv('/bin/sh', ['sh', '-c', 'true'])",
    "subprocess": "import subprocess\nsubprocess.run(['true'], check=True)",
    "system": "assert os.system('true') == 0",
    "ptrace": "assert libc.ptrace(0, 0, 0, 0) == 0",
    "ptrace the parent": "assert libc.ptrace(16, os.getppid() or 1, 0, 0) == 0",
    "read another's memory": "assert libc.process_vm_readv(os.getppid() or 1, 0, 0, 0, 0, 0) == 0",
    "user namespace": "assert libc.unshare(0x10000000) == 0",
    "clone into a namespace": "assert libc.syscall(NR['clone'], 0x10000000 | 17, 0, 0, 0, 0) >= 0",
    "clone3": "assert libc.syscall(435, 0, 0) == 0 or ctypes.get_errno() != 38",
    "mount": "assert libc.mount(b'x', b'.', b'tmpfs', 0, None) == 0",
    "unmount": "assert libc.umount2(b'/scratch', 2) == 0 or libc.umount2(b'/proc', 2) == 0",
    "chroot": "os.chroot('.')",
    "keyring": "assert libc.syscall(NR['add_key'], b'user', b'k', b'v', 1, -3) > 0",
    "bpf": "assert libc.syscall(NR['bpf'], 0, 0, 0) >= 0 or ctypes.get_errno() != 1",
    "io_uring": "assert libc.syscall(425, 8, 0) >= 0 or ctypes.get_errno() != 38",
    "memfd": "os.memfd_create('x')",
    "personality": "assert libc.personality(0x0040000) >= 0",
    "raise a limit": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "raise another's limit": "import resource\nresource.prlimit(os.getppid() or 1, resource.RLIMIT_AS, (-1, -1))",
    "become root": "os.setuid(0)\nassert os.geteuid() == 0 and open('/etc/shadow')",
    "set the clock": "time.clock_settime(time.CLOCK_REALTIME, 0)",
    "device": "os.mknod('disk', 0o60666, os.makedev(8, 0))",
}
PREPARE = """
libc = ctypes.CDLL(None, use_errno=True)
import platform
NR = {"x86_64": {"clone": 56, "add_key": 248, "bpf": 321},
      "aarch64": {"clone": 220, "add_key": 217, "bpf": 280}}[platform.machine()]
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="its system calls have other numbers")
def test_every_one_is_refused(arena):
    code = f"""{PREPARE}
done = []
for name, code in {REFUSED!r}.items():
    try:
        exec(code)
        done.append(name)
    except (OSError, ValueError, AssertionError):
        pass
raise LookupError(str(done))
"""
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason == "No cell defines bilinear; cell 2 raised LookupError: []"
    arena.check_unharmed()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a way around filters that only this processor has")
def test_a_system_call_of_another_architecture_kills(arena):
    # mov eax, 20 (getpid); int 0x80; ret
    code = r"""
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b'\xb8\x14\x00\x00\x00\xcd\x80\xc3')
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
ctypes.CFUNCTYPE(ctypes.c_int)(address)()
"""
    arena.attack_exercise(code, "crashed", r"^bilinear was killed by signal (31|11)")


def test_capabilities_are_gone(arena):
    code = """
data = (ctypes.c_uint32 * 6)()
ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), data)
raise LookupError(str(list(data)))
"""
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason.endswith("raised LookupError: [0, 0, 0, 0, 0, 0]")


def test_it_has_a_process_group_and_a_session_of_its_own(arena):
    """A signal to its own group would reach the supervisor, where the kernel's Landlock does not know of signals."""
    code = "raise LookupError(str((os.getpgrp() == os.getsid(0) == os.getpid())))"
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason.endswith("raised LookupError: True")
