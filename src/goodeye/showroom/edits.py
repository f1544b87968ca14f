"""Edits with known truth: a scene, an instruction, what it should become, and what a faulty editor makes of it.

Everything random in a scene is keyed by its seed, so `render(scene)` and `render(replace(scene, ...))` differ in what
was replaced and in nothing else. A triplet is faulty on purpose in known ways: the instruction is followed in part or
not at all, details are lost, the picture has artefacts; each by a known degree. The scores are those degrees, and the
failure texts say them in words.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from goodeye.atomic import write_bytes
from goodeye.edit.rewards import Rewards
from goodeye.edit.triplets import Triplet, read_triplets
from goodeye.errors import BadInput
from goodeye.images import save_png, to_pil
from goodeye.progress import progress
from goodeye.showroom import degrade, looks
from goodeye.showroom import scenes as S
from goodeye.showroom.places import LIGHTS, PLACES
from goodeye.showroom.products import COLOURS

WALL_NOUNS = {
    "living room": "walls", "kitchen": "tiles", "studio": "backdrop", "office": "panels", "spa": "tiles",
}  # fmt: skip
GRADED = ("wall", "light", "colour", "remove", "add", "swap", "blur")  # kinds that can be done by half
HALF = {
    0.2: "it was hardly done", 0.4: "less than half of it was done", 0.6: "half of it was done",
    0.8: "it was not done entirely",
}  # fmt: skip
LOST = {"details": 1, "light": 1, "colour": 1, "place": 2}  # what may change unasked, and what that costs
STRENGTHS = {0.2: "slight", 0.4: "some", 0.6: "some", 0.8: "strong", 1.0: "strong"}  # of artefacts
FAULTY = 0.35  # of triplets have a fault of each sort
SILENT = 0.25  # of them are scored without words, so that scores say something of their own
_ARTEFACTS = (  # in the order of degrade.CHANGES; other light is no artefact
    "noise", "blur", "coarse blocks", "lost sharpness", "", "stains of colour", "wavy lines", "melted things", "blots",
    "torn patches",
)  # fmt: skip
ARTEFACTS = {name: change for name, change in zip(_ARTEFACTS, degrade.CHANGES, strict=True) if name}
FACTS = "facts.json"
TRIES = 50
EDGE = 2  # pixels of 128 by which the mask is wider than what changes

Target = tuple[S.Scene, str, S.Scene | None]  # the scene asked for, the instruction, and another that was not asked for


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The facts of one triplet. done: 0 to 1; lost: what changed unasked; artefact: "" or one, of `strength`; silent:
    its rewards are scores without words."""

    kind: str
    instruction: str
    before: S.Scene
    after: S.Scene
    target: S.Scene  # what the editor aimed at: `after`, or another scene where it misread
    done: float
    misread: bool
    lost: tuple[str, ...]
    artefact: str
    strength: float
    silent: bool = False

    def rewards(self) -> Rewards:
        """Scores by these facts, in half steps, and what failed in words."""
        following = 1.0 if self.misread else 5 * self.done
        scores = (following, 5.0 - sum(LOST[fact] for fact in self.lost), 5 * (1 - self.strength))
        first, second, third = (round(2 * score) / 2 for score in scores)
        words = ("", "", "") if self.silent else (self._following(), self._preserving(), self._quality())
        return Rewards((first, second, third), words)

    def _following(self) -> str:
        if self.misread:
            return "it was misread"
        if self.done == 0:
            return "nothing was done"
        return HALF[self.done] if self.done < 1 else ""

    def _preserving(self) -> str:
        return f"changed without being asked: {', '.join(self.lost)}" if self.lost else ""

    def _quality(self) -> str:
        return f"{STRENGTHS[self.strength]} {self.artefact}" if self.artefact else ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Rendered:
    """A triplet's pictures [3, S, S] in [0, 1]. ideal: what was asked for; mask [S, S]: where it differs; product
    [4, S, S]: the product's cut-out on the canvas, as it is in the original."""

    facts: Edit
    original: Tensor
    edited: Tensor
    ideal: Tensor
    mask: Tensor
    product: Tensor


# --- what can be asked for; None where the scene does not allow it


def _wall(rng: np.random.Generator, scene: S.Scene) -> Target | None:
    others = [wall for wall in PLACES[scene.place].walls if wall != scene.wall]
    if scene.place not in WALL_NOUNS or len(others) < 2:
        return None
    new, wrong = (str(wall) for wall in rng.choice(others, 2, replace=False))
    words = f"{_one(rng, 'make', 'paint', 'turn')} the {_one(rng, WALL_NOUNS[scene.place], 'wall')} {new}"
    return replace(scene, wall=new), words, replace(scene, wall=wrong)


