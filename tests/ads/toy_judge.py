"""Judges for the tests of alignment: what they like is plain, so that a rising reward can be told from chance."""

import torch
from PIL import Image, ImageDraw

from goodeye.ads.canvas import place
from goodeye.ads.rollout import Placed


class Bright:
    """Likes bright pictures: p(available) = sigmoid(2 slope (mean - middle)), of two classes."""

    name, version, licence = "bright", "1", "Apache-2.0"
    differentiable = True

    def __init__(self, slope: float = 8.0, middle: float = 0.5, threshold: float = 0.5) -> None:
        self.slope, self.middle, self.threshold = slope, middle, threshold
        self.seen = 0

    def logits(self, images, contexts):
        self.seen += len(images)
        assert len(contexts) == len(images)
        likes = self.slope * (images.mean((1, 2, 3)) - self.middle)
        return torch.stack([likes, -likes], 1)


class Fickle(Bright):
    """Likes about every other picture."""

    def logits(self, images, contexts):
        likes = 4 * torch.sin(3000 * images.mean((1, 2, 3)))
        return torch.stack([likes, -likes], 1)


class Broken(Bright):
    """Gives NaN once it has seen so many pictures."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def logits(self, images, contexts):
        found = super().logits(images, contexts)
        return found * float("nan") if self.seen > self.after else found


def placed_briefs(count: int, size: int = 32) -> list[Placed]:
    """Discs of different colours on their canvas, with prompts that the tiny set knows."""
    briefs = []
    for number in range(count):
        img = Image.new("RGBA", (40, 40))
        ImageDraw.Draw(img).ellipse([4, 8, 36, 32], fill=(40 * number % 255, 90, 200 - 30 * number % 200))
        prompt = ("a red shoe on the beach", "a blue bag in the kitchen")[number % 2]
        briefs.append(Placed(key=f"disc-{number}", canvas=place(img, size, 0.5), title="red shoe", prompt=prompt))
    return briefs
