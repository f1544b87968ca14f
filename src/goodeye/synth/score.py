"""A set of layouts or labelled pictures, scored: a run folder with a line a picture, which goes on after a kill.

What is kept is chosen anew from the scores at each call (`pick_run`), so thresholds cost nothing to change.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from goodeye.atomic import append, mend, read_rows
from goodeye.errors import BadInput
from goodeye.images import open_image, to_tensor
from goodeye.ledger.begun import told_of
from goodeye.progress import progress
from goodeye.runfolder import RunFolder
from goodeye.synth.clis_i import ImageScore, rivals_of
from goodeye.synth.clis_l import ClisL
from goodeye.synth.export import Example
from goodeye.synth.layout import MOST, Layout, Thing, keys_of, layout_of, read_layouts, wrong_with
from goodeye.synth.masks import box_around, mask_of, read_masks
from goodeye.synth.pick import Candidate, Choice, Picking, pick
from goodeye.synth.sources import read_coco
from goodeye.tables import PICTURES, Skipped

if TYPE_CHECKING:
    from goodeye.judging.clip import Clip

Embeddings = dict[str, "np.ndarray[Any, Any]"]  # by a picture's key, [D]
SCORES, PICKS = "scores.jsonl", "picks.json"
COLUMNS = {"key", "group", "file", "size", "layout", "segmentations", "clis_l", "clis_i"}  # of a row of scores.jsonl
# Of pictures as PIL, their layouts, and the run's captions that each one's own competes with.
Scorer = Callable[[Sequence[Any], Sequence[Layout], Sequence[str]], list[ImageScore]]


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something to score. file: its picture, None for a layout alone. group: the layout that it was drawn from."""

    key: str
    group: str
    layout: Layout
    file: Path | None = None
    size: tuple[int, int] | None = None  # width, height that a COCO file says the picture has
    segmentations: tuple[Any, ...] = ()


def read_set(source: str | Path, images: str | Path | None = None, skipped: list[Skipped] | None = None) -> list[Item]:
    """Items of a layouts file (.jsonl) with the folder of their pictures, or of a COCO instances file.

    A layout's pictures are those whose stem is its key, or its key and -NUMBER: some tries of one layout. Without a
    folder layouts are scored alone. COCO's pictures lie in `images`, or beside the file; a box without an area or a
    speck of one, and a picture with too many boxes, are left out and go to `skipped`. Raises BadInput for a layout
    without a picture, and for two pictures of one name.
    """
    source = Path(source)
    if source.suffix != ".jsonl":
        items = _labelled(source, Path(images) if images else source.parent, [] if skipped is None else skipped)
    else:
        items = _planned(source, images)
    if twice := [key for key, count in Counter(one.key for one in items).items() if count > 1]:
        raise BadInput(f"two pictures of {source} would be called {twice[0]}. Give each its own name.")
    return items


def _planned(source: Path, images: str | Path | None) -> list[Item]:
    layouts = read_layouts(source)
    if images is None:
        return [Item(key=one.key, group=one.key, layout=one) for one in layouts]
    tries = _tries(Path(images), {one.key for one in layouts})
    if missing := [one.key for one in layouts if one.key not in tries]:
        raise BadInput(
            f"{images} has no picture for {len(missing)} of {len(layouts)} layouts, {missing[0]} among them. Name "
            "pictures by the layouts' keys, as KEY.png or KEY-1.png."
        )
    return [Item(key=file.stem, group=one.key, layout=one, file=file) for one in layouts for file in tries[one.key]]


