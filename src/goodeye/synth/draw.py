"""Layouts to pictures: what draws is one callable; here by GLIGEN (Li et al. 2023) on the sampler seam.

GLIGEN is a Stable Diffusion U-Net with gated attention to grounding tokens, one for each thing: its words and its box.
Only the first part of the steps is grounded; then the plain U-Net finishes the picture. The role layout_unet is a whole
U-Net in diffusers' layout, or what GLIGEN adds to the set's own U-Net (`save_added`), a third of its size.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from goodeye.atomic import whole_folder
from goodeye.diffusion import vae
from goodeye.diffusion.batch import Prompts, attempt_seed, eight_bit, noise_of
from goodeye.diffusion.denoiser import Condition, mixed
from goodeye.diffusion.samplers import SAMPLERS
from goodeye.diffusion.schedule import Schedule, from_config
from goodeye.errors import BadInput
from goodeye.images import save_png, to_pil
from goodeye.judging.protocol import fingerprint
from goodeye.progress import progress
from goodeye.synth.layout import Layout, with_article
from goodeye.synth.placed import PLACE, placed

if TYPE_CHECKING:
    from goodeye.modelset import Models

_NO_NAME = set("/\\\0")  # what a picture file's name cannot have: it would lie elsewhere
LONGEST = 200  # bytes of a key, so that its file's name, and that of the file while it is written, are short enough
MOST = 30  # things of a picture, as in GLIGEN's training
ADDED, ABOUT = "gligen.safetensors", "gligen.json"

# What draws layouts: a layout and a seed for each picture. Returns [N, 3, H, W] in [0, 1], on the CPU.
Draw = Callable[[Sequence[Layout], Sequence[int]], Float[Tensor, "N 3 H W"]]
OnPicture = Callable[[Layout, int, Image, float], None]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The table [synth] of a model set; what is not there is as the layout U-Net was trained (`save_added`).

    grounded: the share of the steps, the first ones, that see the boxes. prompt: the layout's caption; or its things in
    one of the set's settings, drawn by the picture's seed, for a generator that knows no words of how things stand.
    """

    grounded: float = 0.3  # of diffusers' pipeline; GLIGEN's paper calls it tau
    prompt: Literal["caption", "things"] = "caption"

    def __post_init__(self) -> None:
        if self.prompt not in ("caption", "things") or not 0 <= self.grounded <= 1:
            raise BadInput(
                "in the table [synth], prompt is caption or things, and grounded lies from 0 to 1. Correct it."
            )


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


def is_added(name: str) -> bool:
    """Whether a weight of a GLIGEN U-Net is one that a plain U-Net has not."""
    return name.startswith("position_net.") or ".fuser." in name or name == PLACE


def widened(unet: Any) -> Any:
    """A GLIGEN U-Net with the weights of a plain one; what is added is new, its gates closed, so it draws the same."""
    from diffusers import UNet2DConditionModel

    config = {name: value for name, value in unet.config.items() if not name.startswith("_")}  # all of it, given
    gated = UNet2DConditionModel.from_config(config | {"attention_type": "gated"})
    missing, unexpected = gated.load_state_dict(unet.state_dict(), strict=False)
    if unexpected or not all(map(is_added, missing)):
        raise ValueError("the U-Net has other parts than a GLIGEN U-Net of its configuration")
    return (gated if gated.dtype == unet.dtype else gated.to(unet.dtype)).to(unet.device)


