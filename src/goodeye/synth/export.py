"""What was kept as a data set to train on: COCO and LVIS JSON, YOLO, questions and answers, and a data card."""

import json
import math
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from goodeye.atomic import whole_file, write_bytes
from goodeye.errors import BadInput
from goodeye.images import open_image, save_png
from goodeye.synth.layout import Layout
from goodeye.synth.qa import questions
from goodeye.tables import Skipped

Format = Literal["coco", "lvis", "yolo", "qa"]
FORMATS: tuple[Format, ...] = get_args(Format)
INFO = {"description": "made by goodeye synth"}
YAML = "# made by goodeye synth, {} pictures\ntrain: images\nval: images\nnames:\n"  # no path: the file's own folder
CARD = "# Data card\n\nMade by `goodeye synth`"  # how README.md begins
OURS = ("README.md", "coco.json", "lvis.json", "data.yaml", "qa.jsonl", "images", "labels")  # what an export writes
PLAIN, TURN = ("PNG", "JPEG", "WEBP"), 0x0112  # formats, and the EXIF tag that turns a picture
RARE, COMMON = 10, 100  # pictures: LVIS' r is up to 10, c up to 100, f above


@dataclass(frozen=True, kw_only=True)
class Example:
    """A kept picture. labels: which things of the layout are labelled. segmentations: by a thing's key, as COCO has
    them (polygons or run lengths)."""

    file: Path
    size: tuple[int, int]  # width, height in pixels
    layout: Layout
    labels: tuple[int, ...]
    segmentations: Mapping[str, Any] = field(default_factory=dict)


def export(
    examples: Sequence[Example],
    out: str | Path,
    formats: Sequence[Format] = FORMATS,
    *,
    categories: Mapping[str, int] | None = None,
    about: Mapping[str, Any] | None = None,
    skipped: list[Skipped] | None = None,
) -> dict[str, Any]:
    """Writes images/ and, by format, coco.json, lvis.json, labels/ with data.yaml, qa.jsonl; and README.md, the card.

    categories: names and ids of the set that this one is to join; those that occur, by name, if not given. about: what
    the card says of how the set was made. A label whose box has not a pixel, or whose mask cannot be read, is left out,
    and goes to `skipped`; a picture without any label is, too. What an earlier export wrote into the folder and this
    one does not is removed. Returns the counts. Raises BadInput for nothing to write, an unknown category, a folder
    whose images/ the set is made of or that holds another's files, and where a file cannot be read or written.
    """
    out, about = Path(out), about or {}
    examples = _with_pixels(examples, [] if skipped is None else skipped)
    if not examples:
        raise BadInput("nothing was kept, so there is nothing to export. Lower a threshold.")
    ids = _ids(examples, categories)
    names = [f"{number:06d}{_ending(one.file)}" for number, one in enumerate(examples, start=1)]
    _require_apart(examples, out)
    require_own(out)
    earlier, coco = _written(out), _coco(examples, names, ids)
    counts = _counts(coco)
    write_bytes(out / "README.md", _card(counts, about).encode())  # first: who is killed finds their own folder again
    for name, one in zip(names, examples, strict=True):
        _copy(one.file, out / "images" / name)
    _remove(out, earlier, names, formats)
    if "coco" in formats:
        _write_json(out / "coco.json", coco)
    if "lvis" in formats:
        _write_json(out / "lvis.json", _lvis(coco))
    if "yolo" in formats:
        _yolo(coco, out)
    if "qa" in formats:
        rows = [
            row for name, one in zip(names, examples, strict=True) for row in questions(one.layout, one.labels, name)
        ]
        lines = (json.dumps({"id": number, **row}, ensure_ascii=False) for number, row in enumerate(rows, start=1))
        write_bytes(out / "qa.jsonl", "".join(f"{line}\n" for line in lines).encode())
    return counts


def _with_pixels(examples: Sequence[Example], skipped: list[Skipped]) -> list[Example]:
    """Without labels whose boxes have not a pixel or whose masks are none, and without pictures that have no other."""
    found = []
    for one in examples:
        labels = []
        for at in one.labels:
            thing = one.layout.things[at]
            where = f"{one.file}: {thing.key}"
            try:
                _area(one.segmentations.get(thing.key), pixels(thing.box, one.size, where), where)
                labels.append(at)
            except BadInput as error:
                skipped.append(Skipped(str(one.file), str(error)))
        if labels:
            found.append(replace(one, labels=tuple(labels)))
    return found


def _require_apart(examples: Sequence[Example], out: Path) -> None:
    """The set's pictures are called by numbers, as those of its sources often are: they must not be written over."""
    folder = (out / "images").resolve()
    if here := next((one.file for one in examples if one.file.resolve().parent == folder), None):
        raise BadInput(f"{here} is one of the pictures that {out} would be made of. Name another folder for the set.")


def require_own(out: str | Path) -> None:
    """Raises BadInput where a set would be written over files that no export wrote: those beside no card of ours."""
    out = Path(out)
    card = out / "README.md"
    if card.is_file() and card.read_text(errors="replace").startswith(CARD):
        return
    for place in (out / name for name in OURS):
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise BadInput(
                f"{place} is there already, and is no part of a set that goodeye wrote. Name another folder."
            )


