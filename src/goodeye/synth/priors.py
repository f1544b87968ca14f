"""Where things stand in real pictures: pairs of boxes by subject, relation and object, looked up with back-off.

A store is a Parquet file with a row a pair: subject, relation, object, picture (a number, the same for all pairs of one
picture) and the two boxes in shares of the picture. Priors of the synth paper, section 3.1; the back-off is ours.
"""

import difflib
import json
from array import array
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from goodeye.atomic import whole_file
from goodeye.errors import BadInput
from goodeye.synth.nearness import BY_LETTERS, Encoder, nearest
from goodeye.synth.relations import Triplet

Array = np.ndarray[Any, Any]
Level = Literal["exact", "similar", "side", "relation", "all"]  # where references were found, from the best on

LEAST, MOST = 30, 1000  # references to a question; ours
ALIKE = 5  # categories that may stand in for one that has too few
OUTSIDE = 1e-3  # of the picture, by which a stored box may leave it: what float32 and other tools round
SWEEPS = 60  # in which typical sizes settle
NAMES = ("subject", "relation", "object")
BOX = tuple(f"{whose}_{side}" for whose in ("subject", "object") for side in ("x", "y", "width", "height"))


@dataclass(frozen=True, eq=False)
class Priors:
    """Pairs sorted by triplet: those of triplet t are rows starts[t] to starts[t + 1].

    triplets: codes of subject, relation and object. sources: what they were made of, with the number of pairs that each
    gave, before the cut to at most so many of a triplet; 0 for captions that gave none.
    """

    categories: tuple[str, ...]
    relations: tuple[str, ...]
    triplets: Int[Array, "T 3"]
    starts: Int[Array, "T+1"]
    boxes: Float[Array, "N 2 4"]
    pictures: Int[Array, " N"]
    sources: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def codes(self) -> dict[Triplet, int]:
        """The row in `triplets` of each triplet."""
        return {self.names(t): t for t in range(len(self.triplets))}

    def names(self, t: int) -> Triplet:
        """A triplet in words."""
        subject, relation, other = self.triplets[t]
        return self.categories[subject], self.relations[relation], self.categories[other]

    @cached_property
    def counts(self) -> Int[Array, " T"]:
        """Pairs of each triplet."""
        return np.diff(self.starts)

    @cached_property
    def frequency(self) -> dict[str, int]:
        """How many pairs each category is in."""
        found = np.zeros(len(self.categories), dtype=int)
        for part in (0, 2):
            np.add.at(found, self.triplets[:, part], self.counts)
        return dict(zip(self.categories, found.tolist(), strict=True))

    def rows(self, triplet: Triplet) -> slice:
        """The rows of a triplet; empty where there are none."""
        t = self.codes.get(triplet)
        return slice(0, 0) if t is None else slice(int(self.starts[t]), int(self.starts[t + 1]))

    def count(self, triplet: Triplet) -> int:
        """How many pairs of a triplet there are."""
        t = self.codes.get(triplet)
        return 0 if t is None else int(self.counts[t])

    @cached_property
    def sizes(self) -> tuple[Float[Array, " C"], Float[Array, " R"]]:
        """How large categories typically are beside each other, and what a relation adds, in logarithms: the area of a
        subject by that of its object is about exp(size of the one - size of the other + the relation's).

        Least squares over all pairs, each category and relation drawn towards 0 by one pair more (ours).
        """
        ratios = np.log(self.boxes[:, 0, 2:].prod(-1) / self.boxes[:, 1, 2:].prod(-1))
        subject, relation, other = self.triplets.T
        goal = np.add.reduceat(ratios, self.starts[:-1]) if len(self) else np.zeros(0)
        size, more = np.zeros(len(self.categories)), np.zeros(len(self.relations))
        often, related = (
            np.bincount(np.concatenate(codes), np.tile(self.counts, len(codes)), len(words)) + 1
            for codes, words in (((subject, other), size), ((relation,), more))
        )
        for _ in range(SWEEPS):
            left = goal - self.counts * (size[subject] - size[other] + more[relation])
            pull = np.bincount(subject, left, len(size)) - np.bincount(other, left, len(size))
            size += 0.5 * (pull - size) / often
            more += 0.5 * (np.bincount(relation, left, len(more)) - more) / related
        return size, more

    def typical_ratio(self, triplet: Triplet) -> float:
        """The logarithm of the areas' ratio that `sizes` says of a triplet; what is unknown counts as 0."""
        size, more = self.sizes
        subject, relation, other = triplet
        found = (
            (size, self._category.get(subject)), (size, self._category.get(other)), (more, self._relation.get(relation))
        )  # fmt: skip
        first, second, third = (0.0 if at is None else float(values[at]) for values, at in found)
        return first - second + third

    @cached_property
    def typical_ratios(self) -> Float[Array, " T"]:
        """`typical_ratio` of each triplet of the store."""
        size, more = self.sizes
        subject, relation, other = self.triplets.T
        return np.asarray(size[subject] - size[other] + more[relation])

    def of_relation(self, relation: str) -> Int[Array, " t"]:
        """The rows in `triplets` that a relation has."""
        return np.flatnonzero(self.triplets[:, 1] == self._relation.get(relation, -1))

    def of_category(self, name: str) -> Int[Array, " t"]:
        """The rows in `triplets` of which a category is subject or object."""
        return np.flatnonzero((self.triplets[:, ::2] == self._category.get(name, -1)).any(1))

    @cached_property
    def _category(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.categories)}

    @cached_property
    def _relation(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.relations)}

    def triplet_of_rows(self) -> Int[Array, " N"]:
        """For each pair the row in `triplets`."""
        return np.repeat(np.arange(len(self.triplets)), self.counts)

    def part(self, chosen: Array) -> "Priors":
        """The priors of some pairs alone: a mask [N]. Triplets without any are left out."""
        t = self.triplet_of_rows()[chosen]
        kept, counts = np.unique(t, return_counts=True)
        starts = np.concatenate([[0], np.cumsum(counts)])
        return Priors(
            self.categories, self.relations, self.triplets[kept], starts, self.boxes[chosen], self.pictures[chosen],
            self.sources,
        )  # fmt: skip

    def require(self, names: Iterable[str], encoder: Encoder = BY_LETTERS) -> None:
        """Raises BadInput for the first name that is no category, with the nearest that are."""
        for name in names:
            if name not in self.frequency:
                near = difflib.get_close_matches(name, self.categories, 2)
                near += [other for other, _ in nearest(name, self.categories, encoder) if other not in near]
                told = ", ".join(near[:3])
                raise BadInput(f"{name} is not in the priors. The nearest that are: {told}. Use one, or add a source.")

    def to_json(self) -> dict[str, Any]:
        """Pairs by source, by category and by relation."""
        relations = np.zeros(len(self.relations), dtype=int)
        np.add.at(relations, self.triplets[:, 1], self.counts)
        return {
            "pairs": len(self),
            "triplets": len(self.triplets),
            "sources": self.sources,
            "categories": self.frequency,
            "relations": dict(zip(self.relations, relations.tolist(), strict=True)),
        }

    def summary(self) -> str:
        """For a terminal: a line of what there is, one of where it comes from, and one for each source of nothing."""
        many = sorted(self.to_json()["relations"].items(), key=lambda one: -one[1])[:8]
        words = ", ".join(f"{name} {count}" for name, count in many)
        lines = [
            f"{len(self)} pairs of {len(self.categories)} categories in {len(self.relations)} relations ({words}), "
            f"{len(self.triplets)} triplets."
        ]
        if given := ", ".join(f"{name} {count}" for name, count in self.sources.items() if count):
            cut = sum(self.sources.values()) > len(self)
            lines.append(f"They come from: {given}{', before the cut to the most of each triplet' if cut else ''}.")
        for name, count in self.sources.items():
            if not count:
                why = " None of them is of a picture that is given and says how two of its things stand."
                lines.append(f"{name}: 0 pairs.{why if name.startswith('captions') else ''}")
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Writes the store, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        each = self.triplets[self.triplet_of_rows()]
        words = (self.categories, self.relations, self.categories)
        columns: dict[str, Any] = {
            name: pa.DictionaryArray.from_arrays(pa.array(each[:, part], pa.int32()), pa.array(words[part]))
            for part, name in enumerate(NAMES)
        }
        columns["picture"] = self.pictures
        columns |= {name: self.boxes.reshape(-1, 8)[:, side] for side, name in enumerate(BOX)}
        table = pa.table(columns).replace_schema_metadata({"goodeye": json.dumps({"sources": self.sources})})
        with whole_file(path) as temporary:
            pq.write_table(table, temporary)


