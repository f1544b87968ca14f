"""Votes and comparisons as CSV, and preference pairs as Parquet."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from goodeye.atomic import whole_file, write_bytes
from goodeye.errors import BadInput
from goodeye.exchange.intake import Imported, Intake, chosen, moment, number, word
from goodeye.exchange.outlet import Exported, Outlet, Subject
from goodeye.ledger.rows import Choice, ComparisonRow
from goodeye.tables import TABLES, Cell, Row, read_table

VOTES, COMPARISONS = "votes.csv", "comparisons.csv"
_ATTEMPT = ("run", "brief", "title", "prompt", "slot", "number", "seed")
_VOTE = ("image", "product", *_ATTEMPT, "person", "label", "axes", "seconds", "created", "chosen")
_SAID = ("person", "judge", "version", "axis", "choice", "swapped", "created")
_COMPARISON = (
    *("left_image", "right_image", "left_run", "right_run", "brief", "title", "prompt", "product"),
    *("left_slot", "right_slot", "left_number", "right_number", *_SAID),
)
PAIRS = "preferences.parquet"


# CSV: everything there is, in tables that `ads train-judge` and `ads calibrate` read, too


def export_csv(outlet: Outlet) -> Exported:
    """votes.csv, comparisons.csv and images/: a row a vote, a row a comparison."""
    votes = [
        {**_attempt(outlet, one), "person": vote.person, "label": vote.label, "axes": json.dumps(vote.axes),
         "seconds": repr(vote.seconds), "created": vote.created.isoformat(), "chosen": outlet.chosen(vote.attempt_id)}
        for one in outlet.pictured() for vote in one.votes
    ]  # fmt: skip
    compared = [
        {**_side(outlet, "left", left), **_side(outlet, "right", right), "brief": left.brief.key, "title": left.title,
         "prompt": left.prompt, "product": _product(outlet, left), **_words(said)}
        for said, left, right in outlet.compared() if _can_stand(outlet, left, right)
    ]  # fmt: skip
    for name, columns, rows in ((VOTES, _VOTE, votes), (COMPARISONS, _COMPARISON, compared)):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(outlet.out / name, text.getvalue().encode(errors="backslashreplace"))
    return outlet.done(len(votes) + len(compared), votes=len(votes), comparisons=len(compared))


def import_csv(intake: Intake, person: str) -> Imported:
    """A folder with votes.csv, comparisons.csv or both, or one table with image and label. person: of rows without."""
    source = intake.source
    tables = [source] if source.suffix.lower() in TABLES else [source / name for name in (VOTES, COMPARISONS)]
    there = [table for table in tables if table.is_file()]
    if not there:
        raise BadInput(f"{source} is no table and holds no {VOTES} or {COMPARISONS}. Name a table or such a folder.")
    for table in there:
        if table.name == COMPARISONS:
            _import_comparisons(intake, table)
            continue
        for row in read_table(table):
            with intake.row(row.name):
                _import_vote(intake, row, person, table.parent)
    return intake.done()


def _import_vote(intake: Intake, row: Row, person: str, folder: Path) -> None:
    words = row.words
    label, who = word(words.get("label", ""), "label"), word(words.get("person") or person, "person")
    axes = _axes(words.get("axes", ""))
    seconds, when = number(words.get("seconds") or 0, "seconds"), moment(words.get("created"))
    if "image" not in row.cells:
        raise BadInput("it names no image. Name the picture that was voted on.")
    cells = {name: cell if cell.path is None else intake.picture(cell.name, folder) for name, cell in row.cells.items()}
    image, run = cells["image"], words.get("run", "")
    key = words.get("brief") or (image.path.stem if image.path else row.name)
    attempt = intake.attempt(
        key,
        _content(words),
        image,
        product=cells.get("product"),
        run=run,
        slot=_whole(words.get("slot") or 0, "slot"),
        number=_whole(words["number"], "number") if words.get("number") else None,
        seed=_whole(words.get("seed") or 0, "seed"),
    )
    intake.vote(attempt, who, label, axes, seconds, when, run=run, chosen=chosen(words.get("chosen")))


def _import_comparisons(intake: Intake, table: Path) -> None:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{table} cannot be read as UTF-8 text. Save it again.") from error
    for count, words in enumerate(csv.DictReader(io.StringIO(text, newline="")), start=1):
        with intake.row(f"{table.name} row {count}"):
            _import_comparison(intake, {str(name): value or "" for name, value in words.items()}, table.parent)


def _import_comparison(intake: Intake, words: Mapping[str, str], folder: Path) -> None:
    by = words.get("person") or words.get("judge", "")
    version = None if words.get("person") else words.get("version", "")
    who, axis, choice = word(by, "person or judge"), word(words.get("axis", ""), "axis"), words.get("choice", "")
    if choice not in get_args(Choice):
        raise BadInput(f"the choice is {choice!r}. Use left, right or similar.")
    if words.get("swapped", "") not in ("True", "False", ""):
        raise BadInput(f"swapped is {words['swapped']!r}. Use True or False.")
    when, key = moment(words.get("created")), word(words.get("brief", ""), "brief")
    product = intake.picture(words["product"], folder) if words.get("product") else None
    sides = [
        intake.attempt(
            key,
            _content(words),
            intake.picture(word(words.get(f"{side}_image", ""), f"{side}_image"), folder),
            product=product,
            run=words.get(f"{side}_run", ""),
            slot=_whole(words.get(f"{side}_slot") or 0, f"{side}_slot"),
            number=_whole(words[f"{side}_number"], "number") if words.get(f"{side}_number") else None,
        )
        for side in ("left", "right")
    ]
    swapped = words.get("swapped") == "True"
    run = words.get("left_run", "")
    intake.comparison(sides, who, axis, cast(Choice, choice), swapped, version=version, created=when, run=run)


def _can_stand(outlet: Outlet, left: Subject, right: Subject) -> bool:
    """Pairs of two briefs, and rows of several pictures, are nothing that a table of two pictures can hold."""
    name = f"the comparison of attempts {left.attempt.id} and {right.attempt.id}"
    if left.brief.key != right.brief.key:
        outlet.leave_out(name, "is of two briefs.", comparisons=1)
    elif left.attempt.shown or right.attempt.shown:
        outlet.leave_out(name, "is of rows of several pictures. Use the format hpir.", comparisons=1)
    elif not (left.attempt.image_sha and right.attempt.image_sha):
        outlet.leave_out(name, "is of an attempt without a picture.", comparisons=1)
    else:
        return True
    return False


def _attempt(outlet: Outlet, one: Subject) -> dict[str, Any]:
    row = one.attempt
    return {
        "image": outlet.copy(row.image_sha),
        "product": _product(outlet, one),
        "run": one.run.id,
        "brief": row.brief_key,
        "title": one.title,
        "prompt": one.prompt,
        "slot": row.slot,
        "number": row.number,
        "seed": row.seed,
    }


def _side(outlet: Outlet, side: str, one: Subject) -> dict[str, Any]:
    row = one.attempt
    values = {"image": outlet.copy(row.image_sha), "run": one.run.id, "slot": row.slot, "number": row.number}
    return {f"{side}_{name}": value for name, value in values.items()}


def _product(outlet: Outlet, one: Subject) -> str:
    return outlet.copy(one.brief.product_sha) if one.brief.product_sha else ""


def _words(said: ComparisonRow) -> dict[str, Any]:
    values = {name: getattr(said, name) for name in _SAID} | {"created": said.created.isoformat()}
    return {name: "" if value is None else value for name, value in values.items()}


def _content(words: Mapping[str, str]) -> dict[str, str]:
    return {name: words[name] for name in ("title", "prompt") if words.get(name)}


def _axes(words: str) -> dict[str, float]:
    if not words:
        return {}
    try:
        given = json.loads(words)
    except ValueError as error:
        raise BadInput(f'axes is {words[:60]!r}. Write it as {{"beauty": 0.5}}, or leave it empty.') from error
    if not isinstance(given, dict):
        raise BadInput(f'axes is {words[:60]!r}. Write it as {{"beauty": 0.5}}, or leave it empty.')
    return {str(axis): number(score, f"the axis {axis}") for axis, score in given.items()}


def _whole(words: Any, what: str) -> int:
    try:
        return int(words)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} is {words!r}, not a whole number. Correct it.") from error


# Preference pairs: prompt, chosen, rejected


def export_preferences(outlet: Outlet) -> Exported:
    """preferences.parquet: a row a decided comparison, pictures inside, as datasets reads and trl trains on."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(_pairs(outlet))
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    text = ("prompt", "title", "brief", "person", "judge", "version", "axis", "chosen_run", "rejected_run", "created")
    fields = [("chosen", picture), ("rejected", picture), *((name, pa.string()) for name in text)]
    fields += [("chosen_is_left", pa.bool_()), ("swapped", pa.bool_())]
    features = {"chosen": {"_type": "Image"}, "rejected": {"_type": "Image"}}
    features |= {name: {"dtype": "string", "_type": "Value"} for name in text}
    features |= {name: {"dtype": "bool", "_type": "Value"} for name in ("chosen_is_left", "swapped")}
    schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    with whole_file(outlet.out / PAIRS) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
    return outlet.done(len(rows), comparisons=len(rows))