def _light(rng: np.random.Generator, scene: S.Scene) -> Target | None:
    new, wrong = (str(one) for one in rng.choice([name for name in LIGHTS if name != scene.light], 2, replace=False))
    return (
        replace(scene, light=new),
        f"{_one(rng, 'change the light to', 'give it')} {new}",
        replace(scene, light=wrong),
    )


def _colour(rng: np.random.Generator, scene: S.Scene) -> Target | None:
    product = scene.product
    new, wrong = (str(one) for one in rng.choice([c for c in COLOURS if c != product.colour], 2, replace=False))
    words = f"{_one(rng, 'make', 'turn')} the {product.kind} {new}"
    after, other = (replace(scene, product=replace(product, colour=colour)) for colour in (new, wrong))
    return after, words, other


def _remove(rng: np.random.Generator, scene: S.Scene) -> Target | None:
    if not scene.reference:
        return None
    return replace(scene, reference=""), f"{_one(rng, 'remove', 'take away')} the {scene.reference}", None


def _add(rng: np.random.Generator, scene: S.Scene) -> Target | None:
    fitting = S.fitting_references(scene.product, scene.scale)
    if scene.reference or not fitting:
        return None
    new, side = str(rng.choice(list(fitting))), float(rng.choice([-1, 1]))
    after = replace(scene, reference=new, reference_height=fitting[new], reference_side=side)
    words = f"{_one(rng, 'add', 'put')} {_article(new)} on the {'left' if side < 0 else 'right'}"
    return after, words, replace(after, reference_side=-side)


def _swap(rng: np.random.Generator, scene: S.Scene) -> Target | None:
    fitting = S.fitting_references(scene.product, scene.scale)
    others = [name for name in fitting if name != scene.reference]
    if not scene.reference or not others:
        return None
    new = str(rng.choice(others))
    after = replace(scene, reference=new, reference_height=fitting[new])
    return after, f"replace the {scene.reference} with {_article(new)}", replace(scene, reference="")


def _place(rng: np.random.Generator, scene: S.Scene) -> Target | None:
    new, wrong = (str(one) for one in rng.choice([name for name in PLACES if name != scene.place], 2, replace=False))
    after, other = (replace(scene, place=name, wall=str(rng.choice(PLACES[name].walls))) for name in (new, wrong))
    return after, f"put it {PLACES[new].phrase.format(wall=after.wall)}", other


def _blur(rng: np.random.Generator, scene: S.Scene) -> Target | None:
    return None if scene.blur else (replace(scene, blur=2), "blur the background", None)


KINDS: dict[str, Callable[[np.random.Generator, S.Scene], Target | None]] = {
    "wall": _wall, "light": _light, "colour": _colour, "remove": _remove, "add": _add, "swap": _swap, "place": _place,
    "blur": _blur,
}  # fmt: skip


def _one(rng: np.random.Generator, *words: str) -> str:
    return str(rng.choice(words))


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


# --- triplets


def edits(
    seed: int,
    count: int,
    size: int = 128,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    faulty: float = FAULTY,
    first: int = 0,
) -> Iterator[Rendered]:
    """Triplets `first` to first + count - 1 of the world `seed`, kinds in turn. Same seed and size: same pixels.

    faulty: the share of triplets with a fault, for each of the three sorts apart.
    """
    for index in range(first, first + count):
        yield one_edit(seed, index, kinds[index % len(kinds)], size, faulty)


def one_edit(seed: int, index: int, kind: str, size: int = 128, faulty: float = FAULTY) -> Rendered:
    """One triplet of this kind.

    The renderer gives a product that would be lost another background (see `goodeye.showroom.scenes`), by the product's
    colour and the light. A pair in which only one side got it would show more than what was asked for, so such pairs
    are drawn again.
    """
    for tried in range(TRIES):
        rng = np.random.default_rng((seed, index, tried))
        before = S.sample(seed, index * TRIES + tried, S.CLASSES[:1])
        before = replace(before, reference=before.reference if kind != "add" else "")
        target = KINDS[kind](rng, before)
        if target is None:
            continue
        facts = _faults(rng, kind, before, target, faulty)
        altered = _altered(facts, rng)
        made = S.render([before, facts.after, altered(before), altered(facts.target)], size)
        if _as_asked(kind, facts, made):
            return _rendered(facts, made, rng)
    raise RuntimeError(f"no scene of the world {seed} allows the edit {kind} near number {index}")


