"""Trials, hints and known mistakes of the exercises of chapter 10, in the order of the notebook."""

import functools
import math
import tempfile
import warnings
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from autograder.evidence import collect
from autograder.exercise import exercise, trial
from autograder.probe import apply, call, call_in_float32


def _quietly(probe):
    """The same probe without warnings: of NumPy about diffusers, and of diffusers about what known mistakes do."""

    @functools.wraps(probe)
    def quiet(function, arguments):
        from diffusers.utils import logging

        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return probe(function, arguments)
        finally:
            logging.set_verbosity(verbosity)

    return quiet


def _kept(rng, steps, dtype=torch.float32):
    """Shares of variance that fall from step to step, from about 0.98, none of them near 0 or 1: shape (steps,)."""
    return (1 - rng.uniform(steps, low=0.02, high=0.9 / math.sqrt(steps))).cumprod(0).to(dtype)


class Denoiser(torch.nn.Module):
    """A small stand-in for a UNet: it takes the same call, and its output depends on every part of its input.

    Its dropout shows whether it runs in eval mode; `recorded` keeps whether gradients were recorded at each call, and
    `modes` the mode that it was in.
    """

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, weights: torch.Tensor, classes: torch.Tensor | None = None):
        super().__init__()
        self.weights = torch.nn.Parameter(weights)  # (4,)
        self.classes = None if classes is None else torch.nn.Parameter(classes)  # (11,)
        self.dropout = torch.nn.Dropout(0.5)
        self.recorded: list[bool] = []
        self.modes: list[str] = []

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        """A prediction of the shape of `sample`, (b, ...), for one timestep or one per sample."""
        from diffusers.models.unets.unet_2d import UNet2DOutput

        self.recorded.append(torch.is_grad_enabled())
        self.modes.append(_mode(self))
        ones = [1] * (sample.ndim - 1)
        own, neighbour, time, shift = self.weights
        t = torch.as_tensor(timestep, dtype=torch.float32).reshape(-1, *ones)
        y = own * sample + neighbour * sample.roll(1, -1) + time * (0.7 * t + 1).sin() + shift
        if self.classes is not None:
            offset = F.embedding(class_labels, self.classes[:, None])  # which refuses −1, as the UNet does
            y = y + offset.reshape(-1, *ones) * (1 + 0.3 * sample)
        y = self.dropout(y.tanh())
        return UNet2DOutput(sample=y) if return_dict else (y,)


def _mode(module):
    return "training" if module.training else "eval"


def _denoiser(rng, classes=False, training=False):
    weights = rng.uniform(4, low=0.3, high=0.9)
    return Denoiser(weights, rng.uniform(11, low=-2, high=2) if classes else None).train(training)


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "`alphas_cumprod[t]` has shape (b,): one share per sample. Which shape lets it broadcast over (b, c, h, w)?",
        "(b, 1, 1, 1) does for pictures: `.view(-1, 1, 1, 1)`.",
        "The formula has roots: the shares are of the variance, and x is scaled by the standard deviation.",
    ],
)
def add_noise(rng):
    """Trials for x_t = sqrt(kept) x0 + sqrt(1 - kept) noise, each sample at its own step."""

    def arguments(steps, *shape, dtype=torch.float32):
        return {
            "x0": rng.normal(*shape, dtype=dtype),
            "noise": rng.normal(*shape, dtype=dtype),
            "t": rng.permutation(steps)[torch.arange(shape[0]) % steps],
            "alphas_cumprod": _kept(rng, steps, dtype),
        }

    yield trial("pictures, each at its own step", **arguments(10, 3, 2, 4, 5))
    yield trial("all axes equal", **arguments(5, 3, 3, 3, 3))
    yield trial("a batch of one", **arguments(6, 1, 1, 2, 3))
    yield trial("float64", **arguments(8, 2, 1, 3, 2, dtype=torch.float64))


@add_noise.mistake(
    "ᾱ is a share of the variance. x is scaled by the square root of it: √ᾱ x₀ + √(1 − ᾱ) noise. Without the roots, "
    "the result has too little variance in between."
)
def forgets_the_roots(x0, noise, t, alphas_cumprod):
    kept = alphas_cumprod[t].reshape(-1, *[1] * (x0.ndim - 1))
    return kept * x0 + (1 - kept) * noise


@add_noise.mistake("Picture and noise are swapped: the picture keeps √ᾱ, and the noise gets √(1 − ᾱ).")
def swaps_the_shares(x0, noise, t, alphas_cumprod):
    kept = alphas_cumprod[t].reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - kept).sqrt() * x0 + kept.sqrt() * noise