def _written(out: Path) -> dict[str, set[str]]:
    """The pictures that an earlier export wrote into this folder, by its annotation file that names or counts them; of
    a stranger's file none."""
    found = dict[str, set[str]]()
    for name in ("coco.json", "lvis.json"):
        data = _json_of(out / name)
        if isinstance(data, dict) and data.get("info") == INFO:
            found[name] = {Path(one["file_name"]).name for one in data["images"]}
    yaml = (out / "data.yaml").read_text(errors="replace") if (out / "data.yaml").is_file() else ""
    if counted := re.match(re.escape(YAML).replace(r"\{\}", r"(\d+)"), yaml):
        stems = {f"{number:06d}" for number in range(1, int(counted[1]) + 1)}
        found["data.yaml"] = {file.name for file in (out / "images").glob("*") if file.stem in stems}
    asked = (out / "qa.jsonl").read_text(errors="replace") if (out / "qa.jsonl").is_file() else ""
    rows = [_json_of(line) for line in asked.splitlines()]
    if rows and all(isinstance(row, dict) and {"id", "image", "kind", "things"} <= row.keys() for row in rows):
        found["qa.jsonl"] = {Path(row["image"]).name for row in rows}
    return found


def _json_of(text: Path | str) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(text if isinstance(text, str) else text.read_bytes())
    except (OSError, ValueError):
        return None


def _remove(out: Path, earlier: Mapping[str, set[str]], names: Sequence[str], formats: Sequence[Format]) -> None:
    """Of what an earlier export wrote: pictures that are not among `names`, their labels, and files of formats that are
    not asked for now."""
    of: dict[str, Format] = {"coco.json": "coco", "lvis.json": "lvis", "data.yaml": "yolo", "qa.jsonl": "qa"}
    kept = {Path(name).stem for name in names} if "yolo" in formats else set()
    old = [out / "images" / name for name in set().union(*earlier.values()) - set(names)]
    old += [
        out / "labels" / f"{Path(name).stem}.txt"
        for name in earlier.get("data.yaml", ())
        if Path(name).stem not in kept
    ]
    old += [out / name for name in earlier if of[name] not in formats]
    for file in old:
        file.unlink(missing_ok=True)


def _ids(examples: Sequence[Example], categories: Mapping[str, int] | None) -> dict[str, int]:
    used = sorted({one.layout.things[at].category for one in examples for at in one.labels})
    if categories is None:
        return {name: number for number, name in enumerate(used, start=1)}
    if unknown := [name for name in used if name not in categories]:
        raise BadInput(
            f"{', '.join(unknown[:5])} is no category of the set to join. Add it there, or leave it out here."
        )
    if len(set(categories.values())) < len(categories):
        raise BadInput("the set to join has two categories of one id. Correct it.")
    return dict(categories)


def _ending(file: Path) -> str:
    """What the picture's name is to end in: its own where trainers read it as it is, that of a PNG else."""
    return file.suffix.lower() if _as_it_is(file) else ".png"


def _as_it_is(file: Path) -> bool:
    """Whether every trainer reads the file alike: a PNG, JPEG or WebP in grey or RGB that no EXIF tag turns."""
    if not file.is_file():
        raise BadInput(f"{file} does not exist any more. Score the set again.")
    try:
        with Image.open(file) as picture:
            turned = picture.getexif().get(TURN, 1) != 1
            return picture.format in PLAIN and picture.mode in ("RGB", "L") and not turned
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read any more: {error}. Score the set again.") from error


def _copy(file: Path, to: Path) -> None:
    if _as_it_is(file):
        with whole_file(to) as temporary:
            shutil.copyfile(file, temporary)
    else:
        save_png(open_image(file).convert("RGB"), to)


def _coco(examples: Sequence[Example], names: Sequence[str], ids: Mapping[str, int]) -> dict[str, Any]:
    images, annotations = [], list[dict[str, Any]]()
    for number, (name, one) in enumerate(zip(names, examples, strict=True), start=1):
        width, height = one.size
        caption = {"caption": one.layout.caption} if one.layout.caption else {}
        images.append({"id": number, "file_name": f"images/{name}", "width": width, "height": height, **caption})
        for at in one.labels:
            thing = one.layout.things[at]
            where = f"{one.file}: {thing.key}"
            bbox = pixels(thing.box, one.size, where)
            segmentation = one.segmentations.get(thing.key)
            shape = {} if segmentation is None else {"segmentation": segmentation}
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": ids[thing.category], "bbox": bbox,
                "area": _area(segmentation, bbox, where), "iscrowd": 0, **shape,
            })  # fmt: skip
    return {
        "info": INFO,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in sorted(ids.items(), key=lambda one: one[1])],
    }


