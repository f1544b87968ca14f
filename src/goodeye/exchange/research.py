"""What papers publish: RF1M's labels, HPIR's benchmark, RewardEdit's rewards."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.exchange.intake import Imported, Intake, chosen, listed, moment, number, word
from goodeye.exchange.outlet import Exported, Outlet, Subject, read_json
from goodeye.judging import rf1m
from goodeye.ledger.rows import HIGHEST, SCORED, Choice, ComparisonRow, VerdictRow, VoteRow
from goodeye.ledger.training import last_scores
from goodeye.tables import PICTURES, Skipped

HPIR = "hpir.json"
HPIR_AXES = ("accuracy", "aesthetic")
REWARDS, PEOPLE = "rewards.json", "people.json"
VOTES = "Votes"  # who scored what, beside RewardEdit's own "Score" and "Negative Prompt"
PERSPECTIVES = ("following", "preserving", "quality")


# RF1M (ads paper): label.txt with a digit a picture


def export_rf1m(outlet: Outlet) -> Exported:
    """label.txt, pictures/ and products/: of each picture the label that most people gave it, as one
    vote without a name.

    A picture is named after its product, as the published ones are: products/12.png, pictures/12_345.png.
    """
    lines, products = [], dict[str, int]()
    for one in outlet.subjects():
        name = f"attempt {one.attempt.id}"
        counts = Counter(vote.label for vote in one.last_votes)
        if not counts:
            continue
        (label, most), *others = counts.most_common()
        if others and others[0][1] == most:
            why = f"has as many votes for {label} as for {others[0][0]}."
            outlet.leave_out(name, why, votes=len(one.votes))
        elif label not in rf1m.DIGITS:
            outlet.leave_out(name, f"is labelled {label}, which is no class of RF1M.", votes=len(one.votes))
        elif not one.attempt.image_sha:
            outlet.leave_out(name, "has no picture.", votes=len(one.votes))
        else:
            stem = str(one.attempt.id)
            if (sha := one.brief.product_sha) is not None:
                product = products.setdefault(sha, len(products) + 1)
                outlet.copy(sha, f"products/{product}")
                stem = f"{product}_{stem}"
            place = outlet.copy(one.attempt.image_sha, f"pictures/{stem}")
            lines.append(f"{Path(place).name}\t{rf1m.DIGITS.index(label) + 1}\n")
    write_bytes(outlet.out / rf1m.LABELS, "".join(lines).encode())
    return outlet.done(len(lines), votes=len(lines))


def import_rf1m(intake: Intake, person: str) -> Imported:
    """A folder in the layout of the published data (see `goodeye.judging.rf1m`): a vote a line, by `person`."""
    if not (intake.source / rf1m.LABELS).is_file():
        raise BadInput(f"{intake.source} holds no {rf1m.LABELS}. Name the folder of the labels.")
    with TemporaryDirectory() as scratch:
        for row in rf1m.rows(intake.source, Path(scratch)):
            if isinstance(row, Skipped):
                intake.skipped.append(row)
                continue
            with intake.row(row.name):
                image, product = row.cells["image"], row.cells.get("product")
                key = Path(product.name if product else image.name).stem
                attempt = intake.attempt(key, {}, image, product=product)
                intake.vote(attempt, person or "rf1m", row.words["label"])
    return intake.done()


# HPIR (search paper): two rows of pictures a query, counts of votes


def export_hpir(outlet: Outlet) -> Exported:
    """hpir.json, as `goodeye search hpir` reads it: of every pair of rows how many people chose which, on both axes."""
    entries, taken, held = [], set[str](), 0
    for said in _by_pair(outlet):
        _, left, right = said[0]
        words = [one if one.left_attempt == left.attempt.id else _turned(one) for one, _left, _right in said]
        counts = {axis: _count(words, axis) for axis in HPIR_AXES}
        similar = sum(one.choice == "similar" for one in words)
        if similar:
            why = f"has {similar} votes that found both similar."
            outlet.leave_out(f"{left.brief.key}", why, comparisons=similar)
        if not all(sum(votes) for votes in counts.values()):
            pair = f"the pair of attempts {left.attempt.id} and {right.attempt.id}"
            outlet.leave_out(pair, "lacks votes on one of the axes.", comparisons=len(words) - similar)
            continue
        rows = {
            name: [outlet.copy(sha) for sha in one.attempt.shown or [one.attempt.image_sha]]
            for name, one in (("A", left), ("B", right))
        }
        query = left.prompt or left.title or left.brief.key
        votes = {axis: {"votes": list(found)} for axis, found in counts.items()}
        named = (f"{left.brief.key}, pair {place}" if place > 1 else left.brief.key for place in count(1))
        name = next(one for one in named if one not in taken)  # a query of three systems has three pairs
        taken.add(name)
        entries.append({"id": name, "query": query, **rows, **votes})
        held += sum(map(sum, counts.values()))
    outlet.write_json(HPIR, entries)
    return outlet.done(len(entries), comparisons=held)


def _by_pair(outlet: Outlet) -> list[list[tuple[ComparisonRow, Subject, Subject]]]:
    """Of each pair the last word of each person on each axis, whichever was left; what judges said is not a vote."""
    last = {
        (frozenset((said.left_attempt, said.right_attempt)), said.person, said.axis): (said, left, right)
        for said, left, right in outlet.compared()
        if said.person is not None and said.axis in HPIR_AXES
    }
    found = defaultdict(list)
    for (pair, _person, _axis), row in last.items():
        found[pair].append(row)
    return list(found.values())


def _turned(said: ComparisonRow) -> ComparisonRow:
    """The same word on the pair in the other order."""
    turned: dict[Choice, Choice] = {"left": "right", "right": "left", "similar": "similar"}
    return replace(said, choice=turned[said.choice])


def _count(words: Sequence[ComparisonRow], axis: str) -> tuple[int, int]:
    counts = Counter(one.choice for one in words if one.axis == axis)
    return counts["left"], counts["right"]


def import_hpir(intake: Intake, person: str) -> Imported:
    """A benchmark file, or a folder with hpir.json. Its votes have no names: voter 1, 2, … of each query, A's first."""
    file = intake.source / HPIR if intake.source.is_dir() else intake.source
    for place, entry in enumerate(read_json(file, list, "a list of queries with two groups of pictures"), start=1):
        name = f"{file.name} entry {place}"
        with intake.row(name):
            _import_query(intake, entry, file.parent, str(place), person or "hpir voter")
    return intake.done()


