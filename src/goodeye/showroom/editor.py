"""Training the showroom's editor, as anyone trains one with `goodeye.edit.train`, on triplets of eight kinds.

Stage 1 makes an adapter on the generator's U-Net (base/) and teaches a text encoder of the editor's own the words of
instructions; stage 2 adds a small adapter upon that, with the reward module (weights/reward_module) and, as the proof's
control, without it (no_reward/). Of each sort of fault a third of the triplets have one: an editor that learns from
them without rewards learns the faults, too. World 41 is theirs; proofs have fresh ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from goodeye.edit.config import Train
from goodeye.edit.module import RewardModule
from goodeye.edit.prove import BASE, CONTROL, FULL, ROWS, retrained
from goodeye.edit.train import Trained, train
from goodeye.edit.triplets import read_triplets
from goodeye.errors import BadInput
from goodeye.modelset import Models, ModelSet, resolve
from goodeye.showroom.edits import write_edits
from goodeye.showroom.halves import halve
from goodeye.showroom.words import EDITING, build_tokenizer

WORLD = 41
LOOP = Train(size=128, batch=32, accumulate=1, flip=False, schedule="cosine", held=256, evaluate_every=500)


@dataclass(frozen=True, kw_only=True)
class Editing:
    """How much is trained. kept: the rank that the first adapter ships with; what is cut off of it weighs little."""

    triplets: int = 8192
    kept: int = 6
    first: Train = replace(LOOP, stage=1, words=True, rank=12, steps=2000, lr=1e-3, seed=8)
    second: Train = replace(LOOP, stage=2, rank=2, steps=350, lr=1e-3, seed=9)


def editor_words(encoder: CLIPTextModel, seed: int = 8) -> tuple[PreTrainedTokenizerFast, CLIPTextModel]:
    """The generator's words under their numbers, then those of instructions and failure texts; and its text encoder
    with rows for them, drawn like the rows that it has.

    </s> gets the highest number: where its number is 2, transformers takes a text's pooled output at the highest number
    of all. Its row goes along, and the word that takes its place gets a new one.
    """
    tokenizer = build_tokenizer(end_last=True, more=EDITING.split())
    rows = encoder.get_input_embeddings().weight.detach().clone()
    made = torch.Generator().manual_seed(seed)
    new = rows.mean(0) + rows.std(0) * torch.randn(len(tokenizer) - len(rows), rows.shape[1], generator=made)
    table = torch.cat([rows, new])
    end, old = tokenizer.eos_token_id, encoder.config.eos_token_id
    table[[end, old]] = table[[old, end]]
    changed = {"vocab_size": len(tokenizer), "eos_token_id": end}
    grown = CLIPTextModel(CLIPTextConfig.from_dict({**encoder.config.to_dict(), **changed}))
    name = next(key for key, value in encoder.state_dict().items() if value.shape == rows.shape and "token" in key)
    grown.load_state_dict({**encoder.state_dict(), name: table})
    return tokenizer, grown


def train_editor(models: Models, work: Path, weights: Path, config: Editing) -> Trained:
    """Stage 1: weights/{tokenizer, text_encoder, base}. work: for triplets, their latents and the run."""
    tokenizer, encoder = editor_words(models.text_encoder)
    tokenizer.save_pretrained(weights / "tokenizer")
    encoder.save_pretrained(work / "words")
    own = {"editor_tokenizer": str(weights / "tokenizer"), "editor_text_encoder": str(work / "words")}
    done = _train(models, own, work, "first", config.first, config.triplets)
    halve(work / "first" / "text_encoder", weights / "text_encoder")
    kept = config.kept if config.kept < config.first.rank else None
    halve(work / "first" / "editor", weights / "base", "../../unet", kept)
    return done


def train_rewards(models: Models, work: Path, weights: Path, config: Editing) -> tuple[Trained, Trained]:
    """Stage 2 with rewards, weights/ and weights/editor, and without, weights/no_reward: same data, same steps.

    models: with the editor of stage 1, which lies beside `weights` as editor/.
    """
    first = weights.parent / "editor"
    own = {
        "editor": str(first / "base"),
        "editor_tokenizer": str(first / "tokenizer"),
        "editor_text_encoder": str(first / "text_encoder"),
    }
    done = _train(models, own, work, "rewards", config.second, config.triplets)
    control = _train(models, own, work, "no_reward", replace(config.second, **ROWS[CONTROL]), config.triplets)
    RewardModule.from_pretrained(work / "rewards" / "rewards").half().save_pretrained(weights)
    halve(work / "rewards" / "editor", weights / "editor", "../../editor/base")
    halve(work / "no_reward" / "editor", weights / "no_reward", "../../editor/base")
    return done, control


def rows_of(model_set: ModelSet) -> dict[str, ModelSet]:
    """The proof's rows that this set has the weights for: of the showroom base, no_reward and full, of another set its
    own editor."""
    place = model_set.roles.get("editor")
    if place is None:
        return {}
    second, roles = Path(place).parent, model_set.roles
    if model_set.name != "showroom":
        return {FULL if "rewards" in roles else BASE: model_set}
    plain = {role: where for role, where in roles.items() if role != "rewards"}
    others = {BASE: second.parent / "editor" / "base", CONTROL: second / "no_reward"}
    rows = {name: replace(model_set, roles={**plain, "editor": str(where)}) for name, where in others.items()}
    return rows | {FULL: model_set}


def train_rows(
    rows: Mapping[str, ModelSet], names: Sequence[str], out: Path, triplets: int, steps: int, device: str = "cpu"
) -> dict[str, ModelSet]:
    """These rows of the proof, or all that are trained, anew from the row base: out/NAME. A stopped one goes on.

    Raises BadInput where there is no editor to begin with.
    """
    if BASE not in rows:
        raise BadInput("there is no editor to begin with. Build the showroom's, or name a set with one by --models.")
    config = replace(Editing().second, steps=steps)
    write_edits(out / "edits", triplets, WORLD, config.size, truth=False)
    found = list(read_triplets(out / "edits"))
    return {
        name: resolve(retrained(name, Models(rows[BASE], device), found, out, config=config, cache=out / "latents"))
        for name in names or ROWS
    }


def card(done: Trained, config: Train) -> dict[str, Any]:
    """What its README tells of a training."""
    kept = {name: round(value, 4) for name, value in done.last.items() if name in ("loss", "held_loss")}
    sizes = {"steps": done.steps, "batch": config.batch, "rank": config.rank, "seed": config.seed}
    return {**sizes, "triplets": done.triplets, "seconds": round(done.seconds), **kept}


def _train(models: Models, own: dict[str, str], work: Path, name: str, config: Train, triplets: int) -> Trained:
    """A run in work/name, gone on with where it was stopped."""
    write_edits(work.parent / "edits", triplets, WORLD, config.size, truth=False)
    model_set = models.model_set
    roles = {role: place for role, place in model_set.roles.items() if role not in ("editor", "rewards")} | own
    return train(
        read_triplets(work.parent / "edits"),
        Models(ModelSet(name="showroom", roles=roles, settings=model_set.settings), models.device),
        work / name,
        config=config,
        cache=work.parent / "edits" / "latents",
        resume=True,
        cpu=models.device.type == "cpu",
    )
