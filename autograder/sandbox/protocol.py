"""Frames: how a confined process answers, and how its supervisor reports.

A frame is a secret, one byte that says what it is, a length, and that many bytes. The secret is new for each attempt:
whatever else student code writes into the pipe is not mistaken for an answer. Student code that looks for the secret
finds it, since it runs in the process that answers; all it can do with it is spoil its own answers.
"""

import os
import struct
from collections.abc import Iterator

READY = b"ready"  # what the warm process says once, on the socket that leads to it

# From the student's process.
CELL = b"c"  # the cell of this number begins
EXERCISE = b"x"  # the exercise of this number begins
ANSWER = b"a"  # its evidence
FAILURE = b"f"  # its state and the reason, instead of evidence
ENDED = b"e"  # the process that tried it has ended with this wait status
UNCONFINED = b"u"  # the process could not be confined, and runs nothing
# From the supervisor.
OUTCOME = b"o"  # an outcome as a line of JSON, then the evidence
STOPPED = b"s"  # a cell had to be stopped, or the process could not be confined: JSON

_HEADER = struct.Struct("<16scQ")
_SMALL = 4096  # what every frame but an answer may hold at most


class Garbage(ValueError):
    """Bytes in the pipe that are not a frame, or a frame where it does not belong."""


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of the data, however small the pipe is."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def send(fd: int, secret: bytes, kind: bytes, payload: bytes = b"") -> None:
    """Write one frame."""
    write_all(fd, _HEADER.pack(secret, kind, len(payload)))
    write_all(fd, payload)


def number(payload: bytes) -> int:
    """The number that a frame holds. Raises Garbage."""
    if not payload.isdigit() or len(payload) > 9:
        raise Garbage("not a number")
    return int(payload)


class Receiver:
    """Cuts a stream of bytes into frames, and stops at the first byte that cannot belong to one."""

    def __init__(self, secret: bytes, largest: int):
        self._secret = secret
        self._largest = largest
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield each frame that these bytes complete, as (kind, payload). Raises Garbage."""
        self._buffer += data
        while self._buffer:
            head = bytes(self._buffer[: len(self._secret)])
            if not self._secret.startswith(head):
                raise Garbage("not a frame")
            if len(self._buffer) < _HEADER.size:
                return
            _, kind, length = _HEADER.unpack_from(self._buffer)
            if length > (self._largest if kind in (ANSWER, OUTCOME) else _SMALL):
                raise Garbage("a frame that is too long")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield kind, payload
