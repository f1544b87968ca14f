"""The store of pairs: kept as it is, looked up exactly, and with back-off in the order that it says."""

import time

import numpy as np
import pytest

from goodeye.errors import BadInput
from goodeye.synth.nearness import Encoder
from goodeye.synth.priors import Gather, LookUp, Priors, open_priors


def pairs(count, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 0.4, (count, 2, 4)).astype(np.float32)


MEANING = {"cup": (1, 0), "mug": (0.95, 0.31), "dog": (0, 1), "table": (-1, 0), "beaker": (0.98, -0.2)}


def by_meaning(texts):
    return np.array([MEANING.get(text, (0, -1)) for text in texts], dtype=float)


WORDS = Encoder("words", by_meaning, 0.8)


@pytest.fixture
def small():
    """40 cups on tables, 5 mugs on tables, 35 dogs near tables."""
    gather = Gather()
    for what, relation, count in (("cup", "on", 40), ("mug", "on", 5), ("dog", "near", 35)):
        for number, pair in enumerate(pairs(count, count)):
            gather.add("test", (what, number), [(what, relation, "table")], pair[None])
    return gather.priors()


def test_a_store_comes_back_as_it_was(real_priors, tmp_path):
    real_priors.save(tmp_path / "p.parquet")
    again = open_priors(tmp_path / "p.parquet")
    assert again.codes == real_priors.codes and again.sources == real_priors.sources == {"boxes": len(again)}
    assert np.array_equal(again.boxes, real_priors.boxes) and np.array_equal(again.pictures, real_priors.pictures)


def test_other_programs_read_the_store(small, tmp_path):
    import pyarrow.parquet as pq

    small.save(tmp_path / "p.parquet")
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert sum(row["subject"] == "mug" and row["relation"] == "on" and row["object"] == "table" for row in rows) == 5
    mugs = sorted(row["subject_x"] for row in rows if row["subject"] == "mug")
    assert mugs == sorted(map(float, pairs(5, 5)[:, 0, 0]))


def test_what_is_there_is_found_exactly(small):
    found = LookUp(small, WORDS)(("cup", "on", "table"))
    assert (found.level, found.found) == ("exact", (("cup", "on", "table"),))
    assert sorted(found.boxes.ravel()) == sorted(pairs(40, 40).ravel())


def test_too_few_are_filled_up_from_like_categories(small):
    found = LookUp(small, WORDS)(("mug", "on", "table"))
    assert (found.level, len(found.boxes)) == ("similar", 45)
    assert found.found == (("mug", "on", "table"), ("cup", "on", "table"))


def test_a_category_that_was_never_seen_borrows_those_of_the_nearest(small):
    found = LookUp(small, WORDS)(("beaker", "on", "table"))
    assert found.level == "similar" and found.found[0] == ("cup", "on", "table")


def test_then_those_that_share_a_side(small):
    found = LookUp(small, WORDS)(("dog", "on", "table"))
    assert (found.level, len(found.boxes)) == ("side", 45)
    assert set(found.found) == {("cup", "on", "table"), ("mug", "on", "table")}


def test_then_the_relation_and_then_everything(small):
    look_up = LookUp(small, WORDS)
    assert (look_up(("dog", "on", "dog")).level, len(look_up(("dog", "on", "dog")).boxes)) == ("relation", 45)
    assert (look_up(("dog", "under", "dog")).level, len(look_up(("dog", "under", "dog")).boxes)) == ("all", 80)
    assert look_up(("cup", "on", "table"), "relation").level == "relation"
    assert look_up(("cup", "on", "table"), "all").level == "all"


def test_typical_sizes_are_found_and_references_are_as_large_as_what_was_asked_for():
    """Areas: a whale is 16 mice, a cat 4; behind halves what stands there. Whale and mouse never meet."""
    area, gather = {"mouse": 0.01, "cat": 0.04, "whale": 0.16}, Gather()
    for number in range(400):
        for subject, relation, other, by in (
            ("whale", "near", "cat", 1),
            ("cat", "near", "whale", 1),
            ("cat", "near", "mouse", 1),
            ("mouse", "near", "cat", 1),
            ("cat", "behind", "mouse", 0.5),
        ):
            sides = [(area[one] * noise) ** 0.5 for one, noise in ((subject, by), (other, 1))]
            gather.add("test", number, [(subject, relation, other)], np.array([[(0.1, 0.1, s, s) for s in sides]]))
    priors = gather.priors()
    assert priors.typical_ratio(("whale", "near", "mouse")) == pytest.approx(np.log(16), abs=0.15)
    assert priors.typical_ratio(("whale", "behind", "cat")) == pytest.approx(np.log(4 * 0.5), abs=0.15)
    assert priors.typical_ratio(("dodo", "near", "dodo")) == pytest.approx(0, abs=0.15)
    asked = LookUp(priors)(("whale", "near", "mouse"))
    ratio = asked.boxes[:, 0, 2:].prod(1) / asked.boxes[:, 1, 2:].prod(1)
    assert asked.level == "side" and ratio * asked.ratio == pytest.approx(16, rel=0.2) and ratio == pytest.approx(4)
    assert LookUp(priors)(("cat", "behind", "mouse")).ratio == pytest.approx(1)


def by_hand(priors, triplets, asked):
    """The boxes of triplets one after the other, and what each one's own size differs from that of `asked`."""
    size, more = priors.sizes
    category, relation = (dict(zip(one, range(len(one)), strict=True)) for one in (priors.categories, priors.relations))

    def typical(one):
        return size[category[one[0]]] - size[category[one[2]]] + more[relation[one[1]]]

    boxes = np.concatenate([priors.boxes[priors.rows(one)] for one in triplets])
    ratio = np.concatenate([[np.exp(typical(asked) - typical(one))] * priors.count(one) for one in triplets])
    return boxes, ratio.astype(np.float32)