def pixels(box: Sequence[float], size: tuple[int, int], where: str) -> list[float]:
    """A box in shares as [x, y, width, height] in pixels, cut at the picture, to two places.

    Raises BadInput where less than a pixel a side is left.
    """
    width, height = size
    left, top = (round(max(0.0, box[i]) * side, 2) for i, side in enumerate(size))
    right = round(min(1.0, box[0] + box[2]) * width, 2)
    bottom = round(min(1.0, box[1] + box[3]) * height, 2)
    if not (all(map(math.isfinite, box)) and right - left >= 1 and bottom - top >= 1):
        raise BadInput(f"{where} has a box of less than a pixel in a picture of {width}x{height}. It is left out.")
    return [left, top, round(right - left, 2), round(bottom - top, 2)]


def _area(segmentation: Any, bbox: Sequence[float], where: str) -> float:
    """Of run lengths, in numbers or compressed, and of polygons; else of the box."""
    if isinstance(segmentation, Mapping) and isinstance(segmentation.get("counts"), list):
        return float(sum(segmentation["counts"][1::2]))
    if isinstance(segmentation, Mapping):
        from faster_coco_eval.core import mask

        try:
            return float(mask.area(dict(segmentation)))
        except (RuntimeError, TypeError, KeyError, ValueError) as error:
            raise BadInput(f"{where} has a mask whose run lengths cannot be read. It is left out.") from error
    if isinstance(segmentation, list | tuple) and segmentation:
        return round(sum(map(_enclosed, segmentation)), 2)
    return round(bbox[2] * bbox[3], 2)


def _enclosed(polygon: Sequence[float]) -> float:
    """By the shoelace formula. polygon: x and y of each corner in turn."""
    xs, ys = polygon[::2], polygon[1::2]
    turned = zip(xs, ys, (*xs[1:], xs[0]), (*ys[1:], ys[0]), strict=True)
    return abs(sum(x * below - right * y for x, y, right, below in turned)) / 2


def _lvis(coco: Mapping[str, Any]) -> dict[str, Any]:
    """As LVIS v1: how frequent categories are, and that nobody looked for what is not labelled. mmdetection and
    detectron2 take a picture's file from its coco_url."""
    pictures = Counter(category for _, category in {(a["image_id"], a["category_id"]) for a in coco["annotations"]})
    things = Counter(a["category_id"] for a in coco["annotations"])
    categories = [
        {**one, "synonyms": [one["name"]], "image_count": pictures[one["id"]], "instance_count": things[one["id"]],
         "frequency": "r" if pictures[one["id"]] <= RARE else "c" if pictures[one["id"]] <= COMMON else "f"}
        for one in coco["categories"]
    ]  # fmt: skip
    images = [
        {**one, "neg_category_ids": [], "not_exhaustive_category_ids": [], "coco_url": one["file_name"]}
        for one in coco["images"]
    ]
    return {**coco, "images": images, "categories": categories}


def _yolo(coco: Mapping[str, Any], out: Path) -> None:
    """labels/NAME.txt: class, then the box's middle and sides in shares of the picture; classes count from 0."""
    place = {one["id"]: number for number, one in enumerate(coco["categories"])}
    of = defaultdict(list)
    for one in coco["annotations"]:
        of[one["image_id"]].append(one)
    for image in coco["images"]:
        lines = []
        for one in of[image["id"]]:
            x, y, width, height = one["bbox"]
            middle = (x + width / 2) / image["width"], (y + height / 2) / image["height"]
            shares = *middle, width / image["width"], height / image["height"]
            lines.append(f"{place[one['category_id']]} " + " ".join(f"{value:.6f}" for value in shares) + "\n")
        write_bytes(out / "labels" / f"{Path(image['file_name']).stem}.txt", "".join(lines).encode())
    listed = "".join(f"  {place[one['id']]}: {json.dumps(one['name'])}\n" for one in coco["categories"])
    write_bytes(out / "data.yaml", f"{YAML.format(len(coco['images']))}{listed}".encode())


def _counts(coco: Mapping[str, Any]) -> dict[str, Any]:
    names = {one["id"]: one["name"] for one in coco["categories"]}
    things = Counter(names[one["category_id"]] for one in coco["annotations"])
    return {"images": len(coco["images"]), "annotations": len(coco["annotations"]), "categories": dict(things)}


def _card(counts: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The data card: what is in the set, how it was made, by what."""
    rows = sorted(counts["categories"].items(), key=lambda one: (-one[1], one[0]))
    made = "".join(f"| {key} | {_told(value)} |\n" for key, value in about.items())
    return (
        f"{CARD}: scored and picked. The labels are what was asked for, or what the scored set said, as far as the "
        "scores confirm it; what else a picture shows is not labelled.\n\n"
        f"{counts['images']} images, {counts['annotations']} labelled things.\n\n"
        + (f"| made by | |\n|---|---|\n{made}\n" if made else "")
        + "| category | labelled things |\n|---|---|\n"
        + "".join(f"| {name} | {count} |\n" for name, count in rows)
    )


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items())
    if isinstance(value, str) and Path(value).is_absolute():
        value = Path(value).name  # the card goes out: where a file lay on this machine is nobody's business
    return ("none" if value is None else str(value)).replace("|", "\\|").replace("\n", " ")


def _write_json(path: Path, data: Any) -> None:
    write_bytes(path, (json.dumps(data, ensure_ascii=False) + "\n").encode())
