"""Is this machine large enough to draw layouts? A shortened picture by GLIGEN at full size, timed and weighed.

The layout U-Net is the set's own; where it has none, or random weights are asked for, its text-to-image U-Net with what
GLIGEN adds, which is as large. A sampler's steps are all alike, so few are run and the full number is worked out.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.meter import Meter, Part, fitting, table_of
from goodeye.modelset import Models, resolve
from goodeye.random_set import stand_ins
from goodeye.synth.draw import Drawing, drawer, is_added, layout_unet, widened
from goodeye.synth.layout import Layout, Thing

GB = 1e9
PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
LAYOUT = Layout(  # in words that a stand-in tokenizer knows
    key="check",
    things=(
        Thing(key="product", category="product", box=(0.1, 0.3, 0.3, 0.4)),
        Thing(key="table", category="table", box=(0.05, 0.6, 0.9, 0.35)),
    ),
    caption="a photograph of a product on a table",
)


@dataclass(frozen=True, kw_only=True)
class DrawCheck:
    """What `check_drawing` found. parameters: of the U-Net; added: of those, what GLIGEN adds. drawn: as run, all steps
    grounded; peak in bytes. seconds: of all of the set's steps, by calculation."""

    models: str
    device: str
    parameters: int
    added: int
    size: int
    batch: int
    steps: int
    full_steps: int
    drawn: Part
    seconds: float
    parts: tuple[Part, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return asdict(self)

    def table(self) -> str:
        """For a terminal."""
        told = [
            f"drawing layouts with {self.models}: {self.parameters:,} parameters, {self.added:,} of them GLIGEN's",
            *table_of("", (self.drawn, *self.parts)),
            f"{self.batch} at once: a picture of {self.size} px in {self.full_steps} steps, by calculation: "
            f"{self.seconds:.1f} s at most, {self.drawn.peak / GB:.1f} GB ({self.device}).",
        ]
        return "\n".join(told)


def check_drawing(
    models: str | Path = "sd15",
    *,
    random: bool = False,
    steps: int = 2,
    batch: int = 1,
    device: str = "cpu",
    seed: int = 0,
) -> DrawCheck:
    """Draws a layout of two things for a few steps, all of them grounded (a model set grounds a part of them).

    random: weights that are not on this machine are random ones of the right size, and no hub is asked. steps: of the
    sampler, which are run. Raises BadInput for models that cannot be had or do not fit.
    """
    if steps < 1 or batch < 1:
        raise BadInput(f"steps is {steps} and batch {batch}. Give 1 or more of each.")
    asked = resolve(models)
    run = min(steps, asked.settings.steps)
    with stand_ins(asked, PARTS, random=random, seed=seed) as model_set:
        shortened = replace(model_set, settings=replace(asked.settings, steps=run))
        loaded = Models(shortened, device=device)
        meter = Meter(loaded.device)
        with fitting(f"GLIGEN of {asked.name}", device, "--batch 1"):
            with meter.part("loading"):
                own = "layout_unet" in shortened.roles
                unet = layout_unet(loaded)[0] if own else widened(loaded.unet)
                draw = drawer(loaded, unet, Drawing(grounded=1.0))
            meter.watch("U-Net", unet)
            with meter.part(f"a picture, {run} steps, two branches") as drawn:
                draw([LAYOUT] * batch, [seed + number for number in range(batch)])
    parts = meter.take()
    each = parts["U-Net"].each
    return DrawCheck(
        models=asked.name,
        device=device,
        parameters=sum(one.numel() for one in unet.parameters()),
        added=sum(one.numel() for name, one in unet.named_parameters() if is_added(name)),
        size=asked.settings.size,
        batch=batch,
        steps=run,
        full_steps=asked.settings.steps,
        drawn=drawn,
        seconds=drawn.seconds + (asked.settings.steps - run) * each,
        parts=tuple(part for part in parts.values() if part is not drawn),
    )
