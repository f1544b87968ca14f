"""Reward feedback fine-tuning: losses, regularisers and the training step (ads paper, section 3.3; ReFL beside it)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from goodeye.ads.adapt import Trained
from goodeye.ads.rollout import Conditions, NoReward, Placed, Prediction, Reward, Studio, by_part, drawn_steps
from goodeye.ads.settings import Regulariser
from goodeye.diffusion.batch import attempt_seed
from goodeye.diffusion.predict import Latents
from goodeye.diffusion.schedule import Step
from goodeye.errors import BadInput
from goodeye.training.loop import Modules

Logits = Float[Tensor, "N classes"]
PerPicture = Float[Tensor, "N"]

AVAILABLE = 0  # the class, first of RFNet's
SURE = 0.01  # mean p(available) within which of 1 or 0 the reward has vanished; ours


@dataclass(frozen=True, kw_only=True)
class RFFT:
    """How a reward reaches the weights (ads paper, section 3.3). Where no source stands beside it, ours."""

    method: Literal["rfft", "refl"] = "rfft"  # which loss the reward becomes: F_AC, or ReFL's hinge
    last: int | None = None  # gradient begins at one of these last steps; None: a quarter of them (paper: 10 of 40)
    regulariser: Regulariser = "cc"
    cc: Literal["norm", "squared"] = "norm"  # the paper's formula, or its author's code
    beta: float = 0.02  # weight of the regulariser; not published
    margin: float = 2.0  # of ReFL's hinge (Xu et al. 2023), on log-odds of available
    reuse: int = 1  # gradient steps that a rollout's latents serve
    part: int = 4  # pictures decoded and judged at once
    checkpoint: bool = True  # the VAE's activations are made again when its gradient is taken

    def check(self, steps: int, guidance_scale: float) -> None:
        """Raises BadInput for numbers that make no sense with a sampler of so many steps."""
        for name in ("reuse", "part"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if self.beta < 0:
            raise BadInput(f"beta is {self.beta:g}. Give 0 or more.")
        if self.last is not None and not 1 <= self.last <= steps:
            raise BadInput(f"last is {self.last}, and the sampler has {steps} steps. Give 1 to {steps}.")
        if self.regulariser == "cc" and guidance_scale <= 1:
            raise BadInput(
                f"the regulariser cc compares the branches of guidance, and guidance_scale is {guidance_scale:g}. "
                "Use kl, or a model set with guidance_scale above 1."
            )

    def last_of(self, steps: int) -> int:
        """How many of the last steps are drawn from."""
        return max(1, round(steps / 4)) if self.last is None else self.last


def availability(logits: Logits) -> PerPicture:
    """F_AC of each picture, -log p(available); its mean is the paper's -(1/N) sum of y_d log(o_i), y_d one-hot."""
    return -logits.log_softmax(-1)[:, AVAILABLE]


def refl(logits: Logits, margin: float) -> PerPicture:
    """ReFL's loss of each picture, max(0, margin - r) (Xu et al. 2023, ImageReward, algorithm 1 and its code).

    The reward r is the log-odds of available, whose scale is like ImageReward's; ours. Its pre-training term is left
    out: that needs the pictures on which the base model was trained.
    """
    others = logits[:, AVAILABLE + 1 :].logsumexp(-1)
    return F.relu(margin - (logits[:, AVAILABLE] - others))


def consistent_condition(now: Prediction, start: Prediction, sigma: float, form: str = "norm") -> PerPicture:
    """L_CC of each picture: how far the direction of guidance has turned from the start model's (ads paper, 3.3).

    direction = -(eps(x_t, z, c) - eps(x_t, c)) / sqrt(1 - alpha_bar_t), sigma is that root.
    norm (the default: what the paper states): ||direction - direction_start||_2 over a picture's latents. Its pull
    does not fade near the start, so small changes are held back most.
    squared (the author's code): ||(eps_text - eps_negative) - (same of the start)||_2^2, without the factor. Its pull
    grows with the distance, and is nothing at the start.
    """
    if now.negative is None or start.negative is None:
        raise ValueError("consistent condition needs both branches of guidance")
    turned = ((now.text - now.negative) - (start.text - start.negative)).flatten(1)
    return torch.linalg.vector_norm(turned / sigma, dim=1) if form == "norm" else turned.square().sum(1)


def kl(now: Prediction, start: Prediction, step: Step) -> PerPicture:
    """KL divergence of each picture between N(alpha x0_hat, sigma^2) of now and of the start: a weighted squared error.

    = alpha^2 / (2 sigma^2) * ||x0_hat - x0_hat_start||^2, at the noise level that the step starts from (the paper says
    only "KL"; Gaussians of equal variance at this level are ours).
    """
    weight = step.alpha**2 / (2 * step.sigma**2)
    return weight * (now.x0 - start.x0).flatten(1).square().sum(1)


