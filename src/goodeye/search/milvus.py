"""An index in Milvus, for more pictures than one machine holds: the same questions and answers, by URL.

http://HOST:19530/NAME is the collection NAME of a server; a path that ends in .db is a file of Milvus Lite. A row's
number is a hash of its picture's name. Each row holds name, caption, embedding, and the first row of its near-duplicate
group; the card is the one row of the collection NAME_card. Needs the extra `milvus`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from goodeye.errors import BadInput
from goodeye.search.build import Writer, require_same_model
from goodeye.search.index import SAMPLE, Card, Index, Ints, padded
from goodeye.search.vectors import Vectors, check_unit

AT_ONCE = 1000  # rows of a request
MOST = 16_384  # rows of an answer that a server gives
TEXT = 65_535  # bytes of a name or caption
FIELDS = ("row", "name", "caption", "vector", "first")


def number_of(name: str) -> int:
    """The row of a picture: 63 bits of its name's hash."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1


def whole_url(where: str) -> str:
    """A URL with both its slashes, of which a path loses one; the name of a file as it is."""
    return re.sub(r"^(https?):/+", r"\1://", where)


def split_url(where: str) -> tuple[str, str]:
    """The server, or a file of Milvus Lite, and the collection in it. Raises BadInput where none is named."""
    where = whole_url(where)
    parts = urlsplit(where)
    if parts.scheme not in ("http", "https"):
        return where, "goodeye"
    name = parts.path.strip("/")
    if not name.isidentifier():
        raise BadInput(f"{where} names no collection. Write the URL as http://HOST:19530/NAME, NAME of letters and _.")
    return f"{parts.scheme}://{parts.netloc}", name


@contextmanager
def _served(where: str) -> Iterator[None]:
    """What the client raises, as one plain line."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        why = " ".join(str(error.message or error).split())[:200].rstrip(".")
        raise BadInput(f"Milvus at {where} failed: {why}. Start it, correct its URL, or try later.") from error


def _client(where: str) -> tuple[Any, str]:
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise BadInput(f"{where} is an index in Milvus. Install its client: pip install 'goodeye[milvus]'.") from error
    uri, collection = split_url(where)
    with _served(where):
        return MilvusClient(uri=uri), collection


class _Column:
    """Values of rows that are fetched when they are asked for, as an array would give them."""

    def __init__(self, fetch: Callable[[list[int]], Any]) -> None:
        self.fetch = fetch

    def __getitem__(self, rows: Any) -> Any:
        wanted = np.asarray(rows, dtype=np.int64)
        known, where = np.unique(wanted, return_inverse=True)
        values = np.asarray(self.fetch(known.tolist()))
        return values[where.reshape(wanted.shape)]


class MilvusIndex(Index):
    """An index to read, by URL. Rows are asked for in small numbers, as an answer needs them."""

    def __init__(self, where: str) -> None:
        self.where, self.folder = whole_url(where), Path(where)
        _require_there(self.where)
        self.client, self.collection = _client(self.where)
        self.card = _card(self.client, self.collection, self.where)
        self.removed: Ints = np.zeros(0, np.int64)
        self.vectors: Any = _Column(lambda rows: np.array(self._field(rows, "vector"), dtype=np.float32))
        self.groups: Any = _Column(lambda rows: np.array(self._field(rows, "first"), dtype=np.int64))
        self.group_sizes: Any = _Column(lambda firsts: [self._count(f"first == {first}") for first in firsts])

    def __len__(self) -> int:
        return self._count("")

    @property
    def own_head(self) -> None:
        return None

    def row(self, number: int) -> tuple[str, str]:
        """Name and caption."""
        found = self._get([number], ["name", "caption"])[number]
        return found["name"], found["caption"]

    def names(self) -> dict[str, int]:
        """Every name with its row."""
        return {one["name"]: one["row"] for one in self.rows_where("", ["name"])}

    def rows_where(self, rule: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """All rows for which a filter of Milvus holds, with these fields and their numbers."""
        with _served(self.where):
            pages = self.client.query_iterator(
                self.collection, batch_size=AT_ONCE, filter=rule, output_fields=[*fields]
            )
            while page := pages.next():
                yield from page
            pages.close()

    @cached_property
    def sample(self) -> Vectors:
        """Up to 1,024 rows, [S, D], as the server gives them: numbers are hashes, so no order of names is in them."""
        with _served(self.where):
            found = self.client.query(self.collection, filter="row >= 0", limit=SAMPLE, output_fields=["vector"])
        return np.array([one["vector"] for one in found], dtype=np.float32)

    @property
    def bursts(self) -> int:
        """How many near-duplicate groups have two pictures or more, as far as one answer of the server tells."""
        with _served(self.where):
            found = self.client.query(self.collection, filter="row != first", limit=MOST, output_fields=["first"])
        return len({one["first"] for one in found})

    def search(self, queries: Vectors, k: int, nprobe: int | None = None) -> tuple[Vectors, Ints]:
        """As `Index.search`; how exact it is, the server decides."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.card.dimensions or not np.isfinite(queries).all():
            raise ValueError(f"queries are finite numbers [Q, {self.card.dimensions}], not {list(queries.shape)}")
        with _served(self.where):
            found = self.client.search(
                self.collection, data=queries.tolist(), limit=min(k, MOST), search_params={"metric_type": "IP"}
            )
        scores, rows = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
        for at, hits in enumerate(found):
            hits = sorted(hits, key=lambda hit: -hit["distance"])[:k]
            scores[at, : len(hits)] = [hit["distance"] for hit in hits]
            rows[at, : len(hits)] = [hit["row"] for hit in hits]
        return padded(scores, rows, k)

    def _get(self, rows: Sequence[int], fields: Sequence[str]) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        with _served(self.where):
            for start in range(0, len(rows), AT_ONCE):
                part = list(rows[start : start + AT_ONCE])
                page = self.client.get(self.collection, ids=part, output_fields=[*fields])
                found |= {one["row"]: one for one in page}
        return found

    def _field(self, rows: list[int], name: str) -> list[Any]:
        found = self._get(rows, [name])
        return [found[row][name] for row in rows]

    def _count(self, rule: str) -> int:
        with _served(self.where):
            return int(self.client.query(self.collection, filter=rule, output_fields=["count(*)"])[0]["count(*)"])


