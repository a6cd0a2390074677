"""Odd answers to chapter 10, right and wrong."""

import copy
import math
import tempfile

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers import scheduling_ddpm
from diffusers.utils.torch_utils import randn_tensor


def _library_noise(x0, noise, t, alphas_cumprod):
    scheduler = DDPMScheduler(num_train_timesteps=len(alphas_cumprod))
    scheduler.alphas_cumprod = alphas_cumprod
    return scheduler.add_noise(x0, noise, t)


def _noise_one_by_one(x0, noise, t, alphas_cumprod):
    out = torch.empty_like(x0)
    for i, step in enumerate(t.tolist()):
        share = float(alphas_cumprod[step])
        out[i] = math.sqrt(share) * x0[i] + math.sqrt(1 - share) * noise[i]
    return out


def _noise_transposed(x0, noise, t, alphas_cumprod):
    kept = alphas_cumprod.gather(0, t)
    axes = tuple(reversed(range(x0.ndim)))
    return (x0.permute(axes) * kept**0.5 + noise.permute(axes) * (1 - kept) ** 0.5).permute(axes)


def _x0_from_the_quotient(x_t, eps, t, alphas_cumprod):
    while t.ndim < x_t.ndim:
        t = t[:, None]
    kept = alphas_cumprod[t]
    return kept.rsqrt() * x_t - (1 / kept - 1).sqrt() * eps


def _pixels_by_numpy(x):
    array = np.clip((x.detach().numpy() + 1) * 127.5, 0, 255)
    return np.rint(array).astype(np.uint8).transpose(0, 2, 3, 1)


def _pixels_by_adding_a_half(x):
    return x.add(1).mul(127.5).clamp(0, 255).add(0.5).floor().byte().movedim(1, -1).numpy(force=True)


def _betas_by_the_loop(steps, s=0.008):
    def f(u):
        return math.cos((u + s) / (1 + s) * math.pi / 2) ** 2

    return torch.tensor([min(1 - f((i + 1) / steps) / f(i / steps), 0.999) for i in range(steps)])


def _ddpm_by_the_short_formula(x_t, eps, t, betas, noise):
    alphas = 1 - betas
    cumulative = torch.cat([torch.ones_like(betas[:1]), alphas.cumprod(0)])  # shifted by one
    mean = (x_t - betas[t] / (1 - cumulative[t + 1]).sqrt() * eps) / alphas[t].sqrt()
    if t == 0:
        return mean
    return mean + ((1 - cumulative[t]) / (1 - cumulative[t + 1]) * betas[t]) ** 0.5 * noise


def _ddpm_by_the_library(x_t, eps, t, betas, noise):
    scheduler = DDPMScheduler(trained_betas=betas.numpy(), clip_sample=False)
    scheduler.alphas_cumprod = (1 - betas).cumprod(0)
    mean = scheduler.step(eps, t, x_t, generator=torch.Generator()).prev_sample
    if t > 0:
        drawn = randn_tensor(x_t.shape, generator=torch.Generator(), dtype=x_t.dtype)
        mean = mean + scheduler._get_variance(t) ** 0.5 * (noise - drawn)
    return mean


def _ddpm_by_the_library_alone(x_t, eps, t, betas, noise):
    scheduler = DDPMScheduler(len(betas), trained_betas=betas.tolist(), clip_sample=False)  # it holds them in float32
    was, scheduling_ddpm.randn_tensor = scheduling_ddpm.randn_tensor, lambda *shape, **settings: noise
    try:
        return scheduler.step(eps, t, x_t).prev_sample
    finally:
        scheduling_ddpm.randn_tensor = was


def _ddim_with_a_shifted_list(x_t, eps, t, t_prev, alphas_cumprod):
    a = [1.0, *alphas_cumprod.tolist()]
    x0 = (x_t - (1 - a[t + 1]) ** 0.5 * eps) / a[t + 1] ** 0.5
    return a[t_prev + 1] ** 0.5 * x0 + (1 - a[t_prev + 1]) ** 0.5 * eps


def _timesteps_of_the_library(train_steps, steps):
    scheduler = DDIMScheduler(num_train_timesteps=train_steps)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps


def _loss_by_hand(unet, x0, labels, t, noise, drop, alphas_cumprod):
    labels = labels.clone()
    labels[drop] = 10
    shares = alphas_cumprod[t].reshape(len(t), 1, 1, 1)
    predicted = unet(shares**0.5 * x0 + (1 - shares) ** 0.5 * noise, timestep=t, class_labels=labels)[0]
    return (noise - predicted).pow(2).mean()


