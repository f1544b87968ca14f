"""Label Studio and Argilla: the JSON that both write and read."""

import base64
import binascii
import re
import uuid
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.exchange.intake import Imported, Intake, chosen, fields, listed, moment, number, word
from goodeye.exchange.outlet import Exported, Outlet, Subject, read_json
from goodeye.ledger.rows import VerdictRow
from goodeye.tables import Cell

TASKS, CONFIG = "tasks.json", "label_config.xml"
RECORDS, USERS = "records.json", "users.json"
LABEL = "label"  # the question's name in both
MAIN_AXIS = "available"


def _subjects(outlet: Outlet) -> list[Subject]:
    """What people voted on, and what a judge labelled, with a picture."""
    return [one for one in outlet.pictured() if one.votes or one.attempt.verdicts]


def _about(outlet: Outlet, one: Subject) -> dict[str, Any]:
    named = {"title": one.title, "prompt": one.prompt, "brief": one.brief.key, "run": str(one.run.id)}
    why = {"chosen": found} if (found := outlet.chosen(one.attempt.id)) else {}
    return {**named, "slot": one.attempt.slot, "number": one.attempt.number, **why}


def _attempt(intake: Intake, image: Cell, about: Mapping[str, Any], name: str, verdicts: list[VerdictRow]) -> int:
    content = {key: str(about[key]) for key in ("title", "prompt") if about.get(key)}
    count = about.get("number")
    return intake.attempt(
        str(about.get("brief") or name),
        content,
        image,
        run=str(about.get("run") or ""),
        slot=int(number(about.get("slot") or 0, "slot")),
        number=None if count is None else int(number(count, "number")),
        verdicts=verdicts,
    )


def _picture(intake: Intake, place: Any, folder: Path, name: str) -> Cell:
    """A picture by its path beside the file, as local files are served, or inside a data URI. No other is fetched."""
    text = word(place, "image")
    if text.startswith("data:"):
        try:
            return Cell(name, data=base64.b64decode(text.partition(",")[2], validate=True))
        except binascii.Error as error:
            raise BadInput("its data URI is damaged. Export it again.") from error
    parts = urlsplit(text)
    if parts.scheme in ("http", "https", "s3", "gs"):
        raise BadInput(f"its picture is at {text[:300]}, and nothing is fetched. Download it and write its path.")
    local = parse_qs(parts.query).get("d", [""])[0] if parts.path.endswith("/local-files/") else ""
    return intake.picture(local or unquote(text), folder)


# Label Studio


def export_label_studio(outlet: Outlet) -> Exported:
    """tasks.json, images/ and label_config.xml: votes as annotations, verdicts as predictions, voters as e-mails."""
    tasks = list[dict[str, Any]]()
    for one in _subjects(outlet):
        annotations = [
            {
                "completed_by": {"email": vote.person},
                "lead_time": vote.seconds,
                "created_at": vote.created.isoformat(),
                "was_cancelled": False,
                "result": [_choice(vote.label), *(_number(axis, score) for axis, score in vote.axes.items())],
            }
            for vote in one.votes
        ]
        predictions = [
            {"model_version": _agent(said), "score": said.scores.get(MAIN_AXIS),
             "result": [_choice(said.label)]}
            for said in one.attempt.verdicts if said.label
        ]  # fmt: skip
        data = {"image": outlet.copy(one.attempt.image_sha), **_about(outlet, one)}
        tasks.append({"id": one.attempt.id, "data": data, "annotations": annotations, "predictions": predictions})
    labels = sorted({found["result"][0]["value"]["choices"][0] for task in tasks for found in _all_said(task)})
    axes = sorted({axis for task in tasks for one in task["annotations"] for axis in _axes(one)})
    numbers = "".join(f'  <Number name="{_escaped(axis)}" toName="image"/>\n' for axis in axes)
    choices = "".join(f'    <Choice value="{_escaped(label)}"/>\n' for label in labels)
    config = (
        '<View>\n  <Image name="image" value="$image"/>\n  <Text name="title" value="$title"/>\n'
        f'  <Choices name="{LABEL}" toName="image" choice="single">\n{choices}  </Choices>\n{numbers}</View>\n'
    )
    write_bytes(outlet.out / CONFIG, config.encode())
    outlet.write_json(TASKS, tasks)
    votes, verdicts = (sum(len(task[kind]) for task in tasks) for kind in ("annotations", "predictions"))
    return outlet.done(votes, votes=votes, verdicts=verdicts)


