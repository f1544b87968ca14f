"""What is set against each other: the pictures of runs, or of folders, by brief."""

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.ledger.begun import run_of, stored_ledger
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import AttemptRow, BriefRow, RunRow
from goodeye.ledger.sql import storable
from goodeye.ledger.store import SUFFIXES, encode_file

CONFIG = "config.json"  # of a run folder: it names the run and its ledger
FOLDER_JOB = "pictures"  # the job of a run that is a folder of pictures
MAIN_AXIS = "available"  # of verdicts; where a judge has no such axis, its first
Key = tuple[str, int]  # a brief's key, and which of its slots in the run, counted from its first as 0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one run delivers for one slot of a brief. pictures: one, or a row of several.

    scores: what judges have said of it, by their name and version.
    """

    attempt: int
    pictures: tuple[Path, ...]
    title: str
    prompt: str
    product: Path | None
    scores: Mapping[tuple[str, str], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One run with its answers."""

    name: str
    run: int
    answers: dict[Key, Answer]


def ledger_of(places: Sequence[str | Path], given: str | None = None) -> str | None:
    """The ledger that all named run folders are on; `given` goes before. None where they name none, or a database with
    a password, which is not written down: GOODEYE_LEDGER must name that. Raises BadInput where it does not, and where
    they are on several."""
    if given is not None:
        return given
    named = {str(config["ledger"]) for place in places if (config := _config(Path(place)))}
    if len(named) > 1:
        raise BadInput(f"the runs are on {len(named)} ledgers: {', '.join(sorted(named))}. Compare runs of one ledger.")
    stored = next(iter(named), "")
    found = stored_ledger(stored)
    if stored and found is None and not os.environ.get("GOODEYE_LEDGER"):
        raise BadInput(f"The runs are on the ledger {stored}. Name it again with its password, in GOODEYE_LEDGER.")
    return found


def read_sides(ledger: Ledger, places: Sequence[str | Path]) -> list[Side]:
    """Each place's side; folders of one name are told apart by their whole paths."""
    sides = [read_side(ledger, place) for place in places]
    names = Counter(side.name for side in sides)
    return [
        replace(side, name=str(Path(place).resolve())) if names[side.name] > 1 and Path(place).exists() else side
        for side, place in zip(sides, places, strict=True)
    ]


def require_place(place: str | Path) -> None:
    """Raises BadInput for what is neither a folder nor a number, before a ledger is made for it."""
    if not Path(place).is_dir() and (Path(place).exists() or not re.fullmatch(r"[1-9][0-9]{0,17}", str(place))):
        raise BadInput(f"{place} is neither a run's folder, a folder of pictures, nor a run's number. Name one.")


def read_side(ledger: Ledger, place: str | Path) -> Side:
    """The side that a run folder, a folder of pictures, or the number of a run on the ledger names.

    A folder of pictures is put on the ledger as a run of its own, once; a picture that changed is a new attempt. Its
    briefs are the file names without ending, in lower case with dashes; what is in it now counts. Raises BadInput for
    what is none of them, and for a run's folder whose run is on another ledger.
    """
    require_place(place)
    path, present = Path(place), None
    if config := _config(path):
        run = run_of(ledger, path, config)
    elif not path.is_dir():
        run = ledger.run(int(str(place)))
    else:
        run, present = _taken_in(ledger, path)
    answers = {key: one for key, one in _answers(ledger, run).items() if present is None or key[0] in present}
    if not answers:
        raise BadInput(f"{place} (run {run.id}) has no pictures to compare. Name another run.")
    return Side(name=f"{run.id}" if config is None and not path.exists() else path.name, run=run.id, answers=answers)


def _config(folder: Path) -> dict[str, Any] | None:
    """A run folder's config; None for any other folder."""
    if not (folder / CONFIG).is_file():
        return None
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder / CONFIG} cannot be read ({error}). Name another run.") from error
    if not isinstance(config, dict) or not isinstance(config.get("run"), int) or "ledger" not in config:
        raise BadInput(f"{folder / CONFIG} names no run on a ledger. Name a run's folder, or one of pictures alone.")
    return config