@add_noise.mistake(
    "Every sample was noised to the step of the first one. `alphas_cumprod[t]` has one share for each: keep all of them."
)
def noises_all_to_one_step(x0, noise, t, alphas_cumprod):
    kept = alphas_cumprod[t[:1]].reshape(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


@add_noise.mistake(
    "A share of shape (b,) lines up with the *last* axis of x0. Give it one axis of length 1 for each further axis of "
    "x0, so that it lines up with the first."
)
def lines_up_with_the_last_axis(x0, noise, t, alphas_cumprod):
    kept = alphas_cumprod[t]
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


@exercise(
    points=1,
    level=1,
    minutes=5,
    hints=[
        "Solve x_t = √ᾱ x₀ + √(1 − ᾱ) ε for x₀.",
        "First take the noise away, all of √(1 − ᾱ) ε; then undo the scaling.",
        "The shares need the shape (b, 1, 1, 1), as in `add_noise`.",
    ],
)
def predict_x0(rng):
    """Trials for the x0 that x_t and the noise in it imply, each sample at its own step."""

    def arguments(steps, *shape, dtype=torch.float32):
        return {
            "x_t": 2 * rng.normal(*shape, dtype=dtype),
            "eps": rng.normal(*shape, dtype=dtype),
            "t": rng.permutation(steps)[torch.arange(shape[0]) % steps],
            "alphas_cumprod": _kept(rng, steps, dtype),
        }

    yield trial("pictures, each at its own step", **arguments(10, 3, 2, 4, 5))
    yield trial("all axes equal", **arguments(5, 3, 3, 3, 3))
    yield trial("a batch of one", **arguments(6, 1, 1, 2, 3))
    yield trial("float64", **arguments(8, 2, 1, 3, 2, dtype=torch.float64))


@predict_x0.mistake("The noise stands in x_t times √(1 − ᾱ), with the root: take away that much.")
def forgets_the_root_of_the_noise(x_t, eps, t, alphas_cumprod):
    kept = alphas_cumprod[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return (x_t - (1 - kept) * eps) / kept.sqrt()


@predict_x0.mistake("What is left after the noise is √ᾱ x₀. Divide by √ᾱ to have x₀ itself.")
def leaves_the_scale(x_t, eps, t, alphas_cumprod):
    kept = alphas_cumprod[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return x_t - (1 - kept).sqrt() * eps


@predict_x0.mistake("The prediction is clamped to [−1, 1]. Here it stays as the formula gives it.")
def clamps(x_t, eps, t, alphas_cumprod):
    kept = alphas_cumprod[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return ((x_t - (1 - kept).sqrt() * eps) / kept.sqrt()).clamp(-1, 1)


@predict_x0.mistake(
    "Only x_t is divided. √ᾱ divides the whole difference: put brackets round x_t − √(1 − ᾱ) ε, or the noise is taken "
    "away at the wrong scale."
)
def divides_one_term(x_t, eps, t, alphas_cumprod):
    kept = alphas_cumprod[t].reshape(-1, *[1] * (x_t.ndim - 1))
    return x_t / kept.sqrt() - (1 - kept).sqrt() * eps


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "Map [−1, 1] to [0, 1] first; then to 0 … 255. Where must the clamp stand?",
        "Converting to `uint8` cuts off what follows the point. `round()` before it.",
        "`permute(0, 2, 3, 1)` puts the channels last; a tensor in a graph needs `detach()` before `numpy()`.",
    ],
)
def to_pixels(rng):
    """Trials for float32 (b, c, h, w) in about [-1, 1] that becomes a uint8 array (b, h, w, c)."""

    def pictures(*shape):
        # Not halfway between two bytes, so that every way to compute them rounds alike.
        near = rng.integers(0, 256, *shape).float() + rng.uniform(*shape, low=-0.4, high=0.4)
        return near / 127.5 - 1

    beyond = pictures(2, 1, 3, 4)
    beyond[:, :, 0] *= 3
    yield trial("three channels", x=pictures(2, 3, 4, 5))
    yield trial("values beyond [−1, 1]", x=beyond)
    yield trial("one grey picture", x=pictures(1, 1, 2, 2))
    yield trial("still in a graph", x=pictures(2, 1, 3, 2).requires_grad_())
    yield trial("the two ends", x=torch.tensor([-1.0, 1.0, -1.0, 1.0]).reshape(1, 2, 1, 2))
    yield trial("no pictures", x=pictures(0, 3, 2, 4))


@to_pixels.mistake("Converting to `uint8` cuts off the fraction, so every value is up to one too small. Round first.")
def cuts_off(x):
    return ((x.detach() + 1) * 127.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


@to_pixels.mistake("x runs from −1 to 1, so half of it was lost: −1 must become 0, and 0 a middle grey.")
def takes_x_for_shares(x):
    return (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@to_pixels.mistake("A byte has no 256 and no −1: values beyond the range wrap round. Clamp before converting.")
def does_not_clamp(x):
    return ((x.detach() + 1) * 127.5).round().to(torch.int64).numpy().astype(np.uint8).transpose(0, 2, 3, 1)


@to_pixels.mistake("The channels are still on axis 1. A picture file has them last: `permute(0, 2, 3, 1)`.")
def leaves_channels_first(x):
    return ((x.detach() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).numpy()


@to_pixels.mistake("`reshape` only cuts the same line of numbers anew. Moving the channels takes `permute`.")
def reshapes(x):
    b, c, h, w = x.shape
    return ((x.detach() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).reshape(b, h, w, c).numpy()


@exercise(
    points=1,
    level=1,
    minutes=4,
    hints=[
        "Where must the result be for a scale of 0, and where for 1?",
        "Start at the prediction without a label, and go `scale` times the way to the one with it.",
    ],
)
def guided_noise(rng):
    """Trials for uncond + scale (cond - uncond)."""

    def pair(*shape, dtype=torch.float32):
        return {"cond": rng.normal(*shape, dtype=dtype), "uncond": rng.normal(*shape, dtype=dtype)}

    yield trial("a usual scale", **pair(2, 1, 3, 4), scale=2.5)
    yield trial("scale 0 ignores the label", **pair(3, 2), scale=0.0)
    yield trial("scale 1 is the labelled prediction", **pair(3, 2), scale=1.0)
    yield trial("a large scale, float64", **pair(2, 3, dtype=torch.float64), scale=7.5)
    yield trial("away from the label", **pair(4), scale=-1.0)
    yield trial("no samples", **pair(0, 1, 2, 2), scale=3.0)


@guided_noise.mistake("cond and uncond are swapped: the larger the scale, the further this goes *away* from the label.")
def swaps_the_two(cond, uncond, scale):
    return cond + scale * (uncond - cond)


@guided_noise.mistake(
    "This starts at the labelled prediction, so it goes one whole way too far: scale 1 must give `cond` itself. "
    "(The formula with 1 + w in the paper has w = s − 1.)"
)
def starts_at_the_labelled_one(cond, uncond, scale):
    return cond + scale * (cond - uncond)


@guided_noise.mistake(
    "With scale · cond added, scale 1 gives the sum of both, not `cond`. What is scaled is the *difference* of the two."
)
def adds_the_prediction(cond, uncond, scale):
    return uncond + scale * cond


@guided_noise.mistake("The scale is kept within 0 to 1. Guidance goes beyond the labelled prediction: no limit here.")
def stays_between(cond, uncond, scale):
    return uncond + min(max(scale, 0.0), 1.0) * (cond - uncond)


@exercise(
    points=1,
    level=1,
    minutes=6,
    hints=[
        "How far apart are the visited levels, as a whole number?",
        "The levels are 0, 1, …, steps − 1 times that distance; a slice of a range may hold too many.",
        "`flip(0)` turns a tensor round.",
    ],
)
def inference_timesteps(rng):
    """Trials for the multiples of train_steps // steps, largest first."""
    yield trial("1000 and 50", train_steps=1000, steps=50)
    yield trial("steps that do not divide", train_steps=1000, steps=7)
    yield trial("more than half of them", train_steps=10, steps=6)
    yield trial("all of them", train_steps=120, steps=120)
    yield trial("one step", train_steps=100, steps=1)
    steps = rng.integer(3, 9)
    yield trial("any numbers", train_steps=steps * rng.integer(20, 40) + rng.integer(1, steps), steps=steps)


@inference_timesteps.mistake("The order is that of noising. Sampling removes noise: the largest level comes first.")
def ascends(train_steps, steps):
    return torch.arange(steps) * (train_steps // steps)


@inference_timesteps.mistake(
    "This begins at the last training step. With leading spacing the smallest level is 0, and the largest is "
    "(steps − 1) · (train_steps // steps)."
)
def trails(train_steps, steps):
    return train_steps - 1 - torch.arange(steps) * (train_steps // steps)


@inference_timesteps.mistake(
    "Where steps does not divide train_steps, a range up to train_steps holds more than `steps` multiples. Count them."
)
def takes_every_multiple(train_steps, steps):
    return torch.arange(0, train_steps, train_steps // steps).flip(0)


@inference_timesteps.mistake(
    "`linspace` spreads the levels over the whole range, both ends included. Leading spacing takes multiples of a whole "
    "number."
)
def spreads_evenly(train_steps, steps):
    return torch.linspace(train_steps - 1, 0, steps).round().long()


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "f is needed at T + 1 points: 0/T, 1/T, …, T/T.",
        "With those T + 1 values in one tensor, numerator and denominator are two slices of it.",
        "`torch.arange(steps + 1, dtype=torch.float64) / steps` has the points; `.float()` rounds at the end.",
    ],
    probe=call_in_float32,
    tolerance=(1e-4, 1e-6),
)
def cosine_betas(rng):
    """Trials for beta_i = min(1 - f((i + 1)/T) / f(i/T), 0.999) with f(u) = cos²((u + s)/(1 + s) π/2)."""
    yield trial("ten steps", steps=10)
    yield trial("two steps, no offset", steps=2, s=0.0)
    yield trial("one step", steps=1)
    yield trial("a large offset", steps=5, s=rng.number(0.2, 0.6))
    yield trial("a thousand steps", steps=1000)
    yield trial("any number of steps", steps=rng.integer(12, 30), s=0.02)


@cosine_betas.mistake("Near the end β reaches 1, which erases the whole picture. Cap it at 0.999.")
def does_not_cap(steps, s=0.008):
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = ((u + s) / (1 + s) * math.pi / 2).cos().square()
    return (1 - kept[1:] / kept[:-1]).float()


@cosine_betas.mistake("f is the cosine *squared*: ᾱ is a share of the variance.")
def forgets_the_square(steps, s=0.008):
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = ((u + s) / (1 + s) * math.pi / 2).cos()
    return (1 - kept[1:] / kept[:-1]).clamp(max=0.999).float()


@cosine_betas.mistake(
    "1 − f is the noise in total after each step. β is what one step adds: divide by f of the step before."
)
def gives_the_total(steps, s=0.008):
    u = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    kept = ((u + s) / (1 + s) * math.pi / 2).cos().square()
    return (1 - kept).clamp(max=0.999).float()


@cosine_betas.mistake("The quotient is the α of the step, the share that is *kept*. β is 1 minus it.")
def gives_the_alphas(steps, s=0.008):
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = ((u + s) / (1 + s) * math.pi / 2).cos().square()
    return (kept[1:] / kept[:-1]).clamp(max=0.999).float()


@cosine_betas.mistake(
    "The points end at (T − 1)/T: `linspace` with T + 1 values from 0 to 1 has both ends, and T gaps."
)
def has_one_point_too_few(steps, s=0.008):
    u = torch.linspace(-1 / steps, 1 - 1 / steps, steps + 1, dtype=torch.float64)
    kept = ((u + s) / (1 + s) * math.pi / 2).cos().square()
    return (1 - kept[1:] / kept[:-1]).clamp(max=0.999).float()


def _in_the_librarys_precision(function, arguments):
    """The result in float32, and its dtype: the scheduler of diffusers holds its betas in float32, whatever x is."""
    evidence = call(function, arguments)
    result = evidence["result"]
    if not isinstance(result, torch.Tensor) or not result.is_floating_point():
        return evidence
    return evidence | {"result": result.float(), "dtype of the result": str(result.dtype).removeprefix("torch.")}


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "`(1 - betas).cumprod(0)` is ᾱ. Compute x̂₀ first: that is `predict_x0` for one step.",
        "The step before t = 0 has ᾱ = 1. `alphas_cumprod[t - 1]` would be the *last* entry there.",
        "The last term is a standard deviation: the root of (1 − ᾱ before) / (1 − ᾱ) · β.",
    ],
    probe=_in_the_librarys_precision,
    tolerance=(1e-3, 1e-4),
)
def ddpm_step(rng):
    """Trials for the posterior sample x_{t-1}, with no noise at t = 0."""

    def arguments(t, steps, *shape, dtype=torch.float32):
        x_t, eps, noise = (rng.normal(*shape, dtype=dtype) for _ in range(3))
        return {
            "x_t": x_t,
            "eps": eps,
            "t": t,
            "betas": rng.uniform(steps, low=0.05, high=0.5).to(dtype),
            "noise": noise,
        }

    yield trial("in the middle", **arguments(4, 9, 2, 1, 3, 4))
    yield trial("the last training step", **arguments(5, 6, 3, 2))
    yield trial("t = 1", **arguments(1, 4, 2, 3))
    yield trial("t = 0", **arguments(0, 5, 2, 1, 2, 3))
    many = arguments(500, 1000, 2, 2, dtype=torch.float64)
    yield trial(
        "a thousand steps, float64", **(many | {"betas": torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)})
    )
    yield trial("one training step", **arguments(0, 1, 1, 3))


@ddpm_step.mistake("The last term is the *variance*. Noise is scaled by the standard deviation: take the root of it.")
def scales_by_the_variance(x_t, eps, t, betas, noise):
    x0, before, left = _posterior(x_t, eps, t, betas)
    mean = before.sqrt() * betas[t] / left * x0 + (1 - betas[t]).sqrt() * (1 - before) / left * x_t
    return mean + (noise * (1 - before) / left * betas[t] if t else 0)


@ddpm_step.mistake(
    "The noise has variance β. DDPMScheduler's default is the variance of the posterior, β (1 − ᾱ before) / (1 − ᾱ), "
    "which is smaller. ('fixed_large' is the name of yours.)"
)
def takes_the_large_variance(x_t, eps, t, betas, noise):
    x0, before, left = _posterior(x_t, eps, t, betas)
    mean = before.sqrt() * betas[t] / left * x0 + (1 - betas[t]).sqrt() * (1 - before) / left * x_t
    return mean + (betas[t].sqrt() * noise if t else 0)


@ddpm_step.mistake("At t = 0 you add noise to the finished picture. That is the last step: return the mean alone.")
def adds_noise_at_the_end(x_t, eps, t, betas, noise):
    x0, before, left = _posterior(x_t, eps, t, betas)
    mean = before.sqrt() * betas[t] / left * x0 + (1 - betas[t]).sqrt() * (1 - before) / left * x_t
    return mean + (((1 - before) / left if t else 1) * betas[t]).sqrt() * noise


@ddpm_step.mistake(
    "`alphas_cumprod[t - 1]` at t = 0 is `alphas_cumprod[-1]`, the last entry: all noise. Before the first step nothing "
    "has been added, so ᾱ is 1."
)
def wraps_round(x_t, eps, t, betas, noise):
    kept = (1 - betas).cumprod(0)
    x0, before, left = (x_t - (1 - kept[t]).sqrt() * eps) / kept[t].sqrt(), kept[t - 1], 1 - kept[t]
    mean = before.sqrt() * betas[t] / left * x0 + (1 - betas[t]).sqrt() * (1 - before) / left * x_t
    return mean + (((1 - before) / left * betas[t]).sqrt() * noise if t else 0)


@ddpm_step.mistake("The fresh noise is missing: without it this is the mean of x at t − 1, not a sample of it.")
def returns_the_mean(x_t, eps, t, betas, noise):
    x0, before, left = _posterior(x_t, eps, t, betas)
    return before.sqrt() * betas[t] / left * x0 + (1 - betas[t]).sqrt() * (1 - before) / left * x_t


@ddpm_step.mistake("x̂₀ is clamped to [−1, 1], as `DDPMScheduler` does by default. Here the formula stands without it.")
def clamps_the_prediction(x_t, eps, t, betas, noise):
    x0, before, left = _posterior(x_t, eps, t, betas)
    x0 = x0.clamp(-1, 1)
    mean = before.sqrt() * betas[t] / left * x0 + (1 - betas[t]).sqrt() * (1 - before) / left * x_t
    return mean + (((1 - before) / left * betas[t]).sqrt() * noise if t else 0)


def _posterior(x_t, eps, t, betas):
    kept = (1 - betas).cumprod(0)
    before = kept[t - 1] if t else torch.ones_like(kept[0])
    return (x_t - (1 - kept[t]).sqrt() * eps) / kept[t].sqrt(), before, 1 - kept[t]


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "There are two lines: x̂₀ from x_t, then `add_noise` to `t_prev` with eps as the noise.",
        "`alphas_cumprod[-1]` is the last entry, not the clean picture. What does the formula give for ᾱ = 1?",
    ],
    tolerance=(1e-3, 1e-4),
)
def ddim_step(rng):
    """Trials for the step from t to t_prev without noise; t_prev = -1 is clean."""

    def arguments(t, t_prev, steps, *shape, dtype=torch.float32):
        x_t, eps = rng.normal(*shape, dtype=dtype), rng.normal(*shape, dtype=dtype)
        return {"x_t": x_t, "eps": eps, "t": t, "t_prev": t_prev, "alphas_cumprod": _kept(rng, steps, dtype)}

    yield trial("to the step before", **arguments(5, 4, 8, 2, 1, 3, 4))
    yield trial("a long jump", **arguments(8, 2, 9, 3, 2))
    yield trial("to step 0", **arguments(3, 0, 5, 2, 3))
    yield trial("to the clean picture", **arguments(2, -1, 6, 2, 1, 2, 2))
    yield trial("from step 0 to the clean picture", **arguments(0, -1, 4, 5, 1))
    yield trial("float64", **arguments(600, 575, 1000, 2, 2, dtype=torch.float64))


@ddim_step.mistake(
    "`alphas_cumprod[-1]` is the last entry, the noisiest of all. t_prev = −1 means the clean picture, where ᾱ is 1."
)
def takes_the_last_for_clean(x_t, eps, t, t_prev, alphas_cumprod):
    kept, before = alphas_cumprod[t], alphas_cumprod[t_prev]
    return before.sqrt() * (x_t - (1 - kept).sqrt() * eps) / kept.sqrt() + (1 - before).sqrt() * eps


@ddim_step.mistake("t_prev = 0 is a step like any other: only −1 means the clean picture. Ask `t_prev >= 0`.")
def takes_step_zero_for_clean(x_t, eps, t, t_prev, alphas_cumprod):
    kept = alphas_cumprod[t]
    before = alphas_cumprod[t_prev] if t_prev > 0 else torch.ones_like(kept)
    return before.sqrt() * (x_t - (1 - kept).sqrt() * eps) / kept.sqrt() + (1 - before).sqrt() * eps


@ddim_step.mistake("Fresh noise is drawn. DDIM puts the *predicted* noise back, at its new size: it draws nothing.")
def draws_noise(x_t, eps, t, t_prev, alphas_cumprod):
    kept = alphas_cumprod[t]
    before = alphas_cumprod[t_prev] if t_prev >= 0 else torch.ones_like(kept)
    x0 = (x_t - (1 - kept).sqrt() * eps) / kept.sqrt()
    return before.sqrt() * x0 + (1 - before).sqrt() * torch.randn_like(x_t)


@ddim_step.mistake("Whatever t_prev is, this goes to t − 1. DDIM may jump: use ᾱ of t_prev.")
def always_goes_one_step(x_t, eps, t, t_prev, alphas_cumprod):
    kept = alphas_cumprod[t]
    before = alphas_cumprod[t - 1] if t else torch.ones_like(kept)
    return before.sqrt() * (x_t - (1 - kept).sqrt() * eps) / kept.sqrt() + (1 - before).sqrt() * eps


@ddim_step.mistake("This is x̂₀, the estimate of the clean picture. It still has to be noised to t_prev.")
def stops_at_the_estimate(x_t, eps, t, t_prev, alphas_cumprod):
    kept = alphas_cumprod[t]
    return (x_t - (1 - kept).sqrt() * eps) / kept.sqrt()


@ddim_step.mistake(
    "The estimate is scaled down to t_prev, but the noise that belongs there is missing: add √(1 − ᾱ) eps."
)
def leaves_the_noise_out(x_t, eps, t, t_prev, alphas_cumprod):
    kept = alphas_cumprod[t]
    before = alphas_cumprod[t_prev] if t_prev >= 0 else torch.ones_like(kept)
    return before.sqrt() * (x_t - (1 - kept).sqrt() * eps) / kept.sqrt()


@ddim_step.mistake("x̂₀ is clamped to [−1, 1], as `DDIMScheduler` does by default. Here the formula stands without it.")
def clamps_the_estimate(x_t, eps, t, t_prev, alphas_cumprod):
    kept = alphas_cumprod[t]
    before = alphas_cumprod[t_prev] if t_prev >= 0 else torch.ones_like(kept)
    x0 = ((x_t - (1 - kept).sqrt() * eps) / kept.sqrt()).clamp(-1, 1)
    return before.sqrt() * x0 + (1 - before).sqrt() * eps


@_quietly
def _loss_and_gradients(function, arguments):
    """The loss, what the call changed, the modes of the network, and the gradients, added to those that were there."""
    unet, returned = arguments["unet"], []
    for parameter in unet.parameters():
        parameter.grad = torch.ones_like(parameter)

    def keep(**given):
        returned.append(apply(function, given))
        return returned[0]

    evidence = call(keep, arguments)
    loss = returned[0]
    if isinstance(loss, torch.Tensor) and loss.requires_grad and loss.numel() == 1:
        loss.backward()
    return evidence | {
        "modes of the network": sorted({*unet.modes, _mode(unet)}),
        "gradients": collect({name: p.grad for name, p in unet.named_parameters()}),
    }


@exercise(
    points=2,
    level=2,
    minutes=12,
    hints=[
        "Four lines: noise the pictures, replace labels, call the network, compare. What does it predict?",
        "`torch.where` and `masked_fill` return new labels; `labels[drop] = 10` writes into the caller's.",
        "The mean squared error is between `unet(...).sample` and `noise`.",
    ],
    probe=_loss_and_gradients,
)
def denoising_loss(rng):
    """Trials for the mean squared error between the noise and its prediction, with some labels dropped."""

    def arguments(drop, *shape, steps=10, training=False):
        b = shape[0]
        unet = _denoiser(rng, classes=True, training=training)
        unet.dropout.p = 0.0  # two passes over parts of the batch are as right as one over all of it
        return {
            "unet": unet,
            "x0": rng.uniform(*shape, low=-1, high=1),
            "labels": rng.permutation(10)[:b],
            "t": rng.permutation(steps)[:b],
            "noise": rng.normal(*shape),
            "drop": torch.tensor(drop),
            "alphas_cumprod": _kept(rng, steps),
        }

    yield trial("some labels dropped", **arguments([True, False, False, False], 4, 1, 3, 5))
    yield trial("a network that trains", **arguments([False, True, False], 3, 1, 2, 4, training=True))
    yield trial("no label dropped", **arguments([False] * 3, 3, 2, 4, 2))
    yield trial("every label dropped", **arguments([True] * 3, 3, 1, 2, 2))
    yield trial("a batch of one", **arguments([False], 1, 3, 2, 3))
    yield trial("all axes equal", **arguments([False, True], 2, 2, 2, 2))


@denoising_loss.mistake(
    "No label is dropped. Without that, the network never learns what index 10 means, and guidance has nothing to start "
    "from."
)
def drops_nothing(unet, x0, labels, t, noise, drop, alphas_cumprod):
    kept = alphas_cumprod[t][:, None, None, None]
    return F.mse_loss(unet(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, class_labels=labels).sample, noise)


@denoising_loss.mistake("The labels are dropped where `drop` is false. It is the other way round.")
def drops_the_others(unet, x0, labels, t, noise, drop, alphas_cumprod):
    kept = alphas_cumprod[t][:, None, None, None]
    labels = torch.where(drop, labels, 10)
    return F.mse_loss(unet(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, class_labels=labels).sample, noise)


@denoising_loss.mistake("A dropped label became 0, which is the class of T-shirts. Index 10 means no label.")
def drops_to_zero(unet, x0, labels, t, noise, drop, alphas_cumprod):
    kept = alphas_cumprod[t][:, None, None, None]
    labels = labels * ~drop
    return F.mse_loss(unet(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, class_labels=labels).sample, noise)


@denoising_loss.mistake("The prediction is compared with the clean picture. This network predicts the *noise*.")
def compares_with_the_picture(unet, x0, labels, t, noise, drop, alphas_cumprod):
    kept = alphas_cumprod[t][:, None, None, None]
    labels = labels.masked_fill(drop, 10)
    return F.mse_loss(unet(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, class_labels=labels).sample, x0)


@denoising_loss.mistake(
    "The network was given the clean pictures. It must see the noised ones to find the noise in them."
)
def shows_the_clean_picture(unet, x0, labels, t, noise, drop, alphas_cumprod):
    return F.mse_loss(unet(x0, t, class_labels=labels.masked_fill(drop, 10)).sample, noise)


@denoising_loss.mistake(
    "No gradient reaches the network: its prediction must not stand under `torch.no_grad()`, nor be detached."
)
def cuts_the_graph(unet, x0, labels, t, noise, drop, alphas_cumprod):
    kept = alphas_cumprod[t][:, None, None, None]
    with torch.no_grad():
        eps = unet(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, class_labels=labels.masked_fill(drop, 10)).sample
    return F.mse_loss(eps, noise)


@denoising_loss.mistake("The network trains: leave it in the mode that it came in. Without dropout it learns worse.")
def calls_eval(unet, x0, labels, t, noise, drop, alphas_cumprod):
    kept = alphas_cumprod[t][:, None, None, None]
    labels = labels.masked_fill(drop, 10)
    return F.mse_loss(unet.eval()(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, class_labels=labels).sample, noise)


@denoising_loss.mistake(
    "`labels[drop] = 10` writes into the caller's labels. `labels.masked_fill(drop, 10)` makes new ones."
)
def overwrites_the_labels(unet, x0, labels, t, noise, drop, alphas_cumprod):
    kept = alphas_cumprod[t][:, None, None, None]
    labels[drop] = 10
    return F.mse_loss(unet(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, class_labels=labels).sample, noise)


def _scheduler(name):
    """A scheduler of diffusers with few and coarse training steps, so that rounding stays small."""
    import diffusers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(diffusers, name)(num_train_timesteps=12, beta_start=0.02, beta_end=0.2, clip_sample=False)


@_quietly
def _with_gradients_recorded(function, arguments):
    """What the call returns and changes, and whether the network recorded gradients."""
    evidence = call(function, arguments)
    return evidence | {"gradients recorded": any(arguments["unet"].recorded)}


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Write the four lines of the loop for DDIM first: it draws nothing after the start.",
        "The whole loop stands under `torch.no_grad()`.",
        "Only at the very end: `(x / 2 + 0.5).clamp(0, 1)`.",
    ],
    probe=_quietly(call),
    tolerance=(1e-3, 1e-4),
)
def sample(rng):
    """Trials for the sampling loop with a network without labels and a scheduler of diffusers."""

    def arguments(name, shape, steps):
        return {
            "unet": _denoiser(rng),
            "scheduler": _scheduler(name),
            "shape": shape,
            "steps": steps,
            "generator": torch.Generator().manual_seed(rng.integer(0, 10**6)),
        }

    yield trial("DDIM", **arguments("DDIMScheduler", (2, 1, 4, 4), 3))
    yield trial("DDPM draws at each step", **arguments("DDPMScheduler", (2, 2, 3, 4), 4))
    yield trial("three pictures", **arguments("DDPMScheduler", (3, 1, 4, 5), 3))
    yield trial("two steps", **arguments("DDIMScheduler", (2, 1, 3, 5), 2))
    yield trial("one step", **arguments("DDIMScheduler", (1, 1, 4, 6), 1))