def test_references_are_those_of_each_triplet_one_after_the_other(real_priors):
    look_up = LookUp(real_priors, most=10**6)
    levels = set()
    often = sorted(real_priors.codes, key=real_priors.count)[-2:]
    for asked in [*often, *list(real_priors.codes)[::100]]:
        for start in ("exact", "similar", "side", "relation", "all"):
            found = look_up(asked, start)
            chosen = {
                "exact": [asked],
                "relation": [one for one in real_priors.codes if one[1] == asked[1]],
                "all": list(real_priors.codes),
            }.get(found.level)
            if chosen:
                boxes, ratio = by_hand(real_priors, chosen, asked)
                assert np.array_equal(found.boxes, boxes) and np.array_equal(found.ratio, ratio)
                assert found.found == tuple(chosen[:10])
                levels.add(found.level)
    assert levels == {"exact", "relation", "all"}


def test_a_store_of_many_relations_is_looked_up_in_a_moment():
    """40,000 triplets of 10,000 relations, a third of Visual Genome's: searching a list for each took 15 s."""
    random, names = np.random.default_rng(0), [tuple(f"{what}{at:05d}" for at in range(10_000)) for what in "cr"]
    relation = np.sort(random.integers(0, 10_000, 40_000))
    triplets = np.stack([random.integers(0, 10_000, 40_000), relation, random.integers(0, 10_000, 40_000)], 1)
    many = Priors(names[0], names[1], triplets, np.arange(40_001), pairs(40_000), np.arange(40_000))
    assert many.sizes and many.codes
    before = time.process_time()
    found = LookUp(many)(("c00001", "unheard of", "c00002"))
    assert (found.level, len(found.boxes)) == ("all", 1000) and time.process_time() - before < 3


def test_at_most_so_many_and_the_same_ones_each_time(small, real_priors):
    few = LookUp(small, WORDS, most=10)(("cup", "on", "table")).boxes
    assert len(few) == 10 and np.array_equal(few, LookUp(small, WORDS, most=10)(("cup", "on", "table")).boxes)
    gather = Gather()
    gather.add("test", 0, [("a", "on", "b")] * 90 + [("c", "on", "b")] * 3, pairs(93))
    assert gather.priors(most=50).counts.tolist() == [50, 3]


def test_pairs_of_one_picture_share_its_number_whatever_source_they_come_from():
    gather = Gather()
    gather.add("boxes", ("coco", 7), [("a", "on", "b")], pairs(1))
    gather.add("boxes", ("coco", 8), [("a", "on", "b")], pairs(1))
    gather.add("captions", ("coco", 7), [("a", "riding", "b")], pairs(1))
    priors = gather.priors()
    assert priors.pictures[priors.rows(("a", "riding", "b"))].tolist() == [0]
    assert sorted(priors.pictures.tolist()) == [0, 0, 1] and priors.sources == {"boxes": 2, "captions": 1}


def test_a_part_holds_the_chosen_pairs_alone(real_priors):
    chosen = real_priors.pictures % 2 == 0
    part = real_priors.part(chosen)
    assert len(part) == chosen.sum() and set(part.pictures) == set(real_priors.pictures[chosen])
    for triplet in list(part.codes)[::50]:
        mask = chosen[real_priors.rows(triplet)]
        assert np.array_equal(part.boxes[part.rows(triplet)], real_priors.boxes[real_priors.rows(triplet)][mask])


def test_an_unknown_concept_is_told_with_the_nearest_known(real_priors, small):
    with pytest.raises(BadInput, match=r"ovem is not in the priors. The nearest that are: oven, "):
        real_priors.require(["person", "ovem"])
    with pytest.raises(BadInput, match="beaker is not in the priors. The nearest that are: cup, mug"):
        small.require(["beaker"], WORDS)


def test_what_is_no_store_is_told(tmp_path):
    (tmp_path / "p.parquet").write_text("no")
    with pytest.raises(BadInput, match="p.parquet is no store of priors"):
        open_priors(tmp_path / "p.parquet")
    with pytest.raises(BadInput, match="is no store of priors"):
        open_priors(tmp_path / "none.parquet")
    with pytest.raises(BadInput, match="no two things"):
        Gather().priors()


def test_a_store_by_other_programs_is_looked_at_before_it_is_used(small, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    small.save(tmp_path / "p.parquet")
    rows = pq.read_table(tmp_path / "p.parquet").to_pydict()
    for changed, words in (
        ({"subject": [None, *rows["subject"][1:]]}, "is no store of priors"),
        ({name: [] for name in rows}, "is no store of priors"),
        ({"subject_x": [5.0] * len(small)}, "boxes outside of the picture"),
        ({"object_width": [640.0] * len(small)}, "boxes outside of the picture"),
    ):
        pq.write_table(pa.table(rows | changed), tmp_path / "x.parquet")
        with pytest.raises(BadInput, match=words):
            open_priors(tmp_path / "x.parquet")
    for about in ("[1]", "{", '{"sources": [1]}', '{"sources": {"boxes": "many"}}', 50_000 * "["):
        pq.write_table(pa.table(rows).replace_schema_metadata({"goodeye": about}), tmp_path / "x.parquet")
        with pytest.raises(BadInput, match="is no store of priors"):
            open_priors(tmp_path / "x.parquet")
    pq.write_table(pa.table(rows | {"subject": [*range(len(small))]}), tmp_path / "x.parquet")
    assert "0" in open_priors(tmp_path / "x.parquet").categories  # numbers as names, which are texts
    with pytest.raises(BadInput, match="0 pairs of each triplet"):
        Gather().priors(most=0)
