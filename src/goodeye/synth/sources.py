"""What priors are made of: COCO's boxes and captions, Visual Genome's relationships, and layouts that are at hand."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from goodeye.errors import BadInput
from goodeye.progress import track
from goodeye.synth.layout import Layout, read_layouts
from goodeye.synth.priors import Gather, Priors
from goodeye.synth.relations import Triplet, nearest_pair, related, said_in

Named = TypeVar("Named")
THINGS = 30  # of a picture that are related to each other: the largest


@dataclass(frozen=True)
class Labelled:
    """A picture of a COCO file: its file, its size in pixels, and category, box and segmentation of each thing.

    Boxes are in shares of the picture, clipped to it. Crowds are left out, and so is what has no area in the picture:
    `flat` says of what category that was.
    """

    id: Any
    file: str
    size: tuple[int, int]  # width, height
    names: list[str]
    boxes: list[tuple[float, float, float, float]]
    segmentations: list[Any]
    flat: list[str] = field(default_factory=list)


def read_json(path: Path) -> Any:
    """Raises BadInput where the file cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON. Give COCO's or Visual Genome's file, or layouts as .jsonl.") from error
    except RecursionError as error:
        raise BadInput(
            f"{path} is nested too deep. Give COCO's or Visual Genome's file, or layouts as .jsonl."
        ) from error


def read_coco(path: str | Path, data: Any = None) -> list[Labelled]:
    """The pictures of a COCO instances file. Raises BadInput for a category, image or box that cannot be used, and for
    two images or categories of one id."""
    path = Path(path)
    data = read_json(path) if data is None else data
    try:
        categories = _by_id(path, "categories", ((one["id"], _name_of(path, one)) for one in data["categories"]))
        found = _by_id(
            path,
            "images",
            (
                (
                    one["id"],
                    Labelled(one["id"], _file_of(path, one), (int(one["width"]), int(one["height"])), [], [], []),
                )
                for one in data["images"]
            ),
        )
        for number, one in enumerate(data["annotations"], start=1):
            if one.get("iscrowd"):
                continue
            for known, name, kind in ((found, "image_id", "images"), (categories, "category_id", "categories")):
                if one[name] not in known:
                    raise BadInput(
                        f"{path}: annotation {one.get('id', number)} has the {name} {one[name]}, which none of its "
                        f"{kind} has. Add it there, or take the annotation out."
                    )
            _add(found[one["image_id"]], categories[one["category_id"]], one["bbox"], one.get("segmentation"))
    except BadInput:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BadInput(f"{path} is no COCO instances file ({what}). Give images, annotations, categories.") from error
    return list(found.values())


def _by_id(path: Path, kind: str, rows: Iterable[tuple[Any, Named]]) -> dict[Any, Named]:
    found: dict[Any, Named] = {}
    for key, one in rows:
        if key in found:
            raise BadInput(f"{path} has two {kind} of the id {key}. Give each its own.")
        found[key] = one
    return found


def _file_of(path: Path, image: Mapping[str, Any]) -> str:
    """LVIS' own files name no file_name, but an address that ends in the file."""
    name = str(image["file_name"] if image.get("file_name") else str(image["coco_url"]).rpartition("/")[2])
    return _whole(path, f"the file of the image {image['id']}", name)


def _name_of(path: Path, category: Mapping[str, Any]) -> str:
    if not isinstance(category["name"], str) or not category["name"].strip():
        raise BadInput(f"{path}: the category {category['id']} has the name {category['name']!r}. Give it a text.")
    return _whole(path, f"the name of the category {category['id']}", category["name"])


def _whole(path: Path, what: str, words: str) -> str:
    """The words. Raises BadInput for half of a character, which JSON can hold and no file of ours."""
    try:
        words.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{path}: {what} has half of a character (\\ud83d, for one). Correct it.") from error
    return words