def _loop(unet, scheduler, x, generator):
    with torch.no_grad():
        for t in scheduler.timesteps:
            eps = unet(scheduler.scale_model_input(x, t), t).sample
            x = scheduler.step(eps, t, x, generator=generator).prev_sample
    return x


@sample.mistake(
    "x was still in [−1, 1] when it was clamped, so its dark half was cut off. First (x + 1) / 2, then clamp."
)
def does_not_shift(unet, scheduler, shape, steps, generator):
    scheduler.set_timesteps(steps)
    x = _loop(unet, scheduler, torch.randn(shape, generator=generator) * scheduler.init_noise_sigma, generator)
    return x.clamp(0, 1)


@sample.mistake("The result is still in [−1, 1], the range of the training pictures: (x + 1) / 2, then clamp.")
def stays_centred(unet, scheduler, shape, steps, generator):
    scheduler.set_timesteps(steps)
    return _loop(unet, scheduler, torch.randn(shape, generator=generator) * scheduler.init_noise_sigma, generator)


@sample.mistake("A sampler overshoots: some values lie outside [0, 1]. Clamp them.")
def does_not_clamp_the_sample(unet, scheduler, shape, steps, generator):
    scheduler.set_timesteps(steps)
    x = _loop(unet, scheduler, torch.randn(shape, generator=generator) * scheduler.init_noise_sigma, generator)
    return x / 2 + 0.5