def _all_said(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*task["annotations"], *task["predictions"]]


def _axes(annotation: Mapping[str, Any]) -> list[str]:
    return [one["from_name"] for one in annotation["result"] if one["type"] == "number"]


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": LABEL, "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def _number(axis: str, score: float) -> dict[str, Any]:
    return {"from_name": axis, "to_name": "image", "type": "number", "value": {"number": score}}


def _escaped(words: str) -> str:
    from xml.sax.saxutils import escape

    return escape(words, {'"': "&quot;"})


def import_label_studio(intake: Intake, person: str) -> Imported:
    """An export of Label Studio (JSON), or a folder with tasks.json: a vote for each annotation with one choice."""
    file = intake.source / TASKS if intake.source.is_dir() else intake.source
    for count, task in enumerate(read_json(file, list, "a list of tasks, as Label Studio exports JSON"), start=1):
        place = task.get("id", count) if isinstance(task, dict) else count
        with intake.row(f"{file.name} task {place}"):
            _import_task(intake, task, file.parent, f"{file.name} task {place}", person)
    return intake.done()


def _import_task(intake: Intake, task: Any, folder: Path, name: str, person: str) -> None:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        raise BadInput("it has no data. Export it as JSON, not as JSON_MIN.")
    data = task["data"]
    image = _picture(intake, data.get("image"), folder, name)
    said = [_verdict(one) for one in listed(task.get("predictions"), "predictions") if isinstance(one, dict)]
    attempt = _attempt(intake, image, data, Path(image.name).stem, [one for one in said if one])
    for count, given in enumerate(listed(task.get("annotations"), "annotations"), start=1):
        with intake.row(f"{name} annotation {count}"):
            label, axes = _said(given)
            who, seconds = _voter(given.get("completed_by"), person), number(given.get("lead_time") or 0, "lead_time")
            when = moment(given.get("created_at"))
            run, why = str(data.get("run") or ""), chosen(data.get("chosen"))
            intake.vote(attempt, who, label, axes, seconds, when, run=run, chosen=why)


def _said(given: Any) -> tuple[str, dict[str, float]]:
    if not isinstance(given, dict) or not isinstance(given.get("result"), list):
        raise BadInput("it has no result.")
    if given.get("was_cancelled"):
        raise BadInput("it was skipped by who annotated, so there is no vote in it.")
    labels, axes = list[Any](), dict[str, float]()
    for one in (fields(one, "result") for one in given["result"]):
        kind, value = one.get("type"), fields(one.get("value"), "value")
        if kind == "choices":
            labels += listed(value.get("choices"), "choices")
        elif kind in ("number", "rating"):
            axes[str(one.get("from_name"))] = number(value.get(kind), f"the {kind} {one.get('from_name')}")
        else:
            raise BadInput(f"its result is of type {kind!r}. Votes are choices, numbers and ratings.")
    if len(labels) != 1:
        raise BadInput(f"it has {len(labels)} choices, and a vote is one. Let people choose a single one.")
    return word(labels[0], "choice"), axes


def _verdict(given: Mapping[str, Any]) -> VerdictRow | None:
    """A prediction with one choice; others say nothing that the ledger keeps."""
    values = [fields(fields(one, "result").get("value"), "value") for one in listed(given.get("result"), "result")]
    choices = [label for value in values for label in listed(value.get("choices"), "choices")]
    if len(choices) != 1:
        return None
    agent = str(given.get("model_version") or "prediction")
    named = re.fullmatch(r"(.*) \((.*)\)", agent)
    judge, version = (named[1], named[2]) if named else (agent, "")
    scores = {} if given.get("score") is None else {MAIN_AXIS: number(given["score"], "the score")}
    return VerdictRow(judge=judge, version=version, label=str(choices[0]), scores=scores, failures=[])


def _agent(said: VerdictRow) -> str:
    return f"{said.judge} ({said.version})"


def _voter(given: Any, person: str) -> str:
    if isinstance(given, dict):
        given = given.get("email") or given.get("username") or given.get("id")
    return word(given if given not in (None, "") else person, "name in completed_by")


# Argilla