def _faults(rng: np.random.Generator, kind: str, before: S.Scene, target: Target, faulty: float) -> Edit:
    after, instruction, wrong = target
    astray, loses, spoilt = rng.random(3) < faulty
    done, misread = 1.0, False
    if astray and kind in GRADED and rng.random() < 0.6:
        done = float(rng.choice(list(HALF)))
    elif astray:
        misread = wrong is not None and rng.random() < 0.5
        done = 1.0 if misread else 0.0
    lost = tuple(_loses(rng, kind)) if loses else ()
    return Edit(
        kind=kind,
        instruction=instruction,
        before=before,
        after=after,
        target=wrong if misread and wrong is not None else after,
        done=done,
        misread=misread,
        lost=lost,
        artefact=_one(rng, *ARTEFACTS) if spoilt else "",
        strength=float(rng.choice(list(STRENGTHS))) if spoilt else 0.0,
        silent=bool(rng.random() < SILENT),
    )


def _loses(rng: np.random.Generator, kind: str) -> list[str]:
    """Facts that change though nobody asked, one or more of those that the instruction does not speak of."""
    free = [name for name in LOST if name != kind and (name, kind) != ("place", "wall")]
    chosen = rng.choice(len(free), size=int(rng.integers(1, len(free) + 1)), replace=False)
    return [free[at] for at in sorted(chosen)]


def _altered(facts: Edit, rng: np.random.Generator) -> Callable[[S.Scene], S.Scene]:
    """What of a scene is lost, the same for each side of the edit."""
    seed, light, colour = int(rng.integers(2**31)), *(str(rng.choice(list(table))) for table in (LIGHTS, COLOURS))
    place = str(rng.choice([name for name in PLACES if name != facts.before.place]))
    wall = str(rng.choice(PLACES[place].walls))

    def call(scene: S.Scene) -> S.Scene:
        for name in facts.lost:
            if name == "details":
                scene = replace(scene, seed=seed)
            elif name == "light":
                scene = replace(scene, light=light if light != scene.light else _next(LIGHTS, light))
            elif name == "colour":
                other = colour if colour != scene.product.colour else _next(COLOURS, colour)
                scene = replace(scene, product=replace(scene.product, colour=other))
            else:
                scene = replace(scene, place=place, wall=wall)
        return scene

    return call


def _next(names: Iterable[str], name: str) -> str:
    listed = list(names)
    return listed[(listed.index(name) + 1) % len(listed)]


def _as_asked(kind: str, facts: Edit, made: S.Render) -> bool:
    """Whether before and after differ in what was asked for alone, and visibly so."""
    before, after = made.image[0], made.image[1]
    apart = (before - after).abs().amax(0)
    behind = (made.obj[:2] != S.PRODUCT).all(0) & (made.product[:2, 3].amax(0) == 0)
    if float(apart.max()) < 0.1:
        return False
    if kind == "colour":
        return bool((apart[behind] < 1 / 255).all())
    if kind == "wall":
        rows = torch.arange(len(apart), device=apart.device)[:, None] > (facts.before.horizon + 0.06) * len(apart)
        return float(apart[behind & rows].median()) < 1 / 255
    if kind in ("light", "blur"):
        wanted = _level(facts.after) / _level(facts.before)
        seen = [float(level[behind].mean()) for level in looks.luma(made.image[:2])]
        return abs(math.log(seen[1] / seen[0] / wanted)) < 0.3
    return True


def _level(scene: S.Scene) -> float:
    tint, bright, _ = LIGHTS[scene.light]
    return bright * sum(tint)


def _rendered(facts: Edit, made: S.Render, rng: np.random.Generator) -> Rendered:
    original, ideal, start, end = made.image
    edited = start.lerp(end, facts.done)
    if facts.artefact:
        picture = edited.permute(1, 2, 0).cpu().numpy().astype(np.float32)
        spoilt = ARTEFACTS[facts.artefact](picture, rng, facts.strength).clip(0, 1).astype(np.float32)
        edited = torch.from_numpy(np.ascontiguousarray(spoilt.transpose(2, 0, 1)))
    mask = changed(original, ideal)
    return Rendered(facts=facts, original=original, edited=edited, ideal=ideal, mask=mask, product=made.product[0])


