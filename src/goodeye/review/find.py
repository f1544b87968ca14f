"""Looking by words or by a picture, in an index of `goodeye search`: what was sent is checked, and made anew."""

import hashlib
import io
import re
import secrets
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Protocol
from urllib.parse import urlencode

from PIL import Image, UnidentifiedImageError
from sqlalchemy import func, select

from goodeye.errors import BadInput
from goodeye.images import shrunk
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.schema import Attempt
from goodeye.review.items import reading
from goodeye.review.look import number_in
from goodeye.review.votes import pictures_of
from goodeye.tables import Cell

SHOWN = 60  # pictures of an answer
LONGEST = 500  # characters of a question
FORMATS = ("PNG", "JPEG", "WEBP")  # of what may be sent: the fewer decoders, the better
LARGEST = 12 * 2**20  # bytes of it
MOST_PIXELS = 64_000_000  # more is refused by its header, before anything is decoded
AT_ONCE = 2  # pictures decoded at a time: one of the most pixels takes a quarter of a gigabyte
SIDE = 1024  # pixels of its long side as it is kept; the index's models look at fewer
KEPT = 64  # pictures sent that are remembered, in memory and no longer than the process
REMEMBERED = 20_000  # names found that may be shown
BROKEN = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error)
SHA = re.compile(r"[0-9a-f]{64}")


class Hit(Protocol):
    """A picture found, as `goodeye.search.query.Hit`."""

    @property
    def name(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def similarity(self) -> float: ...
    @property
    def beauty(self) -> float | None: ...
    @property
    def alike(self) -> int: ...


class Finder(Protocol):
    """An index, as `goodeye.search.box.Box`. What people write never names a file; `open` gets what was found."""

    @property
    def has_taste(self) -> bool: ...
    def words(self, text: str, k: int, taste: float | None = None, avoid: Sequence[str] = ()) -> Sequence[Hit]: ...
    def like(
        self, picture: Image.Image, k: int, taste: float | None = None, avoid: Sequence[str] = ()
    ) -> Sequence[Hit]: ...
    def open(self, name: str) -> Image.Image: ...


@dataclass(frozen=True, kw_only=True)
class Question:
    """What an address asks for: words, or the key of a picture that was sent; what to avoid; the weight of beauty."""

    q: str = ""
    like: str = ""
    avoid: str = ""
    taste: float | None = None

    @property
    def asked(self) -> bool:
        return bool(self.q or self.like)

    def link(self) -> str:
        """The address of this question."""
        given = {"q": self.q, "like": self.like, "not": self.avoid, "taste": self.taste}
        return "/look/search?" + urlencode({name: value for name, value in given.items() if value not in ("", None)})


def read(given: Mapping[str, str]) -> Question:
    """The question in an address; whatever makes no sense in it is left out."""
    taste = number_in(given.get("taste", ""))
    words = {name: " ".join(given.get(name, "")[:LONGEST].split()) for name in ("q", "not")}
    return Question(
        q=words["q"],
        like=given.get("like", "")[:60],
        avoid=words["not"],
        taste=None if taste is None else max(-3.0, min(3.0, taste)),
    )


@dataclass
class Finding:
    """An index in the web app: what was found and may be shown, and the pictures that were sent, by whom."""

    finder: Finder
    found: OrderedDict[str, str] = field(default_factory=OrderedDict)  # key -> name in the index
    sent: OrderedDict[tuple[str, str], bytes] = field(default_factory=OrderedDict)  # person, key -> WebP of our making
    lock: threading.Lock = field(default_factory=threading.Lock)
    decoding: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE))

    def ask(self, ledger: Ledger, person: str, question: Question) -> list[dict[str, Any]]:
        """The answer, best first. Raises BadInput for what cannot be asked."""
        avoid = [question.avoid] if question.avoid else []
        if question.like:
            with Image.open(io.BytesIO(self.picture(person, question.like)), formats=["WEBP"]) as sent:
                hits = self.finder.like(sent.convert("RGB"), SHOWN, question.taste, avoid)
        else:
            hits = self.finder.words(question.q, SHOWN, question.taste, avoid)
        known = on_ledger(ledger, [hit.name for hit in hits])
        return [{"hit": hit, "key": self._key(hit.name), "title": title_of(hit)} | known[hit.name] for hit in hits]

    def _key(self, name: str) -> str:
        key = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
        with self.lock:
            _remember(self.found, key, name, REMEMBERED)
        return key

    def title(self, key: str) -> str:
        """The last part of its name; "" where nothing of that key was found."""
        with self.lock:
            return PurePath(self.found.get(key, "")).name

    def open(self, key: str, side: int) -> bytes:
        """A picture that was found, as WebP of our making. Raises BadInput where there is none of that key."""
        with self.lock:
            name = self.found.get(key)
        if name is None:
            raise BadInput("There is no such picture.")
        try:
            return encoded(self.finder.open(name), side)
        except BadInput as error:
            raise BadInput("That picture is no longer there.") from error  # and nothing of where it lay

    def take(self, person: str, data: bytes) -> str:
        """Keeps a picture that someone sent, decoded and encoded anew; returns its key. Raises BadInput."""
        with self.decoding:
            picture, key = encoded(checked(data), SIDE), secrets.token_urlsafe(16)
        with self.lock:
            _remember(self.sent, (person, key), picture, KEPT)
        return key

    def picture(self, person: str, key: str) -> bytes:
        """What this person sent, as WebP. Raises BadInput for another one's, and where it is forgotten."""
        with self.lock:
            found = self.sent.get((person, key))
        if found is None:
            raise BadInput("That picture is no longer here. Send it again.")
        return found


