"""Triplets: an original picture, an edited one and the instruction between them; read, and written with rewards.

What is read: InsPix2Pix's folders (NAME/prompt.json, NAME/SEED_0.jpg, NAME/SEED_1.jpg, with or without seeds.json), its
clip-filtered Parquet files, RewardEdit's JSON beside such folders, and our own Parquet. Nothing is opened here but
tables; a triplet that cannot be used becomes a `Skipped`, and the others go on.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from goodeye.atomic import whole_file, write_bytes
from goodeye.edit.rewards import AXES, Rewards, from_json
from goodeye.errors import BadInput
from goodeye.images import to_pil, to_tensor
from goodeye.judging.pixels import on_white
from goodeye.progress import track
from goodeye.tables import PICTURES, Cell, Skipped

REWARDS, SEEDS, TABLE = "rewards.json", "seeds.json", "triplets.parquet"
SOURCE = "source"  # the column that says whose scores a table holds
MOST_WORDS = 200  # of an instruction; InsPix2Pix's have about nine
AT_ONCE = 64  # rows of a group in our Parquet
_COLUMNS = {"original": "original_image", "edited": "edited_image", "instruction": "edit_prompt"}  # InsPix2Pix's names


@dataclass(frozen=True)
class Stored:
    """A picture's bytes in a Parquet file."""

    file: Path
    group: int
    row: int
    column: str

    def read(self) -> bytes:
        """The bytes. A group is read once for its rows. Raises BadInput where the row has none."""
        found = _column(self.file, self.group, self.column)[self.row]
        data = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(data, bytes):
            raise BadInput(f"{self.file} has no picture in {self.column} there. Write the file again.")
        return data


@dataclass(frozen=True)
class Picture:
    """A picture file, or one in a Parquet file."""

    name: str
    at: Path | Stored

    def read(self) -> bytes:
        """The file's bytes. Raises BadInput where it cannot be read."""
        try:
            return self.at.read() if isinstance(self.at, Stored) else self.at.read_bytes()
        except OSError as error:
            raise BadInput(f"{self.name} cannot be read: {error.strerror}. Check the path.") from error

    def open(self) -> Image.Image:
        """Upright RGB; what is transparent is white. Raises BadInput for what is no picture."""
        cell = Cell(self.name, path=self.at) if isinstance(self.at, Path) else Cell(self.name, data=self.read())
        return opaque(cell.open())


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """mask: white where the edit may change something, if that is known. key: its folder's name, or its row's."""

    key: str
    instruction: str
    original: Picture
    edited: Picture
    mask: Picture | None = None
    rewards: Rewards | None = None


def opaque(img: Image.Image) -> Image.Image:
    """RGB, on white where it is transparent."""
    return img if img.mode == "RGB" else to_pil(on_white(to_tensor(img.convert("RGBA"))[None])[0])


def check_instruction(text: str) -> str:
    """The instruction without spare blanks. Raises BadInput where it is empty or far too long."""
    words = text.split()
    if not words:
        raise BadInput("the instruction is empty. Say what to change, as in: make the wall blue.")
    if len(words) > MOST_WORDS:
        raise BadInput(f"the instruction has {len(words)} words. Say what to change in one sentence.")
    return " ".join(words)


def read_triplets(source: str | Path) -> Iterator[Triplet | Skipped]:
    """The triplets of a folder, a RewardEdit JSON, a Parquet file or a folder of Parquet files, in a fixed order.

    A folder with several pairs gives its first by name. Raises BadInput where there is nothing of the kind at all, and
    for a folder of tables whose scores are by different judges.
    """
    source = Path(source)
    if source.suffix.lower() == ".parquet" and source.is_file():
        return _from_parquet([source])
    if source.suffix.lower() == ".json" and source.is_file():
        rewards = _json_object(source)
        return _from_folders(source.parent, {key: [] for key in rewards}, rewards)
    if not source.is_dir():
        raise BadInput(
            f"{source} is no folder, Parquet or JSON file. Name triplets as InsPix2Pix or RewardEdit has them."
        )
    if (source / "prompt.json").is_file():  # one triplet's own folder
        return _from_folders(source.resolve().parent, {source.resolve().name: []}, {})
    if tables := sorted(source.glob("*.parquet")) or sorted(source.glob("data/*.parquet")):  # data/: as the hub has it
        _require_one_source(source, tables)
        return _from_parquet(tables)
    return _from_folders(source, _listed(source), _json_object(source / REWARDS, must=False))


