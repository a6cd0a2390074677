# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 10: Diffusers
#
# Each exercise is one function, the last one a class. Replace `raise NotImplementedError` with your code, run the cell,
# and run the `check` under it. `hint(name)` gives a hint, and the next one when you run it again. `solution(name)`
# shows the book's answer once you have tried; `progress()` shows what you have solved.
#
# The same names everywhere:
#
# - `x0` is a batch of clean pictures in [−1, 1], `x_t` the same after t steps of noise, `eps` the noise that a network
#   says is in `x_t`.
# - `betas` of shape `(steps,)` holds the share of noise that each training step adds. `alphas_cumprod`, of the same
#   shape, is $\bar\alpha$: the running product of `1 - betas`, the share of the picture's *variance* that is left.
# - **Arguments stay as they are.** The caller still needs them.

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %%
import math

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, ImagePipelineOutput

from autograder import check, hint, progress, solution

# %% [markdown]
# ## Recall
#
# One formula each.

# %% [markdown]
# ### `add_noise` · 1 point · ●○○ · about 6 min
#
# Noise a batch in one step: picture number i is noised to step `t[i]`, each to a step of its own.
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \varepsilon$$
#
# The pictures have shape `(b, c, h, w)`.
#
# For `alphas_cumprod = [0.64, 0.36]` and `t = [0, 1]`, where all of x₀ and ε is 1, the first picture becomes
# 0.8 · 1 + 0.6 · 1 = 1.4 everywhere, and the second 0.6 · 1 + 0.8 · 1 = 1.4. With ε = 0 they become 0.8 and 0.6.


