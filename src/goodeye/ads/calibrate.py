"""From people's votes to the threshold that keeps a promise (`goodeye ads calibrate`, `goodeye ads make --promise`).

A vote says of one picture that it is available, or what is bad about it. The votes' pictures get their p(available)
from the model set's RFNet, and `goodeye.judging.promise` finds the loosest threshold that the votes hold. What is kept
is a small file that says what was promised, by which judge, for which generator, and from which votes.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import goodeye
from goodeye.ads.canvas import place
from goodeye.ads.maker import OF_JUDGE, Maker, difference, maker_of, retrying, strided
from goodeye.ads.results import AVAILABLE, STOPPED
from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.judging.files import judge_files
from goodeye.judging.promise import Counts, Promise, check_promise, counts_of, promise, refusal
from goodeye.judging.protocol import Context
from goodeye.judging.rfnet import class_number
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import AttemptRow, BriefRow, RunRow
from goodeye.ledger.sample import UNSURE, chosen_in_doubt
from goodeye.ledger.training import is_ledger, runs_of
from goodeye.modelset import Models, opened, resolve
from goodeye.tables import TABLES, Row, Skipped, read_table

if TYPE_CHECKING:
    from goodeye.judging.rfnet import RFNetJudge

PROMISE = "goodeye-promise.json"
LABELS = "available, bad, one of the judge's classes, or 1 (available) to 6"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A promise with all that it rests on. The fields are those of its file, which has the counts by threshold, too.

    passed, bad, bound: at the threshold, as in `Promise`. votes: pictures voted on; products: of how many products (0
    where the votes do not say). date: of the newest vote. sha256: of the pictures' names, scores and votes.
    """

    goodeye: str
    max_bad: float
    confidence: float
    threshold: float
    passed: int
    bad: int
    bound: float
    votes: int
    products: int
    date: str
    source: str
    sha256: str
    maker: Maker

    @property
    def words(self) -> str:
        """The promise as a person says it."""
        return (
            f"At most {_percent(self.max_bad)} of passed pictures are bad, at {_percent(self.confidence)} confidence, "
            f"from {self.votes:,} votes of {self.date}."
        )

    def require(self, maker: Maker, max_bad: float) -> None:
        """Raises BadInput where a run is not what was promised for."""
        if self.max_bad != max_bad:
            raise BadInput(
                f"The promise on file is of at most {_percent(self.max_bad)} bad, not {_percent(max_bad)}. "
                f"Ask for {self.max_bad:g}, or make another by `goodeye ads calibrate VOTES --max-bad {max_bad:g}`."
            )
        if other := difference(self.maker, maker):
            what, promised, given = other
            raise BadInput(
                f"The promise was made for {what} {promised}, and this run has {given}. "
                "Make one for this run by `goodeye ads calibrate VOTES`."
            )

    def as_json(self) -> dict[str, Any]:
        """Plain data, with the promise in words."""
        return {**asdict(self), "words": self.words}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Calibration":
        """What `as_json` gave; more keys do no harm. Raises KeyError, TypeError or ValueError for anything else."""
        found = {field.name: data[field.name] for field in fields(cls)}
        made = cls(**{**found, "maker": Maker(**data["maker"])})
        for share in (made.max_bad, made.confidence, made.threshold):
            if not 0 <= share <= 1:
                raise ValueError(f"{share} is not a share")
        return made

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Reads the file of `calibrate`. Raises BadInput if there is none."""
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise BadInput(
                f"{path} does not exist, so nothing is promised. Make it by `goodeye ads calibrate VOTES`."
            ) from error
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path} is not a promise. Make one by `goodeye ads calibrate VOTES`.") from error


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What `calibrate` found: the promise and its file, or why there is none; the counts; and votes left out."""

    file: Path
    calibration: Calibration | None
    refusal: str
    counts: Counts
    skipped: Sequence[Skipped]
    in_doubt: int = 0  # pictures left out, since they were put before people for a judge's doubt of them

    def summary(self) -> str:
        """What was found, for a terminal."""
        made = self.calibration
        if made is None:
            return f"{self.refusal}{self._left_out()}"
        of = f" on {made.products:,} products" if made.products else ""
        return "\n".join(
            [
                f"{made.votes:,} votes{of}, {self.counts.bad[0]:,} of them bad.{self._left_out()}",
                f"{made.passed:,} pass at p(available) >= {made.threshold:g}, {made.bad} of those are bad: "
                f"by themselves at most {_percent(made.bound)}.",
                f"Promise: {made.words}",
                f"File: {self.file}. Use it with: goodeye ads make --promise {made.max_bad:g}",
            ]
        )

    def _left_out(self) -> str:
        if not self.in_doubt:
            return ""
        return (
            f" {self.in_doubt:,} more pictures with votes are left out: they were chosen because a judge was in doubt "
            "of them. Ask with `goodeye review --random-share 1`, and every vote counts."
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "promise": self.calibration.as_json() if self.calibration else None,
            "refusal": self.refusal,
            "in_doubt": self.in_doubt,
            "counts": asdict(self.counts),
            "skipped": [asdict(one) for one in self.skipped],
        }


