"""What both sides of the border share: a job, its limits, its outcomes, the costly import. No behaviour."""

import json
from dataclasses import asdict, dataclass, field

OPTIMIZERS = "import torch._dynamo"
"""What the first optimiser imports: two seconds, and a fifth of the memory that every fork has to map."""

STATES = ("finished", "undefined", "timed out", "out of memory", "crashed")


@dataclass(frozen=True)
class Limits:
    """What one submission may use. Times are wall-clock seconds, sizes are bytes.

    memory: of all its processes together, above what the warm process holds already.
    processes: processes and threads at a time. answer_bytes: the evidence of one exercise; job_bytes: of all of them.
    job_seconds: everything together, however often it had to be started again after a loop or a crash.
    """

    cell_seconds: float = 20.0
    exercise_seconds: float = 10.0
    job_seconds: float = 300.0
    memory: int = 1 << 30
    processes: int = 32
    file_bytes: int = 64 << 20
    scratch_bytes: int = 128 << 20
    scratch_files: int = 10_000
    answer_bytes: int = 16 << 20
    job_bytes: int = 64 << 20


@dataclass(frozen=True)
class Job:
    """One submission: the code of its cells in order, the names of the exercises to try, and the seed of the trials.

    starts: the numbers, from 1, of the cells that begin a notebook. Each notebook has names of its own, as in Jupyter.
    """

    cells: tuple[str, ...]
    exercises: tuple[str, ...]
    seed: int
    starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one exercise.

    state: one of STATES. reason: a sentence for every state but "finished"; it may quote the submission: escape it.
    evidence: bytes for `autograder.evidence.decode`, not yet decoded and not to be trusted; None unless finished.
    seconds, memory: as the supervisor measured them; memory in bytes above the warm process.
    """

    exercise: str
    state: str
    reason: str = ""
    evidence: bytes | None = field(default=None, repr=False)
    seconds: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class Plan:
    """One attempt at a job: what of it is still to be done, and which cells have done harm before.

    modes: per cell "all", "definitions" (functions, classes and imports only) or "nothing".
    notes: why a cell is not run in full, by its number from 1. starts: as in Job.
    seconds_left, bytes_left: of those that the whole job may use.
    """

    cells: tuple[str, ...]
    modes: tuple[str, ...]
    exercises: tuple[str, ...]
    seed: int
    limits: Limits
    seconds_left: float
    bytes_left: int
    secret: str
    notes: dict[int, str] = field(default_factory=dict)
    starts: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """The plan as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Plan":
        """Read what `to_bytes` wrote."""
        fields = json.loads(data)
        fields["limits"] = Limits(**fields["limits"])
        fields["notes"] = {int(number): note for number, note in fields["notes"].items()}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
