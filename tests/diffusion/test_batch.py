"""What generating jobs share: a picture's seed and noise are its place's alone, prompts are encoded once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goodeye.diffusion.batch import Prompts, attempt_seed, eight_bit, noise_of, on_cores
from goodeye.images import to_pil, to_tensor
from goodeye.modelset import Models, resolve

PROMPTS = ["a red shoe on the beach", "a blue bag in the kitchen", "a red shoe on the beach"]


@pytest.fixture(scope="module")
def models(tiny_set) -> Models:
    return Models(resolve(str(tiny_set)))


def test_prompts_are_encoded_once(models, monkeypatch):
    embed = Prompts(models)
    first = embed(PROMPTS)
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    monkeypatch.setattr("goodeye.diffusion.batch.text.encode", None)
    assert torch.equal(embed(PROMPTS[::-1]), first.flip(0))


def test_prompts_held_do_not_grow_without_end(models, monkeypatch):
    monkeypatch.setattr("goodeye.diffusion.batch.PROMPTS_HELD", 3)
    embed = Prompts(models)
    for number in range(6):
        embed([f"a red {number}", "a blue bag"])
    assert len(embed.held) <= 3


def test_what_is_judged_is_what_a_file_holds():
    images = torch.rand(2, 3, 5, 5) * 1.2 - 0.1
    assert torch.equal(to_tensor(to_pil(eight_bit(images)[0])), eight_bit(images)[0])
    with pytest.raises(ValueError, match="NaN"):
        eight_bit(torch.full((1, 3, 2, 2), float("nan")))


def test_noise_is_the_seeds_alone():
    assert torch.equal(noise_of(2**63 - 1, (4, 8, 8)), noise_of(2**63 - 1, (4, 8, 8)))
    assert abs(float(noise_of(3, (4, 64, 64)).std()) - 1) < 0.02


@given(st.text(), st.integers(0, 50), st.integers(1, 9), st.integers(1, 9))
def test_seeds_are_63_bits_and_differ_by_place(brief, run, slot, number):
    seed = attempt_seed(run, brief, slot, number)
    assert 0 <= seed < 2**63
    assert seed == attempt_seed(run, brief, slot, number)
    assert len({seed, attempt_seed(run, brief, slot + 1, number), attempt_seed(run, brief, slot, number + 1)}) == 3


def test_work_is_split_over_the_cores_and_comes_back_in_order():
    parts = []

    def work(items):
        parts.append((len(items), torch.get_num_threads()))
        return [10 * one for one in items]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert on_cores(work, range(9), "cpu") == [10 * one for one in range(9)]
        assert sorted(parts) == [(4, 1), (5, 1)] and torch.get_num_threads() == 2
        parts.clear()
        assert on_cores(work, range(7), "cpu") == on_cores(work, range(7), "cuda") and len(parts) == 2
    finally:
        torch.set_num_threads(before)
