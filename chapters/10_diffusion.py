# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Diffusers

# %% tags=["remove-cell"]
# Colab only: install the course. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().run_line_magic("pip", "install -q git+https://github.com/tensors-to-diffusion/tensors-to-diffusion")

# %% tags=["remove-cell"]
# This chapter raises errors on purpose: show the message alone, without the path that led to it.
get_ipython().run_line_magic("xmode", "Minimal")

# %% [markdown]
# ## What you will learn
#
# A diffusion model makes pictures by removing noise, a little at a time. What it learns is one thing: to see which part
# of a noisy picture is noise. All the rest is arithmetic of a few lines, kept in an object called a *scheduler*. You
# will first use a finished model, then open it, redo every line of that arithmetic by hand, and put the parts together
# again as a pipeline of your own.
#
# ## Before you start
#
# You need tensors and broadcasting (chapter 1), modules (chapter 4), a training loop (chapter 5) and, for the last
# section, attention (chapter 7). Chapter 8 showed how Hugging Face saves and loads models; the library here,
# [diffusers](https://huggingface.co/docs/diffusers), works the same way. There is no pretrained model to download: the
# book trained its own, on the pictures of clothes that you know.
#
# Some cells end in an error. They are meant to: each is followed by the version that works. All computing here is done
# on the CPU, since the network is small; `pipeline.to(device())` would move all parts of a pipeline to a GPU.
#
# ## Objectives and time
#
# Reading and running takes about two and a half hours, the exercises about two and a half more. Afterwards you can
#
# - generate pictures with a pipeline, reproducibly, and say what each of its parts does;
# - noise a picture to any step, and read the clean picture back from a predicted noise;
# - write the steps of DDPM and DDIM, and the loop around them, and find the fault in one that makes noise;
# - steer a model with classifier-free guidance;
# - choose a scheduler and a number of steps by measuring;
# - train a small model, and save, load and share a pipeline, and say what `trust_remote_code` allows;
# - name the parts of a text-to-image pipeline and the shapes that pass between them.

# %% [markdown]
# ## How do I ask for a sneaker?
#
# A **pipeline** is an object that holds all parts of a model and is called like a function. This one is called with
# names of clothes. It draws noise, one picture of it per name, and removes it in 25 steps. What is left are pictures
# that no camera took. (`guidance_scale` says how much weight the name has; it gets a section of its own.)

# %%
import torch

from course_utils import checkpoints, datasets, seed_everything
from course_utils.diffusion import CLASSES, clothes_pipeline
from course_utils.plotting import COLOURS, image_grid, learning_curves

pipeline = clothes_pipeline()
generator = torch.Generator().manual_seed(0)
pictures = pipeline(CLASSES, num_inference_steps=25, guidance_scale=2.0, generator=generator).images
print(len(pictures), type(pictures[0]).__name__, pictures[0].size, pictures[0].mode)

# %% mystnb={"figure": {"caption": "Ten pictures that the book's diffusion model made, under the names that it was asked for.", "name": "fig-diffusion-first"}, "image": {"alt": "Ten small grey pictures of clothing, one of each class, each recognisable as what its title says."}}
image_grid(
    pictures,
    labels=CLASSES,
    columns=5,
    alt="Ten small grey pictures of clothing, one of each class, each recognisable as what its title says.",
)

# %% [markdown]
# :::{admonition} Predict
# :class: tip
# We call the pipeline twice with `generator=generator`, the same object both times. Do we get the same pictures?
# (`output_type="pt"` asks for one tensor in place of a list of PIL images.)
# :::


# %%
def two_bags(generator):
    images = pipeline(["Bag", "Bag"], num_inference_steps=2, generator=generator, output_type="pt").images
    return images  # (2, 1, 28, 28) in [0, 1]


generator = torch.Generator().manual_seed(1)
first, second = two_bags(generator), two_bags(generator)
print("same generator, used twice:", torch.equal(first, second))
again = two_bags(torch.Generator().manual_seed(1))
print("a new one with the same seed:", torch.equal(first, again))

# %% [markdown]
# A generator moves on with each draw, so the second call continues where the first one stopped. Make a new one, with a
# seed that you note, for each result that you want to see again. The noise is all that is random here: it decides which
# bag you get.
#
# Are the pictures what they should be? We ask somebody who has never seen the model: the classifier of chapter 5,
# trained on real pictures alone. It reads 100 real test pictures and 50 of ours.

# %% tags=["nbval-ignore-output"]
from safetensors.torch import load_file

from course_utils.networks import FashionCNN

classifier = FashionCNN().eval()
classifier.load_state_dict(load_file(checkpoints.trained("fashion_classifier")))


def share_read_right(images, labels):
    with torch.no_grad():
        return (classifier(images).argmax(dim=1) == labels).float().mean().item()


test = datasets.fashion_mnist(train=False)
labels = torch.arange(50) % 10  # (50,): five of each class
generator = torch.Generator().manual_seed(0)
made = pipeline([CLASSES[label] for label in labels], generator=generator, output_type="pt").images
real_share = share_read_right(test.data[:100].unsqueeze(1) / 255, test.targets[:100])
made_share = share_read_right(made, labels)
print(f"read as their label: {real_share:.0%} of real pictures, {made_share:.0%} of ours")
assert real_share > 0.85 and made_share > 0.8

# %% [markdown]
# About as many of ours as of the real ones. This number says that a bag looks like a bag. It does not say that the bags
# differ from each other, or that they look sharp: for that, look.
#
# :::{important} To remember
# Pipeline plus generator gives a picture. Same seed, same picture.
# :::

# %% [markdown]
# ## What is in the box?
#
# :::{admonition} Predict
# :class: tip
# The pipeline has two parts. Which of them learned something?
# :::

# %%
for name, part in pipeline.components.items():
    print(f"{name}: {type(part).__name__}")
unet = pipeline.unet
print(sum(parameter.numel() for parameter in unet.parameters()), "parameters in the network")
print("parameters in the scheduler:", hasattr(pipeline.scheduler, "parameters"))

# %% [markdown]
# The **UNet** is the network. It halves the picture twice, from 28 × 28 to 7 × 7, and doubles it twice again, with
# connections straight across at each size: a U. The **scheduler** has no weights. It holds the list of noise levels and
# the formulas that go from one to the next. Whoever meets an unknown model calls it on a fixed input and looks:

# %%
x = torch.zeros(4, 1, 28, 28)  # (batch, channels, height, width)
with torch.no_grad():
    output = unet(x, 500, class_labels=torch.tensor([7, 7, 8, 10]))
print(type(output).__name__, list(output.keys()), tuple(output.sample.shape))

