"""CLIS-I by region: the right thing at the right place scores high, and what is wrong is told; by any CLIP."""

import pytest
import torch
from tiny_judges import tiny_clip
from tiny_world import ColourClip, drawn, thing, two

from goodeye.errors import BadInput
from goodeye.synth.clis_i import RIVALS, ImageScore, RegionScorer, ThingScore, cut_out, joined, marked, rivals_of
from goodeye.synth.layout import Layout

KNOWN = ("cherry", "leaf", "sky")


@pytest.fixture
def scorer():
    return RegionScorer(ColourClip(), KNOWN, ("red", "green", "blue"), scale=20.0)


def test_what_was_wanted_where_it_was_wanted_scores_high(scorer):
    (found,) = scorer.score([drawn(two())], [two()])
    assert found.score > 90 and [one.score > 90 for one in found.things] == [True, True] and found.reasons == []


def test_swapped_things_score_low_and_the_reason_names_what_they_look_like(scorer):
    (found,) = scorer.score([drawn(two(), ("green", "red"))], [two()])
    assert found.score < 15
    assert found.reasons == [
        "cherry-1 looks more like a leaf than a cherry",
        "leaf-1 looks more like a cherry than a leaf",
    ]


def test_a_wrong_attribute_costs_less_than_a_wrong_category(scorer):
    wanted = Layout(key="a", things=(thing("cherry", (0.3, 0.3, 0.4, 0.4), 1, ("red",)),))
    plain = RegionScorer(ColourClip(), ("cherry", "sky"), ("red", "green", "blue"), scale=8.0)
    right, wrong_look, wrong_kind = (
        plain.score([drawn(wanted, (colour,))], [wanted])[0].things[0] for colour in ("red", "dark", "blue")
    )
    assert right.score > wrong_look.score > wrong_kind.score
    assert right.parts["attributes"] > wrong_look.parts["attributes"]
    assert right.score <= 100 * right.parts["category"]


def test_the_picture_counts_a_tenth_and_its_things_the_rest(scorer):
    named = two(caption="red and green")
    other = two("b", "sky", "sky", caption="blue")
    found, _ = scorer.score([drawn(named), drawn(other)], [named, other])
    mean = sum(one.score for one in found.things) / 2
    assert found.score == pytest.approx(0.1 * found.whole + 0.9 * mean, abs=0.02)
    assert joined(found.whole, found.things, "words").score == pytest.approx((found.whole + mean) / 2, abs=0.02)
    swapped, _ = scorer.score([drawn(other), drawn(named)], [named, other])
    assert swapped.whole < found.whole


def test_a_picture_scores_the_same_whatever_is_scored_beside_it(scorer):
    layouts = [two("a", caption="red and green"), two("b", "sky", "leaf", caption="blue"), two("c", caption="green")]
    pictures, rivals = [drawn(one) for one in layouts], rivals_of(layouts)
    alone = [scorer.score([one], [layout], rivals)[0] for one, layout in zip(pictures, layouts, strict=True)]
    assert scorer.score(pictures, layouts, rivals) == alone
    assert scorer.score(pictures[::-1], layouts[::-1], rivals)[::-1] == alone


def test_a_single_caption_competes_with_the_bare_categories(scorer):
    layout = two(caption="cherry")
    clip = scorer.clip
    shares = (20.0 * clip.embed_texts(["cherry", "leaf", "sky"]) @ clip.embed_images(drawn(layout)[None])[0]).softmax(0)
    (found,) = scorer.score([drawn(layout)], [layout], rivals_of([layout]))
    assert found.whole == pytest.approx(100 * float(shares[0]), abs=0.01)


def test_rivals_are_so_many_of_the_run_in_whatever_order_and_of_the_first_round():
    layouts = [two(f"{n:06d}", caption=f"caption {n}") for n in range(40)]
    found = rivals_of(layouts)
    assert len(set(found)) == RIVALS + 1 and set(found) <= {one.caption for one in layouts}
    assert rivals_of(layouts[::-1]) == found != rivals_of(layouts[:20])
    first, second = ([two(f"{of}{n:06d}", caption=f"{of} {n}") for n in range(4)] for of in "ab")
    assert rivals_of(first + second) == rivals_of(first)  # the second round is planned when the first is scored
    assert rivals_of([two(), two("b")]) == []


def test_unknown_parts_leave_a_picture_unknown():
    known, unknown = ThingScore("a", "a", 80.0), ThingScore("b", "b", None)
    assert joined(60.0, [known], "words") == ImageScore(70.0, 60.0, (known,))
    assert joined(None, [known], "").score == 80.0  # no caption, nothing to hold the whole against
    assert joined(None, [known], "words").score is None and joined(60.0, [known, unknown], "words").score is None


def test_regions_are_cut_and_marked_where_the_box_is():
    image = torch.arange(3 * 10 * 20).reshape(3, 10, 20).float() / 600
    assert torch.equal(cut_out(image, (0.5, 0.2, 0.25, 0.5), 0), image[:, 2:7, 10:15])
    assert cut_out(image, (0.999, 0.999, 0.001, 0.001), 0).shape == (3, 1, 1)
    assert cut_out(image, (0.0, 0.0, 1.0, 1.0)).shape == image.shape
    seen = marked(image, (0.5, 0.2, 0.25, 0.5), 0.5)  # 5 by 5 pixels, seen in 10 by 10
    assert seen.shape == (3, 10, 10) and torch.equal(seen[:, 2:7, 3:8], image[:, 2:7, 10:15])
    assert torch.equal(seen[:, :2], image[:, :2, 7:17] / 2) and torch.equal(seen[:, :, 8:], image[:, :, 15:17] / 2)
    at_the_rim = marked(image, (0.9, 0.0, 0.1, 0.2), 0.5)  # 2 by 2, in a window of 4 that stays within
    assert at_the_rim.shape == (3, 4, 4) and torch.equal(at_the_rim[:, :2, 2:], image[:, :2, 18:])
    assert torch.equal(marked(image, (0.0, 0.0, 1.0, 1.0)), image)


def test_any_clip_serves_and_pictures_may_have_any_size():
    torch.manual_seed(0)
    clip = tiny_clip([*KNOWN, "a red cherry left of a leaf"])
    scorer = RegionScorer(clip, KNOWN, ("red",))
    layouts = [two(caption="A cherry left of a leaf"), two("b", "sky")]
    found = scorer.score([drawn(layouts[0]), drawn(layouts[1], size=(40, 90))], layouts)
    assert all(0 <= one.score <= 100 for image in found for one in image.things)
    assert all(0 <= one.score <= 100 for one in found) and found[1].whole is None
    again = scorer.score([drawn(layouts[0])], layouts[:1])
    assert [t.score for t in again[0].things] == pytest.approx([t.score for t in found[0].things], abs=0.05)


def test_one_category_is_no_choice():
    with pytest.raises(BadInput, match="two categories at least"):
        RegionScorer(ColourClip(), ["cherry"])
