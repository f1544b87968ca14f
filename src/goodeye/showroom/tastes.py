"""The aligned rows of search that ship with the showroom: what ranked DPO, IPO and RRHF learned, as small adapters.

`build_tastes(out)` trains them on the shipped CLIP and writes out/weights/search/ROW, for weights/ beside this file.
They learn from contents, scenes and voters of a world that no proof measures on.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.judging.clip import Clip
from goodeye.search.adapt import ADAPTER, save_adapter
from goodeye.search.align import LOOPED, Method
from goodeye.search.ask import load_clip
from goodeye.search.lessons import ROW, Learner, train_row
from goodeye.showroom.halves import LICENSED
from goodeye.showroom.search_world import TAUGHT, lessons
from goodeye.training.loop import read_metrics

SEED = 900_000  # of the world that is learned from, behind TAUGHT's: a proof's own lessons are others
ROWS: tuple[Method, ...] = ("dpo", "ipo", "rrhf")
MOST_BYTES = 500_000  # of an adapter: all weights of the showroom together stay small
TOLD = ("ranked", "preferred", "contrastive")

Say = Callable[[str], None]


def build_tastes(
    out: str | Path,
    *,
    rows: Sequence[Method] = ROWS,
    models: str = "showroom",
    taught: int = 240,
    plain: int = 16_000,
    steps: int = ROW.steps,
    say: Say = print,
) -> Path:
    """Trains the rows and returns the folder of the adapters that are ready to ship. The same call again goes on where
    it was stopped.

    taught, plain: as `goodeye.showroom.search_world.lessons` has them. Raises BadInput for too large an adapter.
    """
    out = Path(out)
    clip = load_clip(models)
    learner = Learner("base", clip, lessons(out / "world", TAUGHT + SEED, taught=taught, plain=plain), out, models)
    for row in rows:
        config = replace(ROW, method=row, steps=steps)
        trained = train_row(learner, config, out / "runs" / row)
        size = ship(clip, trained, out / "weights" / "search" / row, card(row, clip, out / "runs" / row))
        say(f"{row}: {size} bytes")
    return out / "weights" / "search"


def ship(start: Clip, trained: Clip, folder: Path, told: str) -> int:
    """Writes a row's adapter and its card, whole or not at all; its bytes. Raises BadInput for too large an adapter."""
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    save_adapter(start, trained, partial)
    size = (partial / ADAPTER).stat().st_size
    if size > MOST_BYTES:
        raise BadInput(f"{folder} has {size:,} bytes, and {MOST_BYTES:,} may be shipped. Train a smaller model.")
    (partial / "README.md").write_text(told, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return size


def card(row: Method, clip: Clip, run: Path) -> str:
    """What the adapter is, from what, and the last numbers of its training: no proof's."""
    last = {name: value for line in read_metrics(run) for name, value in line.items()}
    settings = {name: value for name, value in asdict(ROW).items() if name not in LOOPED or name in ("steps", "lr")}
    told: dict[str, Any] = {"clip": clip.version, **settings, "method": row, "steps": int(last["step"]), "world": SEED}
    told |= {name: round(last[name], 4) for name in TOLD if name in last}
    lines = "".join(
        f"| {name} | {value if isinstance(value, str) else json.dumps(value)} |\n" for name, value in told.items()
    )
    return f"""{LICENSED}# {row}

What the projections of the showroom's CLIP learned by `goodeye search align --method {row}`, as a LoRA adapter in
peft's layout: the row {row} of `goodeye search prove`. `PeftModel.from_pretrained` puts it on that CLIP.

Data: pictures, captions and simulated votes of goodeye.showroom, of contents that no proof shows. `clip` is the
fingerprint of the CLIP that it belongs to. Licence: Apache-2.0.

| made by | |
|---|---|
{lines}"""