# %% [markdown]
# In go pictures, the step t (how noisy they are; one for all, or a tensor of one per picture), and labels. Out comes an
# object with one tensor, `sample`, of the shape of the input: the noise that the network sees in it. Both t and the label
# become a vector of 64 numbers, and their sum steers every block of the network. There are eleven labels: 0 to 9 are
# the classes, and 10 means *no label*.
#
# **What goes wrong in practice.** A class-conditional UNet without a label does not guess:

# %% tags=["raises-exception"]
unet(x, 500)

# %%
with torch.no_grad():
    print(unet(x, 500, class_labels=torch.full((4,), 10)).sample.shape)

# %% [markdown]
# :::{admonition} Myth: "`unet.in_channels` is the number of input channels"
# :class: warning
# Many older programs do it this way. The settings that a model was made with are in its `config`; the short form only warns,
# and is to disappear. (Warnings go to another stream than results; the cell catches it to show it.)
# :::

# %%
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    channels = unet.in_channels
print(caught[0].category.__name__, "-", str(caught[0].message).partition(". ")[0])
print(unet.config.in_channels, unet.config.sample_size, unet.config.num_class_embeds)

# %% [markdown]
# :::{important} To remember
# A UNet takes (x, t, condition) and returns the noise in x, in `.sample`. What it was built with is in `.config`.
# :::

# %% [markdown]
# ## How does a picture turn into noise?
#
# Training needs noisy pictures, and we make them. Step t, from 0 to 999, mixes a little more noise in: it shrinks the
# picture by $\sqrt{1 - \beta_t}$ and adds noise of variance $\beta_t$. The scheduler holds the β, and α = 1 − β:

# %%
from diffusers import DDPMScheduler

scheduler = DDPMScheduler()  # the schedule that the book's model was trained with
print(len(scheduler), f"steps, beta from {scheduler.betas[0]:.4f} to {scheduler.betas[-1]:.4f}")

fashion = datasets.fashion_mnist()
x0 = fashion.data[:1].unsqueeze(1) / 127.5 - 1  # (1, 1, 28, 28), from 0...255 to [-1, 1]
seed_everything(0)
noise = torch.randn(x0.shape)

# One step at a time, 500 times
x = x0
for t in range(500):
    x = (1 - scheduler.betas[t]).sqrt() * x + scheduler.betas[t].sqrt() * torch.randn(x.shape)
print(f"after 500 steps: mean {x.mean():.1f}, standard deviation {x.std():.1f}")

# %% [markdown]
# Nobody trains like that. A sum of normal noises is one normal noise, so t steps can be done as one. With
# $\bar\alpha_t = \alpha_0 \alpha_1 \cdots \alpha_t$, which the library calls `alphas_cumprod`:
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\;\varepsilon$$
#
# $\bar\alpha_t$ is the share of the *variance* that still comes from the picture; the roots are there because x is
# scaled by standard deviations. The two shares add up to 1, so x keeps about the same size at all steps.
#
# :::{admonition} Predict
# :class: tip
# Halfway, at t = 500, how much of the variance still comes from the picture: 50 %, 25 % or 8 %?
# :::

# %%
steps = torch.tensor([0, 100, 250, 500, 750, 999])
kept = scheduler.alphas_cumprod[steps]  # (6,)
for t, share in zip(steps, kept, strict=True):
    print(f"t = {t:3d}: {share:.4f}")

by_hand = kept.sqrt().view(-1, 1, 1, 1) * x0 + (1 - kept).sqrt().view(-1, 1, 1, 1) * noise  # (6, 1, 28, 28)
library = scheduler.add_noise(x0.expand(6, -1, -1, -1), noise.expand(6, -1, -1, -1), steps)
print("as the library's:", torch.allclose(by_hand, library))

# %% mystnb={"figure": {"caption": "One ankle boot, noised in one step each to six levels. At t = 999 nothing of it is left.", "name": "fig-diffusion-noising"}, "image": {"alt": "Six pictures of a boot: clean at t = 0, grainy at 250, barely visible at 500, pure noise at 999."}}
image_grid(
    (by_hand / 2 + 0.5).clamp(0, 1),
    labels=[f"t = {t}" for t in steps.tolist()],
    columns=6,
    alt="Six pictures of a boot: clean at t = 0, grainy at 250, barely visible at 500, pure noise at 999.",
)

# %% [markdown]
# Eight per cent, halfway. How $\bar\alpha$ falls is a choice. The linear schedule of the first paper destroys
# the picture early; the *cosine* schedule, which fixes $\bar\alpha$ and takes the β from it, falls more evenly.

# %% mystnb={"figure": {"caption": "The share of the picture's variance that is left, for two schedules.", "name": "fig-diffusion-schedules"}, "image": {"alt": "Two falling curves from 1 to 0 over 1000 steps: the linear schedule is near 0 from step 700 on, the cosine one falls evenly."}}
cosine = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
learning_curves(
    {"linear β": scheduler.alphas_cumprod, "cosine": cosine.alphas_cumprod},
    ylabel="share of variance left",
    xlabel="step",
    alt="Two falling curves from 1 to 0 over 1000 steps: the linear schedule is near 0 from step 700 on, "
    "the cosine one falls evenly.",
)

# %% [markdown]
# **What goes wrong in practice.** `alphas_cumprod[t]` has one number per picture, shape `(batch,)`. Broadcasting lines
# it up with the *width*:

# %% tags=["raises-exception"]
batch = x0.expand(6, -1, -1, -1)  # (6, 1, 28, 28)
scheduler.alphas_cumprod[steps].sqrt() * batch

# %%
factor = scheduler.alphas_cumprod[steps].sqrt().view(-1, 1, 1, 1)  # (6, 1, 1, 1)
print((factor * batch).shape)

# %% [markdown]
# Had the batch been of 28 pictures, there would have been no error: every column of a picture would have been noised to
# another step. The second trap is the range. The noise has mean 0, so the pictures should be centred on 0 too:
# [−1, 1], not [0, 1].
#
# :::{important} To remember
# Any step in one go: √ᾱ times the picture plus √(1 − ᾱ) times noise, with pictures in [−1, 1].
# :::
#
# *Exercises:* `add_noise`, `cosine_betas`.