class Gather:
    """Pairs coming in picture by picture, from one source after the other."""

    def __init__(self) -> None:
        self._words: tuple[dict[str, int], ...] = ({}, {}, {})  # subjects, relations, objects
        self._codes = tuple(array("q") for _ in NAMES)
        self._numbers: dict[Hashable, int] = {}
        self._pictures = array("q")
        self._boxes: list[Array] = []
        self.sources: dict[str, int] = {}

    def add(self, source: str, picture: Hashable, triplets: Sequence[Triplet], boxes: Float[Array, "P 2 4"]) -> None:
        """The pairs of one picture, all in one call or not; boxes in shares of it, all with an area."""
        number = self._numbers.setdefault(picture, len(self._numbers))
        for words, codes, names in zip(self._words, self._codes, zip(*triplets, strict=True), strict=False):
            codes.extend(words.setdefault(name, len(words)) for name in names)
        self._pictures.extend([number] * len(triplets))
        self._boxes.append(np.asarray(boxes, dtype=np.float32).reshape(-1, 2, 4))
        self.sources[source] = self.sources.get(source, 0) + len(triplets)

    def priors(self, most: int = 2000, seed: int = 0) -> Priors:
        """All of it, at most `most` pairs of a triplet, drawn by the seed. Raises BadInput where there are none, and
        for a `most` below 1."""
        if most < 1:
            raise BadInput(f"{most} pairs of each triplet are asked for. Keep 1 or more.")
        if not self._pictures:
            raise BadInput("no two things of the sources stand in any relation. Give pictures with several boxes each.")
        codes = np.stack([np.frombuffer(one, dtype=np.int64) for one in self._codes], 1)
        pictures = np.array(self._pictures)
        words = [list(one) for one in self._words]
        return _arranged(words, codes, np.concatenate(self._boxes), pictures, self.sources, most, seed)