def _import_query(intake: Intake, entry: Any, folder: Path, place: str, person: str) -> None:
    if not isinstance(entry, dict):
        raise BadInput("it is no query with two groups. Write an object.")
    query = word(entry.get("query"), "query")
    votes = {axis: _pair_of_counts(entry.get(axis), axis) for axis in HPIR_AXES}
    groups = {name: entry.get(name) for name in ("A", "B")}
    for name, group in groups.items():
        if not isinstance(group, list) or not group or not all(isinstance(one, str) and one for one in group):
            raise BadInput(f"group {name} is not a list of pictures. Name at least one.")
    key = str(entry.get("id", place))
    sides = []
    for name, group in groups.items():
        cells = [intake.picture(one, folder) for one in group or ()]
        content = {"title": query, "prompt": query}
        sides.append(intake.attempt(key, content, cells[0], shown=cells, run=name, number=1))
    for axis, counts in votes.items():
        choices: list[Choice] = [*["left"] * counts[0], *["right"] * counts[1]]  # type: ignore[list-item]
        for voter, choice in enumerate(choices, start=1):
            intake.comparison(sides, f"{person} {voter}", axis, choice, run="A")


def _pair_of_counts(given: Any, axis: str) -> tuple[int, int]:
    counts = given.get("votes") if isinstance(given, dict) else None
    right = isinstance(counts, list) and len(counts) == 2 and all(type(one) is int and one >= 0 for one in counts)
    if not right or counts is None or not sum(counts):
        raise BadInput(f'{axis} has no votes. Write {{"votes": [for A, for B]}}, counts of people, not both 0.')
    return counts[0], counts[1]