# %% [markdown]
# ## What does the network see in the noise?
#
# The network is given $x_t$, t and the label, and predicts ε. From ε follows a guess at the clean picture, by solving
# the formula above for $x_0$:
#
# $$\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\;\varepsilon}{\sqrt{\bar\alpha_t}}$$
#
# :::{admonition} Predict
# :class: tip
# At which step is the noise predicted with the smallest error: when there is little of it, or when there is much?
# :::

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    predicted = unet(by_hand, steps, class_labels=torch.full((6,), 9)).sample  # (6, 1, 28, 28)
errors = (predicted - noise).square().mean(dim=(1, 2, 3))  # (6,)
for t, error in zip(steps, errors, strict=True):
    print(f"t = {t:3d}: mean squared error {error:.4f}")
assert errors[0] > errors[1] > errors[3] > errors[5]

# %% [markdown]
# When there is much: at t = 999 the input *is* the noise, and handing it on is nearly right. That says nothing about the
# picture. The division by $\sqrt{\bar\alpha_t}$, which is 0.006 at the end, blows the small error up:

# %% mystnb={"figure": {"caption": "Above: what the network is given. Below: the clean picture that its prediction implies.", "name": "fig-diffusion-guess"}, "image": {"alt": "Two rows of six: the noised boot, and under each the guess at the clean boot: sharp up to t = 250, a coarse outline at 500, patches of black and white at 999."}}
root = kept.sqrt().view(-1, 1, 1, 1)
guess = (by_hand - (1 - kept).sqrt().view(-1, 1, 1, 1) * predicted) / root
image_grid(
    (torch.cat([by_hand, guess]) / 2 + 0.5).clamp(0, 1),
    labels=[f"t = {t}" for t in steps.tolist()] + ["guess"] * 6,
    columns=6,
    alt="Two rows of six: the noised boot, and under each the guess at the clean boot: sharp up to t = 250, "
    "a coarse outline at 500, patches of black and white at 999.",
)

# %% [markdown]
# :::{admonition} Myth: "The network turns noise into a picture"
# :class: warning
# In one go it cannot: the best guess from pure noise would be an average over all boots, and the real guess is worse.
# The network only says in which direction less noise lies. Sampling takes a small step in that direction, and asks
# again.
# :::
#
# :::{important} To remember
# A predicted noise is also a predicted picture: the one formula, solved for x₀.
# :::
#
# *Exercise:* `predict_x0`.

# %% [markdown]
# ## How does one step lead back?
#
# We have $x_t$ and a guess $\hat x_0$, and want $x_{t-1}$. Two ways are common.
#
# **DDPM** takes the mean of all $x_{t-1}$ that fit both, and adds fresh noise of the right size:
#
# $$x_{t-1} = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1 - \bar\alpha_t}\,\hat x_0
# + \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\,x_t
# + \sqrt{\frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta_t}\;z$$
#
# :::{admonition} Predict
# :class: tip
# Before step 0 nothing has been added, so $\bar\alpha_{-1} = 1$. What becomes of the three terms at t = 0?
# :::

# %%
plain = DDPMScheduler(clip_sample=False)
betas = plain.betas.double()  # (1000,): in float32, 1 - β would lose digits of a small β
alphas, cumulative = 1 - betas, (1 - betas).cumprod(0)

seed_everything(0)
x_t, eps = torch.randn(2, 1, 28, 28), torch.randn(2, 1, 28, 28)  # any two tensors will do to compare arithmetic

for t in (600, 1, 0):
    before = cumulative[t - 1] if t > 0 else torch.ones_like(betas[0])
    left = 1 - cumulative[t]
    x0_hat = (x_t - left.sqrt() * eps) / cumulative[t].sqrt()
    shares = before.sqrt() * betas[t] / left, alphas[t].sqrt() * (1 - before) / left
    spread = ((1 - before) / left * betas[t]).sqrt()
    z = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(5))
    mine = shares[0] * x0_hat + shares[1] * x_t + spread * z

    library = plain.step(eps, t, x_t, generator=torch.Generator().manual_seed(5)).prev_sample
    same = torch.allclose(mine, library, rtol=1e-3, atol=1e-3)
    print(f"t = {t:3d}: {shares[0]:.4f} x0 + {shares[1]:.4f} x_t + {spread:.4f} z, as the library's: {same}")

# %% [markdown]
# In the middle a step hardly moves: nearly all of $x_t$ stays. At t = 0 the guess is the result, and no noise is added.
#
# **DDIM** adds no noise. It takes the guess and noises it again, to an earlier step, *with the same predicted ε*. So
# it may jump: from 800 to 600 at once. (The paper mixes fresh noise in by a factor η; we keep the library's default,
# η = 0, which is none.)

# %%
from diffusers import DDIMScheduler

ddim = DDIMScheduler(clip_sample=False)
ddim.set_timesteps(5)
print("visits", ddim.timesteps.tolist())

for t, t_prev in ((800, 600), (0, -1)):
    before = cumulative[t_prev] if t_prev >= 0 else torch.tensor(1.0)  # before step 0: the clean picture
    x0_hat = (x_t - (1 - cumulative[t]).sqrt() * eps) / cumulative[t].sqrt()
    mine = before.sqrt() * x0_hat + (1 - before).sqrt() * eps
    library = ddim.step(eps, t, x_t).prev_sample
    print(f"from {t} to {t_prev}, as the library's: {torch.allclose(mine, library, rtol=1e-3, atol=1e-3)}")

# %% [markdown]
# `set_timesteps(n)` chooses n of the 1000 training steps. Here they are the multiples of 1000 // 5, the largest first;
# the library calls this spacing *leading*. The scheduler needs it to know how far each step goes. DDPM's scheduler
# jumps too, once it is told to: it takes the jump from t to an earlier t′ as one large step, with
# $\bar\alpha_t / \bar\alpha_{t'}$ in place of $\alpha_t$.
#
# **What goes wrong in practice.** Without `set_timesteps`:

# %% tags=["raises-exception"]
DDIMScheduler().step(eps, 800, x_t)

# %% [markdown]
# And a second trap for whoever compares by hand: both schedulers clamp $\hat x_0$ to [−1, 1] unless told otherwise
# (`clip_sample=True`). That is good for pictures, and it is not in the formulas. Third, Python's index −1:

# %%
print(f"alphas_cumprod[-1] = {cumulative[-1]:.5f}: the noisiest step, not the clean picture")

# %% [markdown]
# :::{important} To remember
# DDPM: mean of guess and present x, plus fresh noise; made for small steps. DDIM: guess, then the same noise again, in
# jumps of any size.
# :::
#
# *Exercises:* `inference_timesteps`, `ddpm_step`, `ddim_step`.

# %% [markdown]
# ## What does a pipeline do between noise and picture?
#
# The simplest pipeline of the library is `DDPMPipeline`: a UNet without labels and a scheduler. To see all that it does,
# take a network with random weights, and write its call as a loop. (`set_progress_bar_config(disable=True)` keeps the
# progress bar off the page.)
#
# :::{admonition} Predict
# :class: tip
# Beside the `for`, the code from `set_timesteps` to `mine` below has five lines. Which of them would a pipeline for
# another kind of model change?
# :::

