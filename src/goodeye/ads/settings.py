"""How an alignment and a proof are run, as plain data: read without loading a model or torch.

The comments beside the fields are the help of the commands that take them, too. Where no source is named, ours.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from goodeye.errors import BadInput

if TYPE_CHECKING:
    from goodeye.ads.pairs import DPO
    from goodeye.ads.rfft import RFFT
    from goodeye.training.loop import Loop

Method = Literal["rfft", "refl", "dpo"]
Train = Literal["controlnet", "lora"]
Regulariser = Literal["cc", "kl", "none"]
AuxGrad = Literal["through", "detach"]

SUFFIX = ", professional product photograph, realistic size and perspective, clean background, sharp focus"


@dataclass(frozen=True, kw_only=True)
class Align:
    """What is trained, by what, and for how long."""

    method: Method = "rfft"  # reward feedback fine-tuning, or one of its baselines
    train: Train = "controlnet"  # the ControlNet whole (as in the paper), or LoRA on the U-Net
    regulariser: Regulariser | None = None  # what holds the generator to its start; None: cc for rfft, none for refl
    cc: Literal["norm", "squared"] = "norm"  # consistent condition as the paper has it, or its author's code
    beta: float | None = None  # weight of the regulariser; None: 0.02, for dpo 2000
    aux_grad: AuxGrad = "through"  # whether gradient also passes through depth and saliency; not published
    last: int | None = None  # gradient begins at one of so many last steps; None: a quarter of them (paper: 10 of 40)
    steps: int = 120  # gradient steps in all
    batch: int = 8  # pictures, or pairs, at once, of each process
    accumulate: int = 1  # batches to a step
    reuse: int = 1  # gradient steps that the latents of one rollout serve
    lr: float | None = None  # learning rate; None: 1e-5 for a ControlNet, 1e-4 for LoRA, 3e-4 under 10 M weights
    rank: int = 64  # of LoRA
    part: int = 4  # pictures decoded and judged at once
    each: int = 4  # for dpo: pictures made of each brief; the best and the worst are a pair
    gap: float = 0.1  # for dpo: p(available) by which the best leads, at least
    evaluate_every: int = 20  # steps between two looks at the watched briefs
    watched: int = 32  # briefs looked at, two pictures each; not trained on where there are four times as many
    guard: bool = True  # do not look for, nor stop at, a held-out judge that falls while the trained one rises
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 for accelerators that have it
    seed: int = 0  # of briefs, noise and steps

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        for name in ("steps", "batch", "accumulate", "reuse", "rank", "part", "evaluate_every"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}. Give 1 or more.")
        if self.method != "dpo" and self.evaluate_every % self.reuse:
            raise BadInput(
                f"evaluate_every is {self.evaluate_every} and reuse {self.reuse}: a run is saved where it is looked "
                "at, and goes on where a rollout begins. Give a multiple of reuse."
            )
        if self.watched < 2:
            raise BadInput(f"watched is {self.watched}. Give 2 or more; 32 make the guard sure.")
        if self.lr is not None and self.lr <= 0:
            raise BadInput(f"lr is {self.lr:g}. Give more than 0.")
        if self.method == "dpo" and self.regulariser not in (None, "none"):
            raise BadInput(f"dpo holds to the start model by its own beta, not by {self.regulariser}. Leave it away.")

    def rfft(self) -> "RFFT":
        """The part of it that `RewardStep` goes by."""
        from goodeye.ads.rfft import RFFT

        usual: Regulariser = "cc" if self.method == "rfft" else "none"
        return RFFT(
            method="rfft" if self.method == "rfft" else "refl",
            last=self.last,
            regulariser=self.regulariser or usual,
            cc=self.cc,
            beta=0.02 if self.beta is None else self.beta,
            reuse=self.reuse,
            part=self.part,
        )

    def dpo(self) -> "DPO":
        """The part of it that a run on pairs goes by."""
        from goodeye.ads.pairs import DPO

        return DPO(beta=2000.0 if self.beta is None else self.beta, each=self.each, gap=self.gap)

    def loop(self, lr: float) -> "Loop":
        """The training loop of such a run."""
        from goodeye.training.loop import Loop

        return Loop(
            steps=self.steps,
            lr=lr,
            accumulate=self.accumulate,
            precision=self.precision,
            seed=self.seed,
            log_every=min(10, self.evaluate_every),
            evaluate_every=self.evaluate_every,
            save_steps=self.evaluate_every,
        )


@dataclass(frozen=True, kw_only=True)
class Prove:
    """How a proof is made."""

    seed: int = 0  # another seed, other briefs
    attempts: int = 5  # of the recurrent rows, at most so many for each picture
    pictures: int = 4  # of each of the first briefs, on which diversity is measured; one of each of the others
    spread_briefs: int | None = None  # how many those are; None: a sixth of all, and at least 16
    batch: int = 16  # attempts made at once
    suffix: str | None = None  # what the row "prompt" puts after each prompt; None: words that suit the model set

    def check(self) -> None:
        """Raises BadInput for numbers that make no sense."""
        for name, least in (("attempts", 1), ("pictures", 2), ("batch", 1), ("spread_briefs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadInput(f"{name} is {value}. Give {least} or more.")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What each trained row of a proof gets, all alike: LoRA on the U-Net."""

    steps: int = 300  # gradient steps of each row
    lr: float = 1e-3  # learning rate
    rank: int = 16  # of LoRA
    reuse: int = 2  # gradient steps that the latents of one rollout serve
    beta_cc: float = 0.02  # weight of Consistent Condition
    beta_kl: float = 3e-4  # weight of KL, which sums over many more numbers
    briefs: int = 512  # of the showroom's own, from worlds on which no proof measures

    def of(self, row: str, seed: int = 0) -> Align:
        """How this row is trained. Raises BadInput for a row that is not trained."""
        if row not in TRAINED:
            raise BadInput(f"{row} is no row that is trained. Name some of: {', '.join(TRAINED)}.")
        common = Align(
            train="lora",
            steps=self.steps,
            lr=self.lr,
            rank=self.rank,
            reuse=self.reuse,
            evaluate_every=self.reuse * max(1, min(30, self.steps) // self.reuse),
            watched=24,
            seed=seed,
        )
        betas = {"rfft_cc": self.beta_cc, "rfft_kl": self.beta_kl}
        return replace(common, **TRAINED[row], beta=betas.get(row))


TRAINED: dict[str, dict[str, Any]] = {  # the rows of a proof that are trained, and in what they differ
    "refl": {"method": "refl"},
    "rfft_none": {"regulariser": "none", "guard": False},  # it is there to show what the others are kept from
    "rfft_kl": {"regulariser": "kl"},
    "rfft_cc": {"regulariser": "cc"},
    "dpo": {"method": "dpo", "reuse": 1},
}
