"""The layout of the published RF1M data: archives or folders of pictures, label.txt, and cut-outs of the same names.

Published are 30 archives of generated pictures, a label.txt with one label a picture, and the products as transparent
PNGs "aligned by file name". How a line of label.txt is written and how the archives are laid out is not documented, so
what can be meant is read, and what cannot is said of each row. Titles, depth and saliency are not published.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from goodeye.archives import ARCHIVES, UNREADABLE, is_archive, members
from goodeye.errors import BadInput
from goodeye.judging.rfnet import CLASSES, class_number
from goodeye.progress import track
from goodeye.tables import PICTURES, Cell, Row, Skipped

LABELS = "label.txt"
# What the digits of label.txt mean: it counts from 1, in an order of its own.
DIGITS = ("available", "unsuitable", "space_mismatch", "size_mismatch", "indistinctiveness", "shape_hallucination")

_SEPARATOR = re.compile(r"[\t,; ]+")
_DIGIT = re.compile(r"([1-6])(\.0)?")


@dataclass
class Index:
    """Pictures by their names without ending, wherever they lie; a name may lie in several places."""

    places: dict[str, list[tuple[str, Cell]]] = field(default_factory=dict)

    def add(self, place: str, cell: Cell) -> None:
        """place: folders and file name, with an archive's name for a folder."""
        self.places.setdefault(_bare(place), []).append((place, cell))

    def find(self, name: str) -> Cell | None:
        """The picture that a name, with folders or without, with an ending or without, can only mean.

        None where there is none. Raises BadInput where there are several.
        """
        wanted = PurePosixPath(name.replace("\\", "/").removeprefix("./"))
        found = self.places.get(_bare(wanted.name), [])
        if len(found) > 1 and len(wanted.parts) > 1:
            found = [one for one in found if _parts(one[0])[-len(wanted.parts) :] == _parts(str(wanted))]
        if len(found) > 1:
            raise BadInput(f"{name} is there {len(found)} times, as {found[0][0]} and {found[1][0]}")
        return found[0][1] if found else None


def rows(folder: Path, scratch: Path) -> Iterator[Row | Skipped]:
    """A row for each line of label.txt, and what could not be read of lines and archives.

    Products are the pictures in folders or archives whose names begin with "product". A picture's product has its name,
    or the beginning of it up to a space, "_" or "-": 100012_3.png was made of 100012.png. scratch: for compressed tars.
    """
    pictures, products, unreadable = _index(folder, scratch)
    yield from unreadable
    text = (folder / LABELS).read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield _row(line.strip(), f"{LABELS} line {number}", pictures, products)


def parse(line: str) -> tuple[str, str] | None:
    """The picture's name and its class's, from a line of label.txt; None where no label is in it.

    Tab, comma, semicolon and space separate. The label is a class's name, the beginning of one, or a digit from 1, and
    the last on its line; where nothing that ends the line is one, the first may be.
    """
    cuts = [(line[: cut.start()], line[cut.end() :]) for cut in _SEPARATOR.finditer(line)]
    orders = [*((first, last) for first, last in reversed(cuts)), *((last, first) for first, last in cuts)]
    for name, label in orders:
        known = _label(label.strip(" \"'"))
        if known and name.strip():
            return name.strip(" \"'\t,;"), known
    return None


def _label(text: str) -> str | None:
    digit = _DIGIT.fullmatch(text)
    if digit:
        return DIGITS[int(digit[1]) - 1]
    try:
        return CLASSES[class_number(text)]
    except BadInput:
        return None


def _row(line: str, name: str, pictures: Index, products: Index) -> Row | Skipped:
    understood = parse(line)
    if understood is None:
        return Skipped(name, f"{name} ({line[:60]!r}) has no label. Use a class name or 1 to 6.")
    file, label = understood
    try:
        image = pictures.find(file)
        if image is None:
            return Skipped(name, f"{name} names {file}, which is in no folder or archive here. Add it.")
        product = _product(_bare(file), products)
    except BadInput as error:
        return Skipped(name, f"{name}: {error}. Write its folder in {LABELS}, or remove one.")
    return Row(name, {"image": image} | ({"product": product} if product else {}), {"label": label})


def _product(stem: str, products: Index) -> Cell | None:
    ends = [len(stem), *(cut.start() for cut in reversed(list(re.finditer(r"[ _-]", stem))))]
    names = (stem[:end] for end in ends if end)
    return next((products.find(name) for name in names if name in products.places), None)


def _index(folder: Path, scratch: Path) -> tuple[Index, Index, list[Skipped]]:
    """All pictures below a folder, those in archives too, and which archives cannot be read."""
    pictures, products = Index(), Index()
    unreadable: list[Skipped] = []
    files = sorted(folder.rglob("*"))
    archives = [path for path in files if is_archive(path)]
    for path in files:
        place = path.relative_to(folder)
        if path.suffix.lower() in PICTURES:
            _side(place, pictures, products).add(place.as_posix(), Cell(place.as_posix(), path=path))
        elif path.name.lower().endswith(UNREADABLE):
            unreadable.append(Skipped(path.name, f"{path} is an archive that cannot be read here. Unpack it there."))
    for archive in track(archives, "reading archives' contents", unit="archives"):
        try:
            found = members(archive, scratch)
        except BadInput as error:
            unreadable.append(Skipped(archive.name, str(error)))
            continue
        for member in found:
            place = archive.relative_to(folder) / member.name
            if place.suffix.lower() in PICTURES:
                cell = Cell(place.as_posix(), member=member)
                _side(place, pictures, products).add(place.as_posix(), cell)
    return pictures, products, unreadable


def _side(place: Path, pictures: Index, products: Index) -> Index:
    return products if any(part.lower().startswith("product") for part in place.parts[:-1]) else pictures


def _parts(place: str) -> tuple[str, ...]:
    """A place's folders and name, all without endings, so that part1.zip/a.png is what part1/a.png means."""
    *folders, name = PurePosixPath(place).parts
    bare = [next((one[: -len(end)] for end in ARCHIVES if one.lower().endswith(end)), one) for one in folders]
    return (*bare, _bare(name))


def _bare(place: str) -> str:
    """A file's name without its ending, if that is a picture's: 12.5 is a whole name, 12.5.png is that picture's."""
    name = PurePosixPath(place.replace("\\", "/")).name
    return PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in PICTURES else name