@sample.mistake(
    "`scheduler.step` draws from torch's global generator, so the same seed gives other pictures each time. Hand it "
    "`generator=generator` too."
)
def forgets_the_generator(unet, scheduler, shape, steps, generator):
    scheduler.set_timesteps(steps)
    x = _loop(unet, scheduler, torch.randn(shape, generator=generator) * scheduler.init_noise_sigma, None)
    return (x / 2 + 0.5).clamp(0, 1)


def _public(config):
    """A scheduler's configuration without what the library itself notes in it when it is saved."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


@_quietly
def _swapped(function, arguments):
    """What the new pipeline is made of, and what the old one still holds."""
    pipeline = arguments["pipeline"]
    parts, scheduler = dict(pipeline.components), pipeline.scheduler
    before = _public(scheduler.config)
    new = apply(function, arguments)
    new.scheduler.set_timesteps(4)
    names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
    return {
        "class": type(new).__name__,
        "returned pipeline": "another object" if new is not pipeline else "the same object",
        "components": {name: type(part).__name__ for name, part in sorted(new.components.items())},
        "configuration": {name: collect(new.scheduler.config[name]) for name in names},
        "alphas_cumprod": collect(new.scheduler.alphas_cumprod),
        "timesteps": [float(t) for t in new.scheduler.timesteps],
        "shared parts": {name: new.components[name] is part for name, part in parts.items() if name != "scheduler"},
        "old pipeline": {
            "kept its scheduler": pipeline.scheduler is scheduler,
            "scheduler": type(pipeline.scheduler).__name__,
            "configuration": "as before" if before == _public(scheduler.config) else "changed",
        },
    }


def _pipelines():
    """A class of diffusers with two components, and one of our own with three."""
    from diffusers import DDPMPipeline, DiffusionPipeline

    class WithEncoder(DiffusionPipeline):
        def __init__(self, unet, encoder, scheduler):
            super().__init__()
            self.register_modules(unet=unet, encoder=encoder, scheduler=scheduler)

    return DDPMPipeline, WithEncoder


@exercise(
    points=2,
    level=2,
    minutes=10,
    hints=[
        "`scheduler_class.from_config(config)` makes a scheduler from the configuration of another.",
        "`type(pipeline)` is its class; calling it needs every component by name.",
        "`pipeline.components` is a dict of them: replace one entry in a copy of it.",
    ],
    probe=_swapped,
)
def with_scheduler(rng):
    """Trials for a pipeline with another scheduler of the same configuration."""
    import diffusers

    two, three = _pipelines()

    def options(steps):
        # A spacing that is set, since classes differ in their default, and `from_config` keeps what is set only.
        betas = {"beta_start": rng.number(1e-4, 1e-2), "beta_end": rng.number(0.05, 0.3)}
        return {"num_train_timesteps": steps, "timestep_spacing": "trailing", **betas}

    old = diffusers.DDPMScheduler(**options(40), beta_schedule="scaled_linear", prediction_type="v_prediction")
    yield trial(
        "a DDPMPipeline gets DDIM",
        pipeline=two(unet=_denoiser(rng), scheduler=old),
        scheduler_class=diffusers.DDIMScheduler,
    )
    yield trial(
        "a pipeline of three parts gets Euler",
        pipeline=three(
            unet=_denoiser(rng),
            encoder=_denoiser(rng),
            scheduler=diffusers.DDIMScheduler(**options(100)),
        ),
        scheduler_class=diffusers.EulerDiscreteScheduler,
    )
    yield trial(
        "DPM-Solver after DDPM",
        pipeline=two(unet=_denoiser(rng), scheduler=diffusers.DDPMScheduler(**options(25))),
        scheduler_class=diffusers.DPMSolverMultistepScheduler,
    )


@with_scheduler.mistake(
    "The new scheduler has its own defaults, so it removes noise on another schedule than the one the network was trained "
    "with. Make it with `from_config(pipeline.scheduler.config)`."
)
def takes_the_defaults(pipeline, scheduler_class):
    return type(pipeline)(**(pipeline.components | {"scheduler": scheduler_class()}))


@with_scheduler.mistake(
    "The given pipeline itself got the new scheduler, so its owner samples by another method from now on. Build a second "
    "pipeline from the same components."
)
def changes_the_given_pipeline(pipeline, scheduler_class):
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
    return pipeline


@with_scheduler.mistake("The new pipeline still has a scheduler of the old class: only its configuration was copied.")
def keeps_the_old_class(pipeline, scheduler_class):
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    return type(pipeline)(**(pipeline.components | {"scheduler": scheduler}))


@with_scheduler.mistake(
    "The network was copied too, which doubles the memory. Hand the new pipeline the same components."
)
def copies_everything(pipeline, scheduler_class):
    import copy

    new = copy.deepcopy(pipeline)
    new.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
    return new


@exercise(
    points=3,
    level=3,
    minutes=15,
    hints=[
        "Print t and the step it goes to, before anything else. Sampling starts at the noisiest of them.",
        "The step after t is `t - stride`, and after t = 0 comes the clean picture, whose ᾱ is 1.",
        "Hold the two lines of arithmetic against `ddim_step`, root by root.",
        "DDIM without noise draws nothing: which noise does it put back?",
    ],
    probe=_with_gradients_recorded,
    tolerance=(1e-3, 1e-4),
)
def denoise(rng):
    """Trials for the deterministic loop without a scheduler."""

    def arguments(train_steps, steps, *shape):
        return {
            "unet": _denoiser(rng),
            "x": rng.normal(*shape),
            "alphas_cumprod": _kept(rng, train_steps),
            "steps": steps,
        }

    yield trial("four of twelve steps", **arguments(12, 4, 2, 1, 3, 4))
    yield trial("every step", **arguments(5, 5, 1, 2, 3, 3))
    yield trial("one step", **arguments(6, 1, 2, 1, 2, 5))
    yield trial("two steps", **arguments(8, 2, 3, 1, 2, 2))
    yield trial("a single training step", **arguments(1, 1, 1, 1, 2, 3))


def _ddim(unet, x, alphas_cumprod, steps, fault):
    """The sampler of the prompt, with the fault of one mistake."""
    count = len(alphas_cumprod)
    stride = count // steps
    levels = range(0, count, stride) if fault == "upwards" else range(count - stride, -1, -stride)
    with torch.set_grad_enabled(fault == "graph"):
        for t in levels:
            eps, kept = unet(x, t).sample, alphas_cumprod[t]
            to = t - (1 if fault in ("one down", "one down until clean") else stride)
            clean = {"one down": False, "ends in noise": False, "one down until clean": t == 0}.get(fault, to < 0)
            before = torch.ones(()) if clean else alphas_cumprod[to]
            x0 = (x - (1 - kept if fault == "root" else (1 - kept).sqrt()) * eps) / kept.sqrt()
            noise = torch.randn_like(x) if fault == "fresh noise" else eps
            x = before.sqrt() * x0 + (1 - before).sqrt() * noise
    return x


@denoise.mistake(
    "The loop still goes upwards, from the least noise to the most. Sampling goes from the noisiest step down."
)
def goes_upwards(unet, x, alphas_cumprod, steps):
    return _ddim(unet, x, alphas_cumprod, steps, "upwards")


@denoise.mistake(
    "`alphas_cumprod[t - 1]` is still there: the next level is t minus the stride, and at t = 0 the index −1 means the "
    "noisiest of all instead of the clean picture."
)
def goes_one_step_down(unet, x, alphas_cumprod, steps):
    return _ddim(unet, x, alphas_cumprod, steps, "one down")


@denoise.mistake(
    "The step goes to t − 1, but the next one visited is t − stride: each step must end where the next one begins."
)
def goes_one_step_down_until_clean(unet, x, alphas_cumprod, steps):
    return _ddim(unet, x, alphas_cumprod, steps, "one down until clean")


@denoise.mistake("Gradients are recorded at every step: memory grows with the steps. Put the loop under `no_grad`.")
def records_a_graph(unet, x, alphas_cumprod, steps):
    return _ddim(unet, x, alphas_cumprod, steps, "graph")


@denoise.mistake("One root is still missing: the noise stands in x times √(1 − ᾱ), so that is what to take away.")
def misses_a_root(unet, x, alphas_cumprod, steps):
    return _ddim(unet, x, alphas_cumprod, steps, "root")


@denoise.mistake("Fresh noise is still drawn at each step. DDIM puts the *predicted* noise back, at its new size.")
def draws_fresh_noise(unet, x, alphas_cumprod, steps):
    return _ddim(unet, x, alphas_cumprod, steps, "fresh noise")


@denoise.mistake(
    "All steps are right but the last. After t = 0 comes the clean picture, where ᾱ is 1; index t − stride is negative "
    "there, and reads from the end."
)
def ends_in_noise(unet, x, alphas_cumprod, steps):
    return _ddim(unet, x, alphas_cumprod, steps, "ends in noise")


def _tiny_unet(rng, channels, size):
    """A class-conditional UNet2DModel with about 3,000 weights, drawn by `rng`."""
    from diffusers import UNet2DModel

    unet = UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(4,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=2,
        num_class_embeds=11,
        add_attention=False,
    )
    with torch.no_grad():
        for parameter in unet.parameters():
            fan_in = max(parameter[0].numel(), 4) if parameter.ndim > 1 else 4
            parameter.copy_(rng.normal(*parameter.shape) / math.sqrt(fan_in))
        unet.class_embedding.weight.mul_(6)  # so that the label matters
    return unet.eval()


@_quietly
def _pipeline_run(make, arguments):
    """The pipeline's pictures, its components, and its pictures after it was saved and loaded."""
    from diffusers.utils import logging

    labels, scale, seed = arguments["labels"], arguments["guidance_scale"], arguments["seed"]

    def pictures(pipeline, steps, labels=labels, seed=seed):
        generator = torch.Generator().manual_seed(seed)
        output = pipeline(labels=labels, guidance_scale=scale, num_inference_steps=steps, generator=generator)
        images = output["images"] if isinstance(output, dict) else getattr(output, "images", output)
        return {"images": collect(torch.from_numpy(images) if isinstance(images, np.ndarray) else images)}

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        pipeline = apply(make, {"unet": arguments["unet"], "scheduler": arguments["scheduler"]})
        pipeline.set_progress_bar_config(disable=True)
        evidence = {
            "pictures": pictures(pipeline, arguments["num_inference_steps"]),
            "pictures of a second call": pictures(pipeline, 1, torch.cat([labels[-1:], labels]), seed + 1),
            "registered modules": sorted({"unet", "scheduler"} & set(getattr(pipeline, "config", ()))),
        }
        with tempfile.TemporaryDirectory() as folder:
            try:
                pipeline.save_pretrained(folder)
                loaded = type(pipeline).from_pretrained(folder)
            except Exception as error:
                return evidence | {"saved pipeline": f"raised {type(error).__name__}"}
            evidence["saved pipeline"] = {name: type(part).__name__ for name, part in sorted(loaded.components.items())}
            loaded.set_progress_bar_config(disable=True)
            evidence["pictures after loading"] = pictures(loaded, 1)
        evidence["labels afterwards"] = collect(labels)
        return evidence
    finally:
        if bars:
            logging.enable_progress_bar()


