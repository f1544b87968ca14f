"""A list of concepts becomes a training set: planned, drawn, scored, picked and exported, until enough is kept.

The set's own files lie in the folder that is asked for; run/ below it holds the plans, all drawn pictures, their
scores and the picks. Every stage goes on where it was stopped: plans are written whole, a picture is a file, a
score a line. All of it is on the ledger, too, as it comes (`goodeye.synth.book`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from goodeye.atomic import append, mend, read_rows
from goodeye.errors import BadInput
from goodeye.progress import track
from goodeye.synth.book import CLIS_I, CLIS_L, Book, opened
from goodeye.synth.clis_l import ClisL
from goodeye.synth.describe import Asks, Failed, ask_for_all
from goodeye.synth.draw import Draw, draw_all
from goodeye.synth.export import FORMATS, Format, export, require_own
from goodeye.synth.layout import Layout, read_layouts, write_layouts
from goodeye.synth.masks import Masker, segment_run
from goodeye.synth.pick import Choice, Picking, summary
from goodeye.synth.plan import Concepts, Planning, plan
from goodeye.synth.priors import Priors
from goodeye.synth.score import (
    PICKS,
    Embeddings,
    Scorer,
    examples,
    kept_rows,
    pick_run,
    read_scores,
    read_set,
    score_set,
)
from goodeye.tables import Skipped

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

LAYOUTS, DRAWN, FAILED, REPAIRED = "layouts.jsonl", "drawn", "failed.jsonl", "repaired.jsonl"
LETTERS = "abcdefghijklmnopqrstuvwxyz"  # a round's layouts begin with its letter


@dataclass(frozen=True, kw_only=True)
class Make:
    """How a set is made. images: pictures in it; each round plans a layout for each that is still missing, and draws it
    `tries` times, of which the best is kept if it passes."""

    images: int = 100
    tries: int = 4
    rounds: int = 8
    seed: int = 0
    batch: int = 8
    planning: Planning = field(default_factory=Planning)
    picking: Picking = field(default_factory=Picking)
    formats: tuple[Format, ...] = FORMATS
    boxes: Literal["layout", "mask"] = "layout"

    def __post_init__(self) -> None:
        if self.images < 1 or self.tries < 1 or not 1 <= self.rounds <= len(LETTERS) or self.batch < 1:
            raise BadInput(
                f"a set has 1 image or more, 1 try or more for each, a batch of 1 or more and 1 to {len(LETTERS)} "
                "rounds. Correct them."
            )
        if self.seed < 0:
            raise BadInput(f"seed is {self.seed}. Give 0 or more.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Means:
    """What makes it. about: what all of that is, for the run's config and the data card. planner: a large model that
    describes and lays out each combination. masker: where masks are wanted. categories: ids of a set to join. version:
    of the judge that `scorer` is, and evals: calls of the denoiser for a picture; for the ledger."""

    priors: Priors
    draw: Draw
    scorer: Scorer
    clis_l: ClisL | None
    about: Mapping[str, Any]
    clip: "Clip | None" = None  # for the limit on near-duplicates
    planner: Asks | None = None
    masker: Masker | None = None
    categories: Mapping[str, int] | None = None
    version: str = ""
    evals: int = 0


@dataclass(frozen=True, kw_only=True)
class Made:
    """asked: how many pictures. counts: of the exported set. drawn: pictures of all rounds. unread: drawn pictures that
    could not be read again. failed: combinations that the large model could not lay out. left_out: labels that have not
    a pixel."""

    asked: int
    counts: dict[str, Any]
    choices: list[Choice]
    drawn: int
    unread: list[Skipped]
    failed: int
    left_out: list[Skipped] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The numbers."""
        numbers = {"asked": self.asked, "drawn": self.drawn, "unread": len(self.unread), "failed": self.failed}
        return {**self.counts, **numbers, "left_out": len(self.left_out)}


def make(
    concepts: Concepts, out: str | Path, means: Means, config: Make | None = None, *, ledger: str | Path | None = None
) -> Made:
    """Makes the set, or goes on with it where it was stopped. The same arguments give the same set on one machine.

    ledger: where all of it is on record, a folder or URL; GOODEYE_LEDGER or ./goodeye-ledger if not given.
    Raises BadInput for an unknown concept (with the nearest known ones), a folder that holds a set of other arguments
    or another's files, a ledger that has not got the set that goes on, and where after all rounds nothing is kept.
    """
    config, run = config or Make(), Path(out) / "run"
    require_own(out)
    means.priors.require(concepts)
    if means.categories is not None and (unknown := [name for name in concepts if name not in means.categories]):
        raise BadInput(
            f"{unknown[0]} is no category of the set to join. Add it there, or leave it out of the concepts."
        )
    told = _told(concepts, means, config)
    versions = {CLIS_I: means.version, CLIS_L: means.clis_l.version if means.clis_l else ""}
    with opened(run, told, ledger, config.seed, versions, means.evals) as book:
        choices, unread = _rounds(concepts, run, means, config, told, book)
        if means.masker is not None:
            segment_run(run, kept_rows(run), means.masker, config.batch)
        left_out, card = list[Skipped](), _card(means, config, choices)
        kept = examples(run, config.boxes, left_out)
        counts = export(kept, out, config.formats, categories=means.categories, about=card, skipped=left_out)
    there = {one.key for some in _known(run).values() for one in some}
    failed = len({row["key"] for row in read_rows(run / FAILED)} - there)  # what came right in the end did not fail
    return Made(
        asked=config.images, counts=counts, choices=choices, drawn=len(choices) + len(unread), unread=unread,
        failed=failed, left_out=left_out,
    )  # fmt: skip


