"""COCO: pictures with boxes of named things, and the votes on them beside."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goodeye.errors import BadInput
from goodeye.exchange.intake import Imported, Intake, chosen, fields, listed, moment, number, word
from goodeye.exchange.outlet import Exported, Outlet, Subject, read_json
from goodeye.ledger.schema import Image
from goodeye.ledger.sql import portions

FILE = "instances.json"
_KEPT = ("segmentation", "iscrowd", "area")  # of an annotation, as they are


def export_coco(outlet: Outlet) -> Exported:
    """instances.json and images/: every attempt with a picture, and boxes where its `detail` or brief names some.

    Boxes are {"name": …, "bbox": [x, y, width, height]} in pixels. Votes stand beside each image, under a key that
    readers of COCO leave alone.
    """
    subjects = list(outlet.pictured())
    sizes = _sizes(outlet, [one.attempt.image_sha for one in subjects])
    names = sorted({str(box["name"]) for one in subjects for box in _boxes(one)})
    categories = {name: place for place, name in enumerate(names, start=1)}
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for one in subjects:
        width, height = sizes[one.attempt.image_sha]
        votes = [
            {"person": vote.person, "label": vote.label, "axes": vote.axes, "seconds": vote.seconds,
             "created": vote.created.isoformat()}
            for vote in one.votes
        ]  # fmt: skip
        file = outlet.copy(one.attempt.image_sha)
        about = {
            "brief": one.brief.key,
            "title": one.title,
            "prompt": one.prompt,
            "chosen": outlet.chosen(one.attempt.id),
        }
        size = {"width": width, "height": height}
        images.append({"id": one.attempt.id, "file_name": file, **size, **about, "votes": votes})
        for box in _boxes(one):
            more = {"area": box["bbox"][2] * box["bbox"][3], "iscrowd": 0}
            more |= {name: box[name] for name in _KEPT if name in box}
            ids = {"image_id": one.attempt.id, "category_id": categories[str(box["name"])]}
            annotations.append({"id": len(annotations) + 1, **ids, "bbox": box["bbox"], **more})
    outlet.write_json(
        FILE,
        {
            "info": {"description": "exported by goodeye"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": place, "name": name} for name, place in categories.items()],
        },
    )
    return outlet.done(len(images), votes=sum(len(one["votes"]) for one in images))


def _boxes(one: Subject) -> list[dict[str, Any]]:
    found = one.attempt.detail.get("boxes", one.brief.content.get("boxes", []))
    return [box for box in found if isinstance(box, dict) and "name" in box and "bbox" in box]


def _sizes(outlet: Outlet, shas: Sequence[str]) -> dict[str, tuple[int, int]]:
    from sqlalchemy import select

    found: dict[str, tuple[int, int]] = {}
    with outlet.ledger.reading() as connection:
        for some in portions(sorted(set(shas))):
            query = select(Image.sha256, Image.width, Image.height).where(Image.sha256.in_(some))
            found |= {row.sha256: (row.width, row.height) for row in connection.execute(query)}
    return found


def import_coco(intake: Intake, person: str) -> Imported:
    """An annotation file, or a folder with instances.json; pictures are looked for beside it and in images/.

    A picture of which an annotation cannot be used waits until that is mended: one on record keeps its boxes as they
    are.
    """
    file = intake.source / FILE if intake.source.is_dir() else intake.source
    data = read_json(file, dict, "an object with images, annotations and categories")
    names = {_id(one.get("id")): str(one.get("name")) for one in _listed(data, "categories", file)}
    boxes: dict[Any, list[dict[str, Any]]] = {_id(one.get("id")): [] for one in _listed(data, "images", file)}
    wanted = Counter(_id(one.get("image_id")) for one in _listed(data, "annotations", file))
    for count, given in enumerate(_listed(data, "annotations", file), start=1):
        with intake.row(f"{file.name} annotation {given.get('id', count)}"):
            image, category = _id(given.get("image_id")), _id(given.get("category_id"))
            if image not in boxes:
                raise BadInput(f"its image {given.get('image_id')!r} is not among the images. Correct image_id.")
            if category not in names:
                raise BadInput(f"its category {given.get('category_id')!r} is not listed. Correct category_id.")
            kept = {name: given[name] for name in _KEPT if name in given}
            boxes[image].append({"name": names[category], "bbox": _bbox(given.get("bbox")), **kept})
    for count, given in enumerate(data["images"], start=1):
        with intake.row(f"{file.name} image {given.get('id', count)}"):
            image = _id(given.get("id"))
            if len(boxes[image]) < wanted[image]:
                raise BadInput("not all of its annotations can be used. Correct those, and import it again.")
            _import_image(intake, given, boxes[image], file.parent, person)
    return intake.done()


def _id(given: Any) -> Any:
    """An id to find things by; what is none is written out, so that it stands for itself alone."""
    return given if isinstance(given, str | int | float) else repr(given)


def _import_image(
    intake: Intake, given: Mapping[str, Any], boxes: Sequence[Mapping[str, Any]], folder: Path, person: str
) -> None:
    name = word(given.get("file_name"), "file_name")
    picture = intake.picture(name, folder, folder / "images")
    things = ", ".join(dict.fromkeys(str(box["name"]) for box in boxes))
    content = {key: str(given[key]) for key in ("title", "prompt") if given.get(key)} or {"title": things}
    votes, why = [_vote(vote, person) for vote in listed(given.get("votes"), "votes")], chosen(given.get("chosen"))
    key = str(given.get("brief") or Path(name).stem)
    attempt = intake.attempt(key, content, picture, detail={"boxes": list(boxes)})
    for vote in votes:
        intake.vote(attempt, *vote, chosen=why)


def _vote(given: Any, person: str) -> tuple[Any, ...]:
    if not isinstance(given, dict):
        raise BadInput("a vote is no object. Write person and label.")
    who, label = word(given.get("person") or person, "person"), word(given.get("label"), "label")
    axes = {axis: number(score, f"the axis {axis}") for axis, score in fields(given.get("axes"), "axes").items()}
    return who, label, axes, number(given.get("seconds") or 0, "seconds"), moment(given.get("created"))


def _bbox(given: Any) -> list[float]:
    if not isinstance(given, list) or len(given) != 4:
        raise BadInput(f"its bbox is {given!r}. Write [x, y, width, height] in pixels.")
    box = [number(one, "a side of bbox") for one in given]
    if box[2] < 0 or box[3] < 0:
        raise BadInput(f"its bbox is {given!r}, of negative size. Correct it.")
    return box


def _listed(data: Mapping[str, Any], name: str, file: Path) -> list[dict[str, Any]]:
    listed = data.get(name)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BadInput(f"{file} has no list of {name}. COCO has images, annotations and categories.")
    return listed