# %%
def add_noise(x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """Each sample of `x0`, noised to its own step.

    x0, noise: float, shape (b, c, h, w). t: int64, shape (b,). alphas_cumprod: the same dtype as x0, shape (steps,).
    Returns the same dtype, shape (b, c, h, w).
    """
    ### BEGIN SOLUTION
    kept = alphas_cumprod[t].reshape(-1, 1, 1, 1)  # (b, 1, 1, 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    ### END SOLUTION


# %%
check(add_noise)

# %% [markdown]
# ### `predict_x0` · 1 point · ●○○ · about 5 min
#
# Read the formula of `add_noise` backwards: given `x_t` and the noise `eps` that a network says is in it, return the
# clean picture that this implies, both of shape `(b, c, h, w)`. Again `t[i]` belongs to picture i. Do not clamp.
#
# For `alphas_cumprod = [0.64, 0.36]` and `t = [0, 1]`, where all of `x_t` is 1.4 and all of `eps` is 1, both results
# are 1: (1.4 − 0.6) / 0.8 and (1.4 − 0.8) / 0.6.


# %%
def predict_x0(x_t: torch.Tensor, eps: torch.Tensor, t: torch.Tensor, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The clean samples that `x_t` consists of if `eps` is the noise in it.

    x_t, eps: float, shape (b, c, h, w). t: int64, shape (b,). alphas_cumprod: the same dtype as x_t, shape (steps,).
    Returns the same dtype, shape (b, c, h, w).
    """
    ### BEGIN SOLUTION
    kept = alphas_cumprod[t].reshape(-1, 1, 1, 1)  # (b, 1, 1, 1)
    return (x_t - (1 - kept).sqrt() * eps) / kept.sqrt()
    ### END SOLUTION


# %%
check(predict_x0)

# %% [markdown]
# ### `to_pixels` · 1 point · ●○○ · about 6 min
#
# A diffusion model works in [−1, 1], with channels first. A picture file wants bytes, with channels last. Convert a
# batch of shape `(b, c, h, w)` to a NumPy array `uint8` of shape `(b, h, w, c)`: −1 becomes 0, +1 becomes 255, what
# lies between is rounded to the nearest whole number. A sampler may overshoot: what lies outside [−1, 1] becomes 0 or
# 255. The batch may be empty.
#
# The four values `[-1.2, -1.0, 0.2, 1.0]` become `[0, 0, 153, 255]`: (0.2 + 1) / 2 · 255 = 153.


# %%
def to_pixels(x: torch.Tensor) -> np.ndarray:
    """Pictures in [-1, 1] as bytes.

    x: float32, shape (b, c, h, w); it may be part of a graph. Returns a uint8 array, shape (b, h, w, c).
    """
    ### BEGIN SOLUTION
    shares = (x / 2 + 0.5).clamp(0, 1)
    return (shares * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # bytes carry no graph
    ### END SOLUTION


# %%
check(to_pixels)

# %% [markdown]
# ### `guided_noise` · 1 point · ●○○ · about 4 min
#
# Classifier-free guidance: from the noise predicted with the label and the noise predicted without one, go beyond the
# labelled one. Return
#
# $$\varepsilon_\text{uncond} + s\,(\varepsilon_\text{cond} - \varepsilon_\text{uncond})$$
#
# A scale s of 0 ignores the label, 1 is the plain labelled prediction, and more exaggerates what the label changes.
#
# For `cond = [3]`, `uncond = [1]` and `scale = 2.5` the result is `[6]`.


# %%
def guided_noise(cond: torch.Tensor, uncond: torch.Tensor, scale: float) -> torch.Tensor:
    """The guided prediction of the noise.

    cond, uncond: float, equal shapes. scale: any number. Returns the same dtype and shape.
    """
    ### BEGIN SOLUTION
    return uncond + scale * (cond - uncond)
    ### END SOLUTION


# %%
check(guided_noise)

# %% [markdown]
# ### `inference_timesteps` · 1 point · ●○○ · about 6 min
#
# Which of the `train_steps` noise levels does a sampler visit if it may take only `steps` of them? With the spacing
# that diffusers calls *leading*, the multiples of `train_steps // steps`, from 0 on, `steps` of them; and because
# sampling removes noise, the largest comes first.
#
# For 1000 training steps and 4 steps: `[750, 500, 250, 0]`. For 10 and 3: `[6, 3, 0]`.


# %%
def inference_timesteps(train_steps: int, steps: int) -> torch.Tensor:
    """The noise levels of a sampler in the order in which it visits them.

    1 ≤ steps ≤ train_steps. Returns int64, shape (steps,).
    """
    ### BEGIN SOLUTION
    return torch.arange(steps).flip(0) * (train_steps // steps)
    ### END SOLUTION


# %%
check(inference_timesteps)

# %% [markdown]
# ## Apply
#
# A schedule, the two steps back, and the loss.

# %% [markdown]
# ### `cosine_betas` · 2 points · ●●○ · about 10 min
#
# The cosine schedule fixes $\bar\alpha$, the share of the variance that is left, and takes the β from it. With T steps,
# numbered i from 0, and a small offset s, which keeps the first β from being too small,
#
# $$f(u) = \cos^2\!\left(\frac{u + s}{1 + s} \cdot \frac{\pi}{2}\right) \qquad
# \beta_i = \min\!\left(1 - \frac{f\big((i + 1) / T\big)}{f(i / T)},\; 0.999\right)$$
#
# The cap keeps the last step from erasing all of the picture. Compute in double precision, and round at the end.
#
# For T = 2 and s = 0: f(0) = 1, f(½) = ½, f(1) = 0, so the β are `[0.5, 0.999]`; the second would be 1 without the cap.


# %%
def cosine_betas(steps: int, s: float = 0.008) -> torch.Tensor:
    """The betas of the cosine schedule.

    steps: at least 1. s: at least 0. Returns float32, shape (steps,).
    """
    ### BEGIN SOLUTION
    u = torch.arange(steps + 1, dtype=torch.float64) / steps  # (steps + 1,): 0 to 1
    kept = ((u + s) / (1 + s) * math.pi / 2).cos().square()
    return (1 - kept[1:] / kept[:-1]).clamp(max=0.999).float()
    ### END SOLUTION


# %%
check(cosine_betas)

# %% [markdown]
# ### `ddpm_step` · 2 points · ●●○ · about 12 min
#
# One step back, from t to t − 1, with fresh noise, as DDPM does it. With $\bar\alpha_{-1} = 1$ and
# $\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\,\varepsilon) / \sqrt{\bar\alpha_t}$, not clamped:
#
# $$x_{t-1} = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1 - \bar\alpha_t}\,\hat x_0
# + \frac{\sqrt{1 - \beta_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\,x_t
# + \sqrt{\frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta_t}\;\text{noise}$$
#
# At t = 0 no noise is added, whatever `noise` holds. This is what `DDPMScheduler(clip_sample=False)` computes.
#
# For `betas = [0.2, 0.5]`, t = 1, `x_t = [1]`, `eps = [0]` and `noise = [1]`: $\bar\alpha = [0.8, 0.4]$,
# $\hat x_0 = 1.581$, and the three terms are 1.1785, 0.2357 and 0.4082, together 1.82.


# %%
def ddpm_step(x_t: torch.Tensor, eps: torch.Tensor, t: int, betas: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """One sample of x at step t - 1.

    x_t, eps, noise: float, equal shapes. t: a Python int, 0 ≤ t < steps. betas: the same dtype, shape (steps,).
    Returns the same dtype and shape as x_t.
    """
    ### BEGIN SOLUTION
    alphas_cumprod = (1 - betas).cumprod(0)
    x0 = (x_t - (1 - alphas_cumprod[t]).sqrt() * eps) / alphas_cumprod[t].sqrt()
    if t == 0:  # the share of x0 is 1, and the two other shares are 0
        return x0
    before, left = alphas_cumprod[t - 1], 1 - alphas_cumprod[t]
    mean = before.sqrt() * betas[t] / left * x0 + (1 - betas[t]).sqrt() * (1 - before) / left * x_t
    return mean + ((1 - before) / left * betas[t]).sqrt() * noise
    ### END SOLUTION


# %%
check(ddpm_step)

# %% [markdown]
# ### `ddim_step` · 2 points · ●●○ · about 10 min
#
# One step back as DDIM does it, without noise (η = 0), from t to any earlier `t_prev`: estimate the clean picture, then
# noise it again to `t_prev` *with the same predicted noise*:
#
# $$\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\,\varepsilon}{\sqrt{\bar\alpha_t}} \qquad
# x_{t_\text{prev}} = \sqrt{\bar\alpha_{t_\text{prev}}}\,\hat x_0 + \sqrt{1 - \bar\alpha_{t_\text{prev}}}\,\varepsilon$$
#
# `t_prev = -1` means the clean picture: there $\bar\alpha = 1$. Do not clamp.
#
# For `alphas_cumprod = [0.64, 0.36]`, `x_t = [1.4]`, `eps = [1]`, t = 1: $\hat x_0$ = 1, so t_prev = 0 gives 0.8 + 0.6
# = `[1.4]`, and t_prev = −1 gives `[1]`.


# %%
def ddim_step(x_t: torch.Tensor, eps: torch.Tensor, t: int, t_prev: int, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """x at the earlier step t_prev, by DDIM without noise.

    x_t, eps: float, equal shapes. t, t_prev: Python ints, -1 ≤ t_prev < t < steps. alphas_cumprod: the same dtype,
    shape (steps,). Returns the same dtype and shape as x_t.
    """
    ### BEGIN SOLUTION
    kept = alphas_cumprod[t]
    x0 = (x_t - (1 - kept).sqrt() * eps) / kept.sqrt()
    if t_prev < 0:
        return x0
    before = alphas_cumprod[t_prev]
    return before.sqrt() * x0 + (1 - before).sqrt() * eps
    ### END SOLUTION


# %%
check(ddim_step)

# %% [markdown]
# ## Combine
#
# Models of diffusers are called as `unet(x, t, class_labels=labels)` and return an object whose `.sample` is the
# predicted noise, of the shape of x. A model without labels is called as `unet(x, t)`.

# %% [markdown]
# ### `denoising_loss` · 2 points · ●●○ · about 12 min
#
# One training step's loss. Noise `x0` of shape `(b, c, h, w)` with `noise` to the steps `t`; replace the label by 10,
# "no label", where `drop` is true; let the network predict; return the mean squared error between its prediction and
# the noise, over all elements, shape `()`. The caller keeps its labels, and calls `backward()` on your result. The
# network stays in the mode that it comes in.
#
# If the network predicts 0 everywhere and the noise is `[1, -3]`, the loss is (1 + 9) / 2 = 5.


# %%
def denoising_loss(
    unet: torch.nn.Module,
    x0: torch.Tensor,
    labels: torch.Tensor,
    t: torch.Tensor,
    noise: torch.Tensor,
    drop: torch.Tensor,
    alphas_cumprod: torch.Tensor,
) -> torch.Tensor:
    """The loss of a class-conditional denoiser on one batch.

    unet: called as unet(x, t, class_labels=labels).sample. x0, noise: float32, shape (b, c, h, w), b ≥ 1.
    labels: int64, shape (b,), 0 to 9. t: int64, shape (b,). drop: bool, shape (b,).
    alphas_cumprod: float32, shape (steps,). Returns float32, shape ().
    """
    ### BEGIN SOLUTION
    kept = alphas_cumprod[t][:, None, None, None]  # (b, 1, 1, 1)
    x_t = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    predicted = unet(x_t, t, class_labels=labels.masked_fill(drop, 10)).sample
    return F.mse_loss(predicted, noise)
    ### END SOLUTION


# %%
check(denoising_loss)

# %% [markdown]
# ### `sample` · 3 points · ●●● · about 15 min
#
# The whole loop, for a network without labels and any scheduler whose `step` takes a generator, such as DDPM, DDIM or
# Euler. So that equal generators give equal pictures, draw like this:
#
# 1. call the scheduler's `set_timesteps` with the number of steps;
# 2. start from `torch.randn(shape, generator=generator)`, times `scheduler.init_noise_sigma`;
# 3. for each t of `scheduler.timesteps`: the network gets `scheduler.scale_model_input(x, t)` and t; x becomes
#    `scheduler.step(…, t, x, generator=generator).prev_sample`.
#
# `init_noise_sigma` is 1 for DDPM and DDIM, and `scale_model_input` does nothing there; Euler needs both. The network
# comes in eval mode. Bring the result from [−1, 1] to [0, 1], and clamp what lies outside.
#
# Not judged, but good practice: put the loop under `torch.no_grad()`, or memory grows with every step.


# %%
def sample(
    unet: torch.nn.Module, scheduler, shape: tuple[int, ...], steps: int, generator: torch.Generator
) -> torch.Tensor:
    """Pictures that a diffusion model makes from noise.

    unet: called as unet(x, t).sample, on the CPU. scheduler: of diffusers, its step takes a generator. generator: on
    the CPU.
    Returns float32 of the given shape, values in [0, 1].
    """
    ### BEGIN SOLUTION
    scheduler.set_timesteps(steps)
    x = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            eps = unet(scheduler.scale_model_input(x, t), t).sample
            x = scheduler.step(eps, t, x, generator=generator).prev_sample
    return (x / 2 + 0.5).clamp(0, 1)
    ### END SOLUTION


# %%
check(sample)

# %% [markdown]
# ### `with_scheduler` · 2 points · ●●○ · about 10 min
#
# Swap a part. Given a pipeline and the class of another scheduler, return a *new* pipeline of the same class. Its
# scheduler is of the new class and has the configuration of the old one: the network was trained for that β schedule
# and no other. All other components are the same objects, not copies. The given pipeline keeps its scheduler.
#
# With a `DDPMPipeline` whose `DDPMScheduler` has 100 training steps, `with_scheduler(pipeline, DDIMScheduler)` is a
# `DDPMPipeline` with the same `unet` and a `DDIMScheduler` of 100 training steps. `pipeline.components` is a dict
# of all components by name.


# %%
def with_scheduler(pipeline: DiffusionPipeline, scheduler_class: type) -> DiffusionPipeline:
    """A pipeline of the same class and components, but with a scheduler of another class."""
    ### BEGIN SOLUTION
    scheduler = scheduler_class.from_config(pipeline.scheduler.config)
    return type(pipeline)(**(pipeline.components | {"scheduler": scheduler}))
    ### END SOLUTION


# %%
check(with_scheduler)

# %% [markdown]
# ## Debug
#
# This program runs without an error. Its pictures are noise.

# %% [markdown]
# ### `denoise` · 3 points · ●●● · about 15 min
#
# Somebody wrote the deterministic sampler (DDIM) without a scheduler. From noise x of shape `(b, c, h, w)` it takes
# `steps` steps, a number that divides the number of training steps, and returns the clean pictures, not clamped.
#
# ```python
# @torch.no_grad()
# def denoise(unet, x, alphas_cumprod, steps):
#     train_steps = len(alphas_cumprod)
#     for t in range(0, train_steps, train_steps // steps):
#         eps = unet(x, t).sample
#         kept, before = alphas_cumprod[t], alphas_cumprod[t - 1]
#         x0 = (x - (1 - kept) * eps) / kept.sqrt()
#         x = before.sqrt() * x0 + (1 - before).sqrt() * torch.randn_like(x)
#     return x
# ```
#
# For 1000 training steps and 4 steps it must go 750 → 500 → 250 → 0 → clean. Four of its lines are faulty. Find
# them, and write the mended function. With a network that predicts 0 everywhere and x = `[1]`, the mended one returns
# $1 / \sqrt{\bar\alpha_{t}}$ for the first t that it visits.


# %%
def denoise(unet: torch.nn.Module, x: torch.Tensor, alphas_cumprod: torch.Tensor, steps: int) -> torch.Tensor:
    """Clean pictures from noise by DDIM with η = 0, without gradients.

    unet: called as unet(x, t).sample, with t a Python int. x: float32, shape (b, c, h, w).
    alphas_cumprod: float32, shape (train_steps,). steps: divides train_steps. Returns float32, shape (b, c, h, w).
    """
    ### BEGIN SOLUTION
    stride = len(alphas_cumprod) // steps
    with torch.no_grad():
        for t in reversed(range(0, len(alphas_cumprod), stride)):
            predicted = unet(x, t).sample
            kept = alphas_cumprod[t]
            before = alphas_cumprod[t - stride] if t > 0 else torch.ones(())  # after t = 0 comes the clean picture
            x0 = (x - (1 - kept).sqrt() * predicted) / kept.sqrt()
            x = before.sqrt() * x0 + (1 - before).sqrt() * predicted
    return x
    ### END SOLUTION


# %%
check(denoise)

# %% [markdown]
# ## Build
#
# Everything in one piece, in the form in which the Hub distributes models.

# %% [markdown]
# ### `FashionPipeline` · 4 points · ●●● · about 25 min
#
# Write a pipeline for class-conditional models. It is called with `labels`, an int64 tensor of shape `(n,)`, the number
# of steps, the guidance scale and a generator, and returns an `ImagePipelineOutput` (or any object with `images`) whose
# `images` is a tensor of shape `(n, c, h, w)` in [0, 1]. A pipeline may be called any number of times, with any n.
#
# - `__init__` registers both parts with `register_modules`: that is what `save_pretrained` writes, and what
#   `from_pretrained` reads. Keep nothing else that a call needs, for nothing else is saved.
# - c is `unet.config.in_channels`, and h = w = `unet.config.sample_size`.
# - The network is called as `unet(x, t, class_labels=labels).sample`. Class index 10 means "no label". Each step uses
#   ε₁₀ + s · (ε_label − ε₁₀), where s is `guidance_scale`, any number from 0 on. (Two calls, or one call on a batch of
#   twice the size.)
# - Draw as in `sample`: start from `torch.randn((n, c, h, w), generator=generator)` times `init_noise_sigma`, scale the
#   network's input by `scale_model_input`, and hand `generator` to each `step`.
#
# Not judged, but good practice: put the loop under `torch.no_grad()`, so that the pictures carry no graph.
#
# Used like this, on any machine that has the class:
#
# ```python
# FashionPipeline(unet, scheduler).save_pretrained("clothes")
# pipeline = FashionPipeline.from_pretrained("clothes")
# images = pipeline(torch.tensor([7, 9]), num_inference_steps=25, guidance_scale=2.0, generator=generator).images
# ```


# %%
class FashionPipeline(DiffusionPipeline):
    """Pictures of the classes that one asks for, by a class-conditional UNet with classifier-free guidance."""

    def __init__(self, unet, scheduler):
        super().__init__()
        ### BEGIN SOLUTION
        self.register_modules(unet=unet, scheduler=scheduler)
        ### END SOLUTION

    def __call__(
        self,
        labels: torch.Tensor,
        num_inference_steps: int,
        guidance_scale: float,
        generator: torch.Generator,
    ) -> ImagePipelineOutput:
        """Pictures of the given classes: `.images`, float32, shape (n, c, h, w), values in [0, 1]."""
        ### BEGIN SOLUTION
        config = self.unet.config
        shape = (len(labels), config.in_channels, config.sample_size, config.sample_size)
        no_label = torch.full_like(labels, 10)
        self.scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(shape, generator=generator) * self.scheduler.init_noise_sigma
        with torch.no_grad():
            for t in self.scheduler.timesteps:
                scaled = self.scheduler.scale_model_input(x, t)
                cond = self.unet(scaled, t, class_labels=labels).sample
                uncond = self.unet(scaled, t, class_labels=no_label).sample
                eps = uncond + guidance_scale * (cond - uncond)
                x = self.scheduler.step(eps, t, x, generator=generator).prev_sample
        return ImagePipelineOutput(images=(x / 2 + 0.5).clamp(0, 1))
        ### END SOLUTION


# %%
check(FashionPipeline)

# %% [markdown]
# ## How far are you?

# %% tags=["nbval-ignore-output"]
progress()