@torch.inference_mode()
def _sample_by_names(unet, scheduler, shape, steps, generator):
    was = {module: module.training for module in unet.modules()}
    try:
        unet.train(False)
        scheduler.set_timesteps(num_inference_steps=steps)
        x = randn_tensor(shape, generator=generator).mul_(scheduler.init_noise_sigma)
        for t in scheduler.timesteps:
            noise = unet(scheduler.scale_model_input(x, t), t, return_dict=False)[0]
            x = scheduler.step(noise, t, x, generator=generator, return_dict=False)[0]
        return x.add(1).div(2).clip(0, 1)
    finally:
        for module, mode in was.items():
            module.training = mode


def _with_scheduler_by_its_class(pipeline, scheduler_class):
    parts = dict(pipeline.components)
    parts["scheduler"] = scheduler_class.from_config(parts["scheduler"].config)
    return pipeline.__class__(**parts)


def _denoise_by_ddim_step(unet, x, alphas_cumprod, steps):
    levels = torch.arange(0, len(alphas_cumprod), len(alphas_cumprod) // steps).tolist()[::-1]
    for t, to in zip(levels, [*levels[1:], -1], strict=True):
        with torch.no_grad():
            eps = unet(x, t).sample
        x = _ddim_with_a_shifted_list(x, eps, t, to, alphas_cumprod)
    return x


class _OneCall(DiffusionPipeline):
    """One call of the network per step, on twice the batch; a tuple-like output; more arguments than asked for."""

    def __init__(self, unet, scheduler):
        self.register_modules(scheduler=scheduler, unet=unet)

    @torch.no_grad()
    def __call__(self, labels, num_inference_steps=50, guidance_scale=7.5, generator=None, verbose=False):
        n, size = labels.shape[0], self.unet.config.sample_size
        both = torch.cat([torch.full_like(labels, 10), labels])
        x = randn_tensor((n, self.unet.config.in_channels, size, size), generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        x = x * self.scheduler.init_noise_sigma
        for t in self.progress_bar(self.scheduler.timesteps):
            double = self.scheduler.scale_model_input(torch.cat([x, x]), t)
            without, with_label = self.unet(double, t, class_labels=both).sample.chunk(2)
            eps = without.lerp(with_label, guidance_scale)
            x = self.scheduler.step(eps, t, x, generator=generator).prev_sample
        return ImagePipelineOutput(images=x.mul(0.5).add(0.5).clamp(0, 1))


class _KeepsTheFirstPictures(_OneCall):
    """The first call's pictures serve for all later ones of the same object."""

    def __call__(self, labels, **settings):
        if not hasattr(self, "made"):
            self.made = super().__call__(labels, **settings)
        return self.made


class _KeepsNoLabel(_OneCall):
    """The first call decides how many there are."""

    def __call__(self, labels, num_inference_steps, guidance_scale, generator):
        if not hasattr(self, "no_label"):
            self.no_label = torch.full_like(labels, 10)
        return super().__call__(labels[: len(self.no_label)], num_inference_steps, guidance_scale, generator)


class _KeepsLabels(_OneCall):
    """The labels of the first call serve for all: state that saving forgets."""

    def __call__(self, labels, **settings):
        self.first = getattr(self, "first", labels * 0)
        return super().__call__(self.first, **settings)


def _with_scheduler_of_the_whole_configuration(pipeline, scheduler_class):
    config = {name: value for name, value in pipeline.scheduler.config.items() if not name.startswith("_")}
    return type(pipeline)(**{**pipeline.components, "scheduler": scheduler_class.from_config(config)})


def _with_scheduler_from_a_folder(pipeline, scheduler_class):
    with tempfile.TemporaryDirectory() as folder:
        pipeline.scheduler.save_pretrained(folder)
        scheduler = scheduler_class.from_pretrained(folder)
    return type(pipeline)(**{**pipeline.components, "scheduler": scheduler})


def _with_scheduler_of_a_copy(pipeline, scheduler_class):
    new = copy.copy(pipeline)
    new.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
    return new


def _loss_by_key(unet, x0, labels, t, noise, drop, alphas_cumprod):
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    seen = torch.where(drop, torch.tensor(10), labels)
    predicted = unet(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, class_labels=seen)["sample"]
    return (predicted - noise).square().sum() / noise.numel()


def _loss_with_the_last_index(unet, x0, labels, t, noise, drop, alphas_cumprod):
    return _loss_by_hand(unet, x0, labels.masked_fill(drop, -1), t, noise, torch.zeros_like(drop), alphas_cumprod)


def _loss_in_two_parts(unet, x0, labels, t, noise, drop, alphas_cumprod, of_means=False):
    """Dropped and kept samples pass through the network apart from each other."""
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    x = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    parts = [
        (unet(x[chosen], t[chosen], class_labels=seen[chosen]).sample - noise[chosen]).square()
        for chosen, seen in ((drop, torch.full_like(labels, 10)), (~drop, labels))
        if chosen.any()
    ]
    if of_means:
        return torch.stack([part.mean() for part in parts]).mean()
    return torch.cat([part.flatten() for part in parts]).mean()


def _loss_that_clears_gradients(unet, *rest):
    unet.zero_grad()
    return _loss_by_hand(unet, *rest)


def _sample_reads_sigma_first(unet, scheduler, shape, steps, generator):
    was = unet.training
    unet.eval()
    with torch.no_grad():
        x = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            x = scheduler.step(unet(scheduler.scale_model_input(x, t), t).sample, t, x, generator=generator).prev_sample
    unet.train(was)
    return (x / 2 + 0.5).clamp(0, 1)


def _denoise_without_gradients_for_ever(unet, x, alphas_cumprod, steps):
    torch.set_grad_enabled(False)
    return _denoise_by_ddim_step(unet, x, alphas_cumprod, steps)


def _noise_for_pictures(x0, noise, t, alphas_cumprod):
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def _clean_for_pictures(x_t, eps, t, alphas_cumprod):
    kept = alphas_cumprod[t].view(-1, 1, 1, 1)
    return (x_t - (1 - kept).sqrt() * eps) / kept.sqrt()


@torch.no_grad()
def _plain_sample(unet, scheduler, shape, steps, generator):
    x = torch.randn(shape, generator=generator)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t).sample, t, x, generator=generator).prev_sample
    return (x / 2 + 0.5).clamp(0, 1)