# %%
from diffusers import DDPMPipeline, UNet2DModel

seed_everything(0)
small = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "norm_num_groups": 4, "layers_per_block": 1}
blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
random_unet = UNet2DModel(**small, **blocks).eval()

stock = DDPMPipeline(random_unet, DDPMScheduler())
stock.set_progress_bar_config(disable=True)
theirs = stock(
    batch_size=3, num_inference_steps=10, generator=torch.Generator().manual_seed(0), output_type="pt"
).images

generator = torch.Generator().manual_seed(0)
scheduler = DDPMScheduler()
scheduler.set_timesteps(10)
x = torch.randn(3, 1, 8, 8, generator=generator)  # pure noise
with torch.no_grad():
    for t in scheduler.timesteps:
        eps = random_unet(x, t).sample
        x = scheduler.step(eps, t, x, generator=generator).prev_sample
mine = (x / 2 + 0.5).clamp(0, 1)  # from [-1, 1] back to [0, 1]
print(tuple(theirs.shape), "equal:", torch.equal(mine, theirs))

# %% [markdown]
# That is all of it: noise; for each step a prediction and a step back; then the range. From one kind of model to the
# next, it is mostly the call of the network that changes. Now the same loop with the trained network, for two pairs of
# trousers and two bags, and we keep what passes by:

# %%
labels = torch.tensor([1, 1, 8, 8])
generator = torch.Generator().manual_seed(3)
scheduler = DDPMScheduler()
scheduler.set_timesteps(20)
x = torch.randn(4, 1, 28, 28, generator=generator)
seen, guesses = [], []
with torch.no_grad():
    for t in scheduler.timesteps:
        step = scheduler.step(unet(x, t, class_labels=labels).sample, t, x, generator=generator)
        x = step.prev_sample
        seen.append(x)
        guesses.append(step.pred_original_sample)
print(len(seen), "steps,", tuple(x.shape))

# %% mystnb={"figure": {"caption": "One pair of trousers and one bag on their way, after steps 1, 4, 8, 12, 16 and 20: x itself, and below it the guess at the clean picture.", "name": "fig-diffusion-way"}, "image": {"alt": "Four rows of six: noise turning into trousers, the guesses beside it, clear long before x is; the same for a bag."}}
shown = [0, 3, 7, 11, 15, 19]
rows = [[kind[i][picture] for i in shown] for picture in (0, 2) for kind in (seen, guesses)]
image_grid(
    (torch.stack([image for row in rows for image in row]) / 2 + 0.5).clamp(0, 1),
    labels=[f"{kind} {i + 1}" for _ in range(2) for kind in ("x after", "guess") for i in shown],
    columns=6,
    alt="Four rows of six: noise turning into trousers, the guesses beside it, clear long before x is; "
    "the same for a bag.",
)

# %% [markdown]
# The guess has its outline long before x shows anything. The last steps add the texture of the cloth.
#
# **What goes wrong in practice.** The result of the loop lies in [−1, 1], and without the scheduler's clamp a little
# beyond. A picture wants [0, 1]:

# %% tags=["raises-exception"]
image_grid(x, alt="The result of the loop, not yet brought back to the range of pictures.")

# %%
pixels = (x / 2 + 0.5).clamp(0, 1)  # (4, 1, 28, 28)
as_bytes = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()  # (4, 28, 28, 1): channels last
print(as_bytes.shape, as_bytes.dtype, "from", as_bytes.min(), "to", as_bytes.max())

# %% [markdown]
# `clamp` alone, without the shift, would not raise an error. It would turn the dark half of every picture black.
#
# :::{important} To remember
# Noise → (predict, step back) for each timestep → `(x / 2 + 0.5).clamp(0, 1)`. No gradients, eval mode.
# :::
#
# *Exercises:* `to_pixels`, `denoise`.

# %% [markdown]
# ## How does the label take hold?
#
# In training, one label in ten was replaced by 10, *no label*. So the network gives two predictions for the same x: with
# the label and without it. Their difference is what the label changes. **Classifier-free guidance** goes further in that
# direction than the network itself would:
#
# $$\varepsilon = \varepsilon_\text{no label} + s\,(\varepsilon_\text{label} - \varepsilon_\text{no label})$$
#
# :::{admonition} Predict
# :class: tip
# Scale s = 1 is the plain labelled prediction. What does s = 0 give, and what would you fear of s = 6?
# :::

# %% tags=["nbval-ignore-output"]
names = ["Dress", "Sandal", "Bag", "Ankle boot"] * 2
by_scale = {}
for scale in (0.0, 1.0, 2.0, 6.0):
    generator = torch.Generator().manual_seed(4)  # the same noise for every scale
    by_scale[scale] = pipeline(names, 15, scale, generator, output_type="pt").images
change = (by_scale[6.0] - by_scale[1.0]).abs().mean().item()
print(f"mean change of a pixel from scale 1 to scale 6: {change:.2f}")
assert change > 0.03

# %% mystnb={"figure": {"caption": "The same noise with guidance scales 0, 1, 2 and 6, one row each. Without guidance (0) the label is ignored.", "name": "fig-diffusion-guidance"}, "image": {"alt": "Four rows of eight pictures: at scale 0 any clothes, at 1 and 2 the ones named, at 6 the same ones brighter and plainer."}}
image_grid(
    torch.cat(list(by_scale.values())),
    labels=[f"{name}, {scale:g}" for scale in by_scale for name in names],
    columns=8,
    alt="Four rows of eight pictures: at scale 0 any clothes, at 1 and 2 the ones named, at 6 the same ones "
    "brighter and plainer.",
)

# %% [markdown]
# At 0 the label is ignored. At 1 it is followed. At 6 it is exaggerated: dark clothes turn light, and details go.
# Guidance trades variety for clarity. `training/compare_schedulers.py` measured it on 100 samples
# per scale, DDPM with 25 steps, and its results came with the course:

# %%
from course_utils.measured import measured

results = measured("schedulers")
for scale, result in results["scales"].items():
    print(f"scale {scale}: {result['share']:.0%} read as the label asked for")

# %% [markdown]
# By this number 6 is perfect. The classifier likes what is typical, and does not see what was lost. Whoever generates
# pictures looks at them, and takes a scale at which they are right *and* differ; this chapter takes 2.
#
# The price is a second call of the network per step. It can be the same call with twice the batch, as this chapter's
# pipeline does it. What makes guidance possible is training: a network that never saw index 10 has nothing to say there.
#
# :::{important} To remember
# Guidance is no part of the network. It is one line in the loop, and 10 % dropped labels in training.
# :::
#
# *Exercise:* `guided_noise`.

