"""Attacks on files: what is not the student's own is neither read nor written."""

from pathlib import Path

import pytest

from tests.hostile.arena import HONEST, INTRUDED, status

CHECKOUT = Path(__file__).parent.parent.parent


def readings(arena) -> list[str]:
    answers = sorted((CHECKOUT / "autograder" / "answers").glob("*.safetensors"))
    return [
        "/etc/shadow",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/1/environ",
        f"/proc/{min(arena.baseline)}/environ",
        f"/proc/{min(arena.baseline)}/mem",
        str(arena.outside / "secret.txt"),
        str(arena.outside / "gradebook.sqlite"),
        str(CHECKOUT / "solutions" / "01_tensors.py"),
        str(CHECKOUT / "tests" / "hostile" / "arena.py"),
        str(CHECKOUT / ".git" / "HEAD"),
        *map(str, answers[:1]),
    ]


def test_reading(arena):
    code = f"""
leaks = []
for path in {readings(arena)!r}:
    for attempt in (open, os.listdir, lambda p: os.link(p, 'link') or open('link'),
                    lambda p: os.symlink(p, 'soft') or open('soft'), lambda p: os.rename(p, 'mine')):
        try:
            attempt(path)
            leaks.append(path)
        except OSError:
            pass
        for name in ('link', 'soft'):
            if os.path.lexists(name): os.unlink(name)
raise LookupError(str(leaks))
"""
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason == "No cell defines bilinear; cell 2 raised LookupError: []"
    arena.check_unharmed()


def test_writing(arena):
    folders = [*INTRUDED, str(arena.outside), str(CHECKOUT / "autograder"), str(Path(pytest.__file__).parent)]
    code = f"""
leaks = []
def attempts(folder):
    path = folder + '/intruder-{arena.marker}'
    yield lambda: open(path, 'w')
    yield lambda: os.mkdir(path)
    yield lambda: os.symlink('/etc', path)
    yield lambda: os.mkfifo(path)
    yield lambda: socket.socket(socket.AF_UNIX).bind(path)
    yield lambda: os.rename(__file_of_mine, path)
    yield lambda: os.link(__file_of_mine, path)
__file_of_mine = os.path.abspath('mine')
open(__file_of_mine, 'w').close()
for folder in {folders!r}:
    if os.path.realpath(folder) == os.path.realpath('.'): continue
    for attempt in attempts(folder):
        try:
            attempt()
            leaks.append(folder)
        except OSError:
            pass
for path in ('{arena.outside}/secret.txt', '{arena.outside}/gradebook.sqlite', '{CHECKOUT}/solutions/01_tensors.py'):
    for attempt in (lambda: open(path, 'a'), lambda: os.unlink(path), lambda: os.truncate(path, 0),
                    lambda: os.chmod(path, 0), lambda: os.utime(path), lambda: os.rename(path, path + '.old')):
        try:
            attempt()
            leaks.append(path)
        except OSError:
            pass
raise LookupError(str(leaks))
"""
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason == "No cell defines bilinear; cell 2 raised LookupError: []"
    arena.check_unharmed()


def test_the_course_itself_cannot_be_changed_for_the_next_one(arena):
    code = """
import autograder, numpy
for module in (autograder, torch, numpy, os):
    with open(module.__file__, 'a') as file:
        file.write('raise SystemExit')
"""
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert "cell 2 raised" in outcome.reason and "Error" in outcome.reason
    arena.check_unharmed()


def test_what_one_submission_writes_the_next_does_not_find(arena):
    write = "open('note', 'w').write('the answer is 42')\nos.environ['NOTE'] = '42'\ntorch.note = 42\n"
    arena.run(write)
    read = "raise LookupError(str([os.listdir('.'), os.environ.get('NOTE'), hasattr(torch, 'note')]))"
    [outcome] = arena.run(read, exercises=("bilinear",))
    assert outcome.reason.endswith("raised LookupError: [[], None, False]")


def test_descriptors_that_were_left_open(arena):
    code = """
open_ones = []
for number in range(3, 256):
    try:
        os.fstat(number)
        open_ones.append(number)
    except OSError:
        pass
raise LookupError(str(open_ones))
"""
    [outcome] = arena.run(code, exercises=("bilinear",))
    assert outcome.reason.endswith("raised LookupError: [3]")  # the channel of the answers


def test_every_exercise_starts_from_the_same_state(arena):
    poison = "\n    torch.einsum = None\n    F.one_hot = None\n    os.environ.clear()\n    raise ValueError"
    outcomes = arena.run(f"def bilinear(x, W, y):{poison}", *[_other(name) for name in HONEST[1:]])
    assert [status(outcome) for outcome in outcomes] == ["error", "correct", "correct"]


def _other(name: str) -> str:
    return {
        "outer_sum": "def outer_sum(a, b): return torch.einsum('i,j->ij', a, torch.ones_like(b)) + b",
        "one_hot": "def one_hot(labels, num_classes): return (labels[:, None] == torch.arange(num_classes)).float()",
    }[name]
