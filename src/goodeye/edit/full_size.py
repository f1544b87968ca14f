"""Is this machine large enough to edit? A shortened edit and a training step at full size, timed and weighed.

The editor is the set's own; where it has none, its text-to-image U-Net with room for the picture, which is as large. A
sampler's steps are all alike, so few are run and the full number is worked out; memory does not grow with them.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from goodeye.edit.adapter import editor_unet, widened
from goodeye.edit.config import Train
from goodeye.edit.generate import Editor, Settings, TextCondition, edit, fitted, for_editing, settings_of
from goodeye.edit.module import Rewarded, RewardModule
from goodeye.edit.rewards import BEST, feedback_text
from goodeye.edit.train import EditStep, loop_of
from goodeye.meter import Meter, Part, fitting, table_of
from goodeye.modelset import Models, resolve
from goodeye.random_set import stand_ins

GB = 1e9
INSTEAD = "--batch 1, or --precision bf16"
PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
WORDS = "a product on a table"  # a stand-in tokenizer knows these


@dataclass(frozen=True, kw_only=True)
class EditCheck:
    """What `check_editing` found. editor, rewards: numbers of parameters. edit, step: as run; peak in bytes.

    edit_seconds: of an edit with all of the set's steps, by calculation from `steps` of them.
    """

    models: str
    device: str
    precision: str
    editor: int
    rewards: int
    size: int
    batch: int
    steps: int
    full_steps: int
    edit: Part
    edit_seconds: float
    train_size: int
    step: Part
    parts: tuple[Part, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return asdict(self)

    def table(self) -> str:
        """For a terminal."""
        return "\n".join(
            [
                f"editing with {self.models}: {self.editor:,} parameters and {self.rewards:,} of the reward module",
                *table_of("", (self.edit, self.step, *self.parts)),
                f"{self.batch} at once: an edit of {self.size} px in {self.full_steps} steps, by calculation: "
                f"{self.edit_seconds:.1f} s; a training step at {self.train_size} px: {self.step.seconds:.1f} s, "
                f"{self.step.peak / GB:.1f} GB ({self.device}, {self.precision}).",
            ]
        )


def check_editing(
    models: str | Path = "sd15",
    *,
    random: bool = False,
    steps: int = 2,
    batch: int = 1,
    precision: Literal["fp32", "bf16"] | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> EditCheck:
    """Edits noise for a few steps and trains the whole editor with its reward module for one step.

    random: weights that are not on this machine are random ones of the right size, and no hub is asked. steps: of the
    sampler, which are run. precision: of the training step; bf16 on an accelerator, fp32 on a CPU if not given. Raises
    BadInput for models that cannot be had or do not fit.
    """
    asked = resolve(models)
    precision = precision or ("fp32" if device.startswith("cpu") else "bf16")
    with (
        stand_ins(asked, PARTS, random=random, seed=seed) as model_set,
        fitting(f"an editor of {asked.name}", device, INSTEAD),
    ):
        loaded = for_editing(Models(model_set, device=device))
        meter = Meter(loaded.device)
        with meter.part("loading"):
            rewarded = _rewarded(loaded, seed)
        meter.watch("U-Net", rewarded.unet)
        settings = settings_of(model_set)
        editor = Editor(rewarded, loaded.vae, loaded.scheduler_config, TextCondition(loaded), loaded)
        made = _edit(editor, meter, replace(settings, steps=min(steps, settings.steps)), batch, seed)
        ways = meter.take()
        config = Train(size=min(Train.size, settings.size), batch=batch, steps=1, precision=precision)
        step = _step(rewarded, loaded, meter, config)
        parts = {name: part for name, part in {**ways, **meter.take()}.items() if part not in (made, step)}
    each = ways["U-Net"].each
    return EditCheck(
        models=asked.name,
        device=device,
        precision=precision,
        editor=_count(rewarded.unet),
        rewards=_count(rewarded.module),
        size=settings.size,
        batch=batch,
        steps=min(steps, settings.steps),
        full_steps=settings.steps,
        edit=made,
        edit_seconds=made.seconds + (settings.steps - min(steps, settings.steps)) * each,
        train_size=config.size,
        step=step,
        parts=tuple(parts.values()),
    )


def _rewarded(models: Models, seed: int) -> Rewarded:
    """The set's editor, or its U-Net widened, with the set's reward module or a new one."""
    roles = models.model_set.roles
    unet = editor_unet(models) if "editor" in roles else widened(models.unet)
    vars(models).pop("unet", None)  # a second U-Net would take memory that training does not need
    if "rewards" in roles:
        return Rewarded(unet, models.network("rewards", RewardModule))
    torch.manual_seed(seed)
    return Rewarded(unet, RewardModule.beside(unet, models.text_encoder.config.hidden_size).to(unet.device))


def _edit(editor: Editor, meter: Meter, settings: Settings, batch: int, seed: int) -> Part:
    wide, high = fitted((settings.size, settings.size), settings.size, editor.multiple)
    pictures = torch.rand(batch, 3, high, wide, generator=torch.Generator().manual_seed(seed))
    with meter.part(f"an edit, {settings.steps} steps, three branches") as part:
        edit(editor, pictures, [WORDS] * batch, list(range(batch)), settings=settings)
    return part


def _step(editor: Rewarded, models: Models, meter: Meter, config: Train) -> Part:
    """One step as `goodeye edit train` makes it: loss, gradient, optimizer."""
    editor.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(editor.parameters(), lr=loop_of(config).lr, weight_decay=1e-2)
    device, shape = models.device, (config.batch, 3, config.size, config.size)
    batch = {
        "original": torch.rand(shape, device=device), "edited": torch.rand(shape, device=device),
        "instruction": [WORDS] * config.batch, "feedback": [feedback_text()] * config.batch,
        "rewards": torch.tensor([BEST] * config.batch, device=device),
    }  # fmt: skip
    step = EditStep(models, TextCondition(models), config)
    with meter.part("a training step of stage 2") as part:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = step({"editor": editor}, batch, 0)["loss"]
        with meter.part("gradient"):
            loss.backward()
        with meter.part("optimizer"):
            optimizer.step()
            optimizer.zero_grad()
    return part


def _count(network: torch.nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())