# %% [markdown]
# ## How few steps are enough?
#
# Each step costs a call of the network. The network does not know which scheduler uses it, so the scheduler can be
# swapped without training. `from_config` makes one from the settings of another. (Only from those that were set: what
# the other one left at its default, the new one takes from its own defaults.)

# %%
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

base = pipeline.scheduler.config
schedulers = {
    "DDPM": DDPMScheduler.from_config(base),
    "DDIM": DDIMScheduler.from_config(base),
    "Euler": EulerDiscreteScheduler.from_config(base),
    "DPM-Solver": DPMSolverMultistepScheduler.from_config(base),
    "DPM-Solver, clamped": DPMSolverMultistepScheduler.from_config(base, thresholding=True),
}
for name, scheduler in schedulers.items():
    scheduler.set_timesteps(4)
    times = [round(float(t)) for t in scheduler.timesteps]
    print(f"{name:19s} visits {times}, starts at {float(scheduler.init_noise_sigma):.1f} times the noise")

# %% [markdown]
# By their defaults, Euler and DPM-Solver spread the visited steps from 999 down: `timestep_spacing` is not *leading*
# there. And Euler counts noise differently: it keeps the picture at full size and lets the noise grow to 157 times. So
# a loop that works for every scheduler multiplies the first x by `init_noise_sigma`, and hands the network
# `scale_model_input(x, t)` in place of x. For DDPM and DDIM these are x times 1, and x.
#
# :::{admonition} Predict
# :class: tip
# DDPM was made for 1000 small steps. What do you expect of it in 5?
# :::

# %% tags=["nbval-ignore-output"]
names = ["Trouser", "Sneaker", "Bag", "Coat"]
by_scheduler = []
for scheduler in schedulers.values():
    pipeline.scheduler = scheduler
    for steps in (5, 25):
        generator = torch.Generator().manual_seed(6)
        by_scheduler.append(pipeline(names, steps, 2.0, generator, output_type="pt").images)
print(len(by_scheduler), tuple(by_scheduler[0].shape))

# %% mystnb={"figure": {"caption": "The same first noise with five schedulers, one row each, in the order of the list above; left half 5 steps, right half 25.", "name": "fig-diffusion-schedulers"}, "image": {"alt": "Five rows of eight pictures, one row per scheduler: DDPM shows the four clothes; the clamped DPM-Solver too, with a frayed bag and a coat nearly white; DDIM with 25 steps frays them; Euler and plain DPM-Solver show some much too bright."}}
image_grid(
    torch.cat(by_scheduler),
    labels=[f"{name.split(', ')[-1]}, {steps}" for name in schedulers for steps in (5, 25) for _ in names],
    columns=8,
    alt="Five rows of eight pictures, one row per scheduler: DDPM shows the four clothes; the clamped DPM-Solver too, "
    "with a frayed bag and a coat nearly white; DDIM with 25 steps frays them; Euler and plain DPM-Solver show some "
    "much too bright.",
)

# %% [markdown]
# By number, again from the script, 100 samples each:

# %% mystnb={"figure": {"caption": "Share of samples that the classifier reads as the label asked for, guidance scale 2.", "name": "fig-diffusion-steps"}, "image": {"alt": "Five lines over 5 to 100 steps: DDPM and the clamped DPM-Solver stay above 90 %, plain DPM-Solver lies at about 80 %, Euler rises from 62 % to it, DDIM falls from 96 % at 10 steps to 40 %."}}
import matplotlib
from matplotlib.ticker import PercentFormatter

from course_utils.plotting import MARKERS, STYLE, AltFigure

counts = (5, 10, 25, 50, 100)
with matplotlib.rc_context(STYLE):
    figure = AltFigure(
        figsize=(6.4, 3.6),
        layout="constrained",
        alt="Five lines over 5 to 100 steps: DDPM and the clamped DPM-Solver stay above 90 %, "
        "plain DPM-Solver lies at about 80 %, Euler rises from 62 % to it, DDIM falls from 96 % at 10 steps to 40 %.",
    )
    ax = figure.subplots()
    for name, colour, marker in zip(schedulers, COLOURS, MARKERS, strict=False):
        shares = [results["steps"][f"{name} {count}"]["share"] for count in counts]
        ax.plot(counts, shares, label=name, color=colour, marker=marker)
    ax.set_xscale("log")
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set(xlabel="steps", ylabel="read as the label asked for")
    ax.legend(frameon=False)
figure

# %% [markdown]
# With DDPM, five steps are enough for this number. Look at the pictures as well: they are smooth, average clothes, which
# are easily read. A classifier does not reward detail.
#
# What separates the others is mostly one thing: what they do with a guess $\hat x_0$ that lies outside [−1, 1]. What a
# small network gets wrong at the noisiest steps is divided by a small $\sqrt{\bar\alpha_t}$ (0.006 at t = 999), so such
# guesses come often, and guidance makes them larger. DDPM clamps the guess. Euler and DPM-Solver do not, and the whole
# picture may come out too dark or too bright. With `thresholding=True` DPM-Solver clamps too, and by this number it is
# about as good as DDPM; some of its pictures are still rough or too bright. DDIM clamps the guess, but noises it
# again with the ε of before the clamp. The two no longer fit together, and the more steps, the more this adds up: from
# 95 % at 5 steps to 40 % at 100.
#
# With 100 samples, differences of less than ten points may be chance. Another network may rank the schedulers otherwise:
# measure yours.
#
# **What goes wrong in practice.** So DDIM gets worse with *more* steps here. The remedy is an argument of its `step`,
# which takes ε from the clamped guess. It is off by default; a scheduler of our own can switch it on:


# %% tags=["nbval-ignore-output"]
class ConsistentDDIM(DDIMScheduler):
    def step(self, *arguments, **settings):
        return super().step(*arguments, use_clipped_model_output=True, **settings)


labels = torch.arange(20) % 10
shares = []
for scheduler_class in (DDIMScheduler, ConsistentDDIM):
    pipeline.scheduler = scheduler_class.from_config(base)
    generator = torch.Generator().manual_seed(0)
    made = pipeline([CLASSES[label] for label in labels], 25, 2.0, generator, output_type="pt").images
    shares.append(share_read_right(made, labels))
    print(f"{scheduler_class.__name__}, 25 steps: {shares[-1]:.0%}")
pipeline.scheduler = schedulers["DDPM"]
assert shares[0] <= shares[1]

