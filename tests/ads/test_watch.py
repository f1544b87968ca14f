"""What a run looks at: the same pictures each time, and each measure by the judge that it says."""

import pytest
import torch
from toy_judge import Bright, placed_briefs

from goodeye.ads.rollout import Studio
from goodeye.ads.watch import EACH, Watch, main_axis
from goodeye.judging.clip import ClipJudge
from goodeye.judging.protocol import Axis
from goodeye.modelset import Models, resolve
from judging.tiny_judges import tiny_clip


class Dark:
    name, version, differentiable, licence = "dark", "1", True, "mit"
    axes = (Axis("brightness", 0.0, 1.0, higher_is_better=False),)

    def score(self, images, contexts):
        return {"brightness": images.mean((1, 2, 3))}


def test_more_is_better_on_the_main_axis():
    images = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    assert main_axis(Dark(), images, []).tolist() == [0, -1]


def test_a_look_measures_the_same_pictures_by_each_judge(tiny_set):
    torch.manual_seed(0)
    models, briefs = Models(resolve(str(tiny_set))), placed_briefs(2)
    models.clip = tiny_clip([brief.prompt for brief in briefs])
    studio = Studio(models, models.model_set.settings)
    watch = Watch(studio, Bright(), briefs, seed=3)
    pictures = watch.pictures()
    assert pictures.shape == (2, EACH, 3, 32, 32) and torch.equal(watch.pictures(), pictures)
    with torch.no_grad():
        look = watch.look()
        other = Watch(studio, Bright(), briefs, seed=3, held_out=Dark()).look()
    contexts = [brief.context for brief in briefs for _ in range(EACH)]
    flat = pictures.flatten(0, 1)
    expected = Bright().logits(flat, contexts).softmax(1)[:, 0].view(2, EACH).mean(1)
    assert look.trained.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    similar = ClipJudge(models.clip).score(flat, contexts)["similarity"].view(2, EACH).mean(1)
    assert look.held_out.tolist() == pytest.approx(similar.tolist(), rel=1e-4)
    assert other.held_out.tolist() == pytest.approx((-pictures.mean((1, 2, 3, 4))).tolist(), rel=1e-5)
    assert bool((look.fidelity >= 0).all() and (look.fidelity <= 1).all()) and torch.equal(
        look.pictures, pictures[:, 0]
    )