def _tries(folder: Path, keys: Collection[str]) -> dict[str, list[Path]]:
    """By the key of their layout; where there are a and a-1, a-1.png is a try of a-1 alone."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        if file.suffix.lower() in PICTURES:
            key = file.stem if file.stem in keys else re.sub(r"-\d+$", "", file.stem)
            found.setdefault(key, []).append(file)
    return found


def _labelled(source: Path, folder: Path, skipped: list[Skipped]) -> list[Item]:
    items = []
    for one in read_coco(source):
        things, shapes = list[Thing](), []
        for name in one.flat:
            skipped.append(
                Skipped(one.file, f"{one.file}: a box of {name} has no area in the picture. It is left out.")
            )
        for key, name, box, shape in zip(keys_of(one.names), one.names, one.boxes, one.segmentations, strict=True):
            if wrong := wrong_with(box):
                skipped.append(Skipped(one.file, f"{one.file}: the box of {key} {wrong}. It is left out."))
            else:
                things.append(Thing(key=key, category=name, box=box))
                shapes.append(shape)
        if len(things) > MOST:
            skipped.append(Skipped(one.file, f"{one.file} has {len(things)} boxes, over {MOST}. It is left out."))
        elif things:
            file = next(
                (f for f in (folder / one.file, folder / "images" / one.file) if f.is_file()), folder / one.file
            )
            key = Path(one.file).with_suffix("").as_posix()
            layout = Layout(key=key, things=tuple(things))
            items.append(Item(key=key, group=key, layout=layout, file=file, size=one.size, segmentations=tuple(shapes)))
    if not items:
        raise BadInput(f"{source} has no boxes that can be used. Give a file with annotations.")
    return items


def claim(out: str | Path, config: dict[str, Any]) -> RunFolder:
    """The run's folder, begun with this config, or going on with it. Raises BadInput where it holds another one."""
    folder = RunFolder(Path(out))
    if not folder.holds_a_run():
        folder.begin(config)
    elif (told := told_of(folder)) != config:
        names = [name for name in {**told, **config} if told.get(name) != config.get(name)]
        raise BadInput(
            f"{out} holds another set, or one by other models: its {', '.join(names)} is not as it was. Name another "
            "folder."
        )
    return folder


