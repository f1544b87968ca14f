"""Trains every model of the showroom from nothing and writes them as standard folders.

`build(out)` makes out/weights/<role> in fp16 safetensors with a model card each, which marks it as finished. Rendered
scenes stay in out/worlds, a role's run and checkpoints in out/<role>, so that a killed build goes on where it was.
Roles are trained in the order of ROLES, since later ones need earlier ones. Everything is a function of the seeds
below. World 11 trains, world 12 measures, world 13 is RFNet's, world 14 measures RFNet, world 15 is the generator's, 18
and 19 are of unusual products; the oracle has worlds of its own and is no part of this.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.judging import rfnet_compare
from goodeye.judging.protocol import fingerprint
from goodeye.judging.rfnet_fit import RFNetTraining, fit_rfnet
from goodeye.judging.samples import Samples
from goodeye.modelset import Models, ModelSet, showroom
from goodeye.showroom import editor, generator, gligen, perception, regions, vae
from goodeye.showroom.halves import LICENSED
from goodeye.showroom.inspected import STRENGTHS, borderline_world, joined, remade_world
from goodeye.showroom.scenes import CLASSES
from goodeye.showroom.side_tasks import side_tasks
from goodeye.showroom.words import build_tokenizer
from goodeye.showroom.world import World, world
from goodeye.training.loop import Loop, Result

ROLES = (
    *("tokenizer", "scheduler", "vae", "unet", "controlnet", "depth", "saliency", "clip", "rfnet"),
    *("editor", "reward_module", "layout_unet", "region"),
)
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Build:
    """How much is trained. The defaults made the shipped weights."""

    scenes: int = 14336
    held: int = 1024
    generated: int = 16384  # scenes for U-Net and ControlNet
    available: float = 0.85  # how many of those are good; the rest have a defect, so that the generator fails as well
    inspected: int = 2048  # pictures for RFNet, remade by the generator
    borderline: int = 10240  # and on both sides of the guideline's lines, as rendered or degraded
    inspected_held: int = 384
    vae: Loop = Loop(
        steps=2000,
        lr=2e-3,
        betas=(0.9, 0.99),
        weight_decay=1e-4,
        schedule="cosine",
        floor=0.02,
        warmup=50,
        ema=0.995,
        seed=1,
        evaluate_every=200,
        save_seconds=120,
        log_every=20,
    )
    unet: Loop = Loop(
        steps=5000,
        lr=1e-3,
        betas=(0.9, 0.99),
        weight_decay=1e-2,
        schedule="cosine",
        floor=0.02,
        warmup=200,
        ema=0.999,
        seed=2,
        evaluate_every=500,
        save_seconds=120,
        log_every=20,
    )
    unet_again: Loop = Loop(  # a second cycle from the first one's weights (Loshchilov and Hutter 2017)
        steps=6000,
        lr=8e-4,
        betas=(0.9, 0.99),
        weight_decay=1e-2,
        schedule="cosine",
        floor=0.02,
        warmup=100,
        ema=0.999,
        seed=12,
        evaluate_every=500,
        save_seconds=120,
        log_every=20,
    )
    controlnet: Loop = Loop(
        steps=800,
        lr=5e-4,
        betas=(0.9, 0.99),
        schedule="cosine",
        floor=0.02,
        warmup=50,
        ema=0.99,
        seed=3,
        save_seconds=120,
        log_every=20,
    )
    depth: Loop = Loop(
        steps=800, lr=2e-3, schedule="cosine", warmup=50, ema=0.99, seed=4, save_seconds=120, log_every=20
    )
    saliency: Loop = Loop(
        steps=800, lr=2e-3, schedule="cosine", warmup=50, ema=0.99, seed=5, save_seconds=120, log_every=20
    )
    clip: Loop = Loop(
        steps=900,
        lr=5e-4,
        schedule="cosine",
        warmup=100,
        ema=0.99,
        weight_decay=0.1,
        seed=6,
        save_seconds=120,
        log_every=20,
    )
    rfnet: RFNetTraining = RFNetTraining(
        epochs=8,
        batch_size=32,
        lr=1e-3,
        schedule="cosine",
        warmup=100,
        ema=0.995,
        weight_decay=2e-2,
        seed=7,
        rfnet={"width": 128, "heads": 4, "feature_stride": 16, "image_size": 96, "classes": 5, "dropout": 0.05},
    )
    editing: editor.Editing = editor.Editing()


@dataclass(frozen=True)
class Shop:
    """Where a build works, and what it works with."""

    out: Path
    config: Build
    say: Say

    def weights(self, role: str) -> Path:
        """The finished folder of a role."""
        return self.out / "weights" / role

    def world(self, name: str) -> World:
        """A world by name, rendered when first needed."""
        seeds = {
            "train": (11, self.config.scenes, 0.5),
            "held": (12, self.config.held, 0.5),
            "rfnet": (13, self.config.inspected, 0.5),
            "rfnet_held": (14, self.config.inspected_held, 0.5),
            "generator": (15, self.config.generated, self.config.available),
        }
        seed, count, available = seeds[name]
        return world(self.out / "worlds" / name, seed, count, available=available, say=self.say)

    def models(self) -> Models:
        """What is finished so far, as a model set."""
        return Models(
            ModelSet(
                name="showroom",
                roles={r: str(self.weights(r)) for r in ROLES} | {"text_encoder": str(self.weights("text_encoder"))},
                settings=showroom().settings,
            )
        )


def build(out: str | Path, *, only: Sequence[str] = (), config: Build | None = None, say: Say = print) -> Path:
    """Trains the roles (`only` these) and returns the folder of finished models.

    Roles that are finished are left as they are, but those in `only` are trained anew. A stopped call goes on when it
    is made again.

    Raises BadInput for an unknown role, or for a role whose forerunners are not finished.
    """
    unknown = [r for r in only if r not in ROLES]
    if unknown:
        raise BadInput(f"{unknown[0]} is no role of the showroom. The roles are: {', '.join(ROLES)}.")
    shop = Shop(Path(out), config or Build(), say)
    makers: Mapping[str, Callable[[Shop], dict[str, Any]]] = {
        "tokenizer": _tokenizer,
        "scheduler": _scheduler,
        "vae": _vae,
        "unet": _unet,
        "controlnet": _controlnet,
        "depth": _depth,
        "saliency": _saliency,
        "clip": _clip,
        "rfnet": _rfnet,
        "editor": _editor,
        "reward_module": _reward_module,
        "layout_unet": _layout_unet,
        "region": _region,
    }
    for role in only or ROLES:
        if not only and (shop.weights(role) / "README.md").exists():
            continue
        missing = [r for r in NEEDS.get(role, ()) if not (shop.weights(r) / "README.md").exists()]
        if missing:
            raise BadInput(
                f"{role} is trained with {missing[0]}, which is not in {shop.weights('')}. Build {missing[0]} first."
            )
        if (shop.weights(role) / "README.md").exists():
            _forget(shop, role)
        torch.manual_seed(0)
        card = makers[role](shop)
        _write_card(shop.weights(role), role, card)
        say(f"{role}: {json.dumps(card)}")
    return shop.weights("")


def _forget(shop: Shop, role: str) -> None:
    """A finished role counts as begun at most, and its run is gone."""
    (shop.weights(role) / "README.md").unlink()
    for run in RUNS.get(role, (role,)):
        shutil.rmtree(shop.out / run, ignore_errors=True)


RUNS = {"unet": ("unet", "unet_again")}  # others have one run of their name
NEEDS = {
    "unet": ("tokenizer", "vae"),
    "controlnet": ("tokenizer", "unet"),
    "clip": ("tokenizer",),
    "rfnet": ("tokenizer", "scheduler", "vae", "unet", "controlnet", "depth", "saliency"),
    "editor": ("tokenizer", "scheduler", "vae", "unet"),
    "reward_module": ("scheduler", "vae", "unet", "editor"),
    "layout_unet": ("tokenizer", "unet"),
    "region": ("clip",),
}


def _tokenizer(shop: Shop) -> dict[str, Any]:
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(shop.weights("tokenizer"))
    return {"words": len(tokenizer)}


def _scheduler(shop: Shop) -> dict[str, Any]:
    generator.new_scheduler().save_pretrained(shop.weights("scheduler"))
    return {"prediction": "v_prediction"}


def _latents(shop: Shop, name: str) -> np.ndarray:
    path = shop.out / "worlds" / name / "latents.npy"
    if not path.exists():
        images = shop.world("train").image
        scratch = path.with_suffix(".tmp")
        with scratch.open("wb") as file:
            np.save(file, vae.latents_of(shop.world(name).image, images[:1024]))
        scratch.replace(path)
    return np.load(path, mmap_mode="r")


def _vae(shop: Shop) -> dict[str, Any]:
    train, held = shop.world("train"), shop.world("held")
    model = vae.new_vae()
    vae.solve_encoder(model, train.image[:1024])
    done = vae.train_decoder(
        model,
        train.image,
        _latents(shop, "train"),
        np.asarray(held.image[:32]),
        shop.out / "vae",
        shop.config.vae,
        batch=8,
    )
    _save(model, shop.weights("vae"))
    again = AutoencoderKL.from_pretrained(shop.weights("vae"), torch_dtype=torch.float32)
    decibels = vae.psnr(again, np.asarray(held.image[:256]))
    return _trained(done, shop.config.vae, 8) | {
        "psnr_db_on_256_held_out_scenes": round(float(decibels.mean()), 2),
        "psnr_db_worst": round(float(decibels.min()), 2),
    }


def _unet(shop: Shop) -> dict[str, Any]:
    train, held = shop.world("generator"), shop.world("held")
    tokenizer = build_tokenizer()
    text, unet = generator.new_text_encoder(tokenizer), generator.new_unet()
    config = shop.config
    for name, cycle in (("unet", config.unet), ("unet_again", config.unet_again)):
        done = generator.train_unet(
            unet,
            text,
            tokenizer,
            _latents(shop, "generator"),
            (train.captions, train.short_captions),
            (_latents(shop, "held")[:128], held.captions[:128]),
            shop.out / name,
            cycle,
            batch=32,
        )
    card = _trained(done, config.unet_again, 32) | {"steps": config.unet.steps + config.unet_again.steps}
    _save(text, shop.weights("text_encoder"))
    _write_card(shop.weights("text_encoder"), "text_encoder", card)
    _save(unet, shop.weights("unet"))
    return card


def _controlnet(shop: Shop) -> dict[str, Any]:
    train = shop.world("generator")
    tokenizer = build_tokenizer()
    unet = UNet2DConditionModel.from_pretrained(shop.weights("unet"), torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(shop.weights("text_encoder"), dtype=torch.float32)
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32, 64))
    done = generator.train_controlnet(
        controlnet,
        unet,
        text,
        tokenizer,
        _latents(shop, "generator"),
        train.product,
        (train.captions, train.short_captions),
        shop.out / "controlnet",
        shop.config.controlnet,
        batch=16,
    )
    _save(controlnet, shop.weights("controlnet"))
    return _trained(done, shop.config.controlnet, 16)


def _depth(shop: Shop) -> dict[str, Any]:
    return _map(shop, "depth", perception.new_depth(), shop.config.depth)


def _saliency(shop: Shop) -> dict[str, Any]:
    return _map(shop, "saliency", perception.new_saliency(), shop.config.saliency)


def _map(shop: Shop, role: str, model: Any, config: Loop) -> dict[str, Any]:
    train, held = shop.world("train"), shop.world("held")
    known = np.asarray(held.image[:128]), np.asarray(getattr(held, role)[:128])
    done = perception.train_map(model, train.image, getattr(train, role), known, shop.out / role, config, batch=16)
    _save(model, shop.weights(role))
    perception.NORMALISE.save_pretrained(shop.weights(role))
    return _trained(done, config, 16)


def _clip(shop: Shop) -> dict[str, Any]:
    train, held = shop.world("train"), shop.world("held")
    tokenizer = build_tokenizer(end_last=True)
    model = perception.new_clip(tokenizer)
    done = perception.train_clip(
        model,
        tokenizer,
        train.image,
        (train.captions, train.short_captions),
        (np.asarray(held.image[:256]), held.captions[:256]),
        shop.out / "clip",
        shop.config.clip,
        batch=64,
    )
    _save(model, shop.weights("clip"))
    tokenizer.save_pretrained(shop.weights("clip"))
    replace(perception.NORMALISE, size=(128, 128)).save_pretrained(shop.weights("clip"))
    return _trained(done, shop.config.clip, 64)


def _rfnet(shop: Shop) -> dict[str, Any]:
    samples, held = _inspected(shop)
    config = shop.config.rfnet
    model, tokenizer = rfnet_compare.build_variant("RFNet", samples, config, len(CLASSES))
    fitted = fit_rfnet(
        samples,
        config,
        held_out=held,
        model=model,
        tokenizer=tokenizer,
        run_dir=shop.out / "rfnet",
        resume=True,
        label="RFNet",
        beside=side_tasks(model),
    )
    fitted.model.half().save_pretrained(shop.weights("rfnet"))
    assert fitted.tokenizer is not None
    fitted.tokenizer.save_pretrained(shop.weights("rfnet"))
    return {
        "pictures": len(samples),
        "epochs": config.epochs,
        "batch": config.batch_size,
        "seed": config.seed,
        "seconds": round(fitted.seconds),
        **{k: round(float(v), 4) for k, v in fitted.last.items()},
    }


def _editor(shop: Shop) -> dict[str, Any]:
    done = editor.train_editor(shop.models(), shop.out / "editor", shop.weights("editor"), shop.config.editing)
    return editor.card(done, shop.config.editing.first) | {"rank_kept": shop.config.editing.kept}


def _reward_module(shop: Shop) -> dict[str, Any]:
    done, control = editor.train_rewards(
        shop.models(), shop.out / "reward_module", shop.weights("reward_module"), shop.config.editing
    )
    without = {f"{name}_without_rewards": value for name, value in control.last.items() if name == "held_loss"}
    return editor.card(done, shop.config.editing.second) | without


def _layout_unet(shop: Shop) -> dict[str, Any]:
    fit_on = shop.world("train").image[:1024]
    return _trained(gligen.make(shop.weights, shop.out, fit_on, shop.say), gligen.LOOP, 32)


def _region(shop: Shop) -> dict[str, Any]:
    done = regions.make(shop.weights, shop.out, shop.say)
    return _trained(done, regions.LOOP, regions.BATCH)


def _inspected(shop: Shop) -> tuple[Samples, Samples]:
    """RFNet's pictures: remade by the generator, and near the guideline's lines; the held-out ones are all remade."""
    models, pictures = _models(shop), shop.out / "pictures"  # kept by the weights that they were made with
    seen = fingerprint(models.depth.version, models.saliency.version)
    by = fingerprint(models.vae, models.text_encoder, models.unet, models.controlnet, seen, repr(STRENGTHS))
    made = remade_world(models, shop.world("rfnet"), pictures / f"remade-{by}", 13, say=shop.say)
    held = remade_world(models, shop.world("rfnet_held"), pictures / f"held-{by}", 14, say=shop.say)
    near = borderline_world(models, pictures / f"borderline-{seen}", 17, shop.config.borderline, say=shop.say)
    return joined(made, near), held


def compare_rfnet(
    out: str | Path,
    config: Build | None = None,
    say: Say = print,
    *,
    own: float = 0.0,
    variants: Sequence[rfnet_compare.Variant] = rfnet_compare.VARIANTS,
) -> list[rfnet_compare.Row]:
    """The table of the ads paper on the showroom: RFNet, the single-image baseline, and each modality left out, all
    trained with the same budget on the same pictures, the scene's facts learned beside.

    own: the share of products that have an unusual part of their own. With 0, the pictures are those that the shipped
    RFNet learned from: every product is of one of 21 known shapes, so that its picture tells what it should look like.
    With more, they are rendered ones near the guideline's lines, most of them degraded, in training and held out, and
    only the product's own picture tells such a part from something grown. Raises BadInput for no share.
    """
    if not 0 <= own <= 1:
        raise BadInput(f"own is {own:g}. Give a share, 0 to 1.")
    shop = Shop(Path(out), config or Build(), say)
    samples, held = _unusual(shop, own) if own else _inspected(shop)
    rows, _, _ = rfnet_compare.compare(
        samples,
        held,
        shop.config.rfnet,
        variants,
        run_dir=shop.out / (f"rfnet_compare-own-{own:g}" if own else "rfnet_compare"),
        resume=True,
        beside=side_tasks,
    )
    return rows


def _models(shop: Shop) -> Models:
    """What was built there, or where nothing was, the shipped models."""
    return shop.models() if (shop.out / "weights").is_dir() else Models(showroom())


def _unusual(shop: Shop, own: float) -> tuple[Samples, Samples]:
    """Pictures near the guideline's lines of products that may have a part of their own; the held-out ones of another
    world."""
    models = _models(shop)
    by = f"own-{own:g}-{fingerprint(models.depth.version, models.saliency.version)}"
    learnt, held = (
        borderline_world(models, shop.out / "pictures" / f"{name}-{by}", seed, count, say=shop.say, own=own)
        for name, seed, count in (("unusual", 18, shop.config.borderline), ("unusual-held", 19, shop.config.held))
    )
    return learnt, held


def _save(model: Any, folder: Path) -> None:
    """fp16 safetensors in the standard layout; the model itself stays as it is."""
    half = type(model).from_config(model.config) if hasattr(type(model), "from_config") else type(model)(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)


def _trained(done: Result, config: Loop, batch: int) -> dict[str, Any]:
    numbers = {k: round(float(v), 4) for k, v in done.last.items() if k not in ("lr", "grad_norm", "seconds", "step")}
    return {"steps": done.steps, "batch": batch, "seed": config.seed, "seconds": round(done.seconds), **numbers}


ABOUT = {
    "tokenizer": "A word-level tokenizer over the showroom's captions and titles.",
    "scheduler": "Stable Diffusion's noise schedule rescaled to end in pure noise (Lin et al. 2023), with v-prediction "
    "and trailing steps (DDIM).",
    "vae": "AutoencoderKL, 128 px to 16x16x16 latents. The encoder is solved (principal components of 8x8 patches), "
    "the decoder trained.",
    "text_encoder": "CLIPTextModel, trained together with the U-Net, in two cycles of the rate.",
    "unet": "UNet2DConditionModel on 16x16 latents, v-prediction, one in ten captions empty, trained in two cycles of "
    "the rate (seed, seconds and loss are the second's). Of its training "
    "pictures 15 % have one of the four defects, unannounced: a generator that fails as real ones do.",
    "controlnet": "ControlNetModel on canny edges of the product alone, trained on the frozen U-Net.",
    "depth": "GLPNForDepthEstimation on the renderer's depth.",
    "saliency": "SegformerForSemanticSegmentation, one label, on the renderer's saliency.",
    "clip": "CLIPModel trained by the contrastive loss with smoothed targets and a queue.",
    "rfnet": "RFNet (ads paper, section 3.2) on pictures as the generator makes them, and as rendered near"
    " the guideline's lines and degraded, with estimated depth and saliency; the scenes' true facts learned beside.",
    "editor": "An InstructPix2Pix adapter (peft) on the U-Net, in base/, with a tokenizer and text encoder of its own,"
    " trained on rendered edits of which a third have each sort of fault. It ships with a lower rank than it was"
    " trained with (held_loss is before that).",
    "reward_module": "The reward module (edit paper), the editor's adapter trained with it, in editor/, and one trained"
    " without rewards on the same edits, in no_reward/.",
    "layout_unet": "What GLIGEN adds to the U-Net, trained on rendered layouts, the U-Net frozen. Losses are inside of"
    " boxes; held_blind is that of the U-Net that sees no boxes.",
    "region": "What is added to the CLIP (LoRA) to tell what a region shows, trained on rendered layouts; measured on"
    " held-out ones: the right of 24 categories, of 11 colours, and the caption among 64. It ships with a lower rank"
    " than it was trained with (held_ figures are before that).",
}


def _write_card(folder: Path, role: str, numbers: Mapping[str, Any]) -> None:
    text = f"""{LICENSED}# {role}

{ABOUT[role]}

Data: scenes rendered by goodeye.showroom (no picture from outside). Trained from nothing by `goodeye showroom build`.
Licence: Apache-2.0.

| measured | |
|---|---|
"""
    rows = "".join(f"| {k} | {v} |\n" for k, v in numbers.items())
    write_bytes(folder / "README.md", (text + rows).encode())