def _rounds(
    concepts: Concepts, run: Path, means: Means, config: Make, told: dict[str, Any], book: Book
) -> tuple[list[Choice], list[Skipped]]:
    """Plans, draws, scores and picks until enough is kept, or all rounds are over. Raises BadInput where nothing is."""
    planned = _known(run)
    choices: list[Choice] = []
    unread: list[Skipped] = []
    embedded: Embeddings = {}
    for letter in LETTERS[: config.rounds]:
        missing = config.images - sum(one.kept for one in choices)
        if not missing:
            break
        planned = _planned(run, planned, letter, missing, concepts, means, config, book)
        layouts = [one for found in planned.values() for one in found]
        if not layouts:
            continue
        draw_all(
            means.draw, layouts, run / DRAWN, tries=config.tries, seed=config.seed, batch=config.batch,
            on_picture=book.drawn,
        )  # fmt: skip
        items = read_set(run / LAYOUTS, run / DRAWN)
        unread = score_set(items, run, means.clis_l, means.scorer, told, batch=config.batch, on_row=book.scored)
        picking = replace(config.picking, most=config.images)
        choices = pick_run(run, picking, means.clip, embedded)
        book.picked(read_scores(run), choices)
    if not any(one.kept for one in choices):
        raise BadInput(
            f"none of {len(choices)} pictures was kept, so there is no set. `goodeye synth look {run}` shows why; "
            "lower a threshold in another folder, or draw with another generator."
            if (run / PICKS).exists()
            else f"no layout was planned. See {run / FAILED}, or plan without a large model."
        )
    return choices, unread


def _told(concepts: Concepts, means: Means, config: Make) -> dict[str, Any]:
    """What the run is a function of, as config.json has it; the batch changes nothing."""
    settings = {name: value for name, value in asdict(config).items() if name != "batch"}
    told = {"concepts": {name: list(words) for name, words in concepts.items()}, **settings, **means.about}
    found: dict[str, Any] = json.loads(json.dumps(told))
    return found


def _card(means: Means, config: Make, choices: Sequence[Choice]) -> dict[str, Any]:
    return {
        "asked for": f"{config.images} pictures",
        "drawn": summary(choices),
        **means.about,
        "thresholds": asdict(config.picking),
        "plan": asdict(config.planning),
        "tries": config.tries,
        "seed": config.seed,
        "boxes": config.boxes,
    }


def _known(run: Path) -> dict[str, list[Layout]]:
    """The layouts of a run that was stopped, by their round."""
    found: dict[str, list[Layout]] = {}
    if (run / LAYOUTS).exists() and (run / LAYOUTS).stat().st_size:
        for one in read_layouts(run / LAYOUTS):
            found.setdefault(one.key[0], []).append(one)
    return found


def _planned(
    run: Path,
    known: dict[str, list[Layout]],
    letter: str,
    count: int,
    concepts: Concepts,
    means: Means,
    config: Make,
    book: Book,
) -> dict[str, list[Layout]]:
    """The rounds so far and this one, written down."""
    if letter in known:
        return known
    seed = config.planning.seed + LETTERS.index(letter) * 1_000_003
    plans = plan(means.priors, concepts, count, replace(config.planning, seed=seed))
    plans = [replace(one, key=f"{letter}{one.key}") for one in plans]
    if means.planner is not None:
        plans = _asked(run, means.planner, plans, book)
    found = known | {letter: plans}
    write_layouts(run / LAYOUTS, [one for some in found.values() for one in some])
    return found


def _asked(run: Path, planner: Asks, plans: Sequence[Layout], book: Book) -> list[Layout]:
    """The large model's own layouts. What it failed at, and what of an answer was repaired, is on record once and as it
    comes, however often the run was stopped."""
    made = list[Layout]()
    for file in (run / FAILED, run / REPAIRED):
        mend(file)
    failed, repaired = ({row["key"] for row in read_rows(run / name)} for name in (FAILED, REPAIRED))
    for one in track(ask_for_all(planner, plans), "asking for layouts", len(plans), "layouts"):
        if isinstance(one, Failed):
            book.failed(one)
            if one.key not in failed:
                append(run / FAILED, vars(one))
            continue
        if one.repaired and one.layout.key not in repaired:
            append(run / REPAIRED, {"key": one.layout.key, "repaired": one.repaired})
        made.append(one.layout)
    return made
