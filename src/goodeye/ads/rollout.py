"""From noise to a picture that a reward is read of, with gradient at one step only (ads paper, section 3.3).

A rollout runs the sampler without gradient and keeps the latents before the steps that are asked for. At such a step
gradient begins: both branches of guidance in one call, x0_hat, VAE, the product pasted, the judge. What comes earlier
has no graph, so a step's memory does not grow with the sampler's steps.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.ads.canvas import Canvas, compose
from goodeye.ads.generate import GREY, latent_mask
from goodeye.diffusion import vae
from goodeye.diffusion.batch import Prompts, noise_of
from goodeye.diffusion.denoiser import Condition, branches, guided, mix
from goodeye.diffusion.inpaint import blend
from goodeye.diffusion.predict import Latents, predict_x0, to_epsilon
from goodeye.diffusion.samplers import SAMPLERS, chain
from goodeye.diffusion.schedule import Schedule, Step, from_config
from goodeye.judging.protocol import Context, Images

if TYPE_CHECKING:
    from goodeye.modelset import Models, Settings

LATENTS_HELD = 4096  # product latents kept at once: 256 MB at 64x64


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A brief made ready: the product on its canvas, its title, and the prompt. `key` is its own among the briefs."""

    key: str
    canvas: Canvas
    title: str
    prompt: str

    @property
    def context(self) -> Context:
        """What judges get to know."""
        return Context(product=self.canvas.product, title=self.title, prompt=self.prompt)


class Reward(Protocol):
    """The judge that is trained against, as RFNetJudge is: logits of classes, of which the first is "available"."""

    differentiable: bool
    threshold: float

    @property
    def version(self) -> str:
        """Changes whenever the same picture could get other logits."""

    def logits(self, images: Images, contexts: Sequence[Context]) -> Float[Tensor, "N classes"]:
        """images: [N, 3, H, W] in [0, 1]; gradient reaches them."""


@dataclass(frozen=True)
class Conditions:
    """What belongs to N pictures at the denoiser: product [N, 4, S, S] straight-alpha RGBA; clean [N, C, h, w], the
    product's latents; mask [N, 1, h, w], 1 where they are kept; control [N, 3, S, S]; text [N, L, D]; negative
    [1, L, D]."""

    product: Float[Tensor, "N 4 S S"]
    clean: Latents
    mask: Float[Tensor, "N 1 h w"]
    control: Float[Tensor, "N 3 S S"]
    text: Float[Tensor, "N L D"]
    negative: Float[Tensor, "1 L D"]
    contexts: tuple[Context, ...]


@dataclass(frozen=True)
class Prediction:
    """What the networks say at one step: x0 after guidance, and the noise [N, C, h, w] by each branch of guidance.

    Without guidance `negative` is None and `text` is all there is.
    """

    x0: Latents
    text: Latents
    negative: Latents | None


