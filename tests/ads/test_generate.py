"""Generation on a tiny random model set: what must hold whatever the weights are."""

import dataclasses

import pytest
import torch
from PIL import Image, ImageDraw

from goodeye.ads.canvas import Canvas, place
from goodeye.ads.generate import advance, drafts_of, generate, generate_on_cores, latent_mask, pictures
from goodeye.diffusion.batch import Prompts
from goodeye.images import to_pil, to_tensor
from goodeye.modelset import Models, resolve

PROMPTS = ["a red shoe on the beach", "a blue bag in the kitchen", "a red shoe on the beach"]


@pytest.fixture(scope="module")
def models(tiny_set) -> Models:
    return Models(resolve(str(tiny_set)))


@pytest.fixture(scope="module")
def settings(models):
    return models.model_set.settings


@pytest.fixture(scope="module")
def canvases(settings) -> list[Canvas]:
    placed = []
    for colour in ("red", "blue", "white"):
        img = Image.new("RGBA", (40, 40))
        ImageDraw.Draw(img).ellipse([4, 8, 36, 32], fill=colour)
        placed.append(place(img, settings.size, settings.product_scale))
    return placed


def test_product_pixels_are_exact(models, settings, canvases):
    images = generate(models, canvases, PROMPTS, [1, 2, 3], settings=settings)
    assert images.shape == (3, 3, settings.size, settings.size)
    for image, canvas in zip(images, canvases, strict=True):
        kept = to_tensor(to_pil(image)) * 255
        whole = (canvas.product[3:] == 1).expand(3, -1, -1)
        assert whole.sum() > 100
        assert (kept - (canvas.product[:3] * 255).round())[whole].abs().max() == 0


def test_soft_edges_are_mixed_by_alpha(models, settings, canvases):
    half = dataclasses.replace(canvases[0], product=canvases[0].product * torch.tensor([1, 1, 1, 0.5])[:, None, None])
    free = dataclasses.replace(canvases[0], product=canvases[0].product * torch.tensor([1, 1, 1, 0.0])[:, None, None])
    # the product's alpha matters to the VAE too, so both get the latents of the same picture: no mask, no edges
    blank = {"mask": torch.zeros_like(half.mask), "control": torch.zeros_like(half.control)}
    half, free = dataclasses.replace(half, **blank), dataclasses.replace(free, **blank)
    pasted, ground = generate(models, [half, free], PROMPTS[:1] * 2, [5, 5], settings=settings)
    alpha = half.product[3:]
    assert torch.allclose(pasted, alpha * half.product[:3] + (1 - alpha) * ground, atol=1e-4)


def test_a_picture_does_not_depend_on_its_batch_mates(models, settings, canvases):
    together = generate(models, canvases, PROMPTS, [11, 12, 13], settings=settings)
    for number in range(3):
        alone = generate(models, canvases[number : number + 1], [PROMPTS[number]], [11 + number], settings=settings)
        assert torch.allclose(together[number], alone[0], atol=2e-4)


def test_equal_seeds_give_equal_pictures_and_others_other_ones(models, settings, canvases):
    one = generate(models, canvases[:1], PROMPTS[:1], [7], settings=settings)
    again = generate(models, canvases[:1], PROMPTS[:1], [7], settings=settings)
    other = generate(models, canvases[:1], PROMPTS[:1], [8], settings=settings)
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 0.02


def test_the_prompt_and_the_edges_matter(models, settings, canvases):
    base = generate(models, canvases[:1], PROMPTS[:1], [7], settings=settings)
    prompted = generate(models, canvases[:1], PROMPTS[1:2], [7], settings=settings)
    blind = dataclasses.replace(canvases[0], control=torch.zeros_like(canvases[0].control))
    assert (base - prompted).abs().max() > 1e-3
    assert (base - generate(models, [blind], PROMPTS[:1], [7], settings=settings)).abs().max() > 1e-3


def test_it_is_the_pipeline_of_diffusers_with_the_product_pasted(
    tiny_set, models, settings, canvases, diffusers_pipeline, inpainted_by_diffusers
):
    # a mask of whole latents, so that either way of making it small agrees
    mask = torch.zeros(1, settings.size, settings.size)
    mask[:, 10:20, 12:22] = 1
    canvas = dataclasses.replace(canvases[0], mask=mask)
    theirs = inpainted_by_diffusers(diffusers_pipeline(tiny_set.parent), canvas, PROMPTS[0], settings)
    ours = generate(models, [canvas], PROMPTS[:1], [7], settings=settings)[0]
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_split_over_cores_the_pictures_are_the_same(models, settings, canvases):
    batch = (models, [*canvases] * 3, PROMPTS * 3, list(range(9)))
    whole = generate(*batch, settings=settings)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        split = generate_on_cores(*batch, settings=settings, embed=Prompts(models))
        assert torch.get_num_threads() == 2
        few = generate_on_cores(models, canvases[:1], PROMPTS[:1], [0], settings=settings, embed=Prompts(models))
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(split, whole, atol=2e-4)
    assert torch.allclose(few[0], whole[0], atol=2e-4)


