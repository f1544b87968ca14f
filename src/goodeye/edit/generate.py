"""A picture edited by an instruction: three-way guidance in one batch, steered by rewards where the editor has them.

    eps = e(none, none, R) + s_I [e(none, I, R) - e(none, none, R)] + s_T [e(T, I, R) - e(none, I, R)]

(Brooks et al. 2023, eq. 3; the edit paper puts the same rewards R into all three.) 30 Euler-ancestral steps, s_I 1.5,
s_T 7.5. Each picture has its own seed and noise, so it comes out the same in whatever batch it is made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from goodeye.diffusion import vae
from goodeye.diffusion.batch import Prompts, eight_bit, noise_of, step_noise
from goodeye.diffusion.denoiser import Condition, TextStates, mixed
from goodeye.diffusion.predict import Latents
from goodeye.diffusion.samplers import euler_ancestral
from goodeye.diffusion.schedule import from_config
from goodeye.edit.adapter import editor_unet
from goodeye.edit.module import Rewarded, RewardModule
from goodeye.edit.rewards import BEST, feedback_text
from goodeye.edit.triplets import check_instruction, opaque
from goodeye.errors import BadInput
from goodeye.images import to_pil, to_tensor
from goodeye.judging.protocol import fingerprint

if TYPE_CHECKING:
    from goodeye.modelset import Models, ModelSet


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table [edit] of a model set; defaults are the paper's. size: pixels of the longer side to work at."""

    size: int = 512
    steps: int = 30
    text_guidance: float = 7.5  # s_T
    image_guidance: float = 1.5  # s_I

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        if not (math.isfinite(self.text_guidance) and math.isfinite(self.image_guidance)):
            weights = f"{self.text_guidance:g} and {self.image_guidance:g}"
            raise BadInput(f"the weights of instruction and picture are {weights}. Give numbers, as 7.5 and 1.5.")
        if self.size < 16 or not 1 <= self.steps <= 1000:
            raise BadInput(f"size is {self.size} and steps {self.steps}. Give 16 or more, and 1 to 1000.")


def for_editing(models: "Models") -> "Models":
    """The set as its editor reads it: by the roles editor_tokenizer and editor_text_encoder, where it names them."""
    from goodeye.modelset import Models

    model_set = models.model_set
    own = {role: model_set.roles.get(f"editor_{role}") for role in ("tokenizer", "text_encoder")}
    changed = {role: place for role, place in own.items() if place and place != model_set.roles.get(role)}
    if not changed:
        return models
    return Models(replace(model_set, roles=model_set.roles | changed), models.device, models.dtype)


def settings_of(model_set: "ModelSet") -> Settings:
    """The set's own; the size of its pictures, if the table [edit] does not say another."""
    found = model_set.table("edit", Settings)
    return found if "size" in model_set.tables.get("edit", {}) else replace(found, size=model_set.settings.size)


class Conditioner(Protocol):
    """What makes an editor's text condition."""

    def __call__(self, instructions: Sequence[str], pictures: Float[Tensor, "N 3 H W"]) -> TextStates:
        """The condition tokens of each instruction, to its original picture in [0, 1]: [N, L, D]."""

    def nothing(self) -> TextStates:
        """Those of no instruction: [1, L, D]."""


@dataclass
class TextCondition:
    """The states of a CLIP-style text encoder, as InstructPix2Pix has them. Raises BadInput for what it cannot read."""

    models: "Models"

    def __post_init__(self) -> None:
        self.prompts = Prompts(self.models)

    def __call__(self, instructions: Sequence[str], pictures: Float[Tensor, "N 3 H W"]) -> TextStates:
        self.check(instructions)
        return self.prompts(instructions)

    def check(self, instructions: Sequence[str]) -> None:
        """Raises BadInput for an instruction that the text encoder cannot read whole."""
        tokenizer = self.models.tokenizer
        for text in dict.fromkeys(instructions):
            count = len(tokenizer(text, verbose=False).input_ids)  # which would warn of what is refused here
            if count > tokenizer.model_max_length:
                most = tokenizer.model_max_length
                raise BadInput(f"the instruction has {count} tokens and the model reads {most}. Say it shorter.")

    def nothing(self) -> TextStates:
        return self.prompts([""])


@dataclass
class Editor:
    """An editor ready to use. unet: a diffusers U-Net for latents of picture and noise, or one that is `Rewarded`."""

    unet: Any
    vae: Any
    scheduler_config: dict[str, Any]
    condition: Conditioner
    models: "Models"  # whose text encoder reads failure texts

    @property
    def rewarded(self) -> bool:
        """Whether rewards steer it."""
        return isinstance(self.unet, Rewarded)

    @property
    def version(self) -> str:
        """Changes with the weights of any part that makes its pictures, wherever they lie."""
        unets = (self.unet.unet, self.unet.module) if self.rewarded else (self.unet,)
        reads = self.rewarded or isinstance(self.condition, TextCondition)
        return fingerprint(*unets, self.vae, *((self.models.text_encoder,) if reads else ()))

    @property
    def multiple(self) -> int:
        """Pixels that a picture's sides are a multiple of."""
        return multiple_of(self.unet, self.vae)


def multiple_of(unet: Any, vae: Any) -> int:
    """Pixels that a picture's sides are a multiple of: each level but the last halves them."""
    return 2 ** sum(len(part.config.block_out_channels) - 1 for part in (unet, vae))


