"""Prompt fidelity: the share of other prompts that a picture fits less well than its own."""

import pytest
import torch
from tiny_judges import tiny_clip

from goodeye.judging.fidelity import PromptFidelity, other_prompts, precedence
from goodeye.judging.protocol import Context

PROMPTS = ["a red mug on a table", "a red mug on the beach", "a red mug in a forest"]


def test_precedence_counts_those_behind_and_half_of_the_equal_ones() -> None:
    own, others = torch.tensor([0.5, 0.1, 0.9]), torch.tensor([[0.4, 0.5, 0.6, 0.1], [0.2] * 4, [0.2] * 4])
    assert precedence(own, others).tolist() == [(1 + 0.5 + 0 + 1) / 4, 0, 1]


def test_other_prompts_differ_in_the_scene_alone() -> None:
    contexts = [
        Context(title="red mug", prompt="a red mug on a table"),
        Context(title="blue shoe", prompt="a blue shoe on the beach"),
        Context(title="bag", prompt="a bag on a table"),
    ]
    assert other_prompts(contexts) == [
        ["a red mug on the beach"],  # the bag's scene is its own
        ["a blue shoe on a table"],
        ["a bag on the beach"],
    ]


def test_at_most_so_many_others_spread_over_all() -> None:
    contexts = [Context(title="x", prompt=f"x in place {number}") for number in range(100)]
    others = other_prompts(contexts, 5)
    assert all(len(set(row)) == 5 and contexts[at].prompt not in row for at, row in enumerate(others))
    assert others[0] == [f"x in place {number}" for number in (1, 20, 40, 60, 80)]


def test_it_ranks_by_the_models_own_similarity() -> None:
    torch.manual_seed(0)
    clip = tiny_clip(PROMPTS)
    contexts = [Context(title="red mug", prompt=prompt) for prompt in PROMPTS]
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    similar = clip.embed_images(images) @ clip.embed_texts(PROMPTS).T  # [images, prompts]
    expected = [sum(float(row[at] > row[other]) for other in range(3)) / 2 for at, row in enumerate(similar)]
    fidelity = PromptFidelity(clip, contexts)
    assert fidelity(images, contexts).tolist() == expected
    total = sum(fidelity(images[:1], [one]) for one in contexts)  # one picture under each prompt: ranks 0, 1/2, 1
    assert float(total) == pytest.approx(1.5)


@pytest.mark.parametrize("prompts", [["one", "one"], ["one", ""]])
def test_it_needs_prompts_that_differ(prompts) -> None:
    with pytest.raises(ValueError, match="at least two differ"):
        PromptFidelity(tiny_clip(PROMPTS), [Context(prompt=prompt) for prompt in prompts])
