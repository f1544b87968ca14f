"""The showroom's part of search's proof: pictures of varied beauty, people who look at them, and rows of five.

Each content (a product in a place) is photographed several times, well and badly. What makes a photograph bad (light,
focus, frame, stray things, coloured lamps) leaves its content alone, and queries name contents only: so beauty and
what is asked for are not confounded, as place and light would be. Beauty is `goodeye.showroom.looks.beauty`; people
weigh its five parts each in their own way and err. Who votes on training pictures votes on no proof.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from goodeye.atomic import write_bytes
from goodeye.errors import BadInput
from goodeye.images import save_png, to_pil
from goodeye.judging.large import Asked
from goodeye.judging.wins import Choice
from goodeye.progress import progress
from goodeye.search.lessons import Lessons
from goodeye.search.prove import Ground
from goodeye.search.rephrase import A
from goodeye.showroom import looks
from goodeye.showroom import scenes as S
from goodeye.showroom.places import PLACES
from goodeye.showroom.products import Product, sample_product

FRESH, TAUGHT = 2_000_000, 3_000_000  # worlds of the proof and of what is learned from; no other training uses them
GROUP = 5  # pictures of a row
PARTS = tuple(looks.WEIGHTS)
KIND, COLOUR, PLACE = 0.45, 0.2, 0.35  # what each part of a content weighs in relevance
NEAR = 60  # pictures of other contents, the most relevant ones, with which a row is filled up
SAMPLES = 16  # scenes rendered together


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What makes a photograph bad and leaves its content: all 0 (and exposure 1) is as rendered."""

    exposure: float = 1.0  # the light is multiplied by it
    blur: int = 0  # radius in pixels of 128
    shift: tuple[float, float] = (0.0, 0.0)  # of the frame, in its widths
    stains: int = 0  # small stray things
    lamps: float = 0.0  # strength of three lights of unlike colour
    seed: int = 0


def draw_faults(rng: np.random.Generator) -> Faults:
    """From a careful photograph to one in which much is wrong, evenly."""
    bad = float(rng.uniform())
    return Faults(
        exposure=float(np.exp(bad * rng.uniform(-0.9, 0.55))),
        blur=int(rng.integers(0, 1 + round(2 * bad))),
        shift=(float(bad * rng.uniform(-0.2, 0.2)), float(bad * rng.uniform(-0.2, 0.2))),
        stains=int(rng.integers(0, 1 + round(7 * bad))),
        lamps=float(bad * rng.uniform(0, 0.8)),
        seed=int(rng.integers(2**31)),
    )


def spoilt(image: Tensor, mask: Tensor, faults: Faults) -> tuple[Tensor, Tensor]:
    """image: [3, H, W] in [0, 1]; mask: [H, W] of the product. Returns both as the faulty photograph has them."""
    size = image.shape[-1]
    rng = np.random.default_rng(faults.seed)
    image = _lamps(image, faults.lamps, rng)
    for _ in range(faults.stains):
        image = _stain(image, mask, rng)
    image, mask = _framed(image, mask, faults.shift)
    if faults.blur:
        image = looks.blur(image[None], max(1, round(faults.blur * size / 128)))[0]
    return (image * faults.exposure).clamp(0, 1), mask


