"""Pictures of plain coloured things, and a CLIP that sees their colours and nothing else."""

import torch
import torch.nn.functional as F

from goodeye.synth.layout import Layout, Relation, Thing

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "dark": (0.1, 0.1, 0.1)}
KINDS = {"cherry": "red", "leaf": "green", "sky": "blue"}


class ColourClip:
    """An embedding is the mean colour, the brightest pixels weighing most; a text's is that of the things it names."""

    version = "colours-1"
    model = None

    def embed_images(self, images):
        weight = images.amax(1, keepdim=True) ** 4 + 1e-6
        mean = (images * weight).sum((2, 3)) / weight.sum((2, 3))
        return F.normalize(mean + 1e-3, dim=-1)

    def embed_texts(self, texts):
        rows = []
        for text in texts:
            words = text.lower().replace(",", " ").split()
            named = [COLOURS[word] for word in words if word in COLOURS] or [
                COLOURS[KINDS[w]] for w in words if w in KINDS
            ]
            rows.append(torch.tensor(named or [(0.5, 0.5, 0.5)], dtype=torch.float32).mean(0))
        return F.normalize(torch.stack(rows) + 1e-3, dim=-1)


def thing(kind, box, number=1, attributes=()):
    return Thing(key=f"{kind}-{number}", category=kind, box=box, attributes=attributes)


def two(key="a", first="cherry", second="leaf", **kwargs):
    """Two things side by side."""
    left, right = thing(first, (0.1, 0.3, 0.25, 0.4)), thing(second, (0.6, 0.3, 0.25, 0.4), 1 + (first == second))
    return Layout(key=key, things=(left, right), relations=(Relation(left.key, "left of", right.key),), **kwargs)


def drawn(layout, colours=None, size=(48, 64)):
    """The layout's things in the colours of their kinds, or in those given; on a dark ground. [3, H, W]"""
    image = torch.full((3, *size), 0.1)
    for at, one in enumerate(layout.things):
        colour = colours[at] if colours else KINDS[one.category]
        x, y, w, h = one.box
        rows = slice(int(y * size[0]), round((y + h) * size[0]))
        columns = slice(int(x * size[1]), round((x + w) * size[1]))
        image[:, rows, columns] = torch.tensor(COLOURS[colour], dtype=torch.float32)[:, None, None]
    return image