def _add(picture: Labelled, name: str, bbox: Iterable[float], segmentation: Any) -> None:
    box = _within(bbox, *picture.size)
    if box is None:
        picture.flat.append(name)
        return
    picture.names.append(name)
    picture.boxes.append(box)
    picture.segmentations.append(segmentation)


def _within(box: Iterable[float], width: float, height: float) -> tuple[float, float, float, float] | None:
    """A box of pixels in shares of the picture, clipped to it; None where no area is left, and where a side is no
    number."""
    x, y, w, h = (float(value) for value in box)
    if not all(map(math.isfinite, (x, y, w, h))):
        return None
    left, top = max(0.0, x / width), max(0.0, y / height)
    right, bottom = min(1.0, (x + w) / width), min(1.0, (y + h) / height)
    return (left, top, right - left, bottom - top) if right - left > 1e-4 and bottom - top > 1e-4 else None


def read_categories(path: str | Path) -> dict[str, int]:
    """Names and ids of the categories of a COCO or LVIS file. Raises BadInput where it has none, and where two have one
    id or one name."""
    path = Path(path)
    data = read_json(path)
    try:
        names = _by_id(path, "categories", ((int(one["id"]), _name_of(path, one)) for one in data["categories"]))
    except BadInput:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} has no categories with id and name. Give a COCO or LVIS file.") from error
    ids: dict[str, int] = {}
    for number, name in names.items():
        if ids.setdefault(name, number) != number:
            raise BadInput(f"{path} names the categories {ids[name]} and {number} {name}. Give each its own name.")
    return ids


def licences_of(path: str | Path) -> list[str]:
    """The names of the licences that a COCO file gives its pictures; none where it gives none. Raises BadInput for a
    file that is none."""
    data = read_json(Path(path))
    given = data.get("licenses") if isinstance(data, dict) else None
    found = (one.get("name") for one in given if isinstance(one, dict)) if isinstance(given, list) else ()
    return list(dict.fromkeys(name for name in found if isinstance(name, str) and name))


def build_priors(
    sources: Iterable[str | Path],
    captions: Iterable[str | Path] = (),
    layouts: Iterable[Layout] = (),
    *,
    most: int = 2000,
) -> Priors:
    """A store of files: COCO instances, Visual Genome's relationships.json (with image_data.json beside it), and
    layouts (.jsonl). captions: COCO captions of the same images, by their ids. layouts: others that are at hand. most:
    pairs of a triplet.

    Raises BadInput for a file that is none of these or is named twice, for captions of an id that two files have for
    different pictures, and where nothing is related to anything. Captions that give no pair are among the priors'
    `sources` with 0.
    """
    sources, captions = _once(sources), _once(captions)
    gather, pictures = Gather(), dict[Any, Labelled]()
    twice = dict[Any, str]()  # ids that two files have for different pictures, with what to say
    add_layouts(gather, layouts)
    for source in sources:
        if source.suffix == ".jsonl":
            add_layouts(gather, read_layouts(source))
            continue
        data = read_json(source)
        if isinstance(data, list):
            _genome(gather, source, data)
        else:
            read = read_coco(source, data)
            for one in read:
                if (before := pictures.get(one.id)) and before.file != one.file:
                    twice[one.id] = (
                        f"{source} and a file before it have different pictures, {one.file} and {before.file}"
                    )
                pictures[one.id] = one
            for one in track(read, "relating boxes", unit="pictures"):
                _boxes(gather, one)
    for file in captions:
        _captions(gather, file, pictures, twice)
    return gather.priors(most)


def _once(files: Iterable[str | Path]) -> list[Path]:
    """The files. Raises BadInput where one is named twice, by whatever path: each of its pairs would count twice."""
    found: dict[Path, Path] = {}
    for file in map(Path, files):
        if (before := found.setdefault(file.resolve(), file)) is not file:
            raise BadInput(f"{file} is named twice{'' if file == before else f', as {before}, too'}. Name it once.")
    return list(found.values())


