"""DPO on generated pairs: of two pictures of a brief the judge prefers one, and the denoiser learns to (Diffusion-DPO).

Rafailov et al. 2023 for language; Wallace et al. 2023 (arXiv 2311.12908) for diffusion. Winners and losers are made by
the start model before training, and judged once.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from goodeye.ads.adapt import Trained
from goodeye.ads.rollout import Conditions, NoReward, Placed, Reward, Studio
from goodeye.atomic import write_bytes
from goodeye.diffusion.batch import attempt_seed, eight_bit
from goodeye.diffusion.denoiser import guided
from goodeye.diffusion.predict import Latents, add_noise, target
from goodeye.errors import BadInput
from goodeye.progress import track
from goodeye.training.loop import Modules


@dataclass(frozen=True, kw_only=True)
class DPO:
    """Diffusion-DPO on the judge's preferences. beta as in the authors' code, where it multiplies half a mean squared
    error (2000 to 5000 for Stable Diffusion); the rest is ours."""

    beta: float = 2000.0
    each: int = 4  # pictures made of each brief; the best and the worst of them are a pair
    gap: float = 0.1  # p(available) by which the winner leads, at least

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        if self.each < 2:
            raise BadInput(f"each is {self.each}, and a pair is two pictures. Give 2 or more.")
        if self.beta <= 0:
            raise BadInput(f"beta is {self.beta:g}. Give more than 0; the authors use 2000 to 5000.")


@dataclass(frozen=True)
class Pair:
    """Two pictures of the brief with this number, as clean latents [C, h, w], and p(available) of each."""

    brief: int
    winner: Latents
    loser: Latents
    p_winner: float
    p_loser: float


def dpo_loss(
    now_winner: Float[Tensor, "N"],
    now_loser: Float[Tensor, "N"],
    start_winner: Float[Tensor, "N"],
    start_loser: Float[Tensor, "N"],
    beta: float,
) -> Float[Tensor, "N"]:
    """-log sigmoid(-beta / 2 * ((now_w - start_w) - (now_l - start_l))), of mean squared errors of the denoiser.

    Wallace et al. 2023, eq. 14, with beta for their beta * T * weight, as their code has it.
    """
    return -F.logsigmoid(-0.5 * beta * ((now_winner - start_winner) - (now_loser - start_loser)))


@dataclass
class PreferenceStep:
    """The step function of a DPO run: a timestep and a noise for each pair, the same for its winner and its loser."""

    studio: Studio
    trained: Trained
    briefs: Sequence[Placed]
    pairs: Sequence[Pair]
    config: DPO

    def __call__(self, modules: Modules, numbers: Sequence[int], number: int) -> Mapping[str, Tensor]:
        """The loss on the pairs with these numbers; noise and timesteps come from torch's generator."""
        chosen = [self.pairs[one % len(self.pairs)] for one in numbers]
        given = self.studio.conditions([self.briefs[pair.brief] for pair in chosen])
        winners, losers = (torch.stack([getattr(pair, end) for pair in chosen]) for end in ("winner", "loser"))
        clean = torch.cat([winners, losers]).to(given.clean)
        noise = torch.randn(winners.shape).to(clean).repeat(2, 1, 1, 1)
        at = torch.randint(len(self.studio.schedule.alphas_bar), (len(chosen),)).to(clean.device).repeat(2)
        with torch.no_grad(), self.trained.at_start():
            before = self.errors(clean, noise, at, given)
        now = self.errors(clean, noise, at, given, modules)
        (winner, loser), (was_winner, was_loser) = now.chunk(2), before.chunk(2)
        loss = dpo_loss(winner, loser, was_winner, was_loser, self.config.beta).mean()
        preferred = (winner - was_winner < loser - was_loser).float().mean()
        return {"loss": loss, "preferred": preferred, "error": now.mean()}

    def errors(
        self, clean: Latents, noise: Latents, at: Tensor, given: Conditions, networks: Mapping[str, Any] | None = None
    ) -> Float[Tensor, "M"]:
        """The denoiser's mean squared error on each of M = 2N noised latents, with the prompt and without guidance."""
        models, schedule = self.studio.models, self.studio.schedule
        called = {"unet": models.unet, "controlnet": models.controlnet} | dict(networks or {})
        denoise: Any = guided(
            called["unet"],
            given.text.repeat(2, 1, 1),
            controlnet=called["controlnet"],
            control=given.control.repeat(2, 1, 1, 1),
            control_scale=self.studio.settings.control_scale,
        )
        told = at + 1 if schedule.prediction == "flow" else at
        output = denoise(add_noise(clean, noise, at, schedule), told)
        return (output - target(clean, noise, at, schedule)).float().square().flatten(1).mean(1)


