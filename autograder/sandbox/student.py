"""The student's process: run the cells, then try each exercise in a fork of its own and send the evidence.

By the time a cell runs, this process is confined, and nothing that it says about itself is believed. A process per
exercise makes each independent of the others: what a function leaves behind, in torch or in memory, ends with it.
"""

import __future__

import ast
import builtins
import gc
import inspect
import linecache
import os
import random
import signal
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

import autograder
from autograder.attempt import attempt
from autograder.evidence import encode
from autograder.exercise import all_exercises
from autograder.sandbox.limits import Plan
from autograder.sandbox.protocol import ANSWER, CELL, ENDED, EXERCISE, FAILURE

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)

Tell = Callable[..., None]


def run(plan: Plan, tell: Tell, fork: bool) -> None:
    """Do all that the plan asks for.

    tell: sends a frame, given its kind and its payload. fork: whether each exercise gets a process of its own: a fork,
    and the last one this process.
    """
    gc.enable()
    _disarm()
    _seed(plan.seed)
    notebooks, errors = run_cells(plan, tell)
    if fork:
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that a cell has set must not interrupt what follows
    for place, name in enumerate(plan.exercises):
        tell(EXERCISE, b"%d" % place)
        notebook = _where_defined(name, notebooks)
        sys.modules["__main__"], function = notebook, vars(notebook).get(name)
        last = place == len(plan.exercises) - 1  # needs no fork: nothing comes after it that it could harm
        if callable(function):
            own_process = fork and not last
            status = _in_fork(plan, name, function, tell) if own_process else _answer(plan, name, function, tell)
        else:
            _fail(tell, "undefined", _why_undefined(name, vars(notebook), plan, errors))
            status = 0
        tell(ENDED, b"%d" % status)


def run_cells(plan: Plan, tell: Tell) -> tuple[list[types.ModuleType], dict[int, str]]:
    """Run the cells, each notebook's in a namespace of its own.

    Return the namespaces, at least one, and what went wrong in which cell, numbered from 1.
    """
    sys.argv = ["notebook"]
    notebooks = [_new_notebook()]
    errors = dict(plan.notes)
    flags = 0
    for number, (source, mode) in enumerate(zip(plan.cells, plan.modes, strict=True), 1):
        if number > 1 and number in plan.starts:
            notebooks.append(_new_notebook())
            flags = 0
        if mode == "nothing":
            continue
        tell(CELL, b"%d" % number)
        file_name = f"<cell {number}>"
        linecache.cache[file_name] = (len(source), None, source.splitlines(keepends=True), file_name)
        try:
            statements = ast.parse(source, file_name).body
        except BaseException as error:
            errors.setdefault(number, _raised(error))
            continue
        definitions_only = mode == "definitions"
        for statement in statements:
            if definitions_only and not isinstance(statement, _DEFINITIONS):
                continue
            flags |= _future_flags(statement)
            try:
                exec(
                    compile(ast.Module([statement], []), file_name, "exec", flags, dont_inherit=True),
                    vars(notebooks[-1]),
                )
            except BaseException as error:  # sys.exit() ends a cell, no more
                errors.setdefault(number, _raised(error))
                definitions_only = True  # the functions further down do not depend on what failed here
    return notebooks, errors


def _new_notebook() -> types.ModuleType:
    notebook = types.ModuleType("__main__")
    vars(notebook).update(__builtins__=builtins, get_ipython=_Shell, display=_do_nothing)
    sys.modules["__main__"] = notebook
    return notebook


def _where_defined(name: str, notebooks: list[types.ModuleType]) -> types.ModuleType:
    """The last notebook that defines a function or class of this name; what else has the name is a variable."""
    with_name = [notebook for notebook in notebooks if name in vars(notebook)]
    callables = [notebook for notebook in with_name if callable(vars(notebook)[name])]
    return [notebooks[-1], *with_name, *callables][-1]