def _boxes(gather: Gather, one: Labelled) -> None:
    if len(one.names) < 2:
        return
    boxes = np.array(one.boxes)
    chosen = np.sort(np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")[:THINGS])
    triplets, pairs = related([one.names[at] for at in chosen], boxes[chosen])
    gather.add("boxes", ("coco", one.id, one.file), triplets, pairs)


def add_layouts(gather: Gather, layouts: Iterable[Layout]) -> None:
    """The relations that layouts name; those of their boxes where they name none."""
    for one in layouts:
        if one.relations:
            triplets = [(s.category, relation, o.category) for s, relation, o in one.triplets()]
            boxes = np.array([[s.box, o.box] for s, _, o in one.triplets()])
        else:
            triplets, boxes = related([t.category for t in one.things], np.array([t.box for t in one.things]))
        gather.add("layouts", ("layout", one.key), triplets, boxes)


def _captions(gather: Gather, file: Path, pictures: Mapping[Any, Labelled], twice: Mapping[Any, str]) -> None:
    data = read_json(file)
    rows = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "caption" in row for row in rows):
        raise BadInput(f"{file} holds no COCO captions. Give captions_….json, whose annotations have a caption.")
    said: dict[Any, dict[Triplet, None]] = defaultdict(dict)
    for number, row in enumerate(rows, start=1):
        if not isinstance(shared := row.get("image_id"), int | float | str):
            raise BadInput(f"{file}: caption {number} has the image_id {shared!r}. Give it the id of its image.")
        if shared in twice:
            raise BadInput(
                f"{twice[shared]}, of the id {shared}, so {file} cannot be read. Give each file ids of its own."
            )
        if (one := pictures.get(shared)) is not None:
            said[one.id].update(dict.fromkeys(said_in(str(row["caption"]), sorted(set(one.names)))))
    any_pair = False
    for key, triplets in said.items():
        boxes = defaultdict(list)
        for name, box in zip(pictures[key].names, pictures[key].boxes, strict=True):
            boxes[name].append(box)
        pairs = {one: nearest_pair(boxes, one[0], one[2]) for one in triplets}
        there = {one: pair for one, pair in pairs.items() if pair is not None}
        if there:
            gather.add("captions", ("coco", key, pictures[key].file), list(there), np.stack(list(there.values())))
            any_pair = True
    if not any_pair:
        gather.sources[f"captions of {file.name}"] = 0


def _genome(gather: Gather, file: Path, data: list[Any]) -> None:
    sizes_file = file.parent / "image_data.json"
    if not sizes_file.exists():
        raise BadInput(f"{file} needs the pictures' sizes. Put Visual Genome's image_data.json beside it.")
    try:
        sizes = {one["image_id"]: (float(one["width"]), float(one["height"])) for one in read_json(sizes_file)}
        for picture in track(data, "reading relationships", unit="pictures"):
            width, height = sizes[picture["image_id"]]
            triplets, boxes = list[Triplet](), []
            for one in picture["relationships"]:
                sides = [one[whose] for whose in ("subject", "object")]
                pair = [_within([side[name] for name in "xywh"], width, height) for side in sides]
                words = (_genome_name(sides[0]), one["predicate"], _genome_name(sides[1]))
                subject, predicate, thing = (_said(file, picture["image_id"], word) for word in words)
                if all(pair) and subject and predicate and thing:
                    triplets.append((subject, predicate, thing))
                    boxes.append(pair)
            gather.add("visual genome", ("genome", picture["image_id"]), triplets, np.array(boxes).reshape(-1, 2, 4))
    except BadInput:
        raise
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BadInput(f"{file} is no relationships.json of Visual Genome ({what}). Give its file as it is.") from error


def _genome_name(thing: Mapping[str, Any]) -> Any:
    return thing["name"] if "name" in thing else thing["names"][0]


def _said(file: Path, picture: Any, words: Any) -> str:
    """In small letters with single spaces; nothing where it is no text."""
    if not isinstance(words, str):
        return ""
    return _whole(file, f"a word of the picture {picture}", " ".join(words.lower().split()))
