"""Layouts to pictures: what draws is one callable; here by GLIGEN (Li et al. 2023) on the sampler seam.

GLIGEN is a Stable Diffusion U-Net with gated attention to grounding tokens, one for each thing: its words and its box.
Only the first part of the steps is grounded; then the plain U-Net finishes the picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.diffusion import vae
from goodeye.diffusion.batch import Prompts, attempt_seed, eight_bit, noise_of
from goodeye.diffusion.denoiser import Condition, mixed
from goodeye.diffusion.samplers import SAMPLERS
from goodeye.diffusion.schedule import Schedule, from_config
from goodeye.errors import BadInput
from goodeye.images import save_png, to_pil
from goodeye.progress import progress
from goodeye.synth.layout import Layout

if TYPE_CHECKING:
    from goodeye.modelset import Models

MOST = 30  # things of a picture, as in GLIGEN's training

# What draws layouts: a layout and a seed for each picture. Returns [N, 3, H, W] in [0, 1], on the CPU.
Draw = Callable[[Sequence[Layout], Sequence[int]], Float[Tensor, "N 3 H W"]]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The table [synth] of a model set. grounded: the share of the steps, the first ones, that see the boxes."""

    grounded: float = 0.3  # of diffusers' pipeline; GLIGEN's paper calls it tau


def grounding(
    layouts: Sequence[Layout], embed: Callable[[Sequence[str]], Float[Tensor, "M D"]]
) -> dict[str, Float[Tensor, "..."]]:
    """What a GLIGEN U-Net's position net takes: boxes [N, 30, 4] as left, top, right, bottom in shares; masks [N, 30],
    1 for a thing; positive_embeddings [N, 30, D], each thing's words.

    Raises BadInput for a layout of more than 30 things.
    """
    if many := [one.key for one in layouts if len(one.things) > MOST]:
        raise BadInput(f"the layout {many[0]} has more than {MOST} things, which GLIGEN cannot draw. Take some away.")
    words = list(dict.fromkeys(thing.text for one in layouts for thing in one.things))
    states = embed(words)
    boxes, masks = states.new_zeros(len(layouts), MOST, 4), states.new_zeros(len(layouts), MOST)
    embeddings = states.new_zeros(len(layouts), MOST, states.shape[1])
    for row, one in enumerate(layouts):
        for at, thing in enumerate(one.things):
            x, y, width, height = thing.box
            boxes[row, at] = boxes.new_tensor([x, y, x + width, y + height])
            masks[row, at], embeddings[row, at] = 1, states[words.index(thing.text)]
    return {"boxes": boxes, "masks": masks, "positive_embeddings": embeddings}


def grounded(objects: Mapping[str, Tensor], schedule: Schedule, share: float) -> Callable[[float], dict[str, Any]]:
    """What the U-Net's call takes more at a timestep: the grounding tokens in the first `share` of the steps."""
    seen = {step.t for step in schedule.steps[: int(share * len(schedule))]}
    return lambda t: {"cross_attention_kwargs": {"gligen": dict(objects)}} if t in seen else {}


def gligen(models: "Models") -> Draw:
    """GLIGEN of a model set: the role layout_unet, and the set's other parts. Raises BadInput where one is missing, or
    where the U-Net has no gated attention to the text encoder's states."""
    from diffusers import UNet2DConditionModel

    unet: Any = models.network("layout_unet", UNet2DConditionModel)
    net = getattr(unet, "position_net", None)
    width = models.text_encoder.config.hidden_size
    if net is None or getattr(net, "positive_len", None) != width or not hasattr(net, "linears"):
        raise BadInput(
            f"the role layout_unet of {models.model_set.name} is no GLIGEN U-Net of text and boxes for this text "
            f"encoder ({width} wide). Name one in a TOML file."
        )
    settings, drawing = models.model_set.settings, models.model_set.table("synth", Drawing)
    schedule = from_config(models.scheduler_config, settings.steps, settings.sampler)
    prompts = Prompts(models)
    factor = 2 ** (len(models.vae.config.block_out_channels) - 1)
    shape = (int(unet.config.in_channels), settings.size // factor, settings.size // factor)

    def draw(layouts: Sequence[Layout], seeds: Sequence[int]) -> Float[Tensor, "N 3 H W"]:
        noise = torch.stack([noise_of(seed, shape) for seed in seeds]).to(models.device) * schedule.start_scale
        with torch.no_grad():
            objects = grounding(layouts, lambda words: _pooled(models, words))
            free = objects | {"masks": torch.zeros_like(objects["masks"])}
            text = prompts([one.caption or ", ".join(thing.text for thing in one.things) for one in layouts])
            both = [
                Condition(text=prompts([settings.negative_prompt]), more=grounded(free, schedule, drawing.grounded)),
                Condition(text=text, more=grounded(objects, schedule, drawing.grounded)),
            ]
            scale = settings.guidance_scale
            denoise = mixed(unet, both, [1 - scale, scale]) if scale > 1 else mixed(unet, both[1:], [1.0])
            latents = SAMPLERS[settings.sampler](denoise, noise, schedule)
            return eight_bit(vae.decode(models.vae, latents)).cpu()

    return draw


def draw_all(
    draw: Draw, layouts: Sequence[Layout], out: str | Path, *, tries: int = 4, seed: int = 0, batch: int = 8
) -> int:
    """Draws each layout `tries` times into out/KEY-1.png, KEY-2.png and so on, as `goodeye synth score` takes them.

    Files that are there are left, so a run that was stopped goes on. Each picture has its own seed, by its name and the
    run's. Returns how many were drawn.
    """
    wanted = [(one, number, Path(out) / f"{one.key}-{number}.png") for one in layouts for number in range(1, tries + 1)]
    left = [one for one in wanted if not one[2].exists()]
    with progress("drawing", len(wanted), "pictures") as advance:
        advance(len(wanted) - len(left))
        for at in range(0, len(left), batch):
            some = left[at : at + batch]
            seeds = [attempt_seed(seed, layout.key, number, 1) for layout, number, _ in some]
            images = draw([layout for layout, _, _ in some], seeds)
            for image, (_, _, file) in zip(images, some, strict=True):
                save_png(to_pil(image), file)
                advance()
    return len(left)


def _pooled(models: "Models", words: Sequence[str]) -> Float[Tensor, "M D"]:
    """Each text as one vector: the text encoder's pooled output."""
    tokens = models.tokenizer(
        list(words), padding=True, truncation=True, max_length=models.tokenizer.model_max_length, return_tensors="pt"
    )
    pooled: Float[Tensor, "M D"] = models.text_encoder(tokens.input_ids.to(models.text_encoder.device)).pooler_output
    return pooled