def export_argilla(outlet: Outlet) -> Exported:
    """records.json, as `Dataset.records.from_json` reads it, images/, and users.json: who the user ids are.

    Each person's last vote is a response; the last judge's label is the suggestion. Argilla keeps no times.
    """
    records, users = list[dict[str, Any]](), dict[str, str]()
    for one in _subjects(outlet):
        responses: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if len(one.votes) > len(one.last_votes):
            more = len(one.votes) - len(one.last_votes)
            outlet.leave_out(f"attempt {one.attempt.id}", f"has {more} votes that their voters replaced.", votes=more)
        for vote in one.last_votes:
            user = str(uuid.uuid5(uuid.NAMESPACE_URL, f"goodeye:{vote.person}"))
            users[user] = vote.person
            for question, value in ((LABEL, vote.label), *vote.axes.items()):
                responses[question].append({"value": value, "user_id": user})
        said = next((said for said in reversed(one.attempt.verdicts) if said.label), None)
        suggestion = said and {"value": said.label, "score": said.scores.get(MAIN_AXIS), "agent": _agent(said)}
        records.append(
            {
                "id": str(one.attempt.id),
                "fields": {"image": outlet.copy(one.attempt.image_sha), "title": one.title, "prompt": one.prompt},
                "metadata": {
                    name: value for name, value in _about(outlet, one).items() if name not in ("title", "prompt")
                },
                "suggestions": {LABEL: suggestion} if suggestion else {},
                "responses": dict(responses),
                "vectors": {},
                "_server_id": None,
            }
        )
    outlet.write_json(USERS, users)
    outlet.write_json(RECORDS, records)
    votes = sum(len(record["responses"].get(LABEL, [])) for record in records)
    return outlet.done(votes, votes=votes, verdicts=sum(bool(record["suggestions"]) for record in records))


def import_argilla(intake: Intake, person: str) -> Imported:
    """What `Dataset.records.to_json` wrote, or a folder with records.json: a vote for each response to `label`.

    Responses of the same user to other questions with numbers become the vote's axes. users.json beside the file names
    the user ids; without it the ids are the names.
    """
    file = intake.source / RECORDS if intake.source.is_dir() else intake.source
    users = read_json(file.parent / USERS, dict, "an object of names") if (file.parent / USERS).is_file() else {}
    for count, record in enumerate(read_json(file, list, "a list of records, as Argilla exports them"), start=1):
        name = f"{file.name} record {record.get('id', count) if isinstance(record, dict) else count}"
        with intake.row(name):
            _import_record(intake, record, file.parent, name, users)
    return intake.done()


def _import_record(intake: Intake, record: Any, folder: Path, name: str, users: Mapping[str, str]) -> None:
    if not isinstance(record, dict) or not isinstance(record.get("fields"), dict):
        raise BadInput("it has no fields. Export the records as JSON.")
    shown = record["fields"]
    image = _picture(intake, shown.get("image"), folder, name)
    about = {**fields(record.get("metadata"), "metadata"), **{key: shown.get(key) for key in ("title", "prompt")}}
    said = fields(record.get("suggestions"), "suggestions").get(LABEL)
    verdicts = []
    if isinstance(said, dict) and isinstance(said.get("value"), str):
        result = [{"value": {"choices": [said["value"]]}}]
        verdict = _verdict({"result": result, "score": said.get("score"), "model_version": said.get("agent")})
        verdicts = [verdict] if verdict else []
    attempt = _attempt(intake, image, about, str(record.get("id") or name), verdicts)
    axes: dict[str, dict[str, float]] = defaultdict(dict)
    responses = fields(record.get("responses"), "responses")
    for question, given in responses.items():
        for one in listed(given, question) if question != LABEL else ():
            with intake.row(f"{name} {question}"):
                response = fields(one, "response")
                axes[str(response.get("user_id"))][question] = number(
                    response.get("value"), f"the answer to {question}"
                )
    for count, one in enumerate(listed(responses.get(LABEL), LABEL), start=1):
        with intake.row(f"{name} response {count}"):
            response = fields(one, "response")
            user = word(response.get("user_id"), "user_id")
            label, who = word(response.get("value"), "value"), word(users.get(user, user), f"name in {USERS}")
            run, why = str(about.get("run") or ""), chosen(about.get("chosen"))
            intake.vote(attempt, who, label, axes[user], run=run, chosen=why)