def save_added(gated: Any, folder: str | Path, plain: Any, drawing: Drawing) -> None:
    """Writes what GLIGEN added to the U-Net `plain`, in float16, and how it is to be drawn with, into a folder for the
    role layout_unet, whole or not at all."""
    from safetensors.torch import save_file

    weights = {name: value for name, value in gated.state_dict().items() if is_added(name)}
    added = {name: value.detach().to(torch.float16).contiguous() for name, value in weights.items()}
    about = {"added_to": fingerprint(plain), **asdict(drawing)}
    with whole_folder(folder) as partial:
        save_file(added, partial / ADDED)
        (partial / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def layout_unet(models: "Models") -> tuple[Any, Drawing]:
    """The GLIGEN U-Net of a model set, and how it is drawn with. Raises BadInput where there is none."""
    from diffusers import UNet2DConditionModel

    given, place = models.model_set.table("synth", Drawing), models.model_set.roles.get("layout_unet", "")
    if not (place and Path(place, ABOUT).is_file()):
        return models.network("layout_unet", UNet2DConditionModel), given
    unet, about = models.load("layout_unet", lambda folder: _with_added(models, Path(folder)))
    own = {name: getattr(given, name) for name in models.model_set.tables.get("synth", {})}
    return unet, Drawing(**{**about, **own})


def _with_added(models: "Models", folder: Path) -> tuple[Any, dict[str, Any]]:
    from safetensors.torch import load_file

    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    plain, added = models.unet, load_file(folder / ADDED)
    if about.pop("added_to") != fingerprint(plain) and models.dtype == torch.float32:
        raise BadInput(f"{folder} was trained on another U-Net than that of {models.model_set.name}. Train it again.")
    gated = placed(widened(plain)) if PLACE in added else widened(plain)
    missing, unexpected = gated.load_state_dict(added, strict=False)
    if unexpected or any(map(is_added, missing)):
        raise BadInput(f"{folder} does not fit the U-Net of {models.model_set.name}. Train it again.")
    return gated.to(models.device).eval().requires_grad_(False), about


def gligen(models: "Models") -> Draw:
    """GLIGEN of a model set: the role layout_unet, and the set's other parts. Raises BadInput where one is missing, or
    where the U-Net has no gated attention to the text encoder's states."""
    return drawer(models, *layout_unet(models))


def drawer(models: "Models", unet: Any, drawing: Drawing) -> Draw:
    """The same with this U-Net in the place of the set's own."""
    net = getattr(unet, "position_net", None)
    width = models.text_encoder.config.hidden_size
    if net is None or getattr(net, "positive_len", None) != width or not hasattr(net, "linears"):
        raise BadInput(
            f"the role layout_unet of {models.model_set.name} is no GLIGEN U-Net of text and boxes for this text "
            f"encoder ({width} wide). Name one in a TOML file."
        )
    settings = models.model_set.settings
    schedule = from_config(models.scheduler_config, settings.steps, settings.sampler)
    prompts = Prompts(models)
    factor = 2 ** (len(models.vae.config.block_out_channels) - 1)
    shape = (int(unet.config.in_channels), settings.size // factor, settings.size // factor)

    def draw(layouts: Sequence[Layout], seeds: Sequence[int]) -> Float[Tensor, "N 3 H W"]:
        noise = torch.stack([noise_of(seed, shape) for seed in seeds]).to(models.device) * schedule.start_scale
        with torch.no_grad():
            objects = grounding(layouts, lambda words: _pooled(models, words))
            free = objects | {"masks": torch.zeros_like(objects["masks"])}
            words = [prompt_of(one, seed, drawing, settings.prompts) for one, seed in zip(layouts, seeds, strict=True)]
            text = prompts(words)
            both = [
                Condition(text=prompts([settings.negative_prompt]), more=grounded(free, schedule, drawing.grounded)),
                Condition(text=text, more=grounded(objects, schedule, drawing.grounded)),
            ]
            scale = settings.guidance_scale
            denoise = mixed(unet, both, [1 - scale, scale]) if scale > 1 else mixed(unet, both[1:], [1.0])
            latents = SAMPLERS[settings.sampler](denoise, noise, schedule)
            return eight_bit(vae.decode(models.vae, latents)).cpu()

    return draw


def prompt_of(layout: Layout, seed: int, drawing: Drawing, settings: Sequence[str] = ()) -> str:
    """What the generator is told beside the boxes. settings: texts with {title}, as a model set has them."""
    if drawing.prompt == "caption" and layout.caption:
        return layout.caption
    things = ", ".join(with_article(thing.text) for thing in layout.things)
    if drawing.prompt == "caption" or not settings:
        return things
    chosen = settings[seed % len(settings)]
    return chosen.replace("an {title}", "{title}").replace("a {title}", "{title}").format(title=things)


def require_counts(tries: int, batch: int) -> None:
    """Raises BadInput for fewer than 1, before a run is begun."""
    if tries < 1 or batch < 1:
        raise BadInput(f"tries is {tries} and batch {batch}. Give 1 or more of each.")


def draw_all(
    draw: Draw,
    layouts: Sequence[Layout],
    out: str | Path,
    *,
    tries: int = 4,
    seed: int = 0,
    batch: int = 8,
    on_picture: OnPicture = lambda layout, number, picture, seconds: None,
) -> int:
    """Draws each layout `tries` times into out/KEY-1.png, KEY-2.png and so on, as `goodeye synth score` takes them.

    Files that are there are left, so a run that was stopped goes on. Each picture has its own seed, by its name and the
    run's. on_picture: called with the layout, the try, its picture and its share of the batch's seconds, before there
    is a file. Returns how many were drawn. Raises BadInput for tries or a batch below 1, and for a key that is no
    file's name.
    """
    require_counts(tries, batch)
    if odd := [one.key for one in layouts if set(one.key) & _NO_NAME or len(one.key.encode()) > LONGEST]:
        raise BadInput(
            f"the layout {odd[0]!r} cannot name a picture file. Give it a key of at most {LONGEST} bytes, without "
            "slashes."
        )
    wanted = [(one, number, Path(out) / f"{one.key}-{number}.png") for one in layouts for number in range(1, tries + 1)]
    left = [one for one in wanted if not one[2].exists()]
    with progress("drawing", len(wanted), "pictures") as advance:
        advance(len(wanted) - len(left))
        for at in range(0, len(left), batch):
            some, began = left[at : at + batch], time.monotonic()
            seeds = [attempt_seed(seed, layout.key, number, 1) for layout, number, _ in some]
            images = draw([layout for layout, _, _ in some], seeds)
            seconds = (time.monotonic() - began) / len(some)
            for image, (layout, number, file) in zip(map(to_pil, images), some, strict=True):
                on_picture(layout, number, image, seconds)
                save_png(image, file)
                advance()
    return len(left)


def _pooled(models: "Models", words: Sequence[str]) -> Float[Tensor, "M D"]:
    """Each text as one vector: the text encoder's pooled output."""
    tokens = models.tokenizer(
        list(words), padding=True, truncation=True, max_length=models.tokenizer.model_max_length, return_tensors="pt"
    )
    pooled: Float[Tensor, "M D"] = models.text_encoder(tokens.input_ids.to(models.text_encoder.device)).pooler_output
    return pooled