def load_editor(models: "Models", condition: Conditioner | None = None, *, rewards: bool | None = None) -> Editor:
    """The editor of a model set: its roles editor, vae and scheduler, text encoder and tokenizer, and rewards.

    condition: what makes the text condition, if not the text encoder (see `goodeye.edit.smartedit`). rewards: with or
    without the reward module; None: with it if the set has one. Raises BadInput where a role is missing or unfit.
    """
    models = for_editing(models)
    unet = editor_unet(models)
    channels = models.vae.config.latent_channels
    if unet.config.in_channels != 2 * channels:
        raise BadInput(
            f"the role editor of {models.model_set.name} takes {unet.config.in_channels} channels, and an editor takes "
            f"{2 * channels}: noisy latents and the picture's. Name an InstructPix2Pix U-Net."
        )
    if rewards or (rewards is None and "rewards" in models.model_set.roles):
        unet = Rewarded(unet, models.network("rewards", RewardModule))
    return Editor(unet, models.vae, models.scheduler_config, condition or TextCondition(models), models)


def pooled(models: "Models", texts: Sequence[str]) -> Float[Tensor, "N D"]:
    """The text encoder's pooled output, what the reward module gets of failure texts; too long ones are cut."""
    with torch.no_grad():
        found: Tensor = models.text_encoder(token_ids(models, texts)).pooler_output
    return found


def token_ids(models: "Models", texts: Sequence[str]) -> Int[Tensor, "N L"]:
    """Numbers of the texts' tokens on the text encoder's device, padded and cut to the tokenizer's length."""
    tokenizer = models.tokenizer
    length = tokenizer.model_max_length
    tokens = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ids: Tensor = tokens.input_ids.to(models.text_encoder.device)
    return ids


def picture_latents(network: Any, pictures: Float[Tensor, "N 3 H W"]) -> Latents:
    """What stands beside the noisy latents: the posterior's mean, not scaled, as InstructPix2Pix has it."""
    return vae.encode(network, pictures) / network.config.scaling_factor


@torch.no_grad()
def edit(
    editor: Editor,
    pictures: Float[Tensor, "N 3 H W"],
    instructions: Sequence[str],
    seeds: Sequence[int],
    *,
    rewards: Sequence[float] = BEST,
    failures: Sequence[str] = ("", "", ""),
    settings: Settings | None = None,
) -> Float[Tensor, "N 3 H W"]:
    """One edited picture in [0, 1] for each picture, instruction and seed, on the CPU.

    H and W are multiples of editor.multiple (`fitted`). rewards, failures: for an editor with a reward module, the same
    words as in training.
    """
    settings = settings or Settings()
    device = editor.vae.device
    pictures = pictures.to(device)
    joined = picture_latents(editor.vae, pictures)
    schedule = from_config(editor.scheduler_config, settings.steps, "euler")
    start = torch.stack([noise_of(seed, joined.shape[1:]) for seed in seeds]).to(joined)
    more = _rewards(editor, rewards, failures)
    said, nothing = editor.condition(instructions, pictures), editor.condition.nothing()
    conditions = [
        Condition(text=nothing, joined=torch.zeros_like(joined[:1]), more=more),
        Condition(text=nothing, joined=joined, more=more),
        Condition(text=said, joined=joined, more=more),
    ]
    s_text, s_image = settings.text_guidance, settings.image_guidance
    denoise = mixed(editor.unet, conditions, (1 - s_image, s_image - s_text, s_text))
    latents = euler_ancestral(denoise, start * schedule.start_scale, schedule, noise=step_noise(seeds, start))
    return eight_bit(vae.decode(editor.vae, latents, clamp=True)).cpu()


def _rewards(editor: Editor, rewards: Sequence[float], failures: Sequence[str]) -> Any:
    if not editor.rewarded:
        return None
    given = {
        "rewards": torch.tensor([list(rewards)], device=editor.vae.device),
        "feedback": pooled(editor.models, [feedback_text(failures)]),
    }
    return lambda t: given


def edit_images(
    editor: Editor,
    image: Image.Image,
    instruction: str,
    seeds: Sequence[int],
    *,
    rewards: Sequence[float] = BEST,
    failures: Sequence[str] = ("", "", ""),
    settings: Settings | None = None,
    batch: int = 4,
) -> list[Image.Image]:
    """The picture edited once for each seed, of its own size. What is transparent is white. Raises BadInput for an
    instruction that is empty or that the model cannot read whole."""
    settings = settings or Settings()
    instruction, original = check_instruction(instruction), opaque(image)
    picture = to_tensor(
        original.resize(fitted(original.size, settings.size, editor.multiple), Image.Resampling.LANCZOS)
    )
    made: list[Image.Image] = []
    for first in range(0, len(seeds), batch):
        some = seeds[first : first + batch]
        tensors = edit(
            editor,
            picture.expand(len(some), -1, -1, -1),
            [instruction] * len(some),
            some,
            rewards=rewards,
            failures=failures,
            settings=settings,
        )
        made += [to_pil(one).resize(original.size, Image.Resampling.LANCZOS) for one in tensors]
    return made


def require_readable(editor: Editor, instruction: str) -> None:
    """Raises BadInput for an instruction that the editor's text encoder, where it has one, cannot read whole."""
    if isinstance(editor.condition, TextCondition):
        editor.condition.check([instruction])


def fitted(size: tuple[int, int], longer: int, multiple: int) -> tuple[int, int]:
    """Width and height to work in: the longer side about `longer`, both multiples of `multiple`."""
    scale = longer / max(size)
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return width, height
