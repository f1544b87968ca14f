"""Scenes: the same pixels for the same seed, maps that agree with each other, and labels that are exact."""

import os
import time

import pytest
import torch

from goodeye.showroom import scenes as S
from goodeye.showroom.places import PLACES
from goodeye.showroom.products import fitted

EACH = 12
MANY = [S.sample(77, i, [defect]) for defect in S.CLASSES for i in range(200)]


def one(made, n):
    return {
        name: getattr(made, name)[n] for name in ("image", "product", "depth", "saliency", "obj", "contrast", "beauty")
    }


def test_the_same_seed_gives_the_same_facts():
    assert [S.sample(5, i) for i in range(20)] == [S.sample(5, i) for i in range(20)]
    assert S.sample(5, 0) != S.sample(6, 0) != S.sample(6, 1)


def test_the_same_scenes_give_the_same_pixels(made):
    again = S.render(made.scenes[8:16])
    repeated = S.render(made.scenes[8:16])
    assert torch.equal(again.image, repeated.image) and torch.equal(again.depth, repeated.depth)


@pytest.mark.parametrize("n", [0, 17, 30, 40, 59])
def test_a_scene_is_the_same_in_whatever_batch_it_is_rendered(made, n):
    alone = S.render([made.scenes[n]])
    for name, value in one(made, n).items():
        assert (getattr(alone, name)[0] - value).abs().max() < 1e-5, name


def test_threads_do_not_change_what_is_rendered(made):
    parts = list(S.render_many(made.scenes[:10], batch=4, workers=2))
    assert [len(part.image) for part in parts] == [4, 4, 2]
    assert (torch.cat([part.image for part in parts]) - made.image[:10]).abs().max() < 1e-5


def test_another_size_shows_the_same_scene(made):
    small = S.render(made.scenes[:6], size=64).image
    halved = torch.nn.functional.avg_pool2d(made.image[:6], 2)
    assert (small - halved).abs().mean() < 0.02


# Maps


def test_maps_have_their_shapes_and_ranges(made):
    n = len(made.scenes)
    assert made.image.shape == (n, 3, 128, 128) and made.product.shape == (n, 4, 128, 128)
    assert made.depth.shape == made.saliency.shape == (n, 1, 128, 128) and made.obj.shape == (n, 128, 128)
    for plane in (made.image, made.product, made.depth, made.saliency):
        assert plane.isfinite().all() and plane.min() >= 0 and plane.max() <= 1


