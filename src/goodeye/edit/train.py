"""`goodeye edit train`: an editor from a text-to-image model (stage 1), and rewards as its condition (stage 2).

Stage 1 is InstructPix2Pix (Brooks et al. 2023): four more channels for the picture, which begin at zero. Stage 2 (edit
paper) adds the reward module and trains the whole U-Net with it; the loss stays the plain error of the predicted noise.
VAE and text encoder are frozen, unless the words of a stage 1 are new. Instead of the whole U-Net an adapter can be
trained (ours). A run folder holds config.json, metrics.jsonl, checkpoints/, editor/, with stage 2 rewards/, and
editor.toml, a model set with what was trained.
"""

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goodeye.atomic import write_bytes
from goodeye.diffusion import vae
from goodeye.diffusion.predict import add_noise, target
from goodeye.diffusion.schedule import from_config
from goodeye.edit.adapter import adapted, editor_unet, save_adapter, widened
from goodeye.edit.config import LOOPED, PUBLISHED, Given, Train
from goodeye.edit.generate import (
    Conditioner,
    TextCondition,
    for_editing,
    multiple_of,
    picture_latents,
    pooled,
    token_ids,
)
from goodeye.edit.latents import encoded
from goodeye.edit.module import Rewarded, RewardModule
from goodeye.edit.pairs import Pairs, with_rewards
from goodeye.edit.triplets import Triplet, digest_of, usable
from goodeye.errors import BadInput
from goodeye.judging.protocol import fingerprint
from goodeye.random_set import as_toml
from goodeye.tables import Skipped
from goodeye.training.loop import Loop, Modules, fit
from goodeye.training.processes import is_main

if TYPE_CHECKING:
    from goodeye.modelset import Models


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
    cache: str | Path | None = None,
    resume: bool = False,
    cpu: bool = False,
) -> Trained:
    """Trains the set's unet (stage 1) or editor (stage 2) in place and saves it.

    condition: what makes the text condition, if not the set's text encoder. cache: a folder; all pictures are encoded
    once and kept there, and neither cut nor mirrored. A triplet whose instruction the text encoder cannot read whole is
    skipped. Raises BadInput where there are too few triplets, a role is missing or the size does not fit the networks;
    Diverged where the loss is not finite.
    """
    config, out, models = config or Train(), Path(out), for_editing(models)
    config.check()
    if condition is not None and (config.words or cache is not None):
        raise BadInput("a text condition of your own sees pictures and learns by itself. Leave cache and words away.")
    networks: dict[str, nn.Module] = {"editor": start(models, config)}
    if config.size % (multiple := multiple_of(networks["editor"], models.vae)):
        raise BadInput(f"size is {config.size}. Give a multiple of {multiple}, which this editor's networks need.")
    skipped: list[Skipped] = []
    words = condition or TextCondition(models)
    found = [one for one in usable(triplets, skipped) if _readable(one, words, skipped)]
    rewarded = config.stage == 2 and (config.rewarded or config.best < 1 or any(one.rewards for one in found))
    given: Given = "rewards" if config.given == "none" else config.given
    latents = None if cache is None else encoded(found, models, config.size, cache)
    if latents is not None:
        found = [one for one in found if one.key in latents.at]
        skipped += [Skipped(key, message) for key, message in latents.gone.items()]
    kept = with_rewards(found, given, config.best, config.seed) if rewarded else found
    held, learned = _split(kept, config)
    pairs = Pairs(triplets=learned, size=config.size, batch=config.batch, seed=config.seed, flip=config.flip,
                  zoom=config.zoom, latents=latents)  # fmt: skip
    if config.words:
        networks["text_encoder"] = models.text_encoder.requires_grad_(True)
    step = EditStep(models, words, config)
    asked = {name: value for name, value in asdict(config).items() if name not in LOOPED}
    asked |= {} if cache is None else {"flip": False, "zoom": 1.0}
    about = {
        "job": "edit train",
        "train": asked,
        "models": models.model_set.name,
        "weights": _weights(networks["editor"], models),
        "data": _digest(learned, digest_of(learned) if latents is None else latents.digest),
    }

    def watch(number: int) -> Mapping[str, float]:
        return {"held_loss": step.held(networks, replace(pairs, triplets=held, flip=False, zoom=1.0))}

    done = fit(
        networks,
        step,
        pairs,
        loop_of(config),
        out,
        about=about,
        evaluate=watch if held else None,
        resume=resume,
        cpu=cpu,
        label=f"training stage {config.stage}",
    )
    return Trained(
        out=out,
        models=_save(networks, models, config, out, cpu),
        triplets=len(learned),
        left_out=sum(one.rewards is None or not one.rewards.complete for one in found) if rewarded else 0,
        skipped=[*skipped, *(Skipped(key, message) for key, message in pairs.unread.items())],
        steps=done.steps,
        seconds=done.seconds,
        last=done.last,
    )


def _readable(triplet: Triplet, condition: Conditioner, skipped: list[Skipped]) -> bool:
    """Whether the text encoder, if there is one, reads the whole instruction: known before training, not amid it."""
    try:
        if isinstance(condition, TextCondition):
            condition.check([triplet.instruction])
    except BadInput as error:
        skipped.append(Skipped(triplet.key, f"{triplet.key}: {error}"))
        return False
    return True


def loop_of(config: Train) -> Loop:
    """The training loop of such a run."""
    steps, lr = PUBLISHED[config.stage]
    steps = config.steps or steps
    return Loop(
        steps=steps,
        lr=config.lr or lr,
        weight_decay=1e-2,  # the paper's
        clip=1.0,
        schedule=config.schedule,
        warmup=0 if config.schedule == "constant" else steps // 20,
        accumulate=config.accumulate,
        ema=config.ema,
        precision=config.precision,
        seed=config.seed,
        log_every=min(10, steps),
        ahead=2,
        evaluate_every=min(config.evaluate_every, steps),
    )