def _answers(ledger: Ledger, run: RunRow) -> dict[Key, Answer]:
    """The best attempt at each slot: the one kept, else the one with the highest main score of the first judge."""
    kept = {pick.attempt_id: pick.kept for pick in ledger.picks(run.id)}
    briefs = {brief.id: brief for brief in ledger.briefs(run.id)}
    best: dict[Key, AttemptRow] = {}
    attempts = ledger.attempts(run.id)
    first: dict[str, int] = {}  # jobs number slots from 1, folders and imports from 0
    for row in attempts:
        first[row.brief_key] = min(row.slot, first.get(row.brief_key, row.slot))
    for row in attempts:
        if not row.image_sha:
            continue
        key = row.brief_key, row.slot - first[row.brief_key]
        if key not in best or _rank(row, kept) >= _rank(best[key], kept):
            best[key] = row
    return {key: _answer(ledger, row, briefs[row.brief_id]) for key, row in best.items()}


def _rank(row: AttemptRow, kept: Mapping[int, bool]) -> tuple[bool, float]:
    scores = row.verdicts[0].scores if row.verdicts else {}
    return kept.get(row.id, False), scores.get(MAIN_AXIS, next(iter(scores.values()), 0.0))


def _answer(ledger: Ledger, row: AttemptRow, brief: BriefRow) -> Answer:
    return Answer(
        attempt=row.id,
        pictures=tuple(ledger.image_path(sha) for sha in row.shown or (row.image_sha,)),
        title=str(brief.content.get("title") or brief.key),
        prompt=str(brief.content.get("prompt") or ""),
        product=ledger.image_path(brief.product_sha) if brief.product_sha else None,
        scores={(verdict.judge, verdict.version): verdict.scores for verdict in row.verdicts},
    )


def _taken_in(ledger: Ledger, folder: Path) -> tuple[RunRow, Collection[str]]:
    """The run that a folder of pictures is, with whatever is new in it recorded, and the keys of what is there now."""
    files = _files(folder)
    shas = {key: encode_file(_bytes(file), str(file)).sha256 for key, file in files.items()}
    command = {"folder": str(folder.resolve())}
    known = next((run.id for run in ledger.runs(FOLDER_JOB) if run.command == command), None)
    run = known if known is not None else ledger.start_run(FOLDER_JOB, command, seed=0)
    with ledger.on_record(run):
        newest = {row.brief_key: row for row in ledger.attempts(run)}
        for key, file in files.items():
            before = newest.get(key)
            if before is not None and before.image_sha == shas[key]:
                continue
            brief = ledger.add_brief(run, key, {"title": key.replace("-", " ")})
            number = before.number + 1 if before else 1
            ledger.record_attempt(brief, 0, number, 0, _bytes(file), detail={"path": str(file.resolve())})
    return ledger.run(run), files.keys()


def _files(folder: Path) -> dict[str, Path]:
    """The folder's pictures by the briefs that they answer, without hidden ones, such as macOS puts beside each."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.suffix.lower() not in (*SUFFIXES.values(), ".jpeg") or file.is_dir():
            continue
        key = storable(dashed(file.stem))
        if key in found:
            raise BadInput(f"{found[key]} and {file} both answer the brief {key}. Move or rename one of them.")
        found[key] = file
    if not found:
        raise BadInput(f"{folder} holds no PNG, JPEG or WebP pictures and no {CONFIG} of a run. Name another folder.")
    return found


def dashed(name: str) -> str:
    """A file's name, or a brief's key, in lower case with a dash for all but letters and digits; where nothing else is
    in it, as it is."""
    return re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", name).lower()).strip("-") or name


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}. Check its permissions, or move it away.") from error