def test_the_product_is_where_its_cut_out_is_and_its_pixels_are_exact(made):
    alpha = made.product[:, 3]
    assert torch.equal(made.obj == S.PRODUCT, alpha > 0.5)
    whole = (alpha == 1)[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(made.image[whole], made.product[:, :3][whole])


def test_every_number_in_the_map_of_things_has_a_name(made):
    for obj, names in zip(made.obj, made.names, strict=True):
        assert set(obj.unique().int().tolist()) <= {S.NONE, *names}


def test_depth_is_far_on_the_wall_and_comes_nearer_on_the_surface(made):
    for scene, obj, depth in zip(made.scenes, made.obj, made.depth[:, 0], strict=True):
        horizon = round(scene.horizon * 128)
        bare = obj == S.NONE
        assert (depth[: horizon - 1][bare[: horizon - 1]] == 0.12).all()
        rows = [depth[y][bare[y]] for y in range(horizon + 1, 128) if bare[y].any()]
        heights = torch.stack([row[0] for row in rows])
        assert (heights.diff() > 0).all() and heights[0] >= 0.25 and heights[-1] > 0.95


def test_the_product_is_nearer_than_what_it_hides_behind_it(made):
    for scene, obj, depth in zip(made.scenes, made.obj, made.depth[:, 0], strict=True):
        product = depth[obj == S.PRODUCT]
        assert product.min() == product.max()
        props = depth[obj >= S.FIRST_PROP]
        assert not len(props) or props.max() < product[0]
        if scene.defect != "space_mismatch":  # it stands on the surface: as near as that is under its base
            row = round((0.5 + fitted(scene.product, scene.scale)[2]) * 128)
            beneath = depth[row][obj[row] == S.NONE]
            middle = 0.25 + 0.75 * 0.35  # and never farther than the middle of it
            assert not len(beneath) or abs(product[0] - beneath[0].clamp(min=middle)) < 0.03


def test_the_product_draws_the_eye_as_far_as_it_stands_out(made):
    product = made.obj == S.PRODUCT
    inside = (made.saliency[:, 0] * product).sum((1, 2)) / product.sum((1, 2))
    outside = (made.saliency[:, 0] * (made.obj == S.NONE)).sum((1, 2)) / (made.obj == S.NONE).sum((1, 2))
    assert (inside > 2 * outside).all()
    faint = made.label == S.CLASSES.index("indistinctiveness")
    assert inside[faint].mean() < 0.7 * inside[~faint].mean()


# Labels


def base_of(made, n):
    return int((made.product[n, 3] > 0.5).any(1).nonzero().max() + 1) / 128


def test_labels_are_the_defects(made):
    assert [S.CLASSES[i] for i in made.label] == [scene.defect for scene in made.scenes]
    assert made.label.bincount().tolist() == [EACH] * 5


def test_an_extension_is_to_be_seen_exactly_where_that_is_the_defect(made):
    area = (made.obj == S.EXTENSION).float().sum((1, 2)) / (made.obj == S.PRODUCT).float().sum((1, 2))
    grown = made.label == S.CLASSES.index("shape_hallucination")
    assert (area[~grown] == 0).all() and (area[grown] > 0.01).all()


def test_a_part_of_the_products_own_is_the_products_and_no_fault():
    plain = [S.sample(78, i, S.CLASSES[:1]) for i in range(24)]
    own = [S.sample(78, i, S.CLASSES[:1], own=0.5) for i in range(24)]
    unusual = [i for i, scene in enumerate(own) if scene.product.own]
    assert 6 <= len(unusual) <= 18
    assert [own[i] for i in range(24) if i not in unusual] == [plain[i] for i in range(24) if i not in unusual]
    made = S.render([own[i] for i in unusual])
    assert not (made.obj == S.EXTENSION).any() and not made.label.any()
    drawn = made.product[:, 3] > 0.5
    assert torch.equal(drawn, made.obj == S.PRODUCT)
    assert (drawn != (S.render([plain[i] for i in unusual]).product[:, 3] > 0.5)).flatten(1).any(1).all()


def test_the_horizon_lies_under_the_base_exactly_where_space_is_wrong(made):
    for n, scene in enumerate(made.scenes):
        assert (scene.horizon > base_of(made, n)) == (scene.defect == "space_mismatch")
    for scene in MANY:
        gap = scene.horizon - (0.5 + fitted(scene.product, scene.scale)[2])
        assert gap > 0.06 if scene.defect == "space_mismatch" else gap < -0.06


def test_the_thing_beside_is_of_wrong_size_exactly_where_that_is_the_defect():
    for scene in MANY:
        if not scene.reference:
            assert scene.defect != "size_mismatch"
            continue
        true = S.REFERENCES[scene.reference] * scene.scale / scene.product.centimetres
        ratio = scene.reference_height / true
        wrong = ratio > 2.2 or ratio < 1 / 2.2
        assert wrong == (scene.defect == "size_mismatch") and (wrong or 0.87 < ratio < 1.14), scene


def test_a_reference_thing_is_drawn_at_its_height(made):
    checked = 0
    for n, scene in enumerate(made.scenes):
        mask = made.obj[n] == S.REFERENCE
        if not scene.reference or not mask.any():
            continue
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        height = float(rows[-1] + 1 - rows[0]) / 128
        assert height < scene.reference_height + 0.03
        left, right = int(columns[0]), int(columns[-1])
        beside = made.product[n, 3, :, max(0, left - 3) : right + 4].max() < 0.5
        if beside and left > 0 and right < 127 and rows[-1] < 127:
            checked += 1
            assert height == pytest.approx(scene.reference_height, abs=0.035), scene.reference
    assert checked >= 8


def test_contrast_is_low_exactly_where_a_product_is_made_to_vanish():
    scenes = [S.sample(78, i, [d]) for d in ("indistinctiveness", "available") for i in range(48)]
    contrast = torch.cat([r.contrast for r in S.render_many(scenes)])
    assert contrast[:48].quantile(0.98) < 0.21 and contrast[48:].quantile(0.02) > 0.19


def test_chance_gives_every_place_and_thing():
    assert {s.place for s in MANY} == set(PLACES) and {s.reference for s in MANY} == {"", *S.REFERENCES}


def test_a_caption_says_what_is_there():
    for scene in MANY[::20]:
        words = S.caption(scene)
        assert scene.product.title in words and scene.light in words
        assert not scene.reference or words.endswith(scene.reference)
        assert S.caption(scene, full=False) in words
    orange = next(s for s in MANY if s.product.title.startswith("orange"))
    assert S.caption(orange).startswith("an orange")


@pytest.mark.prove
def test_a_hundred_scenes_a_second_with_all_maps():
    """On two quiet cores, 128 pixels, everything that `render` gives."""
    scenes = [S.sample(79, i) for i in range(512)]
    list(S.render_many(scenes[:64]))
    torch.set_num_threads(1)
    started = time.perf_counter()
    count = sum(len(r.image) for r in S.render_many(scenes))
    rate = count / (time.perf_counter() - started)
    print(f"\n{rate:.0f} scenes a second on {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f})")
    assert rate >= 100
