"""`goodeye judge`: scores picture files, folders and tables of pictures, in batches."""

import difflib
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from goodeye.atomic import require_writable, whole_file
from goodeye.errors import BadInput
from goodeye.images import resize_rgba, shrunk, to_tensor
from goodeye.judging.aesthetic import AestheticHead, AestheticJudge
from goodeye.judging.clip import Clip, ClipJudge, Embeddings
from goodeye.judging.pixels import on_white
from goodeye.judging.protocol import Context, Images, Inspector, Judge, Need, Scores, Verdict, check_scores, needs_of
from goodeye.judging.rfnet import RFNetJudge
from goodeye.progress import progress
from goodeye.tables import TABLES, Cell, Skipped, pictures_in, read_table

if TYPE_CHECKING:
    from goodeye.modelset import Models

NAMES = ("clip", "aesthetic", "rfnet")
LONG_SIDE = 1024  # larger pictures are made smaller first; every judge looks at fewer pixels than that
SAVE_EVERY = 60.0  # seconds

Value = str | float | None  # None: the judge gave no answer that can be used
LACKS: dict[Need, str] = {
    "text": "no prompt and no title, and {} compares with a text. Give one.",
    "product": "no product, and {} compares with the product. Give its cut-out as it stands in the picture.",
    "original": "no original, and {} compares with it. `goodeye judge` does not take one.",
    "layout": "no layout, and {} compares with it. `goodeye judge` does not take one.",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture to judge, with what belongs to it."""

    name: str
    image: Cell
    product: Cell | None = None
    title: str = ""
    prompt: str = ""

    @property
    def has(self) -> frozenset[Need]:
        """What a judge gets to know of it."""
        text: set[Need] = {"text"} if self.prompt.strip() or self.title.strip() else set()
        return frozenset(text | ({"product"} if self.product is not None else set()))

    @property
    def told(self) -> str:
        """A digest of what it is judged by: its name, its words, and its product's name."""
        told = [self.name, self.title, self.prompt, self.product.name if self.product else None]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Judged:
    """One row a picture, in the order given: image, judge.axis as numbers, and of a judge that inspects judge.label and
    judge.failures in words.

    A picture that could not be judged is in `skipped` and not in `rows`. versions: judge -> version. told: image ->
    `Picture.told`.
    """

    rows: list[dict[str, Value]]
    skipped: list[Skipped] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)


def judge_files(
    paths: Sequence[str | Path],
    names: Sequence[str],
    models: "Models",
    *,
    batch_size: int = 16,
    title: str = "",
    prompt: str = "",
    product: str | Path | None = None,
    aesthetic_head: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
) -> Judged:
    """Scores pictures by the judges named: clip, aesthetic, rfnet.

    paths: picture files, folders of them, and tables (CSV, Parquet) with the columns image and, where there are any,
    product, title, prompt; `title`, `prompt` and `product` stand in where a picture has none of its own. clip needs a
    prompt or a title, rfnet the product as it stands in the picture, aesthetic a head (`aesthetic_head`).
    out: a Parquet file, written every minute, at the end and when stopped; with `resume`, what it holds is not done
    again, but for pictures that come with another title, prompt or product. Raises BadInput for what makes the whole
    job impossible; a single bad picture is skipped and reported.
    """
    _require_sense(paths, batch_size, out, resume)
    judges = make_judges(names, models, aesthetic_head)
    versions = {judge.name: judge.version for judge in judges}
    pictures, skipped = find_pictures(paths, title, prompt, Path(product) if product else None)
    before = _known(Path(out), versions) if out and resume else Judged([])
    told = before.told | {picture.name: picture.told for picture in pictures}
    done = {name: row for row in before.rows if before.told.get(name := str(row["image"])) == told.get(name)}
    pictures, unfit = _fit([picture for picture in pictures if picture.name not in done], judges)
    result = Judged([], skipped + unfit, versions, told)
    order = {name: number for number, name in enumerate([*done, *(picture.name for picture in pictures)])}
    try:
        _judge_all(pictures, judges, batch_size, done, result, Path(out) if out else None)
    finally:
        result.rows.extend(sorted(done.values(), key=lambda row: order[str(row["image"])]))
        if out and result.rows:
            write_parquet(result, out)
    return result


def _require_sense(paths: Sequence[str | Path], batch_size: int, out: str | Path | None, resume: bool) -> None:
    if not paths:
        raise BadInput("no picture is named. Name picture files, folders of them, or tables.")
    if batch_size < 1:
        raise BadInput(f"the batch is {batch_size}. Give 1 or more.")
    if resume and not out:
        raise BadInput("there is no file to go on with. Name it by --out.")
    if out:
        require_writable(out)