# %% [markdown]
# The second trap is quieter. A scheduler made without the configuration of the old one has defaults of its own. Had
# the network been trained on the cosine schedule, the new scheduler would remove noise that is not there:

# %%
trained_with = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
careless = DDIMScheduler()
careful = DDIMScheduler.from_config(trained_with.config)
for name, scheduler in (("trained with", trained_with), ("careless", careless), ("careful", careful)):
    print(f"{name:12s} {scheduler.config.beta_schedule:18s} at t = 500: {scheduler.alphas_cumprod[500]:.2f}")

# %% [markdown]
# There is no error, only bad pictures.
#
# Other parts are swapped as well: a pipeline is no more than its components, and any of them can be replaced by one that
# is called in the same way. Here a network of the same architecture, made by `from_config`, takes the place of the
# trained one. It has random weights, since a configuration holds none:

# %%
parts = pipeline.components  # a dict of all parts by name
untrained = UNet2DModel.from_config(unet.config)
second = type(pipeline)(unet=untrained, scheduler=parts["scheduler"])
print("same scheduler:", second.scheduler is pipeline.scheduler, "- same network:", second.unet is pipeline.unet)

# %% [markdown]
# The first pipeline has not changed. The two share the scheduler, as one object: `set_timesteps` in one of them holds
# for both.
#
# :::{important} To remember
# `NewScheduler.from_config(pipeline.scheduler.config)`: fewer steps, no training. Measure how few, and look.
# :::
#
# *Exercises:* `sample`, `with_scheduler`.

# %% [markdown]
# ## What does training buy?
#
# Training is the loop of chapter 5 with a strange target. Draw a batch of pictures, a step t for each, and noise; mix;
# let the network predict; compare with the noise. To see it learn within seconds, we take 512 pictures of three classes,
# shrink them to 14 × 14, and train a network with a quarter of the parameters.
#
# :::{admonition} Predict
# :class: tip
# A network that always answers 0 has a loss of 1, the variance of the noise. How fast do you expect it to fall, and will
# the samples look good when it no longer does?
# :::

# %%
import torch.nn.functional as F

chosen = torch.isin(fashion.targets, torch.tensor([1, 7, 8])).nonzero()[:512, 0]  # trousers, sneakers, bags
tiny_images = F.avg_pool2d(fashion.data[chosen].unsqueeze(1) / 127.5 - 1, 2)  # (512, 1, 14, 14) in [-1, 1]

seed_everything(0)
tiny = UNet2DModel(
    sample_size=14,
    in_channels=1,
    out_channels=1,
    block_out_channels=(16, 32),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D"),
    norm_num_groups=8,
)
print(f"{sum(parameter.numel() for parameter in tiny.parameters())} parameters")

# %% tags=["nbval-ignore-output"]
scheduler = DDPMScheduler()
optimizer = torch.optim.AdamW(tiny.parameters(), lr=2e-3)