def start(models: "Models", config: Train) -> Any:
    """The network to train: stage 1 the set's unet with room for the picture; stage 2 its editor, with the reward
    module that the set has, or else a new one beside it."""
    unet = widened(models.unet) if config.stage == 1 else editor_unet(models)
    unet = adapted(unet, config.rank, config.seed) if config.rank else unet.requires_grad_(True)
    if not config.rewarded:
        return unet
    switches = config.switches
    if "rewards" in models.model_set.roles:
        module = models.network("rewards", RewardModule)
        if changed := [name for name in switches if module.config[name] != switches[name]]:
            raise BadInput(f"the set's reward module has another {changed[0]}. Leave the switch, or the role, away.")
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            module = RewardModule.beside(unet, models.text_encoder.config.hidden_size, **switches)
    return Rewarded(unet, module.to(unet.device).requires_grad_(True))


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
        count, device = len(batch["instruction"]), next(nets["editor"].parameters()).device
        text, picture = dropped(torch.rand(count), self.config.drop)
        kept = torch.rand(count) >= self.config.drop_rewards
        loss = self.loss(nets, batch, text.to(device), picture.to(device), kept.to(device))
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
            none = torch.zeros(len(batch["instruction"]), dtype=torch.bool, device=device)
            losses.append(float(self.loss(nets, batch, none, none, ~none)) * len(none))
        return sum(losses) / len(pairs.triplets)

    def loss(self, nets: Modules, batch: dict[str, Any], text: Tensor, picture: Tensor, kept: Tensor) -> Tensor:
        """text, picture: where they are dropped, kept: where the rewards are not; [B] of truth values each."""
        sample, at, wanted, more = self._inputs(batch, picture, kept)
        states, nothing = self._states(nets, batch)
        states = torch.where(text.view(-1, 1, 1), nothing.to(states), states)
        output = nets["editor"](sample, at, encoder_hidden_states=states, return_dict=False, **more)[0]
        return F.mse_loss(output.float(), wanted.float())

    def _states(self, nets: Modules, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """What the instructions say, and what none says; with gradient where the text encoder learns."""
        if not self.config.words:
            pictures: Any = batch.get("original")  # none with latents, which a condition that looks at them refuses
            return self.condition(batch["instruction"], pictures), self.condition.nothing()
        found = nets["text_encoder"](token_ids(self.models, [*batch["instruction"], ""])).last_hidden_state
        return found[:-1], found[-1:]

    @torch.no_grad()
    def _inputs(self, batch: dict[str, Any], picture: Tensor, kept: Tensor) -> tuple[Any, ...]:
        network, device = self.models.vae, picture.device
        if network.device != device:
            network.to(device)
            self.models.text_encoder.to(device)
        clean, joined = (batch["clean"], batch["joined"]) if "clean" in batch else self._encoded(batch)
        joined = joined * ~picture.view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape).to(clean)
        at = torch.randint(0, len(self.schedule.alphas_bar), (len(clean),)).to(device)
        more: dict[str, Any] = {}
        if self.config.rewarded:
            feedback = pooled(self.models, batch["feedback"])
            more = {"rewards": batch["rewards"], "feedback": feedback}
            more |= {"given": kept.float()[:, None]} if self.config.drop_rewards else {}
        sample = torch.cat([add_noise(clean, noise, at, self.schedule), joined], 1)
        return sample, at, target(clean, noise, at, self.schedule), more

    def _encoded(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        network = self.models.vae
        return vae.encode(network, batch["edited"]), picture_latents(network, batch["original"])


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


def _digest(triplets: list[Triplet], pictures: str) -> str:
    """pictures: what `digest_of` gives of these triplets, or of all of those that latents are kept of."""
    told = [[one.key, one.instruction, one.rewards.to_json() if one.rewards else None] for one in triplets]
    return fingerprint(pictures, json.dumps(told))


def _weights(editor: nn.Module, models: "Models") -> dict[str, str]:
    """What the training stands upon, as it is at its start; a text encoder where the set has one."""
    encoder = {"text_encoder": fingerprint(models.text_encoder)} if "text_encoder" in models.model_set.roles else {}
    return {"editor": fingerprint(editor), "vae": fingerprint(models.vae), **encoder}


def _save(networks: Mapping[str, nn.Module], models: "Models", config: Train, out: Path, cpu: bool) -> Path:
    """editor/ and, if there are such, rewards/ and text_encoder/, for from_pretrained; and a model set with them."""
    editor: Any = networks["editor"]
    unet = editor.unet if isinstance(editor, Rewarded) else editor
    before = models.model_set.roles
    places = {"editor": "editor"}
    file = out / "editor.toml"
    if is_main(cpu):
        if config.rank:
            save_adapter(unet, out / "editor", before["unet" if config.stage == 1 else "editor"])
        else:
            unet.save_pretrained(out / "editor")
        if isinstance(editor, Rewarded):
            editor.module.save_pretrained(out / "rewards")
            places["rewards"] = "rewards"
        if "text_encoder" in networks:
            models.text_encoder.save_pretrained(out / "text_encoder")
            places["editor_text_encoder"] = "text_encoder"
        roles = {role: place for role, place in before.items() if role != "rewards"}
        roles |= {role: str((out / name).resolve()) for role, name in places.items()}
        write_bytes(file, as_toml(replace(models.model_set, name="edited", roles=roles)).encode())
    return file
