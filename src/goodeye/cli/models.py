"""`goodeye models`: what a set's models take on this machine."""

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from goodeye.cli.common import DONE, Json, command, optional, say, write_json
from goodeye.cli.common import models as group


@command(group, "models check")
def models_check(
    models: Annotated[
        Positional[str], arg(metavar="SET", help="showroom, sd15, or a TOML file that names a model for each role")
    ],
    /,
    *,
    jobs: tuple[Literal["ads", "edit", "synth"], ...] = ("ads", "edit", "synth"),
    random: bool = False,
    steps: int = 2,
    batch: int = 1,
    train: Literal["controlnet", "lora"] = "controlnet",
    precision: Annotated[Literal["fp32", "bf16"] | None, optional("{fp32,bf16}")] = None,
    keep: Annotated[Path | None, optional("FOLDER")] = None,
    device: str = "cpu",
    seed: int = 0,
    json: Json = None,
) -> int:
    """Loads every model, makes one attempt and one step of fine-tuning, and reports seconds and memory of each part.

    Args:
        jobs: whose: an advertising picture and a step of its fine-tuning; an edit and a step of the editor's training;
            a layout drawn by GLIGEN
        random: random weights of the right size for models that are not on this machine; asks no hub
        steps: of the sampler, which are run; what all of them would take is worked out
        batch: pictures at once
        train: what the ads' step of fine-tuning trains
        precision: of the steps; bf16 on an accelerator, fp32 on a CPU
        keep: leave the random models there, with a TOML file that names them
        device: cpu, cuda, cuda:1, mps
        seed: of the random weights and of the noise
    """
    found: dict[str, Any] = {}
    if "ads" in jobs:
        from goodeye.ads.full_size import check_models

        ads = check_models(
            models,
            random=random,
            steps=steps,
            batch=batch,
            train=train,
            precision=precision,
            device=device,
            keep=keep,
            seed=seed,
        )
        say(ads.table())
        found |= ads.as_json()
    if "edit" in jobs:
        from goodeye.edit.full_size import check_editing

        editing = check_editing(
            models, random=random, steps=steps, batch=batch, precision=precision, device=device, seed=seed
        )
        say(("\n" if found else "") + editing.table())
        found["editing"] = editing.as_json()
    if "synth" in jobs:
        from goodeye.synth.full_size import check_drawing

        drawing = check_drawing(models, random=random, steps=steps, batch=batch, device=device, seed=seed)
        say(("\n" if found else "") + drawing.table())
        found["drawing"] = drawing.as_json()
    write_json(json, found)
    return DONE