def _remember(where: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    where[key] = value
    where.move_to_end(key)
    while len(where) > most:
        where.popitem(last=False)


def title_of(hit: Hit) -> str:
    """Its caption, else the last part of its name."""
    return hit.caption or PurePath(hit.name).name


def on_ledger(ledger: Ledger, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By name: hash, newest attempt and title of a picture, where it is one of the ledger's own."""
    shas = {name: PurePath(name).stem for name in names if SHA.fullmatch(PurePath(name).stem)}
    newest = select(Attempt.image_sha, func.max(Attempt.id).label("attempt")).group_by(Attempt.image_sha)
    with reading(ledger) as connection:
        rows = connection.execute(newest.where(Attempt.image_sha.in_(set(shas.values()))))
        attempts = {row.image_sha: row.attempt for row in rows}
        told = pictures_of(connection, list(attempts.values()))
    known = {
        name: {"sha": sha, "attempt": attempts[sha], "title": told[attempts[sha]]["title"]}
        for name, sha in shas.items()
        if sha in attempts
    }
    return {name: known.get(name, {"sha": "", "attempt": 0}) for name in names}


def checked(data: bytes) -> Image.Image:
    """A picture that someone sent. Raises BadInput for what is none, for other formats, and for what is too large."""
    if len(data) > LARGEST:
        raise BadInput(f"The picture has more than {LARGEST // 2**20} MB. Send a smaller one.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            pixels = header.width * header.height
    except UnidentifiedImageError as error:
        raise BadInput("That is no picture that can be read here. Send a PNG, JPEG or WebP file.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = MOST_PIXELS + 1
    except BROKEN as error:
        raise BadInput("The picture is damaged or cut short. Send it again.") from error
    if pixels > MOST_PIXELS:
        raise BadInput(f"The picture has more than {MOST_PIXELS // 10**6} megapixels. Send a smaller one.")
    try:
        return Cell("The picture", data=data).open()
    except BadInput as error:
        raise BadInput("The picture is damaged or cut short. Send it again.") from error


def encoded(picture: Image.Image, side: int) -> bytes:
    """Its pixels and nothing else, on white, its long side at most `side`, as WebP."""
    small = shrunk(picture, side)
    plain = Image.new("RGB", small.size, "white")
    plain.paste(small, mask=small.getchannel("A") if small.mode == "RGBA" else None)
    buffer = io.BytesIO()
    plain.save(buffer, format="WEBP", quality=88)
    return buffer.getvalue()
