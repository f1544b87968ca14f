"""The heads that learn scenes' facts beside RFNet's labels."""

import math

import pytest
import torch

from goodeye.judging.baseline import baseline_for
from goodeye.judging.rfnet_fit import build_rfnet
from goodeye.showroom.build import Build
from goodeye.showroom.guideline import CELLS
from goodeye.showroom.places import PLACES
from goodeye.showroom.side_tasks import BINS, SideTasks, side_tasks


def batch(**changes):
    """Two pictures, each with a thing and an extension in the lower left quarter."""
    corner = torch.zeros(2, 1, CELLS, CELLS, dtype=torch.uint8)
    corner[:, :, CELLS // 2 :, : CELLS // 2] = 255
    numbers = {"sunk": -0.1, "ratio": 0.3, "height": 0.2, "length": 2.0, "contrast": 0.3}
    given = {name: torch.full((2,), value) for name, value in numbers.items()}
    names = {"place": torch.tensor([1, 2]), "reference": torch.tensor([2, 3])}
    return given | names | {"extension": corner, "thing": corner.clone()} | changes


def test_maps_are_asked_of_the_tokens_that_lie_there():
    heads = SideTasks(8, 4)
    torch.nn.init.zeros_(heads.cells.weight)
    torch.nn.init.zeros_(heads.cells.bias)
    heads.cells.weight.data[:, 0] = 1.0  # every cell says what its token's first number says
    tokens = torch.zeros(2, 4, 8, requires_grad=True)
    heads(torch.zeros(2, 8), tokens, batch())["extension"].backward()
    pull = tokens.grad[0, :, 0]
    assert pull.argmin() == 2 and pull[2] < 0 < min(pull[0], pull[1], pull[3])  # rows of two: lower left is the third


def test_a_number_is_best_guessed_by_the_bin_that_holds_it():
    heads = SideTasks(8, 4)
    last = heads.numbers[-1]
    torch.nn.init.zeros_(last.weight)
    first = list(BINS).index("ratio")
    at = sum(heads.sizes[:first])
    losses = []
    for value in BINS["ratio"]:
        torch.nn.init.zeros_(last.bias)
        last.bias.data[at + int((BINS["ratio"] - value).abs().argmin())] = 5.0
        losses.append(heads(torch.zeros(2, 8), torch.zeros(2, 4, 8), batch())["ratio"].item())
    assert BINS["ratio"][losses.index(min(losses))].item() == pytest.approx(0.3, abs=0.06)


def test_what_a_picture_does_not_show_teaches_nothing():
    heads = SideTasks(8, 4)
    lost = batch(place=torch.full((2,), len(PLACES)))
    losses = heads(torch.randn(2, 8), torch.randn(2, 4, 8), lost)
    assert {name for name, loss in losses.items() if loss > 0} == {"place"}
    bare = batch(ratio=torch.tensor([math.nan, 0.3]), height=torch.tensor([math.nan, 0.2]))
    losses = heads(torch.randn(2, 8), torch.randn(2, 4, 8), bare)
    assert all(torch.isfinite(loss) for loss in losses.values()) and losses["ratio"] > 0


def test_heads_fit_rfnet_and_its_baseline():
    model, _ = build_rfnet(["a red mug"], Build().rfnet)
    baseline = baseline_for(model.config)
    pictures = {name: torch.rand(2, channels, 96, 96) for name, channels in
                (("product", 3), ("image", 3), ("depth", 1), ("saliency", 1))}  # fmt: skip
    for judge in (model.eval(), baseline.eval()):
        _, pooled, tokens = judge.trunk(
            **pictures, input_ids=torch.ones(2, 3).long(), attention_mask=torch.ones(2, 3).long()
        )
        losses = side_tasks(judge)(pooled, tokens, batch())
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_tokens_that_do_not_divide_the_maps_are_refused():
    with pytest.raises(ValueError, match="do not divide"):
        SideTasks(8, 25)
