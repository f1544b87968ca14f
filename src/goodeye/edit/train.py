"""`goodeye edit train`: an editor from a text-to-image model (stage 1), and rewards as its condition (stage 2).

Stage 1 is InstructPix2Pix (Brooks et al. 2023): four more channels for the picture, which begin at zero. Stage 2 (edit
paper) adds the reward module and trains the whole U-Net with it; the loss stays the plain error of the predicted noise.
VAE and text encoder are frozen. A run folder holds config.json, metrics.jsonl, checkpoints/, editor/, with stage 2
rewards/, and editor.toml, a model set with what was trained.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goodeye.atomic import write_bytes
from goodeye.diffusion import vae
from goodeye.diffusion.predict import add_noise, target
from goodeye.diffusion.schedule import from_config
from goodeye.edit.generate import Conditioner, TextCondition, picture_latents, pooled
from goodeye.edit.module import Rewarded, RewardModule
from goodeye.edit.pairs import Given, Pairs, with_rewards
from goodeye.edit.triplets import Triplet, usable
from goodeye.errors import BadInput
from goodeye.judging.tables import Skipped
from goodeye.random_set import as_toml
from goodeye.training.loop import Loop, Modules, fit

if TYPE_CHECKING:
    from goodeye.modelset import Models

SWITCHES = ("use_scores", "use_text", "inject_a", "inject_b", "type_embedding")
LOOPED = ("steps", "lr", "accumulate", "ema", "precision", "seed", "evaluate_every")  # the loop tells these


@dataclass(frozen=True, kw_only=True)
class Train:
    """What is trained, and how. Defaults are the paper's where P stands beside them, else ours."""

    stage: Literal[1, 2] = 2
    given: Given | Literal["none"] = "rewards"  # "none": stage 2 without rewards; the others are controls, too
    best: float = 1.0  # share of the triplets kept, by their mean score
    use_scores: bool = True
    use_text: bool = True
    inject_a: bool = True
    inject_b: bool = True
    type_embedding: bool = False
    size: int = 256  # pixels (P)
    batch: int = 4  # P
    accumulate: int = 4  # P
    steps: int | None = None  # P: 15,000 in stage 1, 10,000 in stage 2
    lr: float | None = None  # P: 1e-4 in stage 1, 5e-5 in stage 2
    drop: float = 0.05  # P: of each: text alone, text and picture, picture alone
    drop_rewards: float = 0.0  # so that rewards can be guided by, too
    flip: bool = True  # P
    zoom: float = 1.0
    ema: float = 0.999
    held: int = 32  # triplets that the loss is watched on, a tenth of all at most
    evaluate_every: int = 500
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        for name in ("size", "batch", "accumulate", "evaluate_every"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if not 0 <= self.drop <= 1 / 3 or not 0 <= self.drop_rewards < 1:
            raise BadInput(f"drop is {self.drop:g} and drop_rewards {self.drop_rewards:g}. Give 0 to 1/3, and 0 to 1.")
        if not 0 < self.best <= 1 or self.zoom < 1 or not 0 < self.ema < 1:
            raise BadInput("best is a share above 0, zoom 1 or more, ema between 0 and 1. Correct them.")
        if not (self.use_scores or self.use_text) or not (self.inject_a or self.inject_b):
            raise BadInput("without scores and text, or without injections A and B, nothing is left. Keep one of each.")

    @property
    def rewarded(self) -> bool:
        """Whether there is a reward module."""
        return self.stage == 2 and self.given != "none"

    def loop(self) -> Loop:
        """The training loop of such a run."""
        steps = self.steps if self.steps is not None else 15_000 if self.stage == 1 else 10_000
        return Loop(
            steps=steps,
            lr=self.lr if self.lr is not None else 1e-4 if self.stage == 1 else 5e-5,
            weight_decay=1e-2,  # P
            clip=1.0,
            accumulate=self.accumulate,
            ema=self.ema,
            precision=self.precision,
            seed=self.seed,
            log_every=min(10, steps),
            ahead=2,
            evaluate_every=min(self.evaluate_every, steps),
        )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of it. models: the TOML file of a model set with it. left_out: triplets without three rewards."""

    out: Path
    models: Path
    triplets: int
    left_out: int
    skipped: list[Skipped]
    steps: int
    seconds: float
    last: dict[str, float]

    def summary(self) -> str:
        """What a terminal shows."""
        lines = [f"{self.steps} steps on {self.triplets} triplets in {self.seconds:.0f} s"]
        lines += [f"{self.left_out} triplets have not three rewards and were left out"] * bool(self.left_out)
        lines += [
            f"{name.replace('_', ' ')}: {self.last[name]:.4f}" for name in ("loss", "held_loss") if name in self.last
        ]
        return "\n".join([*lines, f"model set: {self.models}"])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        plain = {"out": str(self.out), "models": str(self.models), "skipped": [vars(one) for one in self.skipped]}
        return {**vars(self), **plain}


def train(
    triplets: Iterable[Triplet | Skipped],
    models: "Models",
    out: str | Path,
    *,
    config: Train | None = None,
    condition: Conditioner | None = None,
    resume: bool = False,
    cpu: bool = False,
) -> Trained:
    """Trains the set's unet (stage 1) or editor (stage 2) in place and saves it.

    condition: what makes the text condition, if not the set's text encoder. Raises BadInput where there are too few
    triplets or a role is missing; Diverged where the loss is not finite.
    """
    config, out = config or Train(), Path(out)
    config.check()
    skipped: list[Skipped] = []
    found = list(usable(triplets, skipped))
    rewarded = config.stage == 2 and (config.rewarded or config.best < 1 or any(one.rewards for one in found))
    given: Given = "rewards" if config.given == "none" else config.given
    kept = with_rewards(found, given, config.best, config.seed) if rewarded else found
    held, learned = _split(kept, config)
    pairs = Pairs(triplets=learned, size=config.size, batch=config.batch, seed=config.seed, flip=config.flip,
                  zoom=config.zoom)  # fmt: skip
    editor = start(models, config)
    step = EditStep(models, condition or TextCondition(models), config)
    asked = {name: value for name, value in asdict(config).items() if name not in LOOPED}
    about = {"job": "edit train", "train": asked, "models": models.model_set.name, "data": _digest(learned)}

    def watch(number: int) -> Mapping[str, float]:
        return {"held_loss": step.held({"editor": editor}, replace(pairs, triplets=held, flip=False, zoom=1.0))}

    done = fit(
        {"editor": editor},
        step,
        pairs,
        config.loop(),
        out,
        about=about,
        evaluate=watch if held else None,
        resume=resume,
        cpu=cpu,
        label=f"training stage {config.stage}",
    )
    return Trained(
        out=out,
        models=_save(editor, models, out),
        triplets=len(learned),
        left_out=sum(one.rewards is None or not one.rewards.complete for one in found) if rewarded else 0,
        skipped=[*skipped, *(Skipped(key, message) for key, message in pairs.unread.items())],
        steps=done.steps,
        seconds=done.seconds,
        last=done.last,
    )


def start(models: "Models", config: Train) -> Any:
    """The network to train: stage 1 the set's unet with room for the picture; stage 2 its editor, with the reward
    module that the set has, or else a new one beside it."""
    from diffusers import UNet2DConditionModel

    if config.stage == 1:
        return widened(models.unet).requires_grad_(True)
    unet = models.network("editor", UNet2DConditionModel).requires_grad_(True)
    if not config.rewarded:
        return unet
    switches = {name: getattr(config, name) for name in SWITCHES}
    if "rewards" in models.model_set.roles:
        module = models.network("rewards", RewardModule)
        if changed := [name for name in SWITCHES if module.config[name] != switches[name]]:
            raise BadInput(f"the set's reward module has another {changed[0]}. Leave the switch, or the role, away.")
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            module = RewardModule.beside(unet, models.text_encoder.config.hidden_size, **switches)
    return Rewarded(unet, module.to(unet.device).requires_grad_(True))


def widened(unet: Any) -> Any:
    """The U-Net with twice the channels in: the new ones, for the picture, weigh nothing at first, so it answers as
    before whatever the picture shows."""
    channels = unet.config.in_channels
    wide = type(unet).from_config({**unet.config, "in_channels": 2 * channels})
    weights = unet.state_dict()
    old = weights["conv_in.weight"]
    wide.load_state_dict({**weights, "conv_in.weight": torch.cat([old, torch.zeros_like(old)], 1)})
    return wide.to(unet.device)


def dropped(drawn: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Where text and where the picture are dropped, [B] each, for numbers drawn evenly from 0 to 1: below `share` the
    text alone, then as many times both, then as many times the picture alone (as InstructPix2Pix)."""
    return drawn < 2 * share, (drawn >= share) & (drawn < 3 * share)


class EditStep:
    """One step's loss: the error of the predicted noise of the edited picture, given the original and the words."""

    def __init__(self, models: "Models", condition: Conditioner, config: Train) -> None:
        self.models, self.condition, self.config = models, condition, config
        self.schedule = from_config(models.scheduler_config, 1)

    def __call__(self, nets: Modules, batch: dict[str, Any], number: int) -> dict[str, Tensor]:
        """Randomness is torch's, which the loop sets for each batch."""
        count, device = len(batch["original"]), batch["original"].device
        text, picture = dropped(torch.rand(count), self.config.drop)
        kept = torch.rand(count) >= self.config.drop_rewards
        loss = self.loss(nets["editor"], batch, text.to(device), picture.to(device), kept.to(device))
        return {
            "loss": loss,
            "text_dropped": text.float().mean().to(device),
            "picture_dropped": picture.float().mean().to(device),
        }

    def held(self, nets: Modules, pairs: Pairs) -> float:
        """The loss on triplets that nothing is learned from, with the same noise each time and nothing dropped."""
        torch.manual_seed(self.config.seed)
        losses, size = [], self.config.batch
        for first in range(0, len(pairs.triplets), size):
            batch = pairs.rows(range(first, min(first + size, len(pairs.triplets))), random.Random(0))
            device = next(nets["editor"].parameters()).device
            batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
            none = torch.zeros(len(batch["original"]), dtype=torch.bool, device=device)
            losses.append(float(self.loss(nets["editor"], batch, none, none, ~none)) * len(none))
        return sum(losses) / len(pairs.triplets)

    def loss(self, editor: nn.Module, batch: dict[str, Any], text: Tensor, picture: Tensor, kept: Tensor) -> Tensor:
        """text, picture: where they are dropped, kept: where the rewards are not; [B] of truth values each."""
        sample, at, wanted, states, more = self._inputs(batch, text, picture, kept)
        output = editor(sample, at, encoder_hidden_states=states, return_dict=False, **more)[0]
        return F.mse_loss(output.float(), wanted.float())

    @torch.no_grad()
    def _inputs(self, batch: dict[str, Any], text: Tensor, picture: Tensor, kept: Tensor) -> tuple[Any, ...]:
        network, device = self.models.vae, batch["original"].device
        if network.device != device:
            network.to(device)
            self.models.text_encoder.to(device)
        clean = vae.encode(network, batch["edited"])
        joined = picture_latents(network, batch["original"]) * ~picture.view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape).to(clean)
        at = torch.randint(0, len(self.schedule.alphas_bar), (len(clean),)).to(device)
        states, nothing = self.condition(batch["instruction"], batch["original"]), self.condition.nothing()
        states = torch.where(text.view(-1, 1, 1), nothing.to(states), states)
        more: dict[str, Any] = {}
        if self.config.rewarded:
            feedback = pooled(self.models, batch["feedback"])
            more = {"rewards": batch["rewards"], "feedback": feedback}
            more |= {"given": kept.float()[:, None]} if self.config.drop_rewards else {}
        sample = torch.cat([add_noise(clean, noise, at, self.schedule), joined], 1)
        return sample, at, target(clean, noise, at, self.schedule), states, more


