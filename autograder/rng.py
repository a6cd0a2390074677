"""The seeded generator that a spec draws its trials from."""

import hashlib

import numpy as np
import torch
from torch import nn


class Rng:
    """Draws tensors and numbers that depend on the seed and the exercise alone.

    NumPy's `RandomState` is used because its stream is frozen (NEP 19): trials drawn on one machine are
    the same on every other, whatever its processor and its version of PyTorch.
    """

    def __init__(self, seed: int, exercise_name: str):
        digest = hashlib.sha256(f"{seed}/{exercise_name}".encode()).digest()
        self._state = np.random.RandomState(np.frombuffer(digest, dtype=np.uint32))

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Standard normal values of the given shape."""
        return torch.from_numpy(np.asarray(self._state.standard_normal(shape))).to(dtype)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Float32 values of the given shape, evenly spread over [low, high)."""
        return torch.from_numpy(np.asarray(self._state.uniform(low, high, shape))).to(torch.float32)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Int64 values of the given shape in [low, high)."""
        return torch.from_numpy(np.asarray(self._state.randint(low, high, shape, dtype=np.int64)))

    def booleans(self, *shape: int, share: float = 0.5) -> torch.Tensor:
        """Bool values of the given shape, each true with probability `share`."""
        return torch.from_numpy(np.asarray(self._state.uniform(size=shape) < share))

    def fill(self, module: nn.Module) -> nn.Module:
        """Draw every parameter and buffer of a module, in the order of its state and shared ones once.

        Variances come from [0.5, 2), whole numbers (counters) from 1 to 8, all else is standard normal. Returns the
        module.
        """
        shared_once = {id(tensor): (name, tensor) for name, tensor in module.state_dict(keep_vars=True).items()}
        with torch.no_grad():
            for name, tensor in shared_once.values():
                if not tensor.is_floating_point():
                    tensor.copy_(self.integers(1, 9, *tensor.shape))
                elif name.endswith("running_var"):
                    tensor.copy_(self.uniform(*tensor.shape, low=0.5, high=2.0))
                else:
                    tensor.copy_(self.normal(*tensor.shape, dtype=tensor.dtype))
        return module

    def permutation(self, n: int) -> torch.Tensor:
        """The numbers 0 to n − 1 in random order, int64, shape (n,)."""
        return torch.from_numpy(self._state.permutation(n).astype(np.int64))

    def integer(self, low: int, high: int) -> int:
        """One Python int in [low, high)."""
        return int(self._state.randint(low, high))

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """One Python float in [low, high)."""
        return float(self._state.uniform(low, high))