def test_the_latent_mask_needs_half_of_a_latent_but_never_loses_a_product():
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, 2:4, 2:4] = 1
    mask[0, :, 4, 2] = 1  # a quarter of its latent
    mask[1, :, 5, :] = 0.4  # nowhere half
    small = latent_mask(mask, 4)
    assert small[0].sum() == 1 and small[0, 0, 1, 1] == 1
    assert small[1, 0, 2].sum() == 4 and small[1].sum() == 4
    assert latent_mask(torch.zeros(1, 1, 8, 8), 4).sum() == 0


# In several legs


@pytest.fixture(scope="module")
def long(settings):
    """Settings with enough steps to stop between two of them."""
    return dataclasses.replace(settings, steps=4)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
@pytest.mark.parametrize("stops", [(4,), (1, 4), (2, 3, 4)])
def test_in_how_many_legs_it_is_made_changes_nothing(models, long, canvases, sampler, stops):
    long = dataclasses.replace(long, sampler=sampler)
    drafts = drafts_of(canvases, PROMPTS, [1, 2, 3])
    for stop in stops:
        drafts = advance(models, drafts, stop, settings=long)
        assert {draft.done for draft in drafts} == {stop}
    assert torch.equal(pictures(models, drafts), generate(models, canvases, PROMPTS, [1, 2, 3], settings=long))


def test_drafts_of_several_batches_go_on_together(models, long, canvases):
    first = advance(models, drafts_of(canvases[:2], PROMPTS[:2], [1, 2]), 2, settings=long)
    other = advance(models, drafts_of(canvases[2:], PROMPTS[2:], [3]), 2, settings=long)
    together = pictures(models, advance(models, [other[0], first[1]], 4, settings=long))
    whole = generate(models, canvases, PROMPTS, [1, 2, 3], settings=long)
    assert torch.allclose(together, whole[[2, 1]], atol=2e-4)
    with pytest.raises(ValueError, match="same steps"):
        advance(models, [other[0], *drafts_of(canvases[:1], PROMPTS[:1], [1])], 4, settings=long)


def test_before_the_end_a_draft_shows_the_prediction_around_the_exact_product(models, long, canvases):
    seen = []

    def see(latents, step, x0):
        seen.append(x0)
        return latents

    generate(models, canvases, PROMPTS, [1, 2, 3], settings=long, after_step=see)
    drafts = advance(models, drafts_of(canvases, PROMPTS, [1, 2, 3]), 2, settings=long)
    kept = latent_mask(torch.stack([canvas.mask for canvas in canvases]), seen[1].shape[-1])
    assert 0 < kept.mean() < 1
    for draft, x0, inside in zip(drafts, seen[1], kept.bool(), strict=True):
        assert torch.allclose(torch.where(inside, 0, draft.x0 - x0), torch.zeros(()), atol=1e-4)
        assert torch.allclose(torch.where(inside, draft.x0 - draft.product, 0), torch.zeros(()), atol=1e-6)
    for shown, canvas in zip(pictures(models, drafts), canvases, strict=True):
        whole = (canvas.product[3:] == 1).expand(3, -1, -1)
        assert torch.equal(shown[whole], canvas.product[:3][whole])


def test_a_draft_that_goes_back_runs_the_rest_of_the_schedule_alone(models, long, canvases):
    """The same as the showroom's own way to make a picture again, which has a loop of its own."""
    from goodeye.showroom.inspected import remade

    before = generate(models, canvases, PROMPTS, [1, 2, 3], settings=long)
    same = Models(dataclasses.replace(models.model_set, settings=long))
    same.__dict__.update({name: value for name, value in models.__dict__.items() if name != "model_set"})
    expected = remade(same, before, canvases, PROMPTS, [4, 5, 6], 0.5)
    back = [
        dataclasses.replace(draft, done=2, picture=picture)
        for draft, picture in zip(drafts_of(canvases, PROMPTS, [4, 5, 6]), before, strict=True)
    ]
    calls = []
    hook = models.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        again = pictures(models, advance(models, back, 4, settings=long))
    finally:
        hook.remove()
    assert len(calls) == 2
    assert torch.allclose(again, expected, atol=1e-5)
    assert (again - before).abs().mean() > 1e-3, "new noise"
    for shown, canvas in zip(again, canvases, strict=True):
        whole = (canvas.product[3:] == 1).expand(3, -1, -1)
        assert torch.equal(shown[whole], canvas.product[:3][whole])
