"""A process that records attempts until it is killed: `python recorder.py PLACE IMAGES RUN BRIEFS ATTEMPTS`.

It names each attempt on stdout when `record_attempt` has returned, so that a test knows what must not be lost.
"""

import hashlib
import sys

from PIL import Image

from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import VerdictRow


def picture(seed: int, size: int = 48) -> Image.Image:
    """The picture that this seed makes: noise, so that no two are alike."""
    noise = hashlib.shake_256(str(seed).encode()).digest(size * size * 3)
    return Image.frombytes("RGB", (size, size), noise)


def seed_of(brief: int, slot: int, number: int) -> int:
    return brief * 10_000 + slot * 100 + number


def verdict(seed: int) -> VerdictRow:
    label = "available" if seed % 2 else "size_mismatch"
    return VerdictRow(judge="inspector", version="1", label=label, scores={"available": (seed % 7) / 7}, failures=[])


def record(ledger: Ledger, run: int, briefs: int, attempts: int) -> None:
    for brief in range(briefs):
        brief_id = ledger.add_brief(run, f"brief {brief}", {"title": f"cup {brief}"}, picture(-1 - brief))
        for number in range(attempts):
            seed = seed_of(brief, 0, number)
            attempt = ledger.record_attempt(brief_id, 0, number, seed, picture(seed), [verdict(seed)], 20, 0.1)
            ledger.pick(brief_id, 0, attempt, kept=bool(seed % 2), why="as the inspector said")
            print(brief, number, flush=True)


if __name__ == "__main__":
    place, images, run, briefs, attempts = sys.argv[1:]
    with Ledger.open(place, images or None) as ledger:
        print("open", flush=True)
        record(ledger, int(run), int(briefs), int(attempts))
