"""Questions and answers for multimodal models, from what a layout knows (templates of the synth paper, in our words).

Where a thing lies and what lies there; attributes and counts; how two things stand to each other. A question is asked
only where it has one answer: of two red mugs neither is "the red mug", and beside a red one
no other is "the mug".
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from goodeye.synth.layout import Layout, Thing

WHERE = ("Where is the {text}?", "Give the box of the {text}.", "Locate the {text}.")
WHAT = ("What is at {box}?", "Name the thing in the box {box}.", "What does the region {box} show?")
LOOKS = ("What does the {category} look like?", "Which attributes does the {category} have?")
COUNT = ("How many things of the kind {category} are there?", "Count what is a {category}.")
STANDS = ("How does the {subject} stand to the {object}?", "What is the relation of the {subject} to the {object}?")


def questions(layout: Layout, labels: Sequence[int], image: str) -> list[dict[str, Any]]:
    """Rows with image, kind, question, answer, and the keys of the things meant.

    Boxes are [left, top, right, bottom] in shares. Of a category only some of whose things are labelled, nothing is
    asked: the others may be there or not.
    """
    things = [layout.things[at] for at in labels]
    kinds = Counter(one.category for one in things)
    drawn = Counter(one.category for one in layout.things)
    whole = [one for one in things if drawn[one.category] == kinds[one.category]]  # none of the kind went unconfirmed
    rows = []
    named = [one for one in whole if not any(_fits(one, other) for other in whole)]  # whose text means it alone
    for one in whole:
        if one in named:
            rows.append(_row(image, "where", WHERE, corners(one), [one], text=one.text))
            rows.append(_row(image, "what", WHAT, one.text, [one], box=corners(one)))
        if one.attributes and kinds[one.category] == 1:
            rows.append(_row(image, "attributes", LOOKS, ", ".join(one.attributes), [one], category=one.category))
    for kind in dict.fromkeys(one.category for one in whole):
        same = [one for one in whole if one.category == kind]
        rows.append(_row(image, "count", COUNT, str(len(same)), same, category=kind))
    said = Counter((one.subject, one.object) for one in layout.relations)
    for subject, relation, other in layout.triplets():
        if subject in named and other in named and said[subject.key, other.key] == 1:
            rows.append(
                _row(image, "relation", STANDS, relation, [subject, other], subject=subject.text, object=other.text)
            )
    return rows


def _fits(one: Thing, other: Thing) -> bool:
    """Whether what is said of one thing holds for the other, too: "the mug" where there is a red mug."""
    return one.key != other.key and one.category == other.category and set(one.attributes) <= set(other.attributes)


def corners(one: Thing) -> str:
    """[left, top, right, bottom] in shares, to three places."""
    x, y, width, height = one.box
    return f"[{x:.3f}, {y:.3f}, {min(1.0, x + width):.3f}, {min(1.0, y + height):.3f}]"


def _row(
    image: str, kind: str, forms: Sequence[str], answer: str, things: Sequence[Thing], **words: str
) -> dict[str, Any]:
    """The form is chosen by the picture and the things: the same each time."""
    keys = [one.key for one in things]
    form = forms[crc32("/".join([image, kind, *keys]).encode()) % len(forms)]
    return {
        "image": f"images/{image}",
        "kind": kind,
        "question": form.format(**words),
        "answer": answer,
        "things": keys,
    }
