"""Prompt fidelity: whether a picture shows what its own prompt asks for, rather than what other prompts ask for."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from goodeye.judging.clip import Clip
from goodeye.judging.protocol import Context, Images, check_contexts

OTHERS = 15  # prompts that each one is held against


def precedence(own: Float[Tensor, " N"], others: Float[Tensor, "N M"]) -> Float[Tensor, " N"]:
    """The share of other prompts that fit less well than the own one; an equal one counts half. Chance is 0.5.

    A soft R-precision (Xu et al. 2018, who ask only whether the own text comes first of a hundred). It needs no scale
    of similarities, which differs from model to model.
    """
    ahead = (own[:, None] > others).float() + 0.5 * (own[:, None] == others).float()
    return ahead.mean(1)


def other_prompts(contexts: Sequence[Context], count: int = OTHERS) -> list[list[str]]:
    """For each context, up to `count` prompts of others with its own title in place of theirs.

    So the prompts differ in the scene alone: the product is pasted, and finding it in the picture is no merit. They are
    spread evenly over the contexts; the same for the same contexts.
    """
    found = []
    for number, own in enumerate(contexts):
        turned = [*contexts[number + 1 :], *contexts[:number]]
        scenes = [one.prompt.replace(one.title, own.title) if one.title else one.prompt for one in turned]
        different = [scene for scene in dict.fromkeys(scenes) if scene != own.prompt]
        found.append([different[at * len(different) // count] for at in range(count)] if len(different) > count
                     else different)  # fmt: skip
    return found


class PromptFidelity:
    """Fidelity by CLIP (or SigLIP) for pictures of known briefs: call it with pictures and their contexts.

    contexts: all briefs, whose prompts are held against each other. Their texts are embedded once. Raises ValueError
    where a brief has no prompt, or none differs from it.
    """

    def __init__(self, clip: Clip, contexts: Sequence[Context], count: int = OTHERS) -> None:
        self.clip = clip
        self.rows: dict[tuple[str, str], Tensor] = {}
        for context, others in zip(contexts, other_prompts(contexts, count), strict=True):
            if not context.prompt or not others:
                raise ValueError("prompt fidelity takes briefs with prompts, of which at least two differ")
            if (context.title, context.prompt) not in self.rows:
                with torch.no_grad():
                    self.rows[context.title, context.prompt] = clip.embed_texts([context.prompt, *others])

    def __call__(self, images: Images, contexts: Sequence[Context]) -> Float[Tensor, " N"]:
        """images: [N, 3, H, W] in [0, 1]; one context an image, of those given before. Returns [N] in [0, 1]."""
        check_contexts("prompt fidelity", images, contexts)
        embedded = self.clip.embed_images(images)
        similar = [self.rows[one.title, one.prompt] @ row for one, row in zip(contexts, embedded, strict=True)]
        return torch.stack([precedence(row[:1], row[None, 1:])[0] for row in similar])