def make_pairs(
    studio: Studio,
    reward: Reward,
    briefs: Sequence[Placed],
    folder: Path,
    config: DPO,
    *,
    seed: int,
    batch: int,
    made_by: Mapping[str, Any],
) -> list[Pair]:
    """`config.each` pictures of each brief by the model as it is, judged; the best and the worst of each make a pair.

    made_by: what tells this generator, its settings and the products from others, as JSON has it. Kept below `folder`
    batch by batch, so that a killed run goes on. Raises NoReward where the judge passed all pictures or none, or
    prefers none of a brief clearly; BadInput where the folder holds pairs of something else.
    """
    prompts = [f"{brief.key}: {brief.prompt}" for brief in briefs]
    asked = {"judge": reward.version, "each": config.each, "seed": seed, "batch": batch, "briefs": prompts}
    _claim(folder, {**asked, "made_by": dict(made_by)})
    jobs = [(number, turn) for number in range(len(briefs)) for turn in range(1, config.each + 1)]
    parts = [jobs[at : at + batch] for at in range(0, len(jobs), batch)]
    made: dict[int, list[tuple[float, Latents]]] = {}
    for number, part in enumerate(track(parts, "making pairs", unit="batches")):
        latents, found = _judged(studio, reward, briefs, part, folder / f"{number:06}.safetensors", seed)
        for (brief, _), one, p in zip(part, latents, found.tolist(), strict=True):
            made.setdefault(brief, []).append((p, one))
    pairs = list(_pairs(made, config.gap))
    passed = sum(p >= reward.threshold for tries in made.values() for p, _ in tries)
    if passed in (0, len(jobs)) or not pairs:
        _refuse(passed, len(jobs), config)
    said = {"briefs": len(briefs), "pictures": len(jobs), "passed": passed, "pairs": len(pairs)}
    write_bytes(folder / "pairs.json", (json.dumps(said, indent=1) + "\n").encode())
    return pairs


def _claim(folder: Path, about: Mapping[str, Any]) -> None:
    """Says of a new folder what is made in it; an old one must say the same."""
    path, said = folder / "about.json", (json.dumps(about, indent=1) + "\n").encode()
    if not path.exists():
        write_bytes(path, said)
    elif path.read_bytes() != said:
        raise BadInput(f"{folder} holds pairs made under other settings. Use the old ones, or another folder.")


def _refuse(passed: int, count: int, config: DPO) -> None:
    if passed in (0, count):
        share = "all" if passed else "none"
        raise NoReward(
            f"the judge passed {share} of the {count} pictures, so there is one class and nothing to prefer. Give more "
            "briefs, or a model set whose generator and judge disagree at times; then run in another folder."
        )
    raise NoReward(
        f"in no brief does the best of {config.each} pictures lead by {config.gap:g} in p(available), so there is no "
        "pair. Give more briefs or more pictures each, in another folder."
    )


def _pairs(made: Mapping[int, Sequence[tuple[float, Latents]]], gap: float) -> Iterator[Pair]:
    for brief, tries in made.items():
        (best, winner), (worst, loser) = max(tries, key=lambda one: one[0]), min(tries, key=lambda one: one[0])
        if best - worst >= gap:
            yield Pair(brief, winner, loser, best, worst)


@torch.no_grad()
def _judged(
    studio: Studio, reward: Reward, briefs: Sequence[Placed], part: Sequence[tuple[int, int]], file: Path, seed: int
) -> tuple[Latents, Float[Tensor, "N"]]:
    """Final latents and p(available) of some attempts, from `file` if they are there."""
    if file.is_file():
        try:
            kept = load(file.read_bytes())
            return kept["latents"], kept["available"]
        except (SafetensorError, KeyError) as error:
            raise BadInput(f"{file} is damaged. Delete it to make its pictures again.") from error
    given = studio.conditions([briefs[number] for number, _ in part])
    seeds = [attempt_seed(seed, f"pairs/{briefs[number].key}", 1, turn) for number, turn in part]
    end = len(studio.schedule)
    latents = studio.roll_out(given, seeds, [end])[end]
    logits = reward.logits(eight_bit(studio.picture(latents, given)), given.contexts)
    if not bool(logits.isfinite().all()):
        raise NoReward(f"the judge gave no number for a picture of pairs {file.stem}. Mend the judge, then --resume.")
    found = {"latents": latents.cpu().contiguous(), "available": logits.softmax(-1)[:, 0].float().cpu().contiguous()}
    write_bytes(file, save(found))
    return found["latents"], found["available"]


def batches_of(pairs: Sequence[Pair], size: int) -> int:
    """How many items to shuffle so that a batch of `size` is never short: the pairs, as often as it takes."""
    return len(pairs) * next(times for times in itertools.count(1) if times * len(pairs) >= size)
