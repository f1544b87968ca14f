"""Synth on the ledger: a layout as a brief, each picture drawn of it as an attempt, CLIS as verdicts, picks and why.

An attempt's boxes lie in its `detail`, in pixels, as `goodeye ledger export --format coco` writes them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

from goodeye.atomic import alone
from goodeye.diffusion.batch import attempt_seed
from goodeye.images import open_image
from goodeye.judging.protocol import Verdict, fingerprint
from goodeye.ledger.begun import begun, told_of
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import AttemptRow
from goodeye.runfolder import RunFolder
from goodeye.synth.describe import Failed
from goodeye.synth.layout import Layout, layout_of
from goodeye.synth.pick import Choice
from goodeye.synth.score import claim, reasons_of

JOB, DRAW = "synth", "synth draw"
CLIS_I, CLIS_L = "clis_i", "clis_l"


@dataclass(frozen=True, kw_only=True)
class Book:
    """A run on the ledger. seed: of the run. versions: of its judges, by name. evals: calls of the denoiser for each
    picture."""

    ledger: Ledger
    run: int
    seed: int
    versions: Mapping[str, str]
    evals: int = 0
    briefs: dict[str, int] = field(default_factory=dict)  # ids by brief_key

    def drawn(self, layout: Layout, number: int, picture: Image.Image, seconds: float) -> None:
        """A picture of the layout, its `number`th; one that is on record stays as it is."""
        self._attempt(layout, number, picture, [], seconds)

    def scored(self, row: Mapping[str, Any]) -> None:
        """What CLIS said of a picture, as a row of scores.jsonl; the picture, too, if it is not on record."""
        layout, number = _place(row)
        self._attempt(layout, number, open_image(row["file"]), _verdicts(row, self.versions))

    def failed(self, plan: Failed) -> None:
        """A combination that the large model could not lay out: a try that came to no picture."""
        words = ", ".join(plan.objects)
        brief = self.ledger.add_brief(self.run, plan.key, {"title": words, "objects": list(plan.objects)})
        detail = {"why": plan.message, "said": plan.said}
        self.ledger.record_attempt(brief, 1, 1, self.seed, None, detail=detail)

    def picked(self, rows: Sequence[Mapping[str, Any]], choices: Sequence[Choice]) -> None:
        """Which pictures are kept, and why; and what a kill has kept from the record until now. choices: of the rows,
        in their order."""
        known = self._known()
        lost = [row for row in rows if self._lost(row, known.get(_at(row)))]
        for row in lost:
            self.scored(row)
        known = self._known() if lost else known
        said = {pick.attempt_id: (pick.kept, pick.why) for pick in self.ledger.picks(self.run)}
        for row, choice in zip(rows, choices, strict=True):
            attempt = known[_at(row)]
            why = choice.why or f"{len(choice.things)} of {len(row['layout']['things'])} things labelled"
            if said.get(attempt.id) != (choice.kept, why):
                self.ledger.pick(attempt.brief_id, 1, attempt.id, choice.kept, why)

    def _lost(self, row: Mapping[str, Any], attempt: AttemptRow | None) -> bool:
        """Whether the picture is not on record, or not what one of this run's judges, in its version, said of it."""
        said = {(one.judge, one.version) for one in attempt.verdicts} if attempt else set()
        wanted = {(one.judge, one.version) for one in _verdicts(row, self.versions)}
        return attempt is None or not wanted <= said

    def _known(self) -> dict[tuple[str, int], AttemptRow]:
        return {(one.brief_key, one.number): one for one in self.ledger.attempts(self.run)}

    def _attempt(
        self, layout: Layout, number: int, picture: Image.Image, said: Sequence[Verdict], seconds: float = 0.0
    ) -> None:
        key = brief_key(layout)
        if key not in self.briefs:
            content = {
                "title": ", ".join(thing.text for thing in layout.things),
                "prompt": layout.caption,
                "layout": layout.to_json(),
            }
            self.briefs[key] = self.ledger.add_brief(self.run, key, content)
        seed = attempt_seed(self.seed, layout.key, number, 1)  # as `draw_all` has it
        detail = {"boxes": _boxes(layout, picture.size)}
        self.ledger.record_attempt(self.briefs[key], 1, number, seed, picture, said, self.evals, seconds, detail=detail)


