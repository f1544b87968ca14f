"""What a run of `align` looks at while it learns: the same briefs and seeds each time, and what judges say of them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.ads.generate import generate_on_cores
from goodeye.ads.rollout import Placed, Reward, Studio
from goodeye.diffusion.batch import Prompts, attempt_seed, eight_bit
from goodeye.errors import BadInput
from goodeye.judging.clip import Clip, ClipJudge
from goodeye.judging.diversity import Features
from goodeye.judging.fidelity import PromptFidelity, other_prompts
from goodeye.judging.protocol import Context, Images, Judge
from goodeye.training.guard import Look, Score, measured, show

EACH = 2  # pictures of a brief
BATCH = 8  # pictures made at once


class Watch:
    """Makes the pictures with the networks as they are now, and measures them for the guard.

    trained is p(available) by the judge that is trained against. held_out is another judge's main axis: CLIP's
    similarity to the prompt if none is given. fidelity: whether CLIP finds the own prompt rather than others' (its
    similarity where all ask for one scene). diversity: how unlike the tokens of CLIP's image tower are.
    """

    def __init__(
        self, studio: Studio, judge: Reward, briefs: Sequence[Placed], *, seed: int, held_out: Judge | None = None
    ) -> None:
        self.studio, self.judge, self.briefs, self.seed, self.other = studio, judge, briefs, seed, held_out
        self.fidelity: Score | None = None
        self.embed = Prompts(studio.models)  # not the studio's, which encodes each prompt alone

    def look(self) -> Look:
        """One look, as the guard takes it. Raises BadInput where the model set has no CLIP."""
        clip = self.clip
        contexts = [brief.context for brief in self.briefs]
        similar, other = ClipJudge(clip), self.held_out
        if self.fidelity is None:
            differ = all(one.prompt for one in contexts) and all(other_prompts(contexts))
            self.fidelity = PromptFidelity(clip, contexts) if differ else partial(main_axis, similar)
        return measured(
            self.pictures(),
            contexts,
            trained=self._available,
            held_out=partial(main_axis, other),
            fidelity=self.fidelity,
            diversity=Features(clip).diversity,
        )

    @property
    def clip(self) -> Clip:
        """The model set's. Raises BadInput where it has none."""
        try:
            return self.studio.models.clip
        except BadInput as error:
            raise BadInput(f"{error} The guard needs it; --no-guard goes without.") from error

    @property
    def held_out(self) -> Judge:
        """The judge that is not trained against. Raises BadInput where that is the model set's CLIP and it has none."""
        return self.other or ClipJudge(self.clip)

    def evaluate(self, number: int, samples: Path) -> dict[str, float]:
        """Without a guard: the trained judge's view, and pictures below those of the start in samples/."""
        pictures = self.pictures()
        show(pictures[:, 0], number, samples)
        found = [
            self._available(images, [brief.context] * EACH).mean()
            for images, brief in zip(pictures, self.briefs, strict=True)
        ]
        return {"trained": float(torch.stack(found).mean())}

    @torch.no_grad()
    def pictures(self) -> Float[Tensor, "B K 3 S S"]:
        """EACH pictures of every brief, as a file would hold them, on the CPU."""
        jobs = [(brief, turn) for brief in self.briefs for turn in range(1, EACH + 1)]
        made: list[Images] = []
        for at in range(0, len(jobs), BATCH):
            part = jobs[at : at + BATCH]
            made.append(
                generate_on_cores(
                    self.studio.models,
                    [brief.canvas for brief, _ in part],
                    [brief.prompt for brief, _ in part],
                    [attempt_seed(self.seed, f"watch/{brief.key}", 1, turn) for brief, turn in part],
                    settings=self.studio.settings,
                    embed=self.embed,
                )
            )
        return eight_bit(torch.cat(made)).unflatten(0, (len(self.briefs), EACH))

    @torch.no_grad()
    def _available(self, images: Images, contexts: Sequence[Context]) -> Float[Tensor, "N"]:
        return self.judge.logits(images, contexts).softmax(-1)[:, 0].cpu()


@torch.no_grad()
def main_axis(judge: Judge, images: Images, contexts: Sequence[Context]) -> Float[Tensor, "N"]:
    """The judge's main axis, [N], turned so that more is better."""
    axis = judge.axes[0]
    values = judge.score(images, contexts)[axis.name].cpu()
    return values if axis.higher_is_better else -values