@exercise(
    points=4,
    level=3,
    minutes=25,
    hints=[
        "`register_modules(unet=unet, scheduler=scheduler)` sets `self.unet` and `self.scheduler`, and remembers them.",
        "The loop is that of `sample`, with two predictions per step and `guided_noise` between them.",
        "`torch.full_like(labels, 10)` asks for no label, for each picture of the batch.",
        "Return `ImagePipelineOutput(images=...)`, from [−1, 1] to [0, 1], clamped.",
    ],
    probe=_pipeline_run,
    tolerance=(1e-3, 1e-4),
)
def FashionPipeline(rng):
    """Trials for the class-conditional pipeline: pictures, and pictures after it was saved and loaded."""

    def arguments(name, labels, steps, scale, channels=1, size=4):
        return {
            "unet": _tiny_unet(rng, channels, size),
            "scheduler": _scheduler(name),
            "labels": torch.tensor(labels),
            "num_inference_steps": steps,
            "guidance_scale": scale,
            "seed": rng.integer(0, 10**6),
        }

    yield trial("two labels, DDIM", **arguments("DDIMScheduler", [3, 8], 2, 2.5))
    yield trial("DDPM draws at each step", **arguments("DDPMScheduler", [9, 0, 5], 2, 1.5, channels=2))
    yield trial("guidance below 1", **arguments("DDIMScheduler", [4, 7], 1, 0.5))
    yield trial("one picture", **arguments("DDPMScheduler", [6], 2, 3.0, size=6))