def usable(read: Iterable[Triplet | Skipped], skipped: list[Skipped]) -> Iterator[Triplet]:
    """The triplets alone; what is none is put into `skipped`."""
    for one in read:
        if isinstance(one, Skipped):
            skipped.append(one)
        else:
            yield one


def digest_of(triplets: Sequence[Triplet]) -> str:
    """16 hex digits that change with keys, instructions and the bytes of original and edited pictures.

    Bytes, and not path, size and time: triplets that were copied, or rendered again alike, are the same ones, and a
    file's time says nothing of a row in a Parquet file. It costs one reading of all pictures. One that cannot be read
    counts as none.
    """
    digest = hashlib.sha256()
    for one in track(triplets, "reading triplets", unit="triplets"):
        told = [one.key, one.instruction, _sha(one.original), _sha(one.edited)]
        digest.update(json.dumps(told).encode())
    return digest.hexdigest()[:16]


def mark_of(triplet: Triplet) -> str:
    """12 hex digits of the instruction and the pictures' bytes. Raises BadInput where a picture cannot be read."""
    shas = [hashlib.sha256(picture.read()).hexdigest() for picture in (triplet.original, triplet.edited)]
    return hashlib.sha256(json.dumps([triplet.instruction, *shas]).encode()).hexdigest()[:12]


def _sha(picture: Picture) -> str:
    try:
        return hashlib.sha256(picture.read()).hexdigest()
    except BadInput:
        return ""


# --- folders


def _listed(root: Path) -> dict[str, list[str]]:
    """Names of the triplets' folders, with the seeds of their pairs where seeds.json says them."""
    if (root / SEEDS).is_file():
        try:
            rows = json.loads((root / SEEDS).read_text(encoding="utf-8"))
            return {str(name): [str(seed) for seed in seeds] for name, seeds in rows}
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(
                f"{root / SEEDS} is not a list of [name, seeds]. Download it again, or delete it."
            ) from error
    names = sorted(file.parent.relative_to(root).as_posix() for file in root.glob("**/prompt.json"))
    if not names:
        raise BadInput(
            f"{root} holds no triplets: no folder in it has a prompt.json, and there is no Parquet file. "
            "Name InsPix2Pix's folder."
        )
    return dict.fromkeys(names, [])


def _json_object(
    file: Path, must: bool = True, what: str = "triplets with three rewards each. Give RewardEdit's JSON."
) -> dict[str, Any]:
    if not must and not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} is not JSON ({' '.join(str(error).split())[:120]}). Download it again.") from error
    if not isinstance(found, dict):
        raise BadInput(f"{file} is no object of {what}")
    return found


def _from_folders(root: Path, listed: dict[str, list[str]], rewards: dict[str, Any]) -> Iterator[Triplet | Skipped]:
    for key, seeds in listed.items():
        try:
            triplet = _from_folder(root / key, key, seeds)
            yield replace(triplet, rewards=from_json(rewards[key])) if key in rewards else triplet
        except BadInput as error:
            yield Skipped(key, f"{key}: {error}")


def _from_folder(folder: Path, key: str, seeds: list[str]) -> Triplet:
    _check_key(key)
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}. Download it, or take it out of the list.")
    files = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in PICTURES}
    stems = [f"{seed}_" for seed in seeds] or sorted(stem[:-1] for stem in files if stem.endswith("_0"))
    pair = next((stem for stem in stems if f"{stem}0" in files and f"{stem}1" in files), None)
    if pair is None:
        raise BadInput(f"{folder} has no pair of pictures SEED_0 and SEED_1. Download it again.")
    pictures = {end: Picture(f"{key}/{files[pair + end].name}", files[pair + end]) for end in ("0", "1")}
    mask = files.get(f"{pair}mask")
    return Triplet(
        key=key,
        instruction=check_instruction(_instruction(folder / "prompt.json")),
        original=pictures["0"],
        edited=pictures["1"],
        mask=Picture(f"{key}/{mask.name}", mask) if mask else None,
    )


def _check_key(key: str) -> None:
    """Keys name files that are written, so they must not lead elsewhere."""
    if Path(key).is_absolute() or ".." in Path(key).parts:
        raise BadInput(f"the name {key} leads out of the folder. Rename it.")


def _instruction(file: Path) -> str:
    """The first where there are several."""
    given = _json_object(file, what='an instruction, as {"edit": "make the wall blue"}. Download it again.').get("edit")
    return str((given[0] if given else "") if isinstance(given, list) else given or "")


# --- Parquet