class Studio:
    """The frozen models at work for a training: schedule, cached conditions, rollouts, predictions.

    Text states and product latents are worked out once for each brief, and each alone: a resumed run then finds the
    same bits in whatever order it asks.
    """

    def __init__(self, models: "Models", settings: "Settings") -> None:
        self.models, self.settings = models, settings
        self.schedule: Schedule = from_config(models.scheduler_config, settings.steps, settings.sampler)
        self.embed = Prompts(models)
        self.held: OrderedDict[str, tuple[Latents, Tensor]] = OrderedDict()

    @torch.no_grad()
    def conditions(self, briefs: Sequence[Placed]) -> Conditions:
        """The conditions of these briefs, in float32 whatever the precision of the training step."""
        device = self.models.unet.device
        with torch.autocast(device.type, enabled=False):
            latents = [self._latents(brief) for brief in briefs]
            return Conditions(
                product=torch.stack([brief.canvas.product for brief in briefs]).to(device),
                clean=torch.cat([clean for clean, _ in latents]),
                mask=torch.cat([mask for _, mask in latents]),
                control=torch.stack([brief.canvas.control for brief in briefs]).to(device),
                text=torch.cat([self.embed([brief.prompt]) for brief in briefs]),
                negative=self.embed([self.settings.negative_prompt]),
                contexts=tuple(brief.context for brief in briefs),
            )

    def _latents(self, brief: Placed) -> tuple[Latents, Tensor]:
        if brief.key not in self.held:
            product = brief.canvas.product[None].to(self.models.unet.device)
            clean = vae.encode(self.models.vae, compose(product, GREY))
            mask = latent_mask(brief.canvas.mask[None], clean.shape[-1]).to(clean)
            self.held[brief.key] = clean, mask
            if len(self.held) > LATENTS_HELD:
                self.held.popitem(last=False)
        return self.held[brief.key]

    @torch.no_grad()
    def roll_out(self, given: Conditions, seeds: Sequence[int], wanted: Sequence[int]) -> dict[int, Latents]:
        """The latents before the steps with the indices `wanted`, and after the last step at len(schedule).

        One run of the sampler with the product blended in after each step, no further than it must. No gradient.
        """
        noise = torch.stack([noise_of(seed, given.clean.shape[1:]) for seed in seeds]).to(given.clean)
        start = noise * self.schedule.start_scale
        kept = {0: start} if 0 in wanted else {}

        def record(latents: Latents, step: Step, x0: Latents) -> Latents:
            if step.index + 1 in wanted:
                kept[step.index + 1] = latents
            return latents

        denoise = guided(
            self.models.unet,
            given.text,
            given.negative,
            guidance_scale=self.settings.guidance_scale,
            controlnet=self.models.controlnet,
            control=given.control,
            control_scale=self.settings.control_scale,
        )
        hook = chain(blend(given.mask, given.clean, noise, self.schedule), record)
        SAMPLERS[self.settings.sampler](denoise, start, self.schedule.head(max(wanted)), after_step=hook)
        return kept

    def predict(
        self, latents: Latents, step: Step, given: Conditions, networks: Mapping[str, Any] | None = None
    ) -> Prediction:
        """x0_hat and both branches' noise at one step (ads paper, section 3.3), with gradient to what is trained.

        networks: the U-Net or ControlNet to call instead of the model set's, by role (as wrapped for several
        processes).
        """
        called = {"unet": self.models.unet, "controlnet": self.models.controlnet} | dict(networks or {})
        control = {
            "controlnet": called["controlnet"],
            "control": given.control,
            "control_scale": self.settings.control_scale,
        }
        scale = self.settings.guidance_scale
        if scale <= 1:
            output = guided(called["unet"], given.text, **control)(latents, step.t)
            noise = to_epsilon(latents, output, step, self.schedule)
            return Prediction(predict_x0(latents, output, step, self.schedule), noise, None)
        both = [Condition(text=given.negative), Condition(text=given.text)]
        without, with_text = branches(called["unet"], both, **control)(latents, step.t)
        output = mix((without, with_text), (1 - scale, scale))
        return Prediction(
            predict_x0(latents, output, step, self.schedule),
            to_epsilon(latents, with_text, step, self.schedule),
            to_epsilon(latents, without, step, self.schedule),
        )

    def picture(self, x0: Latents, given: Conditions, which: slice = slice(None)) -> Images:
        """[n, 3, S, S] in [0, 1]: clean latents decoded as a sampler's last step would leave them (product latents
        put back, ads paper eq 2), and the product pasted. Differentiable; no gradient where a pixel is saturated."""
        mask, clean = given.mask[which], given.clean[which]
        decoded = vae.decode(self.models.vae, (1 - mask) * x0 + mask * clean, clamp=True)
        return compose(given.product[which], decoded)

    def logits(
        self, reward: Reward, x0: Latents, given: Conditions, which: slice = slice(None)
    ) -> Float[Tensor, "n classes"]:
        """The judge's logits of those pictures, with gradient to x0. Raises NoReward where they are not numbers."""
        found = reward.logits(self.picture(x0, given, which), given.contexts[which])
        if not bool(found.detach().isfinite().all()):
            bad = int((~found.detach().isfinite()).any(1).nonzero()[0])
            title = given.contexts[which][bad].title or "without a title"
            raise NoReward(
                f"the judge gave no number for a picture of the product {title!r}. Nothing of this step was kept: go "
                "on with --resume once the judge is mended, or with a lower learning rate in another folder."
            )
        return found


class NoReward(RuntimeError):
    """The reward says nothing that could be learnt from: not a number, or the same for everything."""


def drawn_steps(count: int, last: int, wanted: int, seed: int) -> list[int]:
    """`wanted` indices out of the last `last` of `count` steps in random order; none twice before all had a turn."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < wanted:
        order += (count - last + torch.randperm(last, generator=generator)).tolist()
    return order[:wanted]


def by_part(score: Callable[[Latents, slice], Float[Tensor, "n"]], x0: Latents, size: int) -> Float[Tensor, "N"]:
    """score(x0[part], part) over parts of at most `size` pictures, as one differentiable call.

    A part's gradient is taken as soon as its score is known, so VAE and judge never hold the activations of more than
    one part, and none while the denoiser's gradient is taken. Right for scores of each picture alone.
    """
    result: Tensor = _ByPart.apply(x0, score, size)
    return result


class _ByPart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x0: Tensor, score: Callable[[Tensor, slice], Tensor], size: int) -> Tensor:
        scores, slopes = [], []
        for at in range(0, len(x0), size):
            with torch.enable_grad():
                part = x0[at : at + size].detach().requires_grad_()
                found = score(part, slice(at, at + size))
                slopes.append(torch.autograd.grad(found.sum(), part)[0])
            scores.append(found.detach())
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(scores)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return upstream[0].view(-1, *[1] * (slopes.ndim - 1)) * slopes, None, None