def _arranged(
    words: Sequence[Sequence[str]],
    codes: Int[Array, "N 3"],
    boxes: Float[Array, "N 2 4"],
    pictures: Int[Array, " N"],
    sources: dict[str, int],
    most: int,
    seed: int = 0,
) -> Priors:
    """Pairs in the order of their triplets. words: the names that the codes of subject, relation and object mean."""
    categories, relations = tuple(sorted({*words[0], *words[2]})), tuple(sorted(set(words[1])))
    place = {name: at for at, name in enumerate(categories)}
    subjects, others = (np.array([place[name] for name in words[part]])[codes[:, part]] for part in (0, 2))
    number = {name: at for at, name in enumerate(relations)}
    related = np.array([number[name] for name in words[1]])[codes[:, 1]]
    each = (subjects * len(relations) + related) * len(categories) + others
    chosen = _at_most(each, most, seed)
    found, first = np.unique(each[chosen], return_index=True)
    both, last = np.divmod(found, len(categories))
    triplets = np.stack([*np.divmod(both, len(relations)), last], 1)
    starts = np.append(first, len(chosen))
    return Priors(categories, relations, triplets, starts, boxes[chosen], pictures[chosen], sources)


def _at_most(each: Int[Array, " N"], most: int, seed: int) -> Int[Array, " n"]:
    """Rows sorted by `each`, then as they came, at most `most` of each value, the same ones for the same seed."""
    shuffled = np.random.default_rng(seed).permutation(len(each))
    order = shuffled[np.argsort(each[shuffled], kind="stable")]
    sorted_ = each[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_, sorted_)
    kept = order[place < most]
    return np.asarray(kept[np.lexsort((kept, each[kept]))])