# RewardEdit (edit paper): three scores with failure texts an edited picture


def export_rewardedit(outlet: Outlet) -> Exported:
    """A folder a sample, as InsPix2Pix has them (original, edited picture, instruction), and the scores beside: judges'
    in rewards.json, people's in people.json, in the same form; the two are never mixed in one score.

    What people scored is the mean of each axis over them. Who scored what stands under a key of its own, "Votes", which
    readers of RewardEdit leave alone.
    """
    judged, people, taken, held = dict[str, Any](), dict[str, Any](), set[str](), 0
    for one in outlet.subjects():
        verdicts = [said for said in one.attempt.verdicts if any(axis in said.scores for axis in PERSPECTIVES)]
        wrong = list[Skipped]()
        usable = [vote for vote in one.votes if last_scores([vote], PERSPECTIVES, wrong)]
        votes = last_scores(usable, PERSPECTIVES, []).get(one.attempt.id, {})
        for skipped in wrong:
            outlet.leave_out(skipped.name, skipped.message.removeprefix(f"{skipped.name} "), votes=1)
        if not (verdicts or votes):
            continue
        name = _sample(one, taken)
        taken.add(name)
        if verdicts:
            judged[name] = _judged(outlet, one, verdicts)
        if votes:
            people[name] = _scored(outlet, list(votes.values()))
            if more := len(usable) - len(votes):
                outlet.leave_out(
                    f"attempt {one.attempt.id}", f"has {more} votes that their voters replaced.", votes=more
                )
            held += len(votes)
        if one.brief.product_sha:
            outlet.copy(one.brief.product_sha, f"{name}/{one.attempt.seed}_0")
        if one.attempt.image_sha:
            outlet.copy(one.attempt.image_sha, f"{name}/{one.attempt.seed}_1")
            outlet.write_json(f"{name}/prompt.json", {"edit": one.brief.content.get("instruction") or one.prompt})
    if judged or not people:
        outlet.write_json(REWARDS, judged)
    if people:
        outlet.write_json(PEOPLE, people)
    return outlet.done(len(judged) + len(people), votes=held, verdicts=len(judged))


def _sample(one: Subject, taken: Container[str]) -> str:
    """A folder's name: the brief's key without what leads elsewhere, with the attempt's id where that is taken."""
    name = re.sub(r"[^\w.-]", "_", one.brief.key).lstrip(".") or str(one.attempt.id)
    return f"{name}-{one.attempt.id}" if name in taken else name


def _judged(outlet: Outlet, one: Subject, verdicts: Sequence[VerdictRow]) -> list[dict[str, Any]]:
    if len(verdicts) > 1:
        why = f"has {len(verdicts)} such verdicts; the last is written."
        outlet.leave_out(f"attempt {one.attempt.id}", why, verdicts=len(verdicts) - 1)
    said = verdicts[-1]
    return [{"Score": said.scores.get(axis), "Negative Prompt": _failure(said, axis)} for axis in PERSPECTIVES]


def _failure(said: VerdictRow, axis: str) -> str:
    return next((text.partition(": ")[2] for text in said.failures if text.startswith(f"{axis}: ")), "")


def _scored(outlet: Outlet, votes: Sequence[VoteRow]) -> list[dict[str, Any]]:
    found = []
    for axis in PERSPECTIVES:
        given = [
            {"person": vote.person, "score": vote.axes[axis], "seconds": vote.seconds,
             "created": vote.created.isoformat(), "chosen": outlet.chosen(vote.attempt_id)}
            for vote in votes if axis in vote.axes
        ]  # fmt: skip
        mean = sum(vote["score"] for vote in given) / len(given) if given else None
        found.append({"Score": mean, "Negative Prompt": "", VOTES: given})
    return found