class _Plain(DiffusionPipeline):
    """As most would write it for DDPM and DDIM; `images` in a dictionary."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def __call__(self, labels, num_inference_steps, guidance_scale, generator):
        size = self.unet.config.sample_size
        x = torch.randn((len(labels), self.unet.config.in_channels, size, size), generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            cond = self.unet(x, t, class_labels=labels).sample
            uncond = self.unet(x, t, class_labels=torch.full_like(labels, 10)).sample
            x = self.scheduler.step(
                uncond + guidance_scale * (cond - uncond), t, x, generator=generator
            ).prev_sample.detach()
        return {"images": (x / 2 + 0.5).clamp(0, 1)}


def _ddpm_in_numbers(x_t, eps, t, betas, noise):
    beta, kept = float(betas[t]), float(torch.prod(1 - betas[: t + 1]))
    before = float(torch.prod(1 - betas[:t]))
    mean = (x_t - beta / math.sqrt(1 - kept) * eps) / math.sqrt(1 - beta)
    return mean + (math.sqrt(beta * (1 - before) / (1 - kept)) if t > 0 else 0.0) * noise


def _betas_in_float32(steps, s=0.008):
    t = torch.linspace(0, 1, steps + 1)
    f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


RIGHT = {
    "add_noise": {
        "for pictures": _noise_for_pictures,
        "the library's": _library_noise,
        "one picture at a time": _noise_one_by_one,
        "transposed": _noise_transposed,
    },
    "predict_x0": {
        "for pictures": _clean_for_pictures,
        "a quotient": _x0_from_the_quotient,
    },
    "to_pixels": {"in NumPy": _pixels_by_numpy, "a half added": _pixels_by_adding_a_half},
    "guided_noise": {
        "a mean with weights": lambda cond, uncond, scale: scale * cond + (1 - scale) * uncond,
        "lerp": lambda cond, uncond, scale: torch.lerp(uncond, cond, scale),
    },
    "inference_timesteps": {
        "the library's": _timesteps_of_the_library,
        "a list turned round": lambda train_steps, steps: torch.tensor(
            [i * (train_steps // steps) for i in range(steps)][::-1]
        ),
    },
    "cosine_betas": {
        "in float32": _betas_in_float32,
        "float64": lambda steps, s=0.008: _betas_by_the_loop(steps, s).double(),
        "a loop": _betas_by_the_loop,
    },
    "ddpm_step": {
        "in numbers": _ddpm_in_numbers,
        "the short formula": _ddpm_by_the_short_formula,
        "the library's": _ddpm_by_the_library,
        "the library's alone": _ddpm_by_the_library_alone,
    },
    "ddim_step": {"a shifted list": _ddim_with_a_shifted_list},
    "denoising_loss": {"by hand": _loss_by_hand, "by key": _loss_by_key, "in two parts": _loss_in_two_parts},
    "sample": {
        "sigma before the steps": _sample_reads_sigma_first,
        "plain": _plain_sample,
        "by names": _sample_by_names,
    },
    "with_scheduler": {
        "a shallow copy": _with_scheduler_of_a_copy,
        "by its __class__": _with_scheduler_by_its_class,
        "from_pipe": lambda pipeline, scheduler_class: type(pipeline).from_pipe(
            pipeline, scheduler=scheduler_class.from_config(pipeline.scheduler.config)
        ),
        "the whole configuration": _with_scheduler_of_the_whole_configuration,
        "through a folder": _with_scheduler_from_a_folder,
    },
    "denoise": {"by DDIM's step": _denoise_by_ddim_step},
    "FashionPipeline": {"plain": _Plain, "one call for both": _OneCall},
}

WRONG = {
    "add_noise": {
        "no noise": lambda x0, noise, t, alphas_cumprod: x0,
        "noise of its own": lambda x0, noise, t, alphas_cumprod: _noise_one_by_one(
            x0, torch.randn_like(noise), t, alphas_cumprod
        ),
    },
    "predict_x0": {
        "noise taken from the clean picture": lambda x_t, eps, t, alphas_cumprod: _noise_one_by_one(
            x_t, -eps, t, alphas_cumprod
        )
    },
    "to_pixels": {
        "a tensor": lambda x: torch.from_numpy(_pixels_by_numpy(x)),
        "int64": lambda x: _pixels_by_numpy(x).astype(np.int64),
    },
    "guided_noise": {"at most 1": lambda cond, uncond, scale: uncond + min(scale, 1) * (cond - uncond)},
    "inference_timesteps": {
        "a list": lambda train_steps, steps: _timesteps_of_the_library(train_steps, steps).tolist(),
        "float32": lambda train_steps, steps: _timesteps_of_the_library(train_steps, steps).float(),
    },
    "cosine_betas": {
        "s is fixed": lambda steps, s=0.008: _betas_by_the_loop(steps),
        "zeros": lambda steps, s=0.008: torch.zeros(steps),
    },
    "ddpm_step": {
        "float32 whatever x is": lambda *arguments: _ddpm_in_numbers(*arguments).float(),
        "noise at the last step": lambda x_t, eps, t, betas, noise: _ddpm_by_the_short_formula(
            x_t, eps, max(t, 1) % len(betas), betas, noise
        ),
    },
    "ddim_step": {
        "never clean": lambda x_t, eps, t, t_prev, alphas_cumprod: _ddim_with_a_shifted_list(
            x_t, eps, t, max(t_prev, 0), alphas_cumprod
        )
    },
    "denoising_loss": {
        "detached": lambda unet, *rest: _loss_by_hand(unet, *rest).detach(),
        "twice": lambda unet, *rest: _loss_by_hand(unet, *rest) * 2,
        "a mean of two means": lambda *arguments: _loss_in_two_parts(*arguments, of_means=True),
        "gradients cleared": _loss_that_clears_gradients,
        "eval mode": lambda unet, *rest: _loss_by_hand(unet.eval(), *rest),
        "−1 for no label": _loss_with_the_last_index,
    },
    "sample": {
        "noise": lambda unet, scheduler, shape, steps, generator: torch.rand(shape, generator=generator),
    },
    "with_scheduler": {"the same pipeline": lambda pipeline, scheduler_class: pipeline},
    "denoise": {
        "gradients off for ever": _denoise_without_gradients_for_ever,
        "one step": lambda unet, x, alphas_cumprod, steps: _denoise_by_ddim_step(unet, x, alphas_cumprod, 1),
    },
    "FashionPipeline": {
        "keeps the first labels": _KeepsLabels,
        "keeps the first pictures": _KeepsTheFirstPictures,
        "keeps the first number of pictures": _KeepsNoLabel,
    },
}