@dataclass(frozen=True)
class Draw:
    """What a gradient step works on: briefs with their seeds, and at which index of the schedule gradient begins.

    rollout: which rollout it belongs to; slot: its place among the batches of an optimizer step. indices: of all
    gradient steps that this rollout serves, in order; turn: which of them this is.
    """

    rollout: int
    slot: int
    turn: int
    briefs: tuple[int, ...]
    seeds: tuple[int, ...]
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Draws:
    """The index-th batch of a run, as a function: so that it goes on anywhere.

    The steps number * reuse ... number * reuse + reuse - 1 of a slot share a rollout: the same briefs and seeds. slots:
    batches of an optimizer step over all processes. Briefs come by `order`, the batches of a data set.
    """

    keys: Sequence[str]
    order: Callable[[int], list[int]]  # numbers beyond the keys wrap around
    steps: int
    last: int
    reuse: int
    slots: int
    seed: int

    def __call__(self, index: int) -> Draw:
        number, slot = divmod(index, self.slots)
        rollout, turn = divmod(number, self.reuse)
        place = rollout * self.slots + slot
        briefs = tuple(one % len(self.keys) for one in self.order(place))
        seeds = tuple(
            attempt_seed(self.seed, f"align/{self.keys[one]}", place + 1, number)
            for number, one in enumerate(briefs, start=1)
        )
        indices = drawn_steps(self.steps, self.last, self.reuse, attempt_seed(self.seed, "align/steps", place + 1, 1))
        return Draw(rollout, slot, turn, briefs, seeds, tuple(indices))


@dataclass
class RewardStep:
    """The step function of a run: gradient of reward and regulariser at one step of a rollout.

    A rollout is made when its first gradient step is due, with the weights of that moment, and its latents serve
    `config.reuse` of them; so a run must go on where a rollout begins.
    """

    studio: Studio
    reward: Reward
    trained: Trained
    briefs: Sequence[Placed]
    config: RFFT
    held: dict[int, tuple[int, Conditions, dict[int, Latents]]] = field(default_factory=dict)
    rollouts: int = 0  # made so far

    def __post_init__(self) -> None:
        if self.config.checkpoint:
            self.studio.models.vae.enable_gradient_checkpointing()

    def __call__(self, modules: Modules, draw: Draw, number: int) -> Mapping[str, Tensor]:
        """The loss, and what it is made of. Raises NoReward where the judge gives no number."""
        given, begun = self._rolled(draw)
        index = draw.indices[draw.turn]
        return self.losses(begun[index], self.studio.schedule.steps[index], given, modules)

    def _rolled(self, draw: Draw) -> tuple[Conditions, dict[int, Latents]]:
        if draw.slot not in self.held or self.held[draw.slot][0] != draw.rollout:
            self.held.pop(draw.slot, None)
            given = self.studio.conditions([self.briefs[number] for number in draw.briefs])
            latents = self.studio.roll_out(given, draw.seeds, draw.indices)
            self.held[draw.slot] = draw.rollout, given, latents
            self.rollouts += 1
        return self.held[draw.slot][1:]

    def losses(
        self, latents: Latents, step: Step, given: Conditions, networks: Mapping[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """F_total = F_reward + beta * L_regulariser, means over the batch, where gradient begins at `step`."""
        config = self.config
        before = None
        if config.regulariser != "none":
            with torch.no_grad(), self.trained.at_start():  # before there is a graph that the swap could spoil
                before = self.studio.predict(latents, step, given)
        now = self.studio.predict(latents, step, given, networks)
        available: list[Tensor] = []

        def score(x0: Latents, which: slice) -> PerPicture:
            logits = self.studio.logits(self.reward, x0, given, which)
            available.append(logits.detach().softmax(-1)[:, AVAILABLE])
            return availability(logits) if config.method == "rfft" else refl(logits, config.margin)

        reward = by_part(score, now.x0, config.part).mean()
        p = torch.cat(available)
        found = {"reward_loss": reward, "available": p.mean(), "passed": (p >= self.reward.threshold).float().mean()}
        if before is None:
            return {"loss": reward, **found}
        kept = self._regulariser(now, before, step).mean()
        return {"loss": reward + config.beta * kept, **found, config.regulariser: kept}

    def _regulariser(self, now: Prediction, before: Prediction, step: Step) -> PerPicture:
        if self.config.regulariser == "cc":
            return consistent_condition(now, before, step.sigma, self.config.cc)
        return kl(now, before, step)


class Vanished(NoReward):
    """Every picture of a whole window passed for sure, or none did. all_passed: which of the two."""

    def __init__(self, message: str, all_passed: bool) -> None:
        super().__init__(message)
        self.all_passed = all_passed


def require_reward(rows: Sequence[Mapping[str, float]], number: int, window: int, pictures: int) -> None:
    """Raises Vanished where in the `window` steps before step `number` all pictures passed, or none, and the judge was
    so sure of it that nothing can be learnt (mean p(available) within SURE of 1, or of 0).

    rows: those of metrics.jsonl. pictures: judged in one step.
    """
    seen = [row for row in rows if "passed" in row and number - window < row["step"] <= number]
    if not seen:
        return
    shares, p = [row["passed"] for row in seen], sum(row["available"] for row in seen) / len(seen)
    which = f"of the {window * pictures} pictures of steps {number - window + 1} to {number} (mean p {p:.3f})"
    if min(shares) == 1.0 and p > 1 - SURE:
        raise Vanished(f"the judge passed every one {which}: it has nothing left to teach. The run ends here.", True)
    if max(shares) == 0.0 and p < SURE:
        raise Vanished(
            f"the judge passed none {which}, so it cannot tell better from worse here. Look at samples/: if they are "
            "fine, the judge does not know this generator's pictures (`goodeye ads train-judge`). --resume goes on for "
            "as many steps.",
            False,
        )