def import_rewardedit(intake: Intake, person: str) -> Imported:
    """The published JSON, or a folder with rewards.json, people.json or both: a verdict of judge `person` (rewardedit)
    for each sample, or, where it says who scored, their votes.

    Pictures are looked for in a folder of the sample's name beside the file: the first pair of SEED_0, the original,
    and SEED_1, the edited one. Where there is none, the attempt is on record without a picture.
    """
    source = intake.source
    there = [file for name in (REWARDS, PEOPLE) if (file := source / name).is_file()]
    for file in (there or [source / REWARDS]) if source.is_dir() else [source]:
        for name, given in read_json(file, dict, "an object of samples with three scores each").items():
            with intake.row(f"{file.name} {name}"):
                _import_sample(intake, name, _three(given), file.parent, person or "rewardedit")
    return intake.done()


def _import_sample(intake: Intake, name: str, rows: Sequence[Mapping[str, Any]], beside: Path, judge: str) -> None:
    votes = _votes(rows)
    verdicts = [] if votes else [_rewards(rows, judge)]
    folder = intake.inside(name, beside)
    before, after, seed = _edit_pair(folder)
    original, edited = (None if file is None else intake.picture(file.name, folder) for file in (before, after))
    words = _instruction(folder / "prompt.json")
    content = {"title": words, "instruction": words} if words else {}
    detail = None if edited else {"why": f"no pair of pictures in {folder.name}"}
    attempt = intake.attempt(
        name, content, edited, product=original, number=1, seed=seed, verdicts=verdicts, detail=detail
    )
    for who, axes, vote in votes:
        seconds, when = number(vote.get("seconds") or 0, "seconds"), moment(vote.get("created"))
        intake.vote(attempt, who, SCORED, axes, seconds, when, chosen=chosen(vote.get("chosen")))


def _three(given: Any) -> list[dict[str, Any]]:
    rows = list(given.values()) if isinstance(given, dict) else given
    if not isinstance(rows, list) or len(rows) != 3 or not all(isinstance(one, dict) for one in rows):
        raise BadInput('it has not three rewards. Give following, preserving, quality: {"Score", "Negative Prompt"}.')
    return rows


def _votes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, float], Mapping[str, Any]]]:
    """Who scored, all their scores of one moment, and the vote as it is written on its first axis."""
    found: dict[tuple[str, str], tuple[str, dict[str, float], Mapping[str, Any]]] = {}
    for axis, row in zip(PERSPECTIVES, rows, strict=True):
        for vote in listed(row.get(VOTES), VOTES):
            if not isinstance(vote, dict):
                raise BadInput(f"a vote on {axis} is no object. Write person and score.")
            who = word(vote.get("person"), "person of a vote")
            one = found.setdefault((who, str(vote.get("created"))), (who, {}, vote))
            one[1][axis] = _score(vote.get("score"), axis)
    return list(found.values())


def _rewards(rows: Sequence[Mapping[str, Any]], judge: str) -> VerdictRow:
    scores, failures = {}, []
    for axis, row in zip(PERSPECTIVES, rows, strict=True):
        if row.get("Score") not in (None, ""):  # missing is left out, and no number
            scores[axis] = _score(row["Score"], axis)
        if text := str(row.get("Negative Prompt") or "").strip():
            failures.append(f"{axis}: {text}")
    return VerdictRow(judge=judge, version="published", label="", scores=scores, failures=failures)


def _score(given: Any, axis: str) -> float:
    score = number(given, f"the score of {axis}")
    if not 0 <= score <= HIGHEST:
        raise BadInput(f"the score of {axis} is {given!r}. Scores go from 0 to {HIGHEST}.")
    return score


def _edit_pair(folder: Path) -> tuple[Path | None, Path | None, int]:
    """The first original with its edited picture, by name, and the seed that both are named by."""
    files: Mapping[str, Path] = {
        file.stem: file for file in sorted(folder.glob("*_[01].*")) if file.suffix.lower() in PICTURES
    }
    for stem in sorted(files):
        pair = stem[:-1]
        if stem.endswith("_0") and f"{pair}1" in files:
            seed = pair.rstrip("_")
            return files[stem], files[f"{pair}1"], int(seed) if seed.isdecimal() and len(seed) < 19 else 0
    return None, next((files[stem] for stem in sorted(files) if stem.endswith("_1")), None), 0


def _instruction(file: Path) -> str:
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(given.get("edit") or "") if isinstance(given, dict) else ""