def train(steps):
    losses = []
    for _ in range(steps):
        x0 = tiny_images[torch.randint(len(tiny_images), (32,))]  # (32, 1, 14, 14)
        t = torch.randint(len(scheduler), (32,))  # each picture at a step of its own
        noise = torch.randn(x0.shape)
        predicted = tiny(scheduler.add_noise(x0, noise, t), t).sample
        loss = F.mse_loss(predicted, noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def samples(count=8):
    ddim = DDIMScheduler()
    ddim.set_timesteps(20)
    x = torch.randn(count, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for t in ddim.timesteps:
            x = ddim.step(tiny(x, t).sample, t, x).prev_sample
    return (x / 2 + 0.5).clamp(0, 1)


losses, stages = [], [samples()]
for steps in (60, 240):
    losses += train(steps)
    stages.append(samples())
early, late = sum(losses[:10]) / 10, sum(losses[-50:]) / 50
print(f"mean loss: {early:.2f} in the first 10 steps, {late:.2f} in the last 50")
assert late < 0.25 < early

# %% mystnb={"figure": {"caption": "The loss of the small network, each point the mean of ten steps.", "name": "fig-diffusion-loss"}, "image": {"alt": "A curve that falls steeply from 0.4 within the first tens of steps and then flattens below 0.1."}}
means = [sum(losses[i : i + 10]) / 10 for i in range(0, len(losses), 10)]
learning_curves(
    {"noise prediction": means},
    ylabel="mean squared error",
    xlabel="tens of steps",
    alt="A curve that falls steeply from 0.4 within the first tens of steps and then flattens below 0.1.",
)

# %% mystnb={"figure": {"caption": "Samples from the same noise before training, after 60 steps and after 300.", "name": "fig-diffusion-stages"}, "image": {"alt": "Three rows of eight 14 by 14 pictures: noise, then grey smears, then the outlines of trousers and a shoe."}}
image_grid(
    torch.cat(stages),
    labels=[f"step {step}" for step in (0, 60, 300) for _ in range(8)],
    columns=8,
    alt="Three rows of eight 14 by 14 pictures: noise, then grey smears, then the outlines of trousers and a shoe.",
)

# %% [markdown]
# From about step 70 on the loss falls only slowly, while the samples go from smears to clothes. Do not judge a diffusion
# model by its loss: most of it comes from the steps with little noise, where noise and cloth look alike (0.7 at t = 0, earlier
# in this chapter), and the part that makes a picture is small. Look at samples.
#
# The book's own network is this loop with 637,169 parameters, all 60,000 pictures at full size, and 5,200 batches of 32:
# `training/fashion_unet.py`, about three quarters of an hour on one busy core. Its log stands beside it. From step 200
# to the end its loss fell from 0.08 to about 0.04 only.
#
# Besides clipped gradients, three things are in the long training that the short one left out: the labels, one in ten
# replaced by 10; a learning rate that rises at first and falls to zero (twice: it begins again after step 2,200); and
# an average of the weights. After each step, `average = d * average + (1 - d) * weights`, with a d that grows from 0.1
# to 0.998. The weights of a single step jump about; their average makes visibly better pictures, and it is what was
# saved.
#
# :::{important} To remember
# Random t, random noise, mean squared error. The loss says that it learns; the samples say what.
# :::
#
# *Exercise:* `denoising_loss`.

# %% [markdown]
# ## How do I make a pipeline of my own?
#
# Derive from `DiffusionPipeline`, register the parts in `__init__`, and put the loop in `__call__`. In return the library
# saves and loads all parts together. This one makes clothes of any kind, since it asks for label 10, no label.

# %%
import tempfile
from pathlib import Path

from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils import logging

logging.disable_progress_bar()  # the bars of saving and loading; those of a pipeline's steps are its own


class AnythingPipeline(DiffusionPipeline):
    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)  # sets self.unet and self.scheduler, and remembers them

    @torch.no_grad()
    def __call__(self, count, num_inference_steps=20, generator=None):
        size = self.unet.config.sample_size
        self.scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(count, self.unet.config.in_channels, size, size, generator=generator)
        x = x * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            seen = self.scheduler.scale_model_input(x, t)
            eps = self.unet(seen, t, class_labels=torch.full((count,), 10)).sample
            x = self.scheduler.step(eps, t, x, generator=generator).prev_sample
        return ImagePipelineOutput(images=(x / 2 + 0.5).clamp(0, 1))


anything = AnythingPipeline(unet, DDPMScheduler())
made = anything(8, generator=torch.Generator().manual_seed(0)).images
print(tuple(made.shape))

# %% mystnb={"figure": {"caption": "Eight pictures from the pipeline above: no label, so clothes of any kind.", "name": "fig-diffusion-anything"}, "image": {"alt": "Eight small grey pictures of clothes of several kinds."}}
image_grid(made, columns=8, alt="Eight small grey pictures of clothes of several kinds.")

# %% [markdown]
# :::{admonition} Predict
# :class: tip
# `save_pretrained` writes a folder. Does it contain the code of `AnythingPipeline`?
# :::

# %%
import json

folder = Path(tempfile.mkdtemp()) / "anything"
anything.save_pretrained(folder)
for path in sorted(folder.rglob("*.*")):
    print(path.relative_to(folder).as_posix())
index = json.loads((folder / "model_index.json").read_text())
print(index["_class_name"], index["unet"], index["scheduler"])

# %%
loaded = AnythingPipeline.from_pretrained(folder)
again = loaded(8, generator=torch.Generator().manual_seed(0)).images
print("the same pictures:", torch.equal(again, made))

# %% [markdown]
# Weights and settings, and in `model_index.json` the *names* of the classes. No code. You have the class, so you can
# load it. Somebody else, who asks for whatever is in the folder, cannot:

# %% tags=["raises-exception"]
DiffusionPipeline.from_pretrained(folder)

# %% [markdown]
# The library looks for the name among its own classes. What it does not have, you must hand over as code: a file
# `pipeline.py` with the class, beside the weights.

# %%
code = """
print("This line runs on your machine.")
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput

class AnythingPipeline(DiffusionPipeline):
    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def __call__(self, count):
        return f"{count} pictures, if this were the whole class"
"""
(folder / "pipeline.py").write_text(code)
try:
    DiffusionPipeline.from_pretrained(folder, custom_pipeline=str(folder))
except ValueError as error:
    print(str(error).replace(str(folder), "anything"))

# %%
trusted = DiffusionPipeline.from_pretrained(folder, custom_pipeline=str(folder), trust_remote_code=True)
print(type(trusted).__name__, "says:", trusted(3))

# %% [markdown]
# `trust_remote_code=True` means what it says: a Python file that somebody else wrote is run here, with all that you may
# do: read your files, use your network. It does not check the file. Read it first, and pin the version you read with
# the hash of its commit: `custom_revision="…"` for the code, `revision="…"` for the model. Weights as safetensors run
# nothing.
#
# On the Hub it is the same, with a name in place of the folder. **Community pipelines** are files of this kind in the
# repository of diffusers. What only the Hub has is not run here:
#
# ```python
# pipeline = DiffusionPipeline.from_pretrained(
#     "stable-diffusion-v1-5/stable-diffusion-v1-5",
#     custom_pipeline="lpw_stable_diffusion",  # a file in examples/community of diffusers
#     trust_remote_code=True,
# )
# ```
#
# :::{important} To remember
# A saved pipeline is weights, settings and names of classes. Code comes from your program, from the library, or from a
# stranger whom you trust.
# :::
#
# *Exercise:* `FashionPipeline`.

# %% [markdown]
# ## What else is in a text-to-image pipeline?
#
# A picture of 512 × 512 in three colours has 786,432 numbers, a thousand times ours. Text-to-image models such as Stable
# Diffusion add to UNet and scheduler a VAE, which makes this affordable; a tokenizer and a text encoder, so that words
# can steer; and a safety checker. (CLIP, in their names, is a model that was trained to give a picture and its caption
# similar vectors.)
#
# | part | class | turns | into |
# |---|---|---|---|
# | tokenizer | `CLIPTokenizer` | text | ids `(1, 77)`, padded |
# | text encoder | `CLIPTextModel` | ids `(1, 77)` | vectors `(1, 77, 768)` |
# | UNet | `UNet2DConditionModel` | latents `(1, 4, 64, 64)`, t, vectors | noise `(1, 4, 64, 64)` |
# | scheduler | `PNDMScheduler` or another | noise, t, latents | latents one step earlier |
# | VAE | `AutoencoderKL` | latents `(1, 4, 64, 64)` | pictures `(1, 3, 512, 512)` |
# | feature extractor | `CLIPImageProcessor` | pictures | `(1, 3, 224, 224)`, for the safety checker |
# | safety checker | `StableDiffusionSafetyChecker` | pictures | pictures, some blacked out |
#
# The **VAE** is an autoencoder, trained beforehand: its encoder shrinks a picture to *latents*, its decoder brings them
# back. All diffusion happens in the latents, 48 times fewer numbers. The vectors of the text take the place of our
# label: inside the UNet, each place of the picture attends to them. That is *cross-attention*: queries from the
# picture, keys and values from the text.
#
# :::{admonition} Myth: "`StableDiffusionPipeline` comes with diffusers, so it works out of the box"
# :class: warning
# The *class* does. Its weights, several gigabytes, are on the Hub, and without a network there are none. That is why
# this chapter's model is another.
# :::
#
# But the classes alone can be built from a configuration, with random weights and small sizes. Then the shapes are real:

# %%
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

seed_everything(0)
text_encoder = CLIPTextModel(
    CLIPTextConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
).eval()
vae = AutoencoderKL(
    block_out_channels=(8, 8, 8, 8),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    latent_channels=4,
    norm_num_groups=4,
)
text_unet = UNet2DConditionModel(
    sample_size=8,
    block_out_channels=(8, 16),
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    cross_attention_dim=16,  # the width of the text encoder
    attention_head_dim=4,
    norm_num_groups=4,
)

# %% [markdown]
# :::{admonition} Predict
# :class: tip
# Four sizes in the VAE mean three halvings. What shape do the latents of a picture of 64 × 64 have?
# :::

# %%
ids = torch.randint(0, 49408, (1, 77))  # stands for the tokenizer: 77 tokens of a vocabulary of 49,408
with torch.no_grad():
    vectors = text_encoder(ids).last_hidden_state
    latents = vae.encode(torch.rand(1, 3, 64, 64) * 2 - 1).latent_dist.mean
    noise = text_unet(latents, 500, encoder_hidden_states=vectors).sample
    picture = vae.decode(latents).sample
for name, tensor in {"vectors": vectors, "latents": latents, "noise": noise, "picture": picture}.items():
    print(f"{name:8s} {tuple(tensor.shape)}")

# %% [markdown]
# Put together, they are a `StableDiffusionPipeline`, and it runs. Its pictures are what random weights make; the call is
# the real one. We hand over vectors in place of a prompt, since the tokenizer's vocabulary is on the Hub. (The pipeline
# does one thing more than the cell above: it divides the latents by `vae.config.scaling_factor` before it decodes them,
# because diffusion works with latents scaled to a variance of about 1.)

# %%
text_to_image = StableDiffusionPipeline(
    vae=vae,
    text_encoder=text_encoder,
    tokenizer=None,
    unet=text_unet,
    scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),  # latents are not confined to [-1, 1]
    safety_checker=None,
    feature_extractor=None,
    requires_safety_checker=False,
)
text_to_image.set_progress_bar_config(disable=True)
images = text_to_image(
    prompt_embeds=vectors,
    negative_prompt_embeds=torch.zeros_like(vectors),  # the "no label" of guidance
    num_inference_steps=2,
    guidance_scale=7.5,
    output_type="np",
).images
print(images.shape, "in [0, 1]:", images.min() >= 0 and images.max() <= 1)