def _lamps(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Red, green and blue light from three sides: hues that neither agree nor pair."""
    size = image.shape[-1]
    at = (torch.arange(size) + 0.5) / size - 0.5
    turn = float(rng.uniform(0, 2 * np.pi))
    sides = [turn + third * 2 * np.pi / 3 for third in range(3)]
    falls = torch.stack([0.5 + at[None, :] * np.cos(side) + at[:, None] * np.sin(side) for side in sides])
    tint = torch.stack([falls[colour] - falls.mean(0) for colour in range(3)])  # no brighter in all
    return (image * (1 + 2 * strength * tint)).clamp(0, 1)


def _stain(image: Tensor, mask: Tensor, rng: np.random.Generator) -> Tensor:
    """A small disc of any colour, beside the product."""
    size = image.shape[-1]
    x, y, radius = rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95), rng.uniform(0.015, 0.035)
    colour = torch.tensor(rng.uniform(0, 1, 3), dtype=torch.float32)[:, None, None]
    at = (torch.arange(size) + 0.5) / size
    disc = ((at[None, :] - x) ** 2 + (at[:, None] - y) ** 2 < radius**2) & ~mask
    return torch.where(disc[None], colour, image)


def _framed(image: Tensor, mask: Tensor, shift: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The frame moved; what comes in at its edge mirrors what is there."""
    size = image.shape[-1]
    right, down = (round(one * size) for one in shift)
    reach = max(abs(right), abs(down))
    if not reach:
        return image, mask
    sides = (reach, reach, reach, reach)
    wide = F.pad(image[None], sides, mode="reflect")[0]
    body = F.pad(mask[None, None].float(), sides)[0, 0] > 0.5
    top, left = reach - down, reach - right
    return wide[:, top : top + size, left : left + size], body[top : top + size, left : left + size]


# --- contents and their pictures


@dataclass(frozen=True)
class Content:
    """What a query asks for: a product in a place."""

    product: Product
    place: str

    @property
    def query(self) -> str:
        """In words: neither light nor wall, which would say something of beauty."""
        return f"{_article(self.product.title)} {PLACES[self.place].phrase.split(' with ')[0]}"

    def relevance(self, other: Content) -> float:
        """How far a picture of `other` shows this content, 0 to 1."""
        return (
            KIND * (self.product.kind == other.product.kind)
            + COLOUR * (self.product.colour == other.product.colour)
            + PLACE * (self.place == other.place)
        )


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def draw_contents(seed: int, count: int) -> list[Content]:
    """Contents with different words."""
    rng, found = np.random.default_rng((seed, 11)), dict[str, Content]()
    while len(found) < count:
        content = Content(sample_product(rng, plain=1.0), str(rng.choice(list(PLACES))))
        found.setdefault(content.query, content)
    return list(found.values())


@dataclass(frozen=True)
class Shots:
    """Pictures in a folder with their truth: content [N] by number, and beauty's parts [N, 5]."""

    folder: Path
    names: list[str]
    content: np.ndarray[Any, Any]
    parts: np.ndarray[Any, Any]


def shoot(folder: Path, contents: Sequence[Content], each: int, seed: int, captions: bool) -> Shots:
    """Photographs every content `each` times into the folder, with what is there already left as it is."""
    truth = folder.with_suffix(".json")
    facts = {"seed": seed, "contents": len(contents), "each": each}
    known = json.loads(truth.read_text()) if truth.exists() else {}
    if known.get("facts") == facts:
        return Shots(folder, known["names"], np.array(known["content"]), np.array(known["parts"]))
    jobs = [(at, shot) for at in range(len(contents)) for shot in range(each)]
    scenes = [_scene(contents[at], seed, at * each + shot) for at, shot in jobs]
    faults = [draw_faults(np.random.default_rng((seed, at, shot, 13))) for at, shot in jobs]
    names = [f"{at:04d}-{shot:02d}.png" for at, shot in jobs]
    parts: list[list[float]] = []
    with progress("photographing", len(jobs), "pictures") as advance:
        for made in S.render_many(scenes, batch=SAMPLES):
            for one in range(len(made.scenes)):
                at = len(parts)
                image, mask = spoilt(made.image[one], made.obj[one] == S.PRODUCT, faults[at])
                count = torch.tensor([len(made.names[one]) - 1.0 + faults[at].stains])
                found = looks.beauty_parts(image[None], mask[None], count)
                parts.append([float(found[name]) for name in PARTS])
                save_png(to_pil(image), folder / names[at])
                if captions:
                    (folder / names[at]).with_suffix(".txt").write_text(made.captions[one] + "\n")
                advance()
    told = {"facts": facts, "names": names, "content": [at for at, _ in jobs], "parts": parts}
    write_bytes(truth, (json.dumps(told) + "\n").encode())
    return Shots(folder, names, np.array(told["content"]), np.array(parts))


def _scene(content: Content, seed: int, index: int) -> S.Scene:
    scene = S.sample(seed, index, S.CLASSES[:1], content.product)
    wall = str(np.random.default_rng((seed, index, 17)).choice(list(PLACES[content.place].walls)))
    return replace(scene, place=content.place, wall=wall)


# --- people


class Raters:
    """People who look: each weighs beauty's parts in a way of their own, and errs anew with each answer.

    noise: of the mean of a row, in beauty and in relevance.
    """

    def __init__(self, count: int, seed: int, noise: float = 0.03, blur: float = 0.06) -> None:
        rng = np.random.default_rng((seed, 19))
        weights = np.array([looks.WEIGHTS[name] for name in PARTS]) * np.exp(rng.normal(0, 0.4, (count, len(PARTS))))
        self.weights = weights / weights.sum(1, keepdims=True)
        self.noise, self.blur, self.seed = noise, blur, seed

    def votes(self, difference: float | np.ndarray[Any, Any], noise: float, key: Sequence[int]) -> list[int]:
        """[for the first, for the second] row; difference: first minus second, one for all or one a rater."""
        rng = np.random.default_rng((self.seed, *key))
        first = int((difference + rng.normal(0, noise, len(self.weights)) > 0).sum())
        return [first, len(self.weights) - first]

    def beauty(self, parts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """parts: [..., 5]. What each rater finds, [..., R]."""
        return parts @ self.weights.T


def rate(shots: Shots, raters: Raters, path: Path) -> None:
    """A table of votes on single pictures: up if a rater finds it more beautiful than pictures at large."""
    found = raters.beauty(shots.parts)
    found += np.random.default_rng((raters.seed, 23)).normal(0, raters.noise, found.shape)
    up = (found > np.median(found)).sum(1)
    lines = [f"{shots.folder.name}/{name},{n},{found.shape[1] - n}" for name, n in zip(shots.names, up, strict=True)]
    write_bytes(path, "\n".join(["image,up,down", *lines, ""]).encode())


# --- the proof


def ground(
    folder: str | Path, *, seed: int = 0, queries: int = 320, taught: int = 240, recall: int = 1600, plain: int = 0
) -> Ground:
    """All that a proof of search stands on, written below `folder`: unseen contents to search among, HPIR with 30 votes
    on each row, captioned scenes for recall, and what `lessons` writes.

    taught, plain: as `lessons` has them. The same call goes on where it was stopped; all is named by what it is a
    function of, so that another seed or count never finds the files of this one. Raises BadInput for counts that make
    no sense, before anything is written.
    """
    for name, count, least in (("n", queries, 1), ("taught", taught, 1), ("captions", recall, 1), ("plain", plain, 0)):
        if count < least:
            raise BadInput(f"{name} is {count}. Give {least} or more.")
    folder, fresh = Path(folder), FRESH + seed
    contents = draw_contents(fresh, queries)
    gallery = shoot(folder / f"gallery-{fresh}-{queries}", contents, 10, fresh, captions=False)
    hpir = folder / f"hpir-{fresh}-{queries}.json"
    write_hpir(hpir, contents, gallery, Raters(30, fresh))
    learned = lessons(folder, TAUGHT + seed, taught=taught, plain=plain)
    judge = RowJudge(contents, gallery, fresh)
    return Ground(
        gallery=gallery.folder,
        hpir=hpir,
        captions=_captioned(folder, "captioned", recall, fresh + 500_000),
        taught=learned.taught,
        votes=learned.votes,
        plain=learned.plain,
        prefer=judge.prefer,
        answers=StandIn(),
    )


def lessons(folder: Path, seed: int, *, taught: int = 240, plain: int = 16_000) -> Lessons:
    """What is learned from: `taught` contents, ten pictures each, well and badly photographed, with captions and nine
    people's votes; and `plain` scenes with captions, such as the showroom's CLIP was trained on (0: none)."""
    lesson = shoot(folder / f"taught-{seed}-{taught}", draw_contents(seed, taught), 10, seed, captions=True)
    votes = folder / f"votes-{seed}-{taught}.csv"
    rate(lesson, Raters(9, seed, noise=0.06), votes)
    scenes = _captioned(folder, "plain", plain, seed + 500_000) if plain else None
    return Lessons(taught=lesson.folder, votes=votes, plain=scenes)


def write_hpir(path: Path, contents: Sequence[Content], shots: Shots, raters: Raters) -> None:
    """Two rows of five for each content: three to five pictures of it, the rest near it, more or less beautiful."""
    relevance = np.array([[one.relevance(other) for other in contents] for one in contents])
    beauty = shots.parts @ np.array([looks.WEIGHTS[name] for name in PARTS])
    entries = []
    for at, content in enumerate(contents):
        rng, taken = np.random.default_rng((raters.seed, at, 29)), set[int]()
        rows = [_row(rng, relevance[at][shots.content], beauty, taken) for _ in range(2)]
        apart = float(np.diff([-relevance[at][shots.content[row]].mean() for row in rows])[0])
        lovely = raters.beauty(np.stack([shots.parts[row].mean(0) for row in rows]))
        entries.append({
            "id": at, "query": content.query,
            "A": [f"{shots.folder.name}/{shots.names[one]}" for one in rows[0]],
            "B": [f"{shots.folder.name}/{shots.names[one]}" for one in rows[1]],
            "accuracy": {"votes": raters.votes(apart, raters.blur, (at, 31))},
            "aesthetic": {"votes": raters.votes(lovely[0] - lovely[1], raters.noise, (at, 37))},
        })  # fmt: skip
    write_bytes(path, (json.dumps(entries, indent=1) + "\n").encode())


def _row(
    rng: np.random.Generator, relevance: np.ndarray[Any, Any], beauty: np.ndarray[Any, Any], taken: set[int]
) -> list[int]:
    """Five pictures that are not taken yet; `tilt` says how far beautiful ones are preferred, or plain ones."""
    tilt, right = float(rng.normal(0, 1.5)), int(rng.integers(3, GROUP + 1))
    row: list[int] = []
    full = np.flatnonzero(relevance > 0.99)
    others = np.argsort(-relevance, kind="stable")[len(full) : len(full) + NEAR]
    for pool, count in ((full, right), (others, GROUP - right)):
        open_ = np.array([one for one in pool.tolist() if one not in taken], dtype=np.int64)
        odds = np.exp(tilt * (beauty[open_] - beauty.mean()) / beauty.std())
        chosen = rng.choice(open_, min(count, len(open_)), replace=False, p=odds / odds.sum()).tolist()
        row += chosen
        taken |= set(chosen)
    return row


def _captioned(folder: Path, name: str, count: int, seed: int) -> Path:
    """Plain scenes with their whole captions; returns the table."""
    table = folder / f"{name}-{seed}-{count}.csv"
    if table.exists():
        return table
    lines = ["image,caption"]
    for made in S.render_many([S.sample(seed, index, S.CLASSES[:1]) for index in range(count)], batch=SAMPLES):
        for image, caption in zip(made.image, made.captions, strict=True):
            picture = f"{table.stem}/{len(lines) - 1:04d}.png"
            save_png(to_pil(image), folder / picture)
            lines.append(f'{picture},"{caption}"')
    write_bytes(table, "\n".join([*lines, ""]).encode())
    return table


class RowJudge:
    """Stands in for a large model that compares two rows: the truth with noise, leaning to what is shown first."""

    def __init__(self, contents: Sequence[Content], shots: Shots, seed: int, lean: float = 0.01) -> None:
        self.contents, self.shots, self.seed, self.lean = contents, shots, seed, lean
        self.row = {str((shots.folder / name).resolve()): at for at, name in enumerate(shots.names)}
        self.beauty = shots.parts @ np.array([looks.WEIGHTS[name] for name in PARTS])

    def prefer(self, query: int, first: Sequence[str], second: Sequence[str]) -> dict[str, Choice]:
        """Which of two rows of pictures, by name, is better on each axis for the query of that number."""
        rows = [[self.row[name] for name in names] for names in (first, second)]
        asked = self.contents[query]
        right = [np.mean([asked.relevance(self.contents[self.shots.content[one]]) for one in row]) for row in rows]
        lovely = [self.beauty[row].mean() for row in rows]
        rng = np.random.default_rng((self.seed, query, *rows[0], *rows[1]))
        leads = {"accuracy": right[0] - right[1], "aesthetic": lovely[0] - lovely[1]}
        return {
            axis: "first" if lead + self.lean + rng.normal(0, 0.02) > 0 else "second" for axis, lead in leads.items()
        }


class StandIn:
    """Stands in for a large model that rephrases: fixed rules, and words that the showroom's CLIP knows."""

    def ask(self, asked: Asked, kind: type[A]) -> A:
        """The answer to a prompt of `goodeye.search.rephrase`."""
        found = re.search(r"with the query: (.*)", asked.text)
        query = found.group(1) if found else asked.text
        thing, _, place = query.partition(" on ")
        place = f"on {place}" if place else query
        answers: dict[str, dict[str, Any]] = {
            "Detail": {"description": f"{query}, soft light, new and modern"},
            "KList": {"phrases": [query, "soft light", "bright daylight", "modern", "new"]},
            "KwDict": {
                "keywords": [{"word": thing, "description": "new"}, {"word": place, "description": "soft light"}]
            },
            "Reorg": {"versions": [query, f"{place}, {thing}", f"{thing} {place}"]},
        }
        return kind.model_validate(answers[kind.__name__])
