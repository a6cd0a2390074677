"""The same random numbers on every run."""

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, torch's on every device.

    Raises ValueError unless 0 <= seed < 2**32, which is what all three accept.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything({seed}): a seed is a whole number from 0 to 2**32 - 1.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
