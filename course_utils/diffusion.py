"""Chapter 10's diffusion model of Fashion-MNIST, which the book trained, as a pipeline of diffusers.

`training/fashion_unet.py` made it. This module imports diffusers, which takes seconds: import it where it is needed.
"""

import json

import torch
from diffusers import DDPMScheduler, DiffusionPipeline, ImagePipelineOutput, SchedulerMixin, UNet2DModel
from safetensors.torch import load_file

from course_utils.checkpoints import trained

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""The class names, as `torchvision.datasets.FashionMNIST.classes` has them."""

NO_LABEL = 10


def fashion_unet() -> UNet2DModel:
    """The trained network in eval mode: pictures (n, 1, 28, 28) in [-1, 1], a step 0 to 999, labels 0 to 10."""
    weights = trained("fashion_unet")
    unet = UNet2DModel(**json.loads(weights.with_suffix(".json").read_text(encoding="utf-8")))
    unet.load_state_dict(load_file(weights))
    return unet.eval()


class ClothesPipeline(DiffusionPipeline):
    """Pictures of the clothes that one names, by a class-conditional UNet with classifier-free guidance."""

    def __init__(self, unet: UNet2DModel, scheduler: SchedulerMixin):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def __call__(
        self,
        names: list[str],
        num_inference_steps: int = 25,
        guidance_scale: float = 2.0,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """One picture for each name: `.images` is a list of PIL images, or (n, 1, 28, 28) in [0, 1] for "pt"."""
        where = self.unet.device
        labels = torch.tensor([CLASSES.index(name) for name in names], device=where)
        both = torch.cat([labels, torch.full_like(labels, NO_LABEL)])  # (2n,): with label, then without
        size = (len(names), self.unet.config.in_channels, self.unet.config.sample_size, self.unet.config.sample_size)
        self.scheduler.set_timesteps(num_inference_steps, device=where)
        x = torch.randn(size, generator=generator).to(where) * self.scheduler.init_noise_sigma
        for t in self.progress_bar(self.scheduler.timesteps):
            seen = self.scheduler.scale_model_input(x, t)
            labelled, unlabelled = self.unet(torch.cat([seen, seen]), t, class_labels=both).sample.chunk(2)
            noise = unlabelled + guidance_scale * (labelled - unlabelled)
            x = self.scheduler.step(noise, t, x, generator=generator).prev_sample
        images = (x / 2 + 0.5).clamp(0, 1)
        if output_type == "pil":
            images = self.numpy_to_pil(images.cpu().permute(0, 2, 3, 1).numpy())
        return ImagePipelineOutput(images=images)


def clothes_pipeline() -> ClothesPipeline:
    """The trained network with the scheduler of its training, DDPM with 1000 steps of linear β."""
    return ClothesPipeline(fashion_unet(), DDPMScheduler())