def _pairs(outlet: Outlet) -> Iterator[dict[str, Any]]:
    for said, left, right in outlet.compared():
        if said.choice == "similar":
            outlet.leave_out(f"comparison {said.id}", "found both similar, so none was chosen.", comparisons=1)
        elif _can_stand(outlet, left, right):
            chosen, rejected = (left, right) if said.choice == "left" else (right, left)
            yield {
                "chosen": _struct(outlet, chosen),
                "rejected": _struct(outlet, rejected),
                "prompt": left.prompt or left.title or left.brief.key,
                "title": left.title,
                "brief": left.brief.key,
                "chosen_run": str(chosen.run.id),
                "rejected_run": str(rejected.run.id),
                "chosen_is_left": said.choice == "left",
                **_words(said),
            }


def _struct(outlet: Outlet, one: Subject) -> dict[str, Any]:
    file = outlet.ledger.image_path(one.attempt.image_sha)
    return {"bytes": file.read_bytes(), "path": file.name}


def import_preferences(intake: Intake, person: str) -> Imported:
    """A Parquet file of prompt, chosen and rejected (pictures), or a folder that holds one under our name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = intake.source / PAIRS if intake.source.is_dir() else intake.source
    try:
        with pq.ParquetFile(file) as table:
            count = 0
            if missing := [name for name in ("prompt", "chosen", "rejected") if name not in table.schema_arrow.names]:
                raise BadInput(f"{file} has no column {', '.join(missing)}. Preference pairs need all three.")
            for batch in table.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    count += 1
                    with intake.row(f"{file.name} row {count}"):
                        _import_pair(intake, row, person, f"{file.name} row {count}", file.parent)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file} is not a readable Parquet file. Write it again.") from error
    return intake.done()


def _import_pair(intake: Intake, row: Mapping[str, Any], person: str, name: str, folder: Path) -> None:
    prompt = word(row["prompt"], "prompt")
    who = row.get("person") or row.get("judge") or person
    version = str(row.get("version") or "") if row.get("judge") else None
    content = {"prompt": prompt} | ({"title": row["title"]} if row.get("title") else {})
    axis, when = row.get("axis") or "overall", moment(row.get("created"))
    runs = [str(row.get(f"{side}_run") or "") for side in ("chosen", "rejected")]
    cells = [_cell(intake, row[side], folder, f"{name} {side}") for side in ("chosen", "rejected")]
    key = row.get("brief") or prompt
    sides = [intake.attempt(key, content, cell, run=run) for cell, run in zip(cells, runs, strict=True)]
    left = row.get("chosen_is_left") in (True, None)
    both, swapped = sides if left else sides[::-1], bool(row.get("swapped"))
    choice: Choice = "left" if left else "right"
    intake.comparison(both, word(who, "person"), axis, choice, swapped, version=version, created=when, run=runs[0])


def _cell(intake: Intake, value: Any, folder: Path, name: str) -> Cell:
    """A picture as datasets writes it: a struct of bytes and path, bytes, or a path."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return Cell(name, data=value)
    if isinstance(value, str) and value:
        return intake.picture(value, folder)
    raise BadInput("there is no picture. Give bytes or a path.")
