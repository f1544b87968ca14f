"""An inspector whose word depends on the picture alone."""

import torch

from goodeye.judging.protocol import Context, Verdict


class StandIn:
    """p(available) is spread evenly over 0 to 1; `seen` has the batches in order, `left` how many until Ctrl-C."""

    name, version = "stand_in", "1"

    def __init__(self, left: int = 10**9) -> None:
        self.seen: list[torch.Tensor] = []
        self.left = left

    def inspect(self, images: torch.Tensor, contexts: list[Context]) -> list[Verdict]:
        if len(self.seen) == self.left:
            raise KeyboardInterrupt
        self.seen.append(images)
        return [self.one(image) for image in images]

    def one(self, image: torch.Tensor) -> Verdict:
        available = float(image.double().sum() * 1000 % 1)
        label = "available" if available >= 0.5 else "size_mismatch"
        return Verdict(self.name, self.version, label, {"available": available, "size_mismatch": 1 - available}, [])
