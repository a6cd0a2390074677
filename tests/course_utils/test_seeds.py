"""`seed_everything` makes every generator repeat itself."""

import random

import numpy as np
import pytest
import torch

from course_utils import seed_everything


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), torch.rand(()).item()]


def test_the_same_seed_gives_the_same_numbers():
    seed_everything(7)
    first = draw()
    seed_everything(8)
    other = draw()
    seed_everything(7)
    assert draw() == first
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_it_returns_nothing_that_a_notebook_would_show():
    assert seed_everything(2**32 - 1) is None


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_refuses_is_refused_by_name(seed):
    with pytest.raises(ValueError, match=rf"seed_everything\({seed}\): a seed is a whole number from 0"):
        seed_everything(seed)