def score_set(
    items: Sequence[Item],
    out: str | Path,
    clis_l: ClisL | None,
    clis_i: Scorer | None,
    config: dict[str, Any],
    *,
    batch: int = 16,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[Skipped]:
    """Scores what out/scores.jsonl has not got yet, batch by batch. Returns the pictures that could not be read.

    config: what the scores depend on, and what the data card tells; a folder of another config is refused (BadInput).
    on_row: called with each new row that is written. Raises BadInput for a batch below 1, and where no picture can be
    read.
    """
    if batch < 1:
        raise BadInput(f"batch is {batch}. Give 1 or more.")
    folder = claim(out, config)
    mend(folder.path / SCORES)
    known = {row["key"] for row in _read(folder)}
    left = [one for one in items if one.key not in known]
    rivals, skipped = rivals_of([one.layout for one in items]), list[Skipped]()
    with progress("scoring", len(items), "pictures") as advance:
        advance(len(items) - len(left))
        for at in range(0, len(left), batch):
            some = left[at : at + batch]
            rows = list(_rows(some, clis_l, clis_i, rivals, skipped))
            append(folder.path / SCORES, *(_below(row, folder.path) for row in rows))
            for row in rows:
                on_row(row)
            advance(len(some))
    if left and len(skipped) == len(items):
        raise BadInput(f"none of the {len(items)} pictures can be read. The first: {skipped[0].message}")
    return skipped


def _rows(
    items: Sequence[Item], clis_l: ClisL | None, clis_i: Scorer | None, rivals: Sequence[str], skipped: list[Skipped]
) -> Iterator[dict[str, Any]]:
    usable, pictures = [], []
    for one in items:
        try:
            pictures.append(None if one.file is None else _picture(one.file, one.size))
            usable.append(one)
        except BadInput as error:
            skipped.append(Skipped(str(one.file), str(error)))
    layouts = [one.layout for one in usable]
    by_layout = [asdict(one) for one in clis_l.score(layouts)] if clis_l else [None] * len(usable)
    drawn = [at for at, picture in enumerate(pictures) if picture is not None]
    seen = clis_i([pictures[at] for at in drawn], [layouts[at] for at in drawn], rivals) if clis_i and drawn else []
    by_image = dict(zip(drawn, seen, strict=True)) if seen else {}
    for at, (one, picture) in enumerate(zip(usable, pictures, strict=True)):
        yield {
            "key": one.key,
            "group": one.group,
            "file": str(one.file.resolve()) if one.file else None,
            "size": picture.size if picture else None,
            "layout": one.layout.to_json(),
            "segmentations": one.segmentations,
            "clis_l": by_layout[at],
            "clis_i": asdict(by_image[at]) if at in by_image else None,
        }


def _picture(file: Path, size: tuple[int, int] | None) -> Image.Image:
    """Raises BadInput for a picture of another size than its labels are of: turned or cut, they lie elsewhere in it."""
    picture = open_image(file).convert("RGB")
    if size is not None and picture.size != size:
        (width, height), (wide, high) = size, picture.size
        raise BadInput(
            f"{file} has {wide}x{high} pixels, and its labels are of {width}x{height}. Give the picture that was "
            "labelled."
        )
    return picture


def read_scores(run: str | Path) -> list[dict[str, Any]]:
    """The rows of a run, oldest first. Raises BadInput where there are none."""
    rows = _read(RunFolder(Path(run)))
    if not rows:
        raise BadInput(f"{run} holds no scores. Name the folder that `goodeye synth score` wrote.")
    return rows


def _read(folder: RunFolder) -> list[dict[str, Any]]:
    """A row for each key. Pictures of the run's own are found below it, wherever it was moved."""
    try:
        rows = {row["key"]: row for row in read_rows(folder.path / SCORES)}
        if any(not row.keys() >= COLUMNS for row in rows.values()):
            raise ValueError("a row lacks columns")
        for row in rows.values():
            row["file"] = row["file"] and str((folder.path / row["file"]).resolve())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise folder.damaged(SCORES) from error
    return list(rows.values())


def _below(row: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The row as it is written: a picture that lies in the run is named from there, so that the run can be moved."""
    file, home = Path(row["file"]) if row["file"] else None, run.resolve()
    if file is None or not file.is_relative_to(home):
        return dict(row)
    return {**row, "file": str(file.relative_to(home))}


def reasons_of(image: Mapping[str, Any]) -> list[str]:
    """What is wrong with a picture, in words, of its CLIS-I as a row has it; older rows do not say why the whole could
    not be judged."""
    return [*filter(None, [image.get("unknown")]), *(reason for one in image["things"] for reason in one["reasons"])]


def candidates(rows: Sequence[dict[str, Any]]) -> list[Candidate]:
    """Rows as pick takes them. A picture without CLIS-I is unknown; a layout alone counts by CLIS-L, its things as
    confirmed."""
    found = []
    for row in rows:
        image, layout = row["clis_i"], row["clis_l"]
        by_layout = layout["score"] if layout else None
        if row["file"] is None:
            score, things = by_layout, [(one["category"], 100.0) for one in row["layout"]["things"]]
        else:
            score = image["score"] if image else None
            things = [(one["category"], one["score"]) for one in image["things"]] if image else []
        reasons = reasons_of(image) if image else []
        reasons += [pair["reason"] for pair in (layout["pairs"] if layout else []) if pair["reason"]]
        found.append(
            Candidate(
                key=row["key"], group=row["group"], score=score, things=tuple(things), layout=by_layout,
                reasons=tuple(reasons),
            )
        )  # fmt: skip
    return found


def pick_run(
    run: str | Path, picking: Picking, clip: "Clip | None" = None, known: Embeddings | None = None
) -> list[Choice]:
    """Chooses from a run's scores and writes picks.json. clip: for the limit on near-duplicates. known: what the
    pictures of earlier calls were embedded as, by key; those of this call are added."""
    rows, known = read_scores(run), {} if known is None else known
    embeddings = _embedded(rows, clip, known) if clip is not None and picking.duplicates is not None else None
    choices = pick(candidates(rows), picking, embeddings)
    RunFolder(Path(run)).write_json(PICKS, {"picking": asdict(picking), "choices": [asdict(one) for one in choices]})
    return choices


def _embedded(
    rows: Sequence[dict[str, Any]], clip: "Clip", known: Embeddings, batch: int = 8
) -> "np.ndarray[Any, Any] | None":
    """[N, D]; pictures of one size together."""
    import torch

    def size(row: dict[str, Any]) -> list[int]:
        return list(row["size"])

    if any(row["file"] is None for row in rows):
        return None
    with torch.no_grad():
        for _, some in groupby(sorted((row for row in rows if row["key"] not in known), key=size), size):
            alike = list(some)
            for part in (alike[at : at + batch] for at in range(0, len(alike), batch)):
                pictures = torch.stack([to_tensor(_scored(row["file"])) for row in part])
                found = clip.embed_images(pictures).cpu().numpy()
                known.update(zip((row["key"] for row in part), found, strict=True))
    return np.stack([known[row["key"]] for row in rows])


def _scored(file: str) -> Image.Image:
    try:
        return open_image(file).convert("RGB")
    except BadInput as error:
        raise BadInput(
            f"{file} was scored and cannot be read any more. Put it back; a picture that goodeye drew is drawn again "
            "once it is removed."
        ) from error


def read_picks(run: str | Path) -> dict[str, Any]:
    """What `pick_run` wrote: picking, and the choices in the rows' order. Raises BadInput where there is nothing."""
    folder = RunFolder(Path(run))
    if not (folder.path / PICKS).exists():
        raise BadInput(f"{run} holds no picks. Run `goodeye synth score` to its end first.")
    found: dict[str, Any] = folder.read_json(PICKS)
    if not isinstance(found, dict) or not {"picking", "choices"} <= found.keys():
        raise folder.damaged(PICKS)
    return found


def kept_rows(run: str | Path) -> list[dict[str, Any]]:
    """The rows of the pictures that `pick_run` kept, with what it chose of their things as "labels".

    Raises BadInput for layouts that have no pictures.
    """
    rows = {row["key"]: row for row in read_scores(run)}
    kept = [rows[one["key"]] | {"labels": one["things"]} for one in read_picks(run)["choices"] if one["kept"]]
    if any(row["file"] is None for row in kept):
        raise BadInput(f"{run} holds layouts without pictures, so there is nothing to train on. Draw them first.")
    return kept


def examples(
    run: str | Path, boxes: Literal["layout", "mask"] = "layout", skipped: list[Skipped] | None = None
) -> list[Example]:
    """The kept pictures of a run, for `export`, with the masks that are at hand.

    boxes: the layout's, or those around the masks where there is one. skipped: gets the pictures whose layout cannot be
    used. Raises BadInput for them without it, for layouts without pictures, and for masks that are not there.
    """
    masks, made = read_masks(run), []
    if boxes == "mask" and not masks:
        raise BadInput(f"{run} holds no masks. Make the set with --masks, or take the layouts' boxes.")
    for row in kept_rows(run):
        try:
            layout = layout_of(row["layout"], f"{run} {row['key']}")
        except BadInput as error:
            if skipped is None:
                raise
            skipped.append(Skipped(str(row["key"]), f"{error} The picture is left out."))
            continue
        keys = [thing.key for thing in layout.things]
        shapes = {key: shape for key, shape in zip(keys, row["segmentations"], strict=False) if shape}
        found = masks.get(row["key"], {})
        if boxes == "mask":
            things = tuple(
                replace(one, box=box_around(mask_of(found[one.key]))) if one.key in found else one
                for one in layout.things
            )
            layout = replace(layout, things=things)
        width, height = row["size"]
        made.append(
            Example(
                file=Path(row["file"]), size=(width, height), layout=layout, labels=tuple(row["labels"]),
                segmentations=shapes | found,
            )
        )  # fmt: skip
    return made