def _require_one_source(folder: Path, files: Sequence[Path]) -> None:
    by = {file: source for file in files if (source := source_of(file))}
    if len(set(by.values())) > 1:
        said = ", ".join(f"{file.name} by {source}" for file, source in by.items())
        raise BadInput(f"{folder} holds scores by several judges: {said}. Name one table, so that they are not mixed.")


def source_of(table: str | Path) -> str:
    """Whose scores our Parquet holds, as it says itself; "" where it does not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(table) as file:
            if SOURCE not in file.schema_arrow.names or not file.num_row_groups:
                return ""
            return str(file.read_row_group(0, columns=[SOURCE])[SOURCE][0].as_py() or "")
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{table} is not a readable Parquet file. Download or write it again.") from error


def _from_parquet(files: Iterable[Path]) -> Iterator[Triplet | Skipped]:
    for file in files:
        yield from _rows(file)


def _rows(file: Path) -> Iterator[Triplet | Skipped]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            named = {ours: ours if ours in names else theirs for ours, theirs in _COLUMNS.items()}
            if missing := [theirs for theirs in named.values() if theirs not in names]:
                raise BadInput(f"{file} has no column {missing[0]} (it has {', '.join(names)}). Add one.")
            words = [name for name in names if name not in (named["original"], named["edited"], "mask")]
            for group in range(table.num_row_groups):
                for row, said in enumerate(table.read_row_group(group, columns=words).to_pylist()):
                    yield _row(file, group, row, said, named, "mask" in names)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file} is not a readable Parquet file. Download or write it again.") from error


def _row(
    file: Path, group: int, row: int, said: dict[str, Any], named: dict[str, str], masks: bool
) -> Triplet | Skipped:
    key = str(said.get("key") or f"{file.stem}-{group}-{row}")
    try:
        _check_key(key)
        return Triplet(
            key=key,
            instruction=check_instruction(str(said[named["instruction"]] or "")),
            original=Picture(f"{key} original", Stored(file, group, row, named["original"])),
            edited=Picture(f"{key} edited", Stored(file, group, row, named["edited"])),
            mask=Picture(f"{key} mask", Stored(file, group, row, "mask")) if masks else None,
            rewards=_from_columns(said),
        )
    except BadInput as error:
        return Skipped(key, f"{file.name} {key}: {error}")


def _from_columns(said: dict[str, Any]) -> Rewards | None:
    if not any(axis in said for axis in AXES):
        return None
    return from_json([{"Score": said.get(axis), "Negative Prompt": said.get(f"{axis}_failure")} for axis in AXES])


@lru_cache(maxsize=8)
def _column(file: Path, group: int, column: str) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            return table.read_row_group(group, columns=[column])[column].to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file} cannot be read any more. Check that it is there and whole.") from error


# --- writing


def write_rewards(triplets: Iterable[Triplet], file: str | Path) -> None:
    """RewardEdit's JSON: key -> three objects with "Score" and "Negative Prompt"; what is missing is null."""
    found = {one.key: one.rewards.to_json() for one in triplets if one.rewards is not None}
    write_bytes(file, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())


def write_parquet(triplets: Iterable[Triplet], file: str | Path, source: str = "") -> list[Skipped]:
    """Our Parquet: key, instruction, the pictures' own bytes, and the rewards with their source. Returns what could not
    be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    skipped: list[Skipped] = []
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rewards = [(name, kind) for axis in AXES for name, kind in ((axis, pa.float32()), (f"{axis}_failure", pa.string()))]
    schema = pa.schema(
        [("key", pa.string()), ("instruction", pa.string()), ("original", image), ("edited", image), *rewards,
         (SOURCE, pa.string())]
    )  # fmt: skip
    left = iter(triplets)
    with whole_file(file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while some := list(islice(left, AT_ONCE)):
            rows = [{**row, SOURCE: source} for one in some if (row := _as_row(one, skipped)) is not None]
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema))
    return skipped


def _as_row(one: Triplet, skipped: list[Skipped]) -> dict[str, Any] | None:
    try:
        pictures = {
            name: {"bytes": picture.read(), "path": picture.name}
            for name, picture in (("original", one.original), ("edited", one.edited))
        }
    except BadInput as error:
        skipped.append(Skipped(one.key, f"{one.key}: {error}"))
        return None
    said = one.rewards or Rewards((None, None, None))
    scored = dict(zip(AXES, said.scores, strict=True))
    failures = {f"{axis}_failure": text for axis, text in zip(AXES, said.failures, strict=True)}
    return {"key": one.key, "instruction": one.instruction, **pictures, **scored, **failures}
