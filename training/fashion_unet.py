"""Train chapter 10's diffusion model of Fashion-MNIST: `python -m training.fashion_unet`.

Writes `course_utils/checkpoints/fashion_unet.safetensors` (the moving average of the weights), `fashion_unet.json` (the
model's configuration) beside it, and seed, settings and losses to `training/fashion_unet.log`.

Every SAVE_EVERY steps all of it is saved, and the same command goes on from there, however the last one ended: each
step draws from a generator of its own, so that an interrupted run gives the weights of an uninterrupted one.
"""

import json
import os
import time
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import save_file
from torch import nn

from course_utils import checkpoints, datasets, device, seed_everything
from course_utils.files import cache_folder

SEED = 0
CYCLES = (2200, 5200)  # at these steps the learning rate is zero; after the first it begins again
STEPS = CYCLES[-1]
BATCH = 32
LEARNING_RATE = 2e-3  # after WARM_UP steps; the last COOL_DOWN steps of a cycle bring it to zero
WARM_UP, COOL_DOWN = 100, 1000
AVERAGE = 0.999  # decay of the moving average of the weights
NO_LABEL, UNLABELLED = 10, 0.1  # this index in place of a label, in this share of the examples
SAVE_EVERY = 100
CONFIG = {
    "sample_size": 28,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [16, 32, 64],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "UpBlock2D"],
    "norm_num_groups": 8,
    "num_class_embeds": 11,
}

HERE = Path(__file__)
LOG = HERE.with_suffix(".log")
STATE = cache_folder() / "training" / "fashion_unet.pt"  # all that a run needs to go on
FOLDER = Path(checkpoints.__file__).parent


def replace(path: Path, write) -> None:
    """Have `write` fill a new file, then put it in the place of `path`, which is whole at every moment."""
    part = path.with_suffix(path.suffix + ".part")
    write(part)
    os.replace(part, path)


def learning_rate(step: int) -> float:
    """What step number `step`, from 0, multiplies its gradient's direction by."""
    end = next(end for end in CYCLES if step < end)
    return LEARNING_RATE * min((step + 1) / WARM_UP, 1.0, (end - step) / COOL_DOWN)


def main() -> None:
    """Train from the last saved state, or from the beginning."""
    seed_everything(SEED)
    STATE.parent.mkdir(parents=True, exist_ok=True)
    where = device()
    fashion = datasets.fashion_mnist()
    images = fashion.data.unsqueeze(1) / 127.5 - 1  # (60000, 1, 28, 28) in [-1, 1]
    labels = fashion.targets
    scheduler = DDPMScheduler()  # 1000 steps, beta linear from 1e-4 to 0.02

    unet = UNet2DModel(**CONFIG).to(where, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(unet.parameters(), LEARNING_RATE, weight_decay=1e-2, fused=True)
    average = {name: value.clone() for name, value in unet.state_dict().items()}
    first, losses, seconds = 0, [], 0.0
    if STATE.exists():
        saved = torch.load(STATE, map_location=where, weights_only=True)
        unet.load_state_dict(saved["unet"])
        optimizer.load_state_dict(saved["optimizer"])
        average, first, losses, seconds = saved["average"], saved["step"], saved["losses"], saved["seconds"]
        print(f"going on after step {first}", flush=True)

    start, total = time.perf_counter(), 0.0
    for step in range(first, STEPS):
        generator = torch.Generator().manual_seed(SEED + step)
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        noise = torch.randn(BATCH, 1, 28, 28, generator=generator)
        t = torch.randint(len(scheduler), (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, generator=generator) < UNLABELLED
        x = scheduler.add_noise(images[chosen], noise, t).to(where)
        label = labels[chosen].masked_fill(dropped, NO_LABEL).to(where)

        loss = nn.functional.mse_loss(unet(x, t.to(where), class_labels=label).sample, noise.to(where))
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        optimizer.zero_grad()
        decay = min(AVERAGE, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.values()), list(unet.state_dict().values()), 1 - decay)
        total += loss.item()

        done = step + 1
        if done % SAVE_EVERY == 0 or done == STEPS:
            losses.append(total / (done - first if done - first < SAVE_EVERY else SAVE_EVERY))
            seconds, total = seconds + time.perf_counter() - start, 0.0
            start = time.perf_counter()
            print(f"step {done}: loss {losses[-1]:.4f}, {seconds:.0f} s", flush=True)
            save(unet, optimizer, average, done, losses, seconds)


def save(unet, optimizer, average, step, losses, seconds) -> None:
    """Write the state, the averaged weights with their configuration, and the log, each whole or not at all."""
    state = {"unet": unet.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
    state |= {"step": step, "losses": losses, "seconds": seconds}
    replace(STATE, lambda path: torch.save(state, path))
    weights = {name: value.cpu().contiguous() for name, value in average.items()}
    replace(FOLDER / "fashion_unet.safetensors", lambda path: save_file(weights, path))
    replace(FOLDER / "fashion_unet.json", lambda path: path.write_text(json.dumps(CONFIG, indent=2) + "\n"))
    count = sum(value.numel() for value in weights.values())
    lines = [
        f"seed {SEED}, step {step} of {STEPS}, batch {BATCH}, AdamW, learning rate {LEARNING_RATE} "
        f"(first {WARM_UP} steps rising, {COOL_DOWN} before {CYCLES} falling), average of weights {AVERAGE}",
        f"{count} parameters; images in [-1, 1]; DDPMScheduler(); {UNLABELLED:.0%} of labels replaced by {NO_LABEL}",
        *(f"step {SAVE_EVERY * (i + 1)}: mean loss {loss:.4f}" for i, loss in enumerate(losses)),
        f"{seconds:.0f} s in all",
    ]
    replace(LOG, lambda path: path.write_text("\n".join(lines) + "\n", encoding="utf-8"))


if __name__ == "__main__":
    main()
