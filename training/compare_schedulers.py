"""Compare schedulers for chapter 10: `python -m training.compare_schedulers`.

For each scheduler and number of steps, the share of 100 samples that the classifier of `training/fashion_classifier.py`
reads as the label asked for, and the seconds that it took. Then the same for some guidance scales. Writes
`course_utils/measured/schedulers.json`. Takes about eight minutes on one core.
"""

import json
import time
from pathlib import Path

import diffusers
import torch
from safetensors.torch import load_file

from course_utils import checkpoints, measured
from course_utils.diffusion import CLASSES, ClothesPipeline, fashion_unet
from course_utils.networks import FashionCNN

SEED = 0
SAMPLES = 100  # 10 of each class
SCHEDULERS = {  # class, and settings beside those of the training's scheduler
    "DDPM": (diffusers.DDPMScheduler, {}),
    "DDIM": (diffusers.DDIMScheduler, {}),
    "Euler": (diffusers.EulerDiscreteScheduler, {}),
    "DPM-Solver": (diffusers.DPMSolverMultistepScheduler, {}),
    "DPM-Solver, clamped": (diffusers.DPMSolverMultistepScheduler, {"thresholding": True}),
}
STEPS = (5, 10, 25, 50, 100)
SCALE = 2.0
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 6.0)  # with DDPM at 25 steps
RESULTS = Path(measured.__file__).parent / "schedulers.json"


def main() -> None:
    """Measure everything that is not in the results yet; so it goes on where it was interrupted."""
    classifier = FashionCNN().eval()
    classifier.load_state_dict(load_file(checkpoints.trained("fashion_classifier")))
    unet = fashion_unet()
    names = [CLASSES[i % 10] for i in range(SAMPLES)]
    labels = torch.arange(SAMPLES) % 10
    results = {"samples": SAMPLES, "seed": SEED, "guidance_scale": SCALE, "steps": {}, "scales": {}}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text(encoding="utf-8"))

    def measure(scheduler: str, steps: int, scale: float) -> dict[str, float]:
        scheduler_class, settings = SCHEDULERS[scheduler]
        pipeline = ClothesPipeline(unet, scheduler_class.from_config(diffusers.DDPMScheduler().config, **settings))
        generator, start = torch.Generator().manual_seed(SEED), time.process_time()
        images = pipeline(names, steps, scale, generator, output_type="pt").images
        seconds = time.process_time() - start
        with torch.no_grad():
            share = (classifier(images).argmax(1) == labels).float().mean().item()
        print(f"{scheduler}, {steps} steps, scale {scale}: {share:.3f}, {seconds:.0f} s", flush=True)
        return {"share": round(share, 4), "seconds": round(seconds, 1)}

    def keep(kind: str, key: str, *settings: object) -> None:
        if key not in results[kind]:
            results[kind][key] = measure(*settings)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")

    for scale in SCALES:
        keep("scales", f"{scale}", "DDPM", 25, scale)
    for steps in STEPS:
        for scheduler in SCHEDULERS:
            keep("steps", f"{scheduler} {steps}", scheduler, steps, SCALE)


if __name__ == "__main__":
    main()