def brief_key(layout: Layout) -> str:
    """The layout's key, and a hash of all of it: layouts of several runs that are called alike are often others."""
    return f"{layout.key}-{fingerprint(json.dumps(layout.to_json(), sort_keys=True))}"


def _place(row: Mapping[str, Any]) -> tuple[Layout, int]:
    """The layout of a scored picture, and which of its tries it is."""
    return layout_of(row["layout"], str(row["key"])), int(row["key"].removeprefix(row["group"])[1:] or 1)


def _at(row: Mapping[str, Any]) -> tuple[str, int]:
    layout, number = _place(row)
    return brief_key(layout), number


def _boxes(layout: Layout, size: tuple[int, int]) -> list[dict[str, Any]]:
    sides = (*size, *size)
    return [
        {"name": thing.category, "bbox": [round(share * side, 2) for share, side in zip(thing.box, sides, strict=True)]}
        for thing in layout.things
    ]


def _verdicts(row: Mapping[str, Any], versions: Mapping[str, str]) -> list[Verdict]:
    """Each judge's score first, then its parts; an unknown one has neither."""
    image, layout, found = row[CLIS_I], row[CLIS_L], list[Verdict]()
    if image:
        things = image["things"]
        parts = {"whole": image["whole"], **{one["key"]: one["score"] for one in things}}
        found.append(_verdict(CLIS_I, versions, image["score"], parts, reasons_of(image)))
    if layout and layout["pairs"]:
        parts = {f"{one['subject']} {one['relation']} {one['object']}": one["score"] for one in layout["pairs"]}
        reasons = [one["reason"] for one in layout["pairs"] if one["reason"]]
        found.append(_verdict(CLIS_L, versions, layout["score"], parts, reasons))
    return found


def _verdict(
    judge: str, versions: Mapping[str, str], score: float | None, parts: Mapping[str, float | None], why: list[str]
) -> Verdict:
    known = {name: value for name, value in parts.items() if value is not None}
    scores = {} if score is None else {judge: score, **known}
    return Verdict(judge, versions.get(judge, ""), "", scores, why if scores else [*why, "its score is unknown"])


@contextmanager
def opened(
    run: Path,
    told: Mapping[str, Any],
    ledger: str | Path | None,
    seed: int,
    versions: Mapping[str, str] = MappingProxyType({}),
    evals: int = 0,
) -> Iterator[Book]:
    """The run of this folder on the ledger, begun or gone on with; however it ends, it can be gone on with. Until then
    no other process may.

    told: what the run is a function of. ledger: a folder or URL; where the run is already, else GOODEYE_LEDGER or
    ./goodeye-ledger, if not given. Raises BadInput where the folder was begun otherwise, cannot be written or is worked
    in by another process, and where the ledger does not have its run.
    """
    folder = RunFolder(run)
    if folder.holds_a_run():
        claim(run, dict(told))
    with alone(run), begun(folder, JOB, told, ledger, seed) as (book, number):
        yield Book(ledger=book, run=number, seed=seed, versions=versions, evals=evals)


@contextmanager
def drawn_by_us(
    images: Path | None, versions: Mapping[str, str], ledger: str | Path | None = None
) -> Iterator[Book | None]:
    """The run of a folder that `goodeye synth draw` wrote, to add what CLIS says; None for any other pictures. ledger:
    as for `opened`."""
    told = told_of(RunFolder(images)) if images else {}
    if images is None or told.get("job") != DRAW:
        yield None
        return
    with opened(images, told, ledger, int(told["seed"]), versions) as book:
        yield book
