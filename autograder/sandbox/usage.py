"""What a family of processes uses: memory, the disk, and time that it spends waiting for a processor."""

import os
from contextlib import suppress

CROWD = 8
"""More processes than an honest attempt has, with the workers of a DataLoader."""


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found, pending = [], [pid]
    while pending:
        parent = pending.pop()
        found.append(parent)
        with suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children") as file:
                    pending += map(int, file.read().split())
    return found


def memory(child: int, anonymous: int, limit: int) -> int:
    """Bytes in use by a process and its descendants, above what each was born with."""
    pids = family(child)
    used = [_field(f"/proc/{pid}/status", "RssAnon:") + _field(f"/proc/{pid}/status", "RssShmem:") for pid in pids]
    total = sum(max(0, one - anonymous) for one in used)
    if total <= limit:
        return total
    # What parent and child share was counted twice. The exact way takes milliseconds: only where it matters.
    rollups = [f"/proc/{pid}/smaps_rollup" for pid in pids]
    exact = sum(_field(path, "Pss_Anon:") + _field(path, "Pss_Shmem:") for path in rollups)
    born_with = anonymous * len(pids) // (len(pids) + 2)  # their part: the zygote and this process share it, too
    return max(0, exact - born_with) if exact else total


def waited(child: int) -> float:
    """Seconds in which a process, or the one of its descendants that had to wait longest, waited for a processor.

    0 where the kernel does not count them, and for a crowd: its processes wait for each other.
    """
    pids, longest = family(child), 0
    for pid in pids if len(pids) <= CROWD else ():
        with suppress(OSError), open(f"/proc/{pid}/schedstat") as file:
            longest = max(longest, int(file.read().split()[1]))
    return longest / 1e9


def _field(path: str, name: str) -> int:
    """A field of a file in /proc that is given in kB, in bytes; 0 where the process has ended."""
    with suppress(OSError), open(path) as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) << 10
    return 0


def own_anonymous() -> int:
    """Bytes of this process's own memory."""
    return _field("/proc/self/status", "RssAnon:")


def is_too_full(folder: str, most_bytes: int, most_files: int) -> bool:
    """Whether a folder holds more than it may, or hides what it holds."""
    used = files = 0
    pending = [folder]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    files += 1
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    if used > most_bytes or files > most_files:
                        return True
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError:
            return True  # closed to us, or with a path too long: made to hide something
    return False