# %% [markdown]
# With the weights of the Hub it is four lines. The next cell runs them with a tiny random model from the Hub's own tests
# if there is a network; with `stable-diffusion-v1-5/stable-diffusion-v1-5`, and a GPU, you get real pictures.

# %% tags=["nbval-ignore-output"]
from huggingface_hub import constants

if constants.HF_HUB_OFFLINE:
    print("Offline: what follows needs the Hub, and is skipped.")
else:
    try:
        from_hub = StableDiffusionPipeline.from_pretrained("hf-internal-testing/tiny-stable-diffusion-torch")
        from_hub.set_progress_bar_config(disable=True)
        result = from_hub("a red sneaker on a beach", num_inference_steps=2, guidance_scale=7.5)
        print(result.images[0].size, "safety checker's verdict:", result.nsfw_content_detected)
    except OSError as error:
        print("The Hub cannot be reached:", type(error).__name__)

# %% [markdown]
# The **safety checker** looks at each finished picture with a second CLIP model, and replaces the ones that it finds
# offensive with black. It needs pictures in CLIP's own form: 224 × 224, and normalised. That is the last part:
#
# :::{admonition} Myth: "`CLIPFeatureExtractor` prepares the pictures"
# :class: warning
# It did. The class is gone from transformers; what it did is done by `CLIPImageProcessor`. The *slot* of the pipeline
# still has its old name, `feature_extractor`.
# :::

# %% tags=["raises-exception"]
import transformers

transformers.CLIPFeatureExtractor

# %%
processor = transformers.CLIPImageProcessor()
processed = processor(pictures[:2], return_tensors="pt")  # PIL images in
print(tuple(processed["pixel_values"].shape))

# %% [markdown]
# :::{important} To remember
# Text-to-image is this chapter's loop in a VAE's latents, with a text encoder's vectors in place of the label.
# :::

# %% [markdown]
# ## Summary
#
# | question | answer |
# |---|---|
# | noising | √ᾱ x₀ + √(1 − ᾱ) ε, pictures in [−1, 1], ᾱ of shape (b, 1, 1, 1) |
# | the network | takes x, t and a condition; returns the noise in `.sample` |
# | guess at the picture | (x_t − √(1 − ᾱ) ε) / √ᾱ |
# | DDPM step | mean of the guess and x, plus fresh noise; none at t = 0 |
# | DDIM step | the guess, noised again with the same ε; jumps |
# | the loop | `set_timesteps`; noise · `init_noise_sigma`; `scale_model_input`, predict, `step(...).prev_sample` |
# | the end | `(x / 2 + 0.5).clamp(0, 1)` |
# | guidance | no label + s · (label − no label); 10 % of labels dropped in training |
# | fewer steps | `OtherScheduler.from_config(pipeline.scheduler.config)` |
# | training | random t, random noise, mean squared error; judge by samples |
# | own pipeline | `register_modules`, `__call__`, `save_pretrained`, `from_pretrained` |
# | `trust_remote_code` | runs a stranger's file: read it first |
# | text to image | tokenizer, text encoder, UNet on latents, scheduler, VAE, safety checker |
#
# ## Where to go next
#
# Do the exercises of this chapter: `exercises/10_diffusion.ipynb`. You have come from a single tensor to a model that
# makes pictures, and you have seen every line between. From here, change one thing at a time: another schedule, another
# data set, a longer training of `training/fashion_unet.py`.
#
# ## Sources
#
# - diffusers documentation:
#   [pipelines, models and schedulers](https://huggingface.co/docs/diffusers/using-diffusers/write_own_pipeline),
#   [schedulers](https://huggingface.co/docs/diffusers/api/schedulers/overview),
#   [community pipelines](https://huggingface.co/docs/diffusers/using-diffusers/custom_pipeline_overview).
# - J. Ho, A. Jain, P. Abbeel, [Denoising diffusion probabilistic models](https://arxiv.org/abs/2006.11239), 2020: DDPM.
# - J. Song, C. Meng, S. Ermon, [Denoising diffusion implicit models](https://arxiv.org/abs/2010.02502), 2020: DDIM.
# - A. Nichol, P. Dhariwal, [Improved denoising diffusion probabilistic models](https://arxiv.org/abs/2102.09672), 2021:
#   the cosine schedule.
# - J. Ho, T. Salimans, [Classifier-free diffusion guidance](https://arxiv.org/abs/2207.12598), 2022. Its w is s − 1.
# - T. Karras et al., [Elucidating the design space of diffusion-based generative models](https://arxiv.org/abs/2206.00364),
#   2022: noise levels as Euler counts them.
# - C. Lu et al., [DPM-Solver++](https://arxiv.org/abs/2211.01095), 2022.
# - R. Rombach et al., [High-resolution image synthesis with latent diffusion models](https://arxiv.org/abs/2112.10752),
#   2022: Stable Diffusion.
# - O. Ronneberger, P. Fischer, T. Brox, [U-Net](https://arxiv.org/abs/1505.04597), 2015.
