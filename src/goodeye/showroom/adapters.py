"""The aligned adapters that ship with the showroom: small LoRA on its U-Net, a row of the proof each.

`build_adapters(out)` trains them on the shipped models and writes out/weights/align/ROW, for weights/ beside this file.
They learn from RFNet and are watched by CLIP, on briefs of worlds that no proof measures on. The oracle has no part in
it: neither what is learnt nor which checkpoint is kept depends on what it says.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from goodeye.ads.retrain import finished, retrain
from goodeye.ads.settings import Budget
from goodeye.errors import BadInput
from goodeye.judging.protocol import fingerprint
from goodeye.modelset import ADAPTED, Models, resolve
from goodeye.showroom.briefs import training_briefs
from goodeye.showroom.halves import LICENSED

SEED = 21
MOST_BYTES = 500_000  # of an adapter: all weights of the showroom together stay small
LORA = ADAPTED["lora"]
SETTINGS = ("method", "regulariser", "beta", "lr", "rank", "batch", "reuse", "guard", "seed")
MEASURED = ("trained", "held_out", "diversity", "fidelity", "available", "preferred")

Say = Callable[[str], None]


def build_adapters(
    out: str | Path,
    *,
    rows: Sequence[str] = (),
    budget: Budget | None = None,
    models: str = "showroom",
    say: Say = print,
) -> Path:
    """Trains the rows (all if none are named) and returns the folder of the adapters that are ready to ship.

    The same call again goes on where it was stopped. Raises BadInput as `retrain` does, and for a rank so high that an
    adapter would be too large to ship.
    """
    budget = budget or Budget()
    briefs = training_briefs(SEED, budget.briefs)
    found = retrain(briefs, rows=rows, budget=budget, models=models, out=Path(out) / "align", seed=SEED)
    base = fingerprint(Models(resolve(models)).unet)
    for row, run in found.adapters.items():
        say(f"{row}: {ship(run, Path(out) / 'weights' / 'align' / row, row, base)} bytes")
    for row, why in found.lacking.items():
        say(f"{row} could not be trained: {why}")
    return Path(out) / "weights" / "align"


def ship(run: Path, folder: Path, row: str, base: str) -> int:
    """Writes a finished row's LoRA in half precision, and its card; its bytes. base: the U-Net's fingerprint.

    Raises BadInput for too large an adapter.
    """
    done = finished(run)
    assert done is not None, "the row has ended"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lora").mkdir(parents=True)
    weights = {name: value.half().contiguous() for name, value in load_file(run / "lora" / LORA).items()}
    save_file(weights, folder / "lora" / LORA, metadata={"format": "pt"})
    size = (folder / "lora" / LORA).stat().st_size
    if size > MOST_BYTES:
        raise BadInput(f"{folder} has {size:,} bytes, and {MOST_BYTES:,} may be shipped. Give a lower --rank.")
    (folder / "README.md").write_text(card(row, done, base), encoding="utf-8")
    return size


def card(row: str, done: Mapping[str, Any], base: str) -> str:
    """What the adapter is, from what, and what was measured while it was trained: by no judge of the proof."""
    config = done["config"]
    told = {
        "generator": base,
        "steps": done["steps"],
        "kept": done["best"] if done["stopped"] else done["steps"],
        "stopped": done["stopped"] or "no",
        **{name: config[name] for name in SETTINGS},
        "seconds": round(done["seconds"]),
        **{name: round(value, 4) for name, value in done["last"].items() if name in MEASURED},
    }
    shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
    lines = "".join(f"| {name} | {value} |\n" for name, value in shown.items())
    return f"""{LICENSED}# {row}

LoRA on the showroom's U-Net, aligned to its RFNet by `goodeye showroom align` (the row {row} of `goodeye ads prove`).
Use it with `--models showroom+{row}`; its layout is that of a diffusers pipeline's `load_lora_weights`.

Data: briefs of goodeye.showroom (no picture from outside). The judge that was learnt from is RFNet, the one that
watched is CLIP; the oracle took no part. `generator` is the fingerprint of the U-Net that it belongs to.
Licence: Apache-2.0.

| measured | |
|---|---|
{lines}"""