def _split(triplets: list[Triplet], config: Train) -> tuple[list[Triplet], list[Triplet]]:
    """Triplets for the watched loss, and those that are learned from."""
    count = min(config.held, len(triplets) // 10)
    order = random.Random(f"{config.seed}/held").sample(range(len(triplets)), count)
    learned = [one for at, one in enumerate(triplets) if at not in set(order)]
    if len(learned) < config.batch:
        raise BadInput(
            f"{len(learned)} triplets are fewer than a batch of {config.batch}. Give more, or lower --batch."
        )
    return [triplets[at] for at in sorted(order)], learned


def _digest(triplets: list[Triplet]) -> str:
    told = [[one.key, one.instruction, one.rewards.to_json() if one.rewards else None] for one in triplets]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def _save(editor: Any, models: "Models", out: Path) -> Path:
    """editor/ and, if there is one, rewards/, for from_pretrained; and a model set that names them."""
    places = {"editor": editor.unet if isinstance(editor, Rewarded) else editor}
    if isinstance(editor, Rewarded):
        places["rewards"] = editor.module
    file = out / "editor.toml"
    from accelerate import PartialState

    if PartialState().is_main_process:
        for name, network in places.items():
            network.save_pretrained(out / name)
        roles = {role: place for role, place in models.model_set.roles.items() if role != "rewards"}
        roles |= {name: str((out / name).resolve()) for name in places}
        write_bytes(file, as_toml(replace(models.model_set, name="edited", roles=roles)).encode())
    return file