def _require_there(where: str) -> None:
    """A file of Milvus Lite must be there to be read: its client would make it."""
    if not where.startswith("http") and not Path(where).exists():
        raise _no_index(where)


def _no_index(where: str) -> BadInput:
    return BadInput(f"{where} is no index. Make one by `goodeye search index FOLDER --out {where}`.")


def _card(client: Any, collection: str, where: str) -> Card:
    with _served(where):
        if not client.has_collection(f"{collection}_card"):
            raise _no_index(where)
        found = client.query(f"{collection}_card", filter="row == 0", output_fields=["card"])
    try:
        return Card(**json.loads(found[0]["card"]))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise BadInput(f"{where} holds collections of something else. Name another one.") from error


class MilvusWriter(Writer):
    """Adds to a collection and removes from it. Rows of equal names replace each other."""

    longest = TEXT

    def __init__(self, where: str, card: Card) -> None:
        super().__init__(Path(where), card)
        self.index = MilvusIndex(where)

    def append(self, names: Sequence[str], captions: Sequence[str], vectors: Vectors) -> None:
        """Adds rows; they count when this returns."""
        if not names:
            return
        check_unit(vectors, "what was embedded", self.card.dimensions)
        index = self.index
        for start in range(0, len(names), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            rows = [number_of(name) for name in names[part]]
            block = np.asarray(vectors[part], dtype=np.float32)
            columns = zip(rows, names[part], captions[part], block.tolist(), self._firsts(rows, block), strict=True)
            data = [dict(zip(FIELDS, one, strict=True)) for one in columns]
            with _served(index.where):
                index.client.upsert(index.collection, data=data)

    def _firsts(self, rows: list[int], block: Vectors) -> list[int]:
        """Each row joins the nearest first row of a group that is near enough, or starts a group of its own: of those
        that are stored, and of those before it in the block."""
        threshold = self.card.duplicates
        if not threshold:
            return rows
        index = self.index
        with _served(index.where):
            stored = index.client.search(
                index.collection,
                data=block.tolist(),
                limit=1,
                filter="row == first",
                search_params={"metric_type": "IP"},
            )
        firsts: list[int] = []
        starts: list[int] = []  # places in the block at which groups begin
        for at, hits in enumerate(stored):
            near = [(float(hit["distance"]), int(hit["row"])) for hit in hits if hit["row"] != rows[at]]
            if starts:
                similar = block[starts] @ block[at]
                near.append((float(similar.max()), rows[starts[int(similar.argmax())]]))
            best = max(near, default=(-np.inf, rows[at]))
            firsts.append(best[1] if best[0] >= threshold else rows[at])
            if firsts[-1] == rows[at]:
                starts.append(at)
        return firsts

    def remove(self, names: Sequence[str]) -> list[str]:
        """Takes rows out by name; returns the names that the index does not have."""
        index = self.index
        known = index._get([number_of(name) for name in names], ["first", "vector"])
        self._lead_anew({row: one["vector"] for row, one in known.items() if one["first"] == row}, set(known))
        with _served(index.where):
            if known:
                index.client.delete(index.collection, ids=list(known))
        return [name for name in names if number_of(name) not in known]

    def _lead_anew(self, firsts: dict[int, Sequence[float]], gone: set[int]) -> None:
        """Of each group whose first row goes, the row most like that one becomes the first, so that the group stays
        together. firsts: their vectors, by row."""
        index = self.index
        for start in range(0, len(firsts), AT_ONCE):
            part = list(firsts)[start : start + AT_ONCE]
            groups: dict[int, list[dict[str, Any]]] = {}
            for one in index.rows_where(f"first in {part} and row != first", list(FIELDS)):
                if one["row"] not in gone:
                    groups.setdefault(one["first"], []).append(one)
            for first, left in groups.items():
                lead = max(left, key=lambda one: float(np.dot(one["vector"], firsts[first])))["row"]
                for at in range(0, len(left), AT_ONCE):
                    with _served(index.where):
                        index.client.upsert(
                            index.collection, data=[{**one, "first": lead} for one in left[at : at + AT_ONCE]]
                        )

    def finish(self) -> None:
        """The server has its own index."""


@contextmanager
def writing(where: str, card: Card | None = None) -> Iterator[MilvusWriter]:
    """As `goodeye.search.build.writing`, without a lock: a server takes many writers."""
    from pymilvus import DataType

    where = whole_url(where)
    if card is None:
        _require_there(where)
    client, collection = _client(where)
    with _served(where):
        if card is not None and not client.has_collection(collection):
            _create(
                client,
                collection,
                card.dimensions,
                name=DataType.VARCHAR,
                caption=DataType.VARCHAR,
                first=DataType.INT64,
            )
        if card is not None and not client.has_collection(f"{collection}_card"):
            _create(client, f"{collection}_card", 2, card=DataType.VARCHAR)
            row = {"row": 0, "vector": [1.0, 0.0], "card": json.dumps(asdict(card))}
            client.upsert(f"{collection}_card", data=[row])
    there = _card(client, collection, where)
    if card is not None:
        require_same_model(Path(where), there, card.version, card.models)
        there = replace(there, duplicates=card.duplicates)
    yield MilvusWriter(where, there)


def _create(client: Any, collection: str, dimensions: int, **fields: Any) -> None:
    """A collection of rows with a vector and further fields, searched by inner product."""
    from pymilvus import DataType

    plan = client.create_schema(auto_id=False)
    plan.add_field("row", DataType.INT64, is_primary=True)
    plan.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
    for name, kind in fields.items():
        plan.add_field(name, kind, **({"max_length": TEXT} if kind == DataType.VARCHAR else {}))
    ways = client.prepare_index_params()
    ways.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
    client.create_collection(collection, schema=plan, index_params=ways, consistency_level="Strong")