def open_priors(path: str | Path) -> Priors:
    """The store that `Priors.save` wrote. Raises BadInput for anything else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=[*NAMES, "picture", *BOX]).combine_chunks()
        if not len(table) or any(column.null_count for column in table.columns):
            raise ValueError("there are no rows, or some lack a value")
        parts = [table.column(name).chunk(0).dictionary_encode() for name in NAMES]
        words = [part.dictionary.cast(pa.string()).to_pylist() for part in parts]
        codes = np.stack([part.indices.to_numpy(zero_copy_only=False) for part in parts], 1).astype(np.int64)
        boxes = np.stack([table.column(name).to_numpy() for name in BOX], 1).astype(np.float32).reshape(-1, 2, 4)
        pictures = table.column("picture").to_numpy().astype(np.int64)
        about = json.loads((table.schema.metadata or {}).get(b"goodeye", b"{}"))
        sources = about.get("sources", {}) if isinstance(about, dict) else None
        if not isinstance(sources, dict) or not all(isinstance(count, int) for count in sources.values()):
            raise ValueError("what it was made of is no count by source")
    except (pa.ArrowException, OSError, KeyError, ValueError, IndexError, RecursionError) as error:
        raise BadInput(f"{path} is no store of priors. Make one by `goodeye synth priors`.") from error
    if not np.isfinite(boxes).all() or boxes[..., 2:].min() <= 0:
        raise BadInput(f"{path} has boxes without an area. Make it again by `goodeye synth priors`.")
    if boxes[..., :2].min() < -OUTSIDE or (boxes[..., :2] + boxes[..., 2:]).max() > 1 + OUTSIDE:
        raise BadInput(f"{path} has boxes outside of the picture. Write them in shares of its sides, from 0 to 1.")
    return _arranged(words, codes, boxes, pictures, sources, most=len(boxes))


@dataclass(frozen=True, eq=False)
class References:
    """What a pair is held against: boxes [R, 2, 4], where they were found, and under which triplets (at most 10).

    ratio: by how much the areas' ratio, subject by object, is typically larger for the triplet that was looked up than
    for the reference's own: 1 for its own pairs, and for all where nothing is known.
    """

    boxes: Float[Array, "R 2 4"]
    ratio: Float[Array, " R"]
    level: Level
    found: tuple[Triplet, ...]


class LookUp:
    """Finds references, and remembers them. encoder: which categories are alike.

    Fewer than `least` pairs of the triplet are filled up from like categories in the same relation (similar); where
    that is not enough, the pairs in the relation that share a side with it, subject or object; then the relation of
    whatever categories; then everything. At most `most`, drawn by the seed.
    """

    def __init__(
        self, priors: Priors, encoder: Encoder = BY_LETTERS, *, least: int = LEAST, most: int = MOST, seed: int = 0
    ) -> None:
        self.priors, self.encoder, self.least, self.most, self.seed = priors, encoder, least, most, seed
        self._known: dict[tuple[Triplet, Level], References] = {}
        self._pools: dict[str | None, _Pool] = {}
        self._alike: dict[str, dict[str, float]] = {}

    def __call__(self, triplet: Triplet, start: Level = "exact") -> References:
        """References of a triplet, looked for from the level `start` on."""
        if (triplet, start) not in self._known:
            self._known[triplet, start] = self._find(triplet, start)
        return self._known[triplet, start]

    def _find(self, triplet: Triplet, start: Level) -> References:
        relation = triplet[1]
        if start == "exact" and self.priors.count(triplet) >= self.least:
            return self._drawn([triplet], "exact", triplet)
        if start in ("exact", "similar"):
            found, count = list[Triplet](), 0
            for one in self._like(triplet):
                found, count = [*found, one], count + self.priors.count(one)
                if count >= self.least:
                    return self._drawn(found, "similar", triplet)
        if start in ("exact", "similar", "side"):
            sides = [one for one in self._sides(triplet) if one != triplet]
            if sum(map(self.priors.count, sides)) >= self.least:
                own = [triplet] if self.priors.count(triplet) else []
                return self._drawn([*sides, *own], "side", triplet)
        same = self._broad(relation)
        if start != "all" and same.enough:
            return self._sized(same, "relation", triplet)
        return self._sized(self._broad(None), "all", triplet)

    def _sides(self, triplet: Triplet) -> list[Triplet]:
        """The triplets of its relation with its subject or its object."""
        subject, relation, other = triplet
        return sorted({*self._with.get((0, subject, relation), ()), *self._with.get((2, other, relation), ())})

    @cached_property
    def _with(self) -> dict[tuple[int, str, str], list[Triplet]]:
        found: dict[tuple[int, str, str], list[Triplet]] = {}
        for one in self.priors.codes:
            for part in (0, 2):
                found.setdefault((part, one[part], one[1]), []).append(one)
        return found

    def _broad(self, relation: str | None) -> "_Pool":
        """The pairs of a relation, of whatever categories; of all relations for None."""
        if relation not in self._pools:
            every = np.arange(len(self.priors.triplets))
            self._pools[relation] = self._pool(every if relation is None else self.priors.of_relation(relation))
        return self._pools[relation]

    def _like(self, triplet: Triplet) -> list[Triplet]:
        """The triplet and those of like categories in the same relation, the most alike first."""
        subjects, objects = self.alike(triplet[0]), self.alike(triplet[2])
        found = {
            (s, triplet[1], o): near * far
            for s, near in subjects.items()
            for o, far in objects.items()
            if (s, triplet[1], o) in self.priors.codes
        }
        return sorted(found, key=lambda one: (-found[one], one))

    def alike(self, name: str) -> dict[str, float]:
        """Categories like this one with their cosine, itself (1) among them if it is known."""
        if name not in self._alike:
            cosines = self._categories @ self.encoder.embed([name])[0]
            near = np.argsort(-cosines, kind="stable")[: ALIKE + 1]
            self._alike[name] = {
                self.priors.categories[at]: float(cosines[at]) for at in near if cosines[at] >= self.encoder.floor
            }
        return self._alike[name]

    @cached_property
    def _categories(self) -> Float[Array, "C D"]:
        return self.encoder.embed(self.priors.categories)

    def _drawn(self, triplets: list[Triplet], level: Level, asked: Triplet) -> References:
        return self._sized(self._pool(np.array([self.priors.codes[one] for one in triplets])), level, asked)

    def _pool(self, at: Int[Array, " t"]) -> "_Pool":
        """The pairs of the triplets in these rows, in their order. All at once: a store may have 100,000 triplets."""
        priors, counts = self.priors, self.priors.counts[at]
        enough, rows = int(counts.sum()) >= self.least, np.arange(counts.sum())
        if len(rows) > self.most:
            rows = np.sort(np.random.default_rng(self.seed).choice(len(rows), self.most, replace=False))
        of = np.repeat(np.arange(len(at)), counts)[rows]  # for each pair its triplet
        pairs = priors.starts[at][of] + rows - (np.cumsum(counts) - counts)[of]
        found = tuple(priors.names(int(one)) for one in at[:10])
        return _Pool(priors.boxes[pairs], priors.typical_ratios[at][of], found, enough)

    def _sized(self, pool: "_Pool", level: Level, asked: Triplet) -> References:
        ratio = np.exp(self.priors.typical_ratio(asked) - pool.typical).astype(np.float32)
        return References(pool.boxes, ratio, level, pool.found)


@dataclass(frozen=True, eq=False)
class _Pool:
    """Pairs of some triplets, with the logarithm of the areas' ratio that is typical of each one's own."""

    boxes: Float[Array, "R 2 4"]
    typical: Float[Array, " R"]
    found: tuple[Triplet, ...]
    enough: bool