def calibrate(
    votes: str | Path,
    *,
    max_bad: float = 0.05,
    confidence: float = 0.95,
    models: str | Path | Models = "showroom",
    out: str | Path = PROMISE,
    images: str | Path | None = None,
    runs: Collection[int] = (),
    stride: int | None = None,
    retry_models: str | Path | Models | None = None,
    batch: int = 16,
    device: str = "cpu",
) -> Calibrated:
    """Finds the loosest threshold at which at most `max_bad` of passed pictures are bad, with the confidence.

    votes: a table (CSV, Parquet) with the columns image and label and, where there are any, product (the cut-out as it
    stands in the picture), title, available (a score; it spares scoring), version (of the judge that gave it) and
    chosen, as `goodeye ledger export --format csv` writes it; or a
    ledger, by folder or URL, of which the votes on pictures by this generator are taken (its weights, and how it
    samples), but for pictures that were put before people because a judge was in doubt of them
    (`goodeye.ledger.sample`). A label is available, bad, a class or 1 to 6; what most say of a picture counts, a tie as
    bad. images: the folder of the ledger's pictures. runs: only of these runs of the ledger. stride: of the sampler
    that made the pictures, if not the model set's own. retry_models: what made all but their first attempts, if that
    was another generator.

    The promise is written to `out`; where the votes hold none, nothing is written and `refusal` says why. Raises
    BadInput where there are no votes, or nothing can be scored.
    """
    check_promise(max_bad, confidence)
    if batch < 1:
        raise BadInput(f"batch is {batch}. Give 1 or more.")
    if runs and not is_ledger(votes):
        raise BadInput(f"--run is of a ledger's runs, and {votes} is none. Leave it away.")
    loaded = opened(models, device)
    retry = retrying(loaded, retry_models, device)
    maker = maker_of(loaded, strided(loaded.model_set.settings, stride), loaded.rfnet, retry)
    if Path(votes).suffix.lower() in TABLES:
        found = _of_table(Path(votes), loaded, batch)
    else:
        with Ledger.open(votes, images, create=False) as ledger:
            found = _of_ledger(ledger, loaded, maker, batch, runs)
    if not found.voted:
        why = f" First: {found.skipped[0].message}" if found.skipped else ""
        if found.in_doubt:
            why = (
                f" {found.in_doubt:,} were chosen for a judge's doubt: ask with `goodeye review --random-share 1`.{why}"
            )
        raise BadInput(f"{votes} holds no vote that can be used. Give pictures with labels: {LABELS}.{why}")
    counts = counts_of(np.array([one.available for one in found.voted]), np.array([one.bad for one in found.voted]))
    made = promise(counts, max_bad, confidence)
    file = Path(out)
    if made is None:
        refused = refusal(counts, max_bad, confidence)
        return Calibrated(
            file=file, calibration=None, refusal=refused, counts=counts, skipped=found.skipped, in_doubt=found.in_doubt
        )
    calibration = _calibration(made, found, maker, str(votes))
    content = {**calibration.as_json(), "counts": asdict(counts)}
    write_bytes(file, (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return Calibrated(
        file=file, calibration=calibration, refusal="", counts=counts, skipped=found.skipped, in_doubt=found.in_doubt
    )


def is_bad(label: str, name: str) -> bool:
    """Whether a vote says bad. name: of the vote, for the error: BadInput for what is no label."""
    word = label.strip().lower()
    if word == "bad":
        return True
    if digit := re.fullmatch(r"([1-6])(\.0)?", word):
        return digit[1] != "1"
    try:
        return class_number(label) != 0
    except BadInput as error:
        raise BadInput(f"{name} has the label {label!r}. Use {LABELS}.") from error


@dataclass(frozen=True, kw_only=True)
class _Voted:
    """One picture with all its votes as one word."""

    name: str
    product: str
    available: float
    bad: bool


@dataclass(frozen=True, kw_only=True)
class _Found:
    voted: Sequence[_Voted]
    skipped: Sequence[Skipped]
    date: datetime
    in_doubt: int = 0


def _calibration(made: Promise, found: _Found, maker: Maker, source: str) -> Calibration:
    lines = sorted(f"{one.name}\t{one.available!r}\t{one.bad}\n" for one in found.voted)
    return Calibration(
        goodeye=goodeye.__version__,
        **asdict(made),
        votes=len(found.voted),
        products=len({one.product for one in found.voted if one.product}),
        date=found.date.date().isoformat(),
        source=source.rpartition("@")[2] if "://" in source else source,  # without a database's password
        sha256=hashlib.sha256("".join(lines).encode(errors="backslashreplace")).hexdigest(),
        maker=maker,
    )


def _most(votes: Sequence[bool]) -> bool:
    return 2 * sum(votes) >= len(votes)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


# Tables


def _of_table(path: Path, models: Models, batch: int) -> _Found:
    """The table's pictures, each with its rows' votes; those without a score are scored."""
    rows, said, given, skipped, doubtful = _read(path, models.rfnet.version)
    wanting = {name for name in rows if name not in given}
    if wanting:
        judged = judge_files([path], ["rfnet"], models, batch_size=batch)
        scores = {str(row["image"]): row[f"rfnet.{AVAILABLE}"] for row in judged.rows}
        given |= {name: float(p) for name, p in scores.items() if name in wanting and p is not None}
        skipped += [one for one in judged.skipped if one.name in wanting]
    voted = [
        _Voted(name=name, product=_product_of(row), available=given[name], bad=_most(said[name]))
        for name, row in rows.items()
        if name in given
    ]
    date = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return _Found(voted=voted, skipped=skipped, date=date, in_doubt=doubtful)


def _read(
    path: Path, version: str
) -> tuple[dict[str, Row], dict[str, list[bool]], dict[str, float], list[Skipped], int]:
    """By picture: its first row, its votes, and its score where one is given; what cannot be used; and how many
    pictures were put before people for a judge's doubt of them, which are left out."""
    rows: dict[str, Row] = {}
    said: dict[str, list[bool]] = defaultdict(list)
    given: dict[str, float] = {}
    skipped: list[Skipped] = []
    doubtful = set[str]()
    labelled = False
    for row in read_table(path):
        labelled |= "label" in row.words
        try:
            name, bad, score = _vote_of(row, version)
        except BadInput as error:
            skipped.append(Skipped(row.name, str(error)))
            continue
        if row.words.get("chosen") == UNSURE:
            doubtful.add(name)
            continue
        rows.setdefault(name, row)
        said[name].append(bad)
        if score is not None:
            given[name] = score
    if skipped and not labelled:
        raise BadInput(f"{path} has no column label. Add one with {LABELS}.")
    return rows, said, given, skipped, len(doubtful - set(rows))


def _vote_of(row: Row, version: str) -> tuple[str, bool, float | None]:
    """The picture's name as `judge_files` gives it, the vote, and the score if the row has one."""
    if "image" not in row.cells:
        raise BadInput(f"{row.name} names no image. Name the picture that was voted on.")
    image = row.cells["image"]
    bad = is_bad(row.words.get("label", ""), row.name)
    return str(image.path) if image.path else row.name, bad, _score(row, version)


def _score(row: Row, version: str) -> float | None:
    text = row.words.get(AVAILABLE, "")
    if not text:
        return None
    if (theirs := row.words.get("version", version)) not in ("", version):
        raise BadInput(
            f"{row.name} was scored by version {theirs} of the judge, and this one is {version}. "
            "Take its score away, and it is scored anew."
        )
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise BadInput(f"{row.name} has the score {text!r} for available. Use a probability between 0 and 1.")
    return score


def _product_of(row: Row) -> str:
    return row.cells["product"].name if "product" in row.cells else row.words.get("title", "")


# The ledger


def _of_ledger(ledger: Ledger, models: Models, maker: Maker, batch: int, runs: Collection[int]) -> _Found:
    """The attempts by this generator that people voted on, less those that were chosen for a judge's doubt; the last
    vote of each person counts."""
    judge, skipped, date = models.rfnet, list[Skipped](), datetime.fromtimestamp(0, UTC)
    known: list[tuple[AttemptRow, BriefRow, bool]] = []
    with ledger.reading() as connection:
        doubtful = chosen_in_doubt(connection, runs)
    left_out = set[int]()
    for run in runs_of(ledger, "ads", runs):
        votes = {(vote.attempt_id, vote.person): vote for vote in ledger.votes(run.id)}
        said: dict[int, list[bool]] = defaultdict(list)
        for vote in votes.values():
            if vote.attempt_id in doubtful:
                left_out.add(vote.attempt_id)
                continue
            name = f"vote {vote.id} on attempt {vote.attempt_id}"
            try:
                _require_ours(run, maker, name)
                said[vote.attempt_id].append(is_bad(vote.label, name))
                date = max(date, vote.created)
            except BadInput as error:
                skipped.append(Skipped(name, str(error)))
        briefs = {brief.id: brief for brief in ledger.briefs(run.id)} if said else {}
        for row in ledger.attempts(run.id) if said else ():
            if row.id in said and any(verdict.label == STOPPED for verdict in row.verdicts):
                words = "was stopped early, so its picture is unfinished and never passes. Vote on finished ones."
                skipped.append(Skipped(f"attempt {row.id}", f"attempt {row.id} {words}"))
            elif row.id in said:
                known.append((row, briefs[row.brief_id], _most(said[row.id])))
    scores = {
        row.id: verdict.scores[AVAILABLE] for row, _, _ in known for verdict in row.verdicts if _by(verdict, judge)
    }
    wanting = [(row, brief) for row, brief, _ in known if row.id not in scores]
    scores |= dict(_rescored(ledger, wanting, models, batch, skipped))
    voted = [
        _Voted(name=row.image_sha, product=brief.product_sha or brief.key, available=scores[row.id], bad=bad)
        for row, brief, bad in known
        if row.id in scores
    ]
    return _Found(voted=voted, skipped=skipped, date=date, in_doubt=len(left_out))


def _by(verdict: Any, judge: "RFNetJudge") -> bool:
    return (verdict.judge, verdict.version) == (judge.name, judge.version)


def _require_ours(run: RunRow, maker: Maker, name: str) -> None:
    """Raises BadInput where the run's pictures were made by another generator, or sampled otherwise. A run that does
    not say by which weights (one that was imported) is known by its model set's name."""
    ours = {key: value for key, value in asdict(maker).items() if key not in OF_JUDGE}
    said = run.command.get("maker") or {"generator": _set_name(str(run.command.get("models", "")))}
    theirs = {"retried": "", **said}  # older runs knew of no retries by another
    if other := difference(theirs, ours):
        what, made_by, wanted = other
        raise BadInput(
            f"{name} is on a picture by {what} {made_by}, not {wanted}. Name the models, those of "
            "its retries and the stride that made it."
        )


def _set_name(reference: str) -> str:
    try:
        return resolve(reference).name
    except BadInput:  # a file that is gone
        return reference


def _rescored(
    ledger: Ledger, rows: Sequence[tuple[AttemptRow, BriefRow]], models: Models, batch: int, skipped: list[Skipped]
) -> Iterator[tuple[int, float]]:
    """p(available) by the present judge of attempts that it has not judged, by their ids."""
    ready: dict[torch.Size, list[tuple[int, torch.Tensor, Context]]] = defaultdict(list)
    for row, brief in rows:
        try:
            image, context = _picture(ledger, row, brief, models.model_set.settings.product_scale)
        except BadInput as error:
            skipped.append(Skipped(f"attempt {row.id}", f"attempt {row.id}: {error}"))
            continue
        group = ready[image.shape]
        group.append((row.id, image, context))
        if len(group) == batch:
            yield from _scored(ready.pop(image.shape), models.rfnet)
    for group in ready.values():
        yield from _scored(group, models.rfnet)


def _scored(group: Sequence[tuple[int, torch.Tensor, Context]], judge: "RFNetJudge") -> Iterator[tuple[int, float]]:
    verdicts = judge.inspect(torch.stack([image for _, image, _ in group]), [context for _, _, context in group])
    return ((number, verdict.scores[AVAILABLE]) for (number, _, _), verdict in zip(group, verdicts, strict=True))


def _picture(ledger: Ledger, row: AttemptRow, brief: BriefRow, scale: float) -> tuple[torch.Tensor, Context]:
    """An attempt's picture and what belongs to it, with the cut-out placed as it was when the picture was made."""
    if brief.product_sha is None:
        raise BadInput("its cut-out is not on record, so it cannot be scored again.")
    image = to_tensor(open_image(ledger.image_path(row.image_sha)))[:3]
    name = str(ledger.image_path(brief.product_sha))
    canvas = place(open_image(name).convert("RGBA"), image.shape[-1], scale, name=name)
    return image, Context(product=canvas.product, title=str(brief.content.get("title", "")))
