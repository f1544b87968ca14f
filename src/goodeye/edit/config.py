"""How an editor is trained; `goodeye edit train` has its options from here."""

import math
from dataclasses import dataclass
from typing import Literal

from goodeye.errors import BadInput

Given = Literal["rewards", "averaged", "shuffled"]
Part = Literal["scores", "text", "a", "b"]

PUBLISHED = {1: (15_000, 1e-4), 2: (10_000, 5e-5)}  # steps and learning rate of each stage (edit paper)
LOOPED = ("steps", "lr", "schedule", "accumulate", "ema", "precision", "seed", "evaluate_every")  # the loop's own


@dataclass(frozen=True, kw_only=True)
class Train:
    """What is trained, and how. Defaults are the paper's where that is said, else ours."""

    stage: Literal[1, 2] = 2
    """1 begins with the set's unet, 2 with its editor"""
    given: Given | Literal["none"] = "rewards"
    """what stage 2 is given: the rewards, none, or as controls their average or another triplet's"""
    best: float = 1.0
    """share of the triplets kept, by their mean score"""
    without: tuple[Part, ...] = ()
    """parts of the reward module to leave out: scores, text, a, b"""
    type_embedding: bool = False
    """a learned vector for each of the two tokens"""
    rank: int = 0
    """train an adapter (LoRA) of this rank; 0 trains the whole U-Net, as the paper does"""
    words: bool = False
    """in stage 1 the text encoder learns, too, for instructions in words that are new to it"""
    size: int = 256
    """pixels a side of what is trained on (the paper's)"""
    batch: int = 4
    """triplets at once (the paper's)"""
    accumulate: int = 4
    """batches to a step (the paper's)"""
    steps: int = 0
    """0: the paper's 15000 in stage 1, 10000 in stage 2"""
    lr: float = 0.0
    """0: the paper's 1e-4 in stage 1, 5e-5 in stage 2"""
    schedule: Literal["constant", "cosine"] = "constant"
    """of the learning rate (the paper's)"""
    drop: float = 0.05
    """share of triplets that lose the text, again that lose both, again that lose the picture (the paper's)"""
    drop_rewards: float = 0.0
    """share that loses the rewards, so that they can be guided by, too"""
    flip: bool = True
    """mirror no pairs; those whose instruction says left or right never are"""
    zoom: float = 1.0
    """pictures are made up to so much larger before they are cut"""
    ema: float = 0.999
    """decay of the average of the weights"""
    held: int = 32
    """triplets on which the loss is watched, a tenth of all at most"""
    evaluate_every: int = 500
    """steps between two looks at them"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 for accelerators that have it"""
    seed: int = 0
    """of batches and steps"""

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        for name in ("size", "batch", "accumulate", "evaluate_every"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}. Give 1 or more.")
        for name in ("rank", "steps", "lr", "held"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"{name} is {getattr(self, name)}. Give 0 or more.")
        if not 0 <= self.drop <= 1 / 3 or not 0 <= self.drop_rewards < 1:
            raise BadInput(f"drop is {self.drop:g} and drop_rewards {self.drop_rewards:g}. Give 0 to 1/3, and 0 to 1.")
        if not 0 < self.best <= 1 or not 1 <= self.zoom < math.inf or not 0 < self.ema < 1:
            raise BadInput("best is a share above 0, zoom 1 or more, ema between 0 and 1. Correct them.")
        if self.words and self.stage == 2:
            raise BadInput("the text encoder learns in stage 1 alone: rewards build upon it. Leave words away.")
        if {"scores", "text"} <= set(self.without) or {"a", "b"} <= set(self.without):
            raise BadInput("without scores and text, or without injections A and B, nothing is left. Keep one of each.")

    @property
    def rewarded(self) -> bool:
        """Whether there is a reward module."""
        return self.stage == 2 and self.given != "none"

    @property
    def switches(self) -> dict[str, bool]:
        """Those of the reward module."""
        named = {"scores": "use_scores", "text": "use_text", "a": "inject_a", "b": "inject_b"}
        return {switch: part not in self.without for part, switch in named.items()} | {
            "type_embedding": self.type_embedding
        }