def _wrong(flaw):
    """The class of a pipeline with one flaw."""
    from diffusers import DiffusionPipeline

    class Wrong(DiffusionPipeline):
        def __init__(self, unet, scheduler):
            super().__init__()
            if flaw == "not registered":
                self.parts = {"unet": unet, "scheduler": scheduler}
            elif flaw == "half registered":
                self.register_modules(unet=unet)
                self.scheduler = scheduler
            else:
                self.register_modules(unet=unet, scheduler=scheduler)

        def __call__(self, labels, num_inference_steps=25, guidance_scale=2.0, generator=None):
            unet, scheduler = self.parts.values() if flaw == "not registered" else (self.unet, self.scheduler)
            size, channels = unet.config.sample_size, unet.config.in_channels
            scheduler.set_timesteps(num_inference_steps)
            x = torch.randn(len(labels), channels, size, size, generator=generator)
            with torch.no_grad():
                for t in scheduler.timesteps:
                    none = torch.full_like(labels, 0 if flaw == "zero" else 10)
                    a, b = unet(x, t, class_labels=labels).sample, unet(x, t, class_labels=none).sample
                    base = a if flaw in ("unguided", "from the label") else b
                    guided = flaw != "unguided" and not (flaw == "above 1" and guidance_scale <= 1)
                    eps = base + guidance_scale * (a - b) if guided else a
                    own = None if flaw == "generator" else generator
                    x = scheduler.step(eps, t, x, generator=own).prev_sample
            x = x if flaw == "range" else x / 2 + 0.5
            return SimpleNamespace(images=x if flaw == "clamp" else x.clamp(0, 1))

    return Wrong


