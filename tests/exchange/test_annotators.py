"""Label Studio and Argilla: out and in again is the same, and what they really write is read."""

import base64
import json
import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from sqlalchemy import update

from exchange.world import attempts_of, fill, jpeg, votes_of
from goodeye.exchange.formats import export, import_into
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Brief


def verdicts_of(ledger: Ledger) -> set[tuple[object, ...]]:
    return {
        (row.image_sha, said.judge, said.version, said.label, said.scores["available"])
        for row in attempts_of(ledger).values()
        for said in row.verdicts
    }


def test_label_studio_out_and_in_again(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    done = export(ledger, "label-studio", tmp_path / "out")
    assert done.written == 13
    found = import_into(other, "label-studio", tmp_path / "out")
    assert found.votes == 13 and found.skipped == []
    columns = ("person", "label", "axes", "seconds", "created", "chosen")
    assert votes_of(other, *columns) == votes_of(ledger, *columns) and verdicts_of(other) == verdicts_of(ledger)
    assert import_into(other, "label-studio", tmp_path / "out").known == 13
    config = ElementTree.parse(tmp_path / "out" / "label_config.xml")
    assert {one.get("value") for one in config.iter("Choice")} == {"available", "size_mismatch", "shape_hallucination"}
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    controls = {one.get("name") for tag in ("Choices", "Number") for one in config.iter(tag)}
    said = [one for task in tasks for given in task["annotations"] + task["predictions"] for one in given["result"]]
    assert {one["from_name"] for one in said} == controls == {"label", "beauty"}
    shown = {one.get("name"): one.get("value", "")[1:] for tag in ("Image", "Text") for one in config.iter(tag)}
    assert {one["to_name"] for one in said} <= set(shown) and all(
        set(shown.values()) <= set(task["data"]) for task in tasks
    )
    voters = [one["completed_by"] for task in tasks for one in task["annotations"]]
    assert all(set(one) == {"email"} for one in voters), "it looks for nothing else in an object"


def exported_task(**changes: object) -> dict[str, Any]:
    """As its documentation shows an exported task."""
    result = {"from_name": "tag", "id": "Dx_aB91ISN", "source": "$image", "to_name": "img"}
    annotation = {
        "id": "1001", "was_cancelled": False, "ground_truth": False, "created_at": "2021-03-09T22:16:08.728353Z",
        "updated_at": "2021-03-09T22:16:08.728378Z", "lead_time": 4.288, "result_count": 0, "task": 1,
        "completed_by": 10, "result": [{**result, "type": "choices", "value": {"choices": ["size"]}},
                                       {**result, "from_name": "stars", "type": "rating", "value": {"rating": 3}}],
    }  # fmt: skip
    return {"id": 1, "project": 83, "data": {"image": "/data/local-files/?d=pictures/1.jpg"},
            "annotations": [annotation | changes], "predictions": []}  # fmt: skip


def test_label_studios_own_export_is_read_and_its_oddities_named(other: Ledger, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.jpg").write_bytes(jpeg(1))
    box = [{"type": "rectanglelabels", "value": {"rectanglelabels": ["x"]}}]
    two = [{"type": "choices", "value": {"choices": ["a", "b"]}}]
    tasks = [exported_task(), exported_task(was_cancelled=True), exported_task(result=box), exported_task(result=two),
             exported_task(completed_by=None), exported_task(lead_time="long"), {"id": 9}]  # fmt: skip
    tasks += [
        {**exported_task(), "data": {"image": place}} for place in ("https://example.com/1.jpg", "../x.jpg", "/etc/x")
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = import_into(other, "label-studio", tmp_path / "export.json")
    (vote,) = other.votes()
    assert (vote.person, vote.label, vote.axes, vote.seconds) == ("10", "size", {"stars": 3.0}, 4.288)
    assert vote.created.isoformat() == "2021-03-09T22:16:08.728353+00:00"
    words = ("skipped by who", "rectanglelabels", "2 choices", "no name in completed_by", "not a number", "no data",
             "nothing is fetched", "is not below", "is not below")  # fmt: skip
    assert len(found.skipped) == len(words)
    assert all(word in one.message for word, one in zip(words, found.skipped, strict=True))


@pytest.mark.parametrize(
    ("format", "name", "odd", "words"),
    [
        ("label-studio", "tasks.json", {"annotations": [{"result": ["x"]}]}, "not an object"),
        ("label-studio", "tasks.json", {"annotations": {"a": 1}}, "not a list"),
        ("label-studio", "tasks.json", {"annotations": [{"result": [{"type": "choices", "value": [1]}]}]}, "an object"),
        ("label-studio", "tasks.json", {"predictions": [{"result": [{"value": {"choices": 3}}]}]}, "not a list"),
        ("argilla", "records.json", {"responses": []}, "not an object"),
        ("argilla", "records.json", {"responses": {"label": [1]}}, "not an object"),
        ("argilla", "records.json", {"responses": {"beauty": 3}}, "not a list"),
        ("argilla", "records.json", {"metadata": ["a"]}, "not an object"),
        ("argilla", "records.json", {"suggestions": [1]}, "not an object"),
    ],
)
def test_one_odd_row_does_not_end_the_import(
    other: Ledger, tmp_path: Path, format: Any, name: str, odd: dict[str, Any], words: str
) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(1))
    said = {
        "label-studio": {"annotations": [{"result": [{"type": "choices", "value": {"choices": ["available"]}}]}]},
        "argilla": {"responses": {"label": [{"user_id": "ann", "value": "available"}]}},
    }[format]
    both = {"data": {"image": "x.jpg"}, "fields": {"image": "x.jpg"}}
    (tmp_path / name).write_text(json.dumps([{**both, **odd, "id": 1}, {**both, **said, "id": 2}]))
    found = import_into(other, format, tmp_path, person="ann")
    assert found.votes == 1 and [one.name.split()[2] for one in found.skipped] == ["1"]
    assert words in found.skipped[0].message, found.skipped


@pytest.mark.parametrize("format", ["coco", "label-studio", "argilla", "csv"])
def test_half_a_character_in_a_title_stops_neither_pages_nor_exports(
    other: Ledger, ledger: Ledger, tmp_path: Path, format: Any
) -> None:
    """As JSON may write it, and as an older ledger may hold it. A whole character in two halves stays what it is."""
    (tmp_path / "x.jpg").write_bytes(jpeg(1))
    said = [{"result": [{"type": "choices", "value": {"choices": ["available"]}}]}]
    task = {"data": {"image": "x.jpg", "title": "a\ud800 \ud83d\ude00", "run": "\udc00"}, "annotations": said}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    for _twice in range(2):
        found = import_into(other, "label-studio", tmp_path, person="ann\ud800")
    assert (found.attempts, found.known) == (0, 1)
    (brief,) = other.briefs(1)
    assert brief.content["title"] == "a\\ud800 😀"
    with other.transaction() as connection:
        connection.execute(update(Brief).values(content={"title": "a\udcff"}))
    assert export(other, format, tmp_path / "out").written == 1
    assert import_into(ledger, format, tmp_path / "out").votes == 1


def test_argilla_out_and_in_again(ledger: Ledger, other: Ledger, tmp_path: Path) -> None:
    """Each one's last vote, without its time, which Argilla does not keep."""
    fill(ledger)
    done = export(ledger, "argilla", tmp_path / "out")
    assert done.written == 12 and "replaced" in done.left_out[-1].message
    for record in json.loads((tmp_path / "out" / "records.json").read_text()):  # what `Record.from_dict` hands on
        assert set(record) == {"id", "fields", "metadata", "suggestions", "responses", "vectors", "_server_id"}
        assert all(set(one) == {"value", "score", "agent"} for one in record["suggestions"].values())
        given = [one for answers in record["responses"].values() for one in answers]
        assert all(set(one) == {"value", "user_id"} and uuid.UUID(one["user_id"]) for one in given)
    found = import_into(other, "argilla", tmp_path / "out")
    assert found.votes == 12 and found.skipped == [] and verdicts_of(other) == verdicts_of(ledger)
    last = {(vote.attempt_id, vote.person): vote for vote in ledger.votes()}
    attempts = attempts_of(ledger)
    assert set(votes_of(other, "person", "label", "axes", "chosen")) == {
        (attempts[vote.attempt_id].image_sha, repr(vote.person), repr(vote.label), repr(vote.axes), repr(vote.chosen))
        for vote in last.values()
    }
    assert import_into(other, "argilla", tmp_path / "out").known == 12


def test_argillas_own_export_is_read(other: Ledger, tmp_path: Path) -> None:
    """As `Record.to_dict` builds it, with a picture inside."""
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg(1)).decode()
    responses = {"label": [{"value": "good", "user_id": "u-1"}, {"value": None, "user_id": "u-2"}],
                 "stars": [{"value": 4, "user_id": "u-1"}]}  # fmt: skip
    record = {"id": "7", "fields": {"image": uri}, "metadata": {}, "suggestions": {}, "responses": responses,
              "vectors": {}, "_server_id": "x"}  # fmt: skip
    damaged = {**record, "fields": {"image": "data:image/png;base64,%%%"}}
    (tmp_path / "theirs.json").write_text(json.dumps([record, damaged]))
    found = import_into(other, "argilla", tmp_path / "theirs.json")
    (vote,) = other.votes()
    assert (vote.person, vote.label, vote.axes) == ("u-1", "good", {"stars": 4.0})
    assert [one.name for one in found.skipped] == ["theirs.json record 7 response 2", "theirs.json record 7"]
    assert other.image_path(other.attempts(1)[0].image_sha).read_bytes() == jpeg(1)


@pytest.mark.parametrize("format", ["label-studio", "argilla"])
def test_a_label_with_markup_stays_text(ledger: Ledger, tmp_path: Path, format: Any) -> None:
    brief = ledger.add_brief(ledger.start_run("ads", {}, 0), "cup", {})
    attempt = ledger.record_attempt(brief, 0, 1, 0, jpeg(1))
    ledger.vote(attempt, "ann", 'a "<b>" & c')
    export(ledger, format, tmp_path / "out")
    with Ledger.open(tmp_path / "other") as other:
        import_into(other, format, tmp_path / "out")
        assert other.votes()[0].label == 'a "<b>" & c'