def changed(before: Float[Tensor, "3 S S"], after: Float[Tensor, "3 S S"]) -> Bool[Tensor, "S S"]:
    """Where two pictures differ by two of 255 levels or more, a little widened."""
    apart = ((before - after).abs().amax(0) >= 2 / 255).cpu().numpy().astype(np.uint8)
    reach = max(1, round(EDGE * len(apart) / 128))
    wide = cv2.dilate(apart, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return torch.from_numpy(wide.astype(bool))


def write_edits(
    out: str | Path, count: int = 64, seed: int = 0, size: int = 128, faulty: float = FAULTY, *, truth: bool = True
) -> None:
    """Triplets as InsPix2Pix's folders, with rewards.json (RewardEdit's form) and facts.json.

    NAME/prompt.json, NAME/SEED_0.png, _1.png and, with truth, _mask.png (white: may change) and _ideal.png (what was
    asked for). A killed call goes on, and a larger count adds to what is there. Raises BadInput for counts and sizes
    that make no sense, where `out` cannot be written, and where it holds other triplets or more of them.
    """
    if count < 1 or not 32 <= size <= 1024 or not 0 <= faulty <= 1:
        raise BadInput(f"{count} triplets of {size} pixels, {faulty:g} faulty: give 1 or more, 32 to 1024, and 0 to 1.")
    root, world = Path(out), {"seed": seed, "size": size, "faulty": faulty}
    _require_own(root, count, world)

    def write(index: int) -> dict[str, Any]:
        return _written(root / f"{index:07}", index, world, truth)

    with progress("rendering triplets", count, "triplets") as advance, ThreadPoolExecutor(2) as pool:
        told = {}
        for index, said in enumerate(pool.map(write, range(count))):
            told[f"{index:07}"] = said
            advance()
    _write_json(root / FACTS, {name: said["facts"] for name, said in told.items()})
    _write_json(root / "rewards.json", {name: said["rewards"] for name, said in told.items()})


def _require_own(root: Path, count: int, world: dict[str, Any]) -> None:
    """Raises BadInput where triplets lie that this call would write over, or leave among its own: of a pair of another
    seed, the pictures would stay beside the new instruction."""
    for prompt in sorted(root.glob("*/prompt.json")):
        try:
            known = json.loads(prompt.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if not isinstance(known, dict) or known.get("world") != world:
            raise BadInput(f"{prompt.parent} is a triplet that this command did not write so. Name another folder.")
        if int(prompt.parent.name) >= count:
            raise BadInput(
                f"{root} holds more than {count} such triplets already. Ask for more, or name another folder."
            )


def _written(folder: Path, index: int, world: dict[str, Any], truth: bool) -> dict[str, Any]:
    """One triplet's folder, prompt.json last; what that file says, if it is there already of the same world."""
    prompt = folder / "prompt.json"
    known = json.loads(prompt.read_text()) if prompt.is_file() else {}
    if known.get("world") == world:
        return dict(known)
    kind = list(KINDS)[index % len(KINDS)]
    made = one_edit(world["seed"], index, kind, world["size"], world["faulty"])
    facts = made.facts
    pictures = {"0": made.original, "1": made.edited}
    pictures |= {"ideal": made.ideal, "mask": made.mask[None].float()} if truth else {}
    for end, tensor in pictures.items():
        save_png(to_pil(tensor), folder / f"{world['seed']}_{end}.png")
    named = ("kind", "done", "misread", "lost", "artefact", "strength", "silent")
    said = {
        "input": S.caption(facts.before), "edit": facts.instruction, "output": S.caption(facts.after), "world": world,
        "facts": {name: getattr(facts, name) for name in named}, "rewards": facts.rewards().to_json(),
    }  # fmt: skip
    _write_json(prompt, said)
    return said


def by_true_facts(folder: str | Path) -> Callable[[str, Image.Image, Image.Image], Rewards]:
    """What says of the triplets that `write_edits` wrote what their facts say, where no large model is at hand.

    It knows them by their pixels. Raises BadInput for others.
    """
    known = {}
    for one in read_triplets(folder):
        if isinstance(one, Triplet) and one.rewards is not None:
            known[_pixels(one.original.open(), one.edited.open())] = one.rewards

    def call(instruction: str, original: Image.Image, edited: Image.Image) -> Rewards:
        found = known.get(_pixels(original, edited))
        if found is None:
            raise BadInput(f"{folder} does not tell the facts of this edit: {instruction}. Name a large model.")
        return found

    return call


def _pixels(original: Image.Image, edited: Image.Image) -> str:
    return hashlib.sha256(original.tobytes() + edited.tobytes()).hexdigest()


def _write_json(file: Path, data: object) -> None:
    write_bytes(file, (json.dumps(data, indent=1) + "\n").encode())