@FashionPipeline.mistake(
    "The pictures are right, but the parts are unknown to the pipeline: `save_pretrained` writes nothing of them. "
    "`self.register_modules(unet=unet, scheduler=scheduler)` sets and remembers them."
)
def does_not_register(unet, scheduler):
    return _wrong("not registered")(unet, scheduler)


@FashionPipeline.mistake(
    "Only one of the two parts is registered: `save_pretrained` forgets the other. "
    "`self.register_modules(unet=unet, scheduler=scheduler)` remembers both."
)
def registers_one_of_two(unet, scheduler):
    return _wrong("half registered")(unet, scheduler)


@FashionPipeline.mistake(
    "Guidance is left out for scales up to 1, as programs for Stable Diffusion do to save time. Between 0 and 1 it mixes "
    "the two predictions, and 0 means the one without a label."
)
def guides_above_one_only(unet, scheduler):
    return _wrong("above 1")(unet, scheduler)


@FashionPipeline.mistake(
    "The guidance scale changes nothing: only the labelled prediction is used. Ask for label 10 too."
)
def does_not_guide(unet, scheduler):
    return _wrong("unguided")(unet, scheduler)


@FashionPipeline.mistake(
    "Guidance starts at the labelled prediction, one whole way too far: start at the one for label 10."
)
def guides_from_the_label(unet, scheduler):
    return _wrong("from the label")(unet, scheduler)


@FashionPipeline.mistake("Class 0 is the T-shirt. The network knows *no label* as class index 10.")
def takes_class_zero_for_none(unet, scheduler):
    return _wrong("zero")(unet, scheduler)


@FashionPipeline.mistake("The pictures were clamped to [0, 1] while still centred on 0: take x / 2 + 0.5 first.")
def does_not_shift_the_range(unet, scheduler):
    return _wrong("range")(unet, scheduler)


@FashionPipeline.mistake("Some values lie outside [0, 1]: a sampler overshoots, so clamp at the end.")
def does_not_clamp_the_pictures(unet, scheduler):
    return _wrong("clamp")(unet, scheduler)


@FashionPipeline.mistake("`scheduler.step` was not given the generator: with DDPM, equal seeds give unequal pictures.")
def keeps_the_generator_from_the_steps(unet, scheduler):
    return _wrong("generator")(unet, scheduler)
