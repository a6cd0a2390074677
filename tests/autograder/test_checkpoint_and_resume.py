"""`checkpoint` and `resume` are judged together: what one writes, the other must read."""

import random

import numpy as np
import pytest
import torch

from autograder.attempt import attempt
from autograder.exercise import all_exercises
from autograder.judge import Status, judge
from tests.autograder.book import define, solution

SAVE = "model.state_dict(), optimizer.state_dict(), scheduler.state_dict()"
STARTER = "def {name}(path, model, optimizer, scheduler):\n    raise NotImplementedError  # your code here\n"
PAIRS = {
    "PyTorch's random state alone": (
        """
def checkpoint(path, model, optimizer, scheduler):
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    torch.save(state | {"rng": torch.get_rng_state()}, path)
""",
        """
def resume(path, model, optimizer, scheduler):
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    torch.set_rng_state(state["rng"])
""",
    ),
    "NumPy's state as a dict": (
        f"""
def checkpoint(path, model, optimizer, scheduler):
    numpy = np.random.get_state(legacy=False)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    torch.save([{SAVE}, random.getstate(), numpy, torch.random.get_rng_state()], path)
""",
        """
def resume(path, model, optimizer, scheduler):
    *states, python, numpy, torchs = torch.load(path, map_location="cpu")
    for one, state in zip((model, optimizer, scheduler), states):
        one.load_state_dict(state)
    numpy["state"]["key"] = np.array(numpy["state"]["key"], dtype=np.uint32)
    random.setstate(python), np.random.set_state(numpy), torch.random.set_rng_state(torchs)
""",
    ),
    "safetensors and JSON": (
        """
def checkpoint(path, model, optimizer, scheduler):
    import json, safetensors.torch
    state = optimizer.state_dict()
    tensors = {"m." + k: v for k, v in model.state_dict().items()} | {"torch": torch.get_rng_state()}
    tensors |= {f"o.{i}.{k}": v for i, s in state["state"].items() for k, v in s.items() if v is not None}
    kind, keys, *rest = np.random.get_state()
    text = {"groups": state["param_groups"], "schedule": scheduler.state_dict(), "python": random.getstate(),
            "numpy": [kind, keys.tolist(), *rest], "ids": list(state["state"])}
    with open(path, "wb") as file:
        file.write(safetensors.torch.save(tensors, {"rest": json.dumps(text)}))
""",
        """
def resume(path, model, optimizer, scheduler):
    import json, safetensors
    with safetensors.safe_open(path, "pt") as file:
        rest = json.loads(file.metadata()["rest"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    model.load_state_dict({k[2:]: v for k, v in tensors.items() if k.startswith("m.")})
    state = {i: {} for i in rest["ids"]}
    for key, value in tensors.items():
        if key.startswith("o."):
            _, i, name = key.split(".", 2)
            state[int(i)][name] = value
    optimizer.load_state_dict({"state": state, "param_groups": rest["groups"]})
    scheduler.load_state_dict(rest["schedule"])
    version, numbers, gauss = rest["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(rest["numpy"]))
    torch.set_rng_state(tensors["torch"])
""",
    ),
}


def _pair(write, read):
    """Both verdicts on a notebook that defines both."""
    verdicts = []
    for name in ("checkpoint", "resume"):
        exercise = all_exercises()[name]
        function = define(exercise, f"{write}\n{read}")
        expected = attempt(exercise, solution(exercise), 0)
        verdicts.append(judge(exercise, expected, attempt(exercise, function, 0)))
    return verdicts


@pytest.mark.parametrize("write, read", PAIRS.values(), ids=PAIRS)
def test_the_file_may_have_any_format(write, read):
    for verdict in _pair(write, read):
        assert verdict.status is Status.CORRECT, verdict.fault


def test_pickle_restores_everything_and_is_refused():
    write = f"""
def checkpoint(path, model, optimizer, scheduler):
    import pickle
    everything = {SAVE}, random.getstate(), np.random.get_state(), torch.get_rng_state()
    with open(path, "wb") as file:
        pickle.dump(everything, file)
"""
    read = """
def resume(path, model, optimizer, scheduler):
    import pickle
    with open(path, "rb") as file:
        m, o, s, python, numpy, torchs = pickle.load(file)
    model.load_state_dict(m), optimizer.load_state_dict(o), scheduler.load_state_dict(s)
    random.setstate(python), np.random.set_state(numpy), torch.set_rng_state(torchs)
"""
    written, was_read = _pair(write, read)
    assert written.status is Status.CORRECT and was_read.status is Status.INCORRECT
    assert "running of code from a hostile file" in was_read.fault.sentence


@pytest.mark.parametrize("key", ["path", "'last'"])
def test_memory_is_no_file(key):
    write = f"""
KEPT = {{}}
def checkpoint(path, model, optimizer, scheduler):
    everything = {SAVE}, random.getstate(), np.random.get_state(), torch.get_rng_state()
    KEPT[{key}] = copy.deepcopy(everything)
    with open(path, "wb") as file:
        file.write(bytes(4096))
"""
    read = f"""
def resume(path, model, optimizer, scheduler):
    m, o, s, python, numpy, torchs = KEPT[{key}]
    model.load_state_dict(m), optimizer.load_state_dict(o), scheduler.load_state_dict(s)
    random.setstate(python), np.random.set_state(numpy), torch.set_rng_state(torchs)
"""
    assert all(verdict.status is not Status.CORRECT for verdict in _pair(write, read))


def test_half_a_pair_is_told_that_its_partner_is_missing():
    write, read = PAIRS["NumPy's state as a dict"]
    untouched = {name: STARTER.format(name=name) for name in ("checkpoint", "resume")}
    for verdict, other in zip(_pair(write, untouched["resume"]), ("resume", ""), strict=True):
        assert verdict.status is (Status.ERROR if other else Status.NOT_ATTEMPTED)
        assert not other or "together with your resume, which is not written yet" in verdict.fault.sentence
    for verdict, other in zip(_pair(untouched["checkpoint"], read), ("", "checkpoint"), strict=True):
        assert verdict.status is (Status.ERROR if other else Status.NOT_ATTEMPTED)
        assert not other or "together with your checkpoint, which is not written yet" in verdict.fault.sentence
    assert [one.status for one in _pair(*untouched.values())] == [Status.NOT_ATTEMPTED] * 2


def test_without_a_partner_the_name_is_missing():
    exercise = all_exercises()["resume"]
    names = {"torch": torch}
    exec("def resume(path, model, optimizer, scheduler):\n    torch.load(path)", names)
    raised = attempt(exercise, names["resume"], 0)[0]["raised"]
    assert raised["type"] == "NameError" and "your checkpoint, which is not defined yet" in raised["message"]


def test_a_check_leaves_the_random_generators_alone():
    exercise = all_exercises()["resume"]
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    attempt(exercise, solution(exercise), 0)
    assert before[0] == random.getstate() and (before[1] == np.random.get_state()[1]).all()
    assert torch.equal(before[2], torch.get_rng_state())