def make_judges(
    names: Sequence[str], models: "Models", aesthetic_head: str | Path | None = None
) -> list[ClipJudge | AestheticJudge | RFNetJudge]:
    """The judges of these names, made of a model set's parts. Raises BadInput for a name that there is not."""
    for name in names:
        if name not in NAMES:
            near = difflib.get_close_matches(name.lower(), NAMES, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise BadInput(f"there is no judge named {name}.{hint} Name one or more of {', '.join(NAMES)}.")
    if not names:
        raise BadInput(f"no judge is named. Name one or more of {', '.join(NAMES)}.")
    made: dict[str, ClipJudge | AestheticJudge | RFNetJudge] = {}
    for name in names:
        if name == "rfnet":
            made[name] = models.rfnet
        elif name == "clip":
            made[name] = ClipJudge(models.clip)
        elif aesthetic_head is None:
            raise BadInput("the judge aesthetic needs a head. Name its file, LAION's .pth or a .safetensors file.")
        else:
            made[name] = AestheticJudge(models.clip, AestheticHead.from_pretrained(aesthetic_head))
    return list(made.values())


def find_pictures(
    paths: Sequence[str | Path], title: str = "", prompt: str = "", product: Path | None = None
) -> tuple[list[Picture], list[Skipped]]:
    """The pictures of files, folders and tables in order, each once; and what is none. Files are not opened here.

    One that is named again with other words or another product is judged by the first, which is said.
    """
    found: dict[str, Picture] = {}
    skipped: list[Skipped] = []
    for path in map(Path, paths):
        try:
            for picture in _pictures(path):
                full = replace(
                    picture,
                    product=picture.product or (Cell(str(product), path=product) if product else None),
                    title=picture.title or title,
                    prompt=picture.prompt or prompt,
                )
                if found.setdefault(picture.name, full) != full:
                    message = (
                        f"{picture.name} is named again with another title, prompt or product, and is judged by the "
                        "first alone. Put the others into a table of their own."
                    )
                    skipped.append(Skipped(picture.name, message))
        except BadInput as error:
            skipped.append(Skipped(str(path), str(error)))
    return list(found.values()), skipped


def _pictures(path: Path) -> Iterator[Picture]:
    if path.is_dir():
        yield from (Picture(name=str(file), image=Cell(str(file), path=file)) for file in pictures_in(path))
    elif path.suffix.lower() not in TABLES:
        yield Picture(name=str(path), image=Cell(str(path), path=path))
    else:
        for row in read_table(path):
            image = row.cells.get("image", Cell(row.name, path=None, data=b""))
            words = {key: row.words.get(key, "") for key in ("title", "prompt")}
            name = str(image.path) if image.path else row.name
            yield Picture(name=name, image=image, product=row.cells.get("product"), **words)


def _fit(pictures: Sequence[Picture], judges: Sequence[Judge]) -> tuple[list[Picture], list[Skipped]]:
    """Leaves out the pictures that lack what a judge needs."""
    fit, unfit = [], []
    for picture in pictures:
        lacks = ""
        for judge in judges:
            for need in sorted(needs_of(judge) - picture.has):
                lacks = LACKS[need].format(judge.name)
        if lacks:
            unfit.append(Skipped(picture.name, f"{picture.name} has {lacks}"))
        else:
            fit.append(picture)
    return fit, unfit


@dataclass(frozen=True)
class _Loaded:
    picture: Picture
    image: Tensor  # [3, H, W] in [0, 1]
    context: Context


def _judge_all(
    pictures: Sequence[Picture],
    judges: Sequence[Judge],
    batch_size: int,
    done: dict[str, dict[str, Value]],
    result: Judged,
    out: Path | None,
) -> None:
    saved = time.monotonic()
    needs_product = any("product" in needs_of(judge) for judge in judges)
    with progress("judging", len(pictures), "images") as advance:
        for batch in _batches(_load_all(pictures, needs_product, result.skipped, advance), batch_size):
            for loaded, row in zip(batch, _judge_batch(batch, judges), strict=True):
                done[loaded.picture.name] = {"image": loaded.picture.name, **row}
            advance(len(batch))
            if out and time.monotonic() - saved > SAVE_EVERY:
                write_parquet(replace(result, rows=list(done.values())), out)
                saved = time.monotonic()


def _load_all(
    pictures: Iterable[Picture], needs_product: bool, skipped: list[Skipped], advance: Any
) -> Iterator[_Loaded]:
    for picture in pictures:
        try:
            yield _load(picture, needs_product)
        except BadInput as error:
            skipped.append(Skipped(picture.name, str(error)))
            advance(1)


def _load(picture: Picture, needs_product: bool) -> _Loaded:
    image = picture.image.open()
    small = shrunk(image, LONG_SIDE)
    pixels = to_tensor(small)
    pixels = on_white(pixels[None])[0] if len(pixels) == 4 else pixels
    product = None
    if needs_product and picture.product is not None:
        product = to_tensor(_product(picture, small.size, image.size))
    return _Loaded(picture, pixels, Context(product, picture.title, picture.prompt))


def _product(picture: Picture, size: tuple[int, int], original: tuple[int, int]) -> Image.Image:
    assert picture.product is not None
    product = picture.product.open()
    if product.mode != "RGBA":
        raise BadInput(f"{picture.product.name} has no transparency, so the product in it is unknown. Give a cut-out.")
    if abs(product.width * original[1] - product.height * original[0]) > max(product.size) + max(original):
        raise BadInput(
            f"{picture.product.name} is {product.width}x{product.height}, of another shape than {picture.name}, which "
            f"is {original[0]}x{original[1]}. Give the product on the picture's canvas, where it stands in the picture."
        )
    return resize_rgba(product, size)


def _batches(loaded: Iterable[_Loaded], batch_size: int) -> Iterator[list[_Loaded]]:
    """Pictures of equal size together; no more than four batches wait."""
    waiting: dict[torch.Size, list[_Loaded]] = {}
    for one in loaded:
        group = waiting.setdefault(one.image.shape, [])
        group.append(one)
        if len(group) == batch_size or sum(map(len, waiting.values())) >= 4 * batch_size:
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


@torch.no_grad()
def _judge_batch(batch: Sequence[_Loaded], judges: Sequence[Judge]) -> list[dict[str, Value]]:
    images = torch.stack([one.image for one in batch])
    contexts = [one.context for one in batch]
    rows: list[dict[str, Value]] = [{} for _ in batch]
    embedded: dict[Clip, Embeddings] = {}
    for judge in judges:
        if isinstance(judge, Inspector):
            for row, verdict in zip(rows, judge.inspect(images, contexts), strict=True):
                row.update(_verdict_fields(judge, verdict))
            continue
        for axis, values in check_scores(judge, _score(judge, images, contexts, embedded), len(batch)).items():
            for row, value in zip(rows, values.tolist(), strict=True):
                row[f"{judge.name}.{axis}"] = value
    return rows


def _score(judge: Judge, images: Images, contexts: Sequence[Context], embedded: dict[Clip, Embeddings]) -> Scores:
    """The judge's scores. Judges with one CLIP model share its embeddings of the batch, which `embedded` keeps."""
    if not isinstance(judge, ClipJudge | AestheticJudge):
        return judge.score(images, contexts)
    if judge.clip not in embedded:
        embedded[judge.clip] = judge.clip.embed_images(images)
    return judge.score_embedded(embedded[judge.clip], contexts)


def _verdict_fields(judge: Judge, verdict: Verdict) -> dict[str, Value]:
    """Its axes all have a field, so that each row has the same."""
    missing: dict[str, Value] = {axis.name: None for axis in judge.axes}
    fields = {"label": verdict.label, "failures": "; ".join(verdict.failures), **missing, **verdict.scores}
    return {f"{judge.name}.{key}": value for key, value in fields.items()}


def write_parquet(judged: Judged, path: str | Path) -> None:
    """One row a picture; in the schema's metadata the judges' versions, and what each picture was judged by. Whole or
    not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(judged.rows)
    table = table.replace_schema_metadata({"goodeye": json.dumps({"versions": judged.versions, "told": judged.told})})
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)


def _known(path: Path, versions: dict[str, str]) -> Judged:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return Judged([])
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {}).get(b"goodeye", b"{}"))
    except (pa.ArrowException, ValueError) as error:
        raise BadInput(f"{path} is not a table of scores. Choose another file, or do not resume.") from error
    if about.get("versions") != versions:
        raise BadInput(f"{path} holds scores by other judges or versions. Choose another file, or do not resume.")
    if "told" not in about:
        raise BadInput(
            f"{path} does not say by which title, prompt and product its pictures were judged: an older version wrote "
            "it. Choose another file, or do not resume."
        )
    return Judged(table.to_pylist(), versions=versions, told=about["told"])


def score_table(judged: Judged, limit: int = 100) -> Table:
    """The scores as a table for a terminal: of each judge its label and its main axis, and at most `limit` rows."""
    columns = []
    for judge in judged.versions:
        own = [column for column in next(iter(judged.rows), {}) if column.startswith(f"{judge}.")]
        columns += [f"{judge}.label", own[2]] if f"{judge}.label" in own else own[:1]
    table = Table(title=f"the first {limit} of {len(judged.rows)} pictures" if len(judged.rows) > limit else None)
    table.add_column("image", overflow="fold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in judged.rows[:limit]:
        values = (row[column] for column in columns)
        table.add_row(
            escape(str(row["image"])), *(f"{value:.3f}" if isinstance(value, float) else value for value in values)
        )
    return table