def _in_fork(plan: Plan, name: str, function: Callable, tell: Tell) -> int:
    """Try an exercise in a process of its own; return that one's wait status."""
    try:
        pid = os.fork()
    except OSError:
        _fail(tell, "crashed", f"{name} could not be run: its cells have left too many processes running")
        return 0
    if pid == 0:
        try:
            _answer(plan, name, function, tell)
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.getpid() == 1:  # the first process of its namespace: all others are leftovers
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    return status


def _answer(plan: Plan, name: str, function: Callable, tell: Tell) -> int:
    """Send the evidence of one exercise, or why there is none."""
    limits = plan.limits
    try:
        _seed(plan.seed)
        evidence = attempt(all_exercises()[name], function, plan.seed)
        data = b"" if _ran_out_of_memory(evidence) else encode(evidence)
    except BaseException as error:
        if not _is_out_of_memory(type(error).__name__, str(error)):
            _fail(tell, "crashed", f"{name} {_raised(error)} while its result was collected")
            return 0
        data = b""
    if not data:
        _fail(tell, "out of memory", f"{name} asked for more than {limits.memory >> 20:,} MB")
    elif len(data) > limits.answer_bytes:
        _fail(tell, "crashed", f"{name} gave a result of more than {limits.answer_bytes >> 20:,} MB")
    else:
        tell(ANSWER, data)
    return 0


def _ran_out_of_memory(all_evidence: list[dict[str, Any]]) -> bool:
    raised = [evidence["raised"] for evidence in all_evidence if "raised" in evidence]
    return any(_is_out_of_memory(error["type"], error["message"]) for error in raised)


def _is_out_of_memory(type_name: str, message: str) -> bool:
    return type_name == "MemoryError" or "can't allocate memory" in message


def _why_undefined(name: str, names: dict[str, Any], plan: Plan, errors: dict[int, str]) -> str:
    if name in names:
        return f"{name} is of type {type(names[name]).__name__}, not a function or class"
    mentioned = [number for number in sorted(errors) if name in plan.cells[number - 1]]
    culprit = next(iter([*mentioned, *sorted(errors)]), None)
    return f"No cell defines {name}" + (f"; cell {culprit} {errors[culprit]}" if culprit else "")


def _fail(tell: Tell, state: str, reason: str) -> None:
    tell(FAILURE, f"{state}: {reason}"[:1000].encode("utf-8", "replace"))


def _raised(error: BaseException) -> str:
    try:
        message = str(error)[:200]
        return f"raised {type(error).__name__}: {message}" if message else f"raised {type(error).__name__}"
    except BaseException:
        return "raised an exception that cannot be printed"


def _future_flags(statement: ast.stmt) -> int:
    """`from __future__ import …` holds for all cells from its own on, as in a notebook."""
    if not isinstance(statement, ast.ImportFrom) or statement.module != "__future__":
        return 0
    features = [getattr(__future__, alias.name, None) for alias in statement.names]
    return sum(feature.compiler_flag for feature in features if feature)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # there is no other device, and asking for them takes long


def _do_nothing(*arguments: Any, **options: Any) -> None:
    """What `check`, `hint`, `display` and the like do in a graded notebook."""


class _Shell:
    """What `get_ipython()` returns: an object with every method, none of which does anything."""

    def __getattr__(self, name: str) -> Callable:
        return _do_nothing


def _disarm() -> None:
    for name in autograder.__all__:
        setattr(autograder, name, _do_nothing)
        setattr(sys.modules["autograder.practice"], name, _do_nothing)


def without_workers() -> None:
    """Make every DataLoader load its data in the process that uses it."""
    from torch.utils.data import DataLoader

    original = DataLoader.__init__
    signature = inspect.signature(original)

    def init(*arguments: Any, **options: Any) -> None:
        bound = signature.bind(*arguments, **options)
        bound.arguments |= {"num_workers": 0, "persistent_workers": False, "timeout": 0}
        bound.arguments |= {"prefetch_factor": None, "multiprocessing_context": None}
        original(*bound.args, **bound.kwargs)

    DataLoader.__init__ = init
