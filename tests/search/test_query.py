"""An index answers: by relevance and taste in one search, cut where relevance ends, one of each group."""

import numpy as np
import pytest
from places import everywhere
from tiny_clip import index_of, units

from goodeye.errors import BadInput
from goodeye.search.build import remove
from goodeye.search.index import open_index
from goodeye.search.query import Weights, find
from goodeye.search.vectors import normalised

pytestmark = everywhere
VECTORS = units(400, 16)


@pytest.fixture
def index(tmp_path, where):
    return open_index(index_of(tmp_path / where, VECTORS))


def rows(found):
    return [int(hit.name) for hit in found.hits]


@pytest.mark.parametrize("taste", [-1.0, 0.0, 0.5, 3.0])
def test_taste_ranks_the_whole_index_as_scoring_every_image_does(index, taste):
    query, head = units(1, 16, 1)[0], units(1, 16, 2)[0] * 18
    found = find(index, query, 25, Weights(taste=taste, cutoff=0), head=head, bias=5.0)
    similarity, beauty = VECTORS @ query, VECTORS @ head + 5.0
    expected = np.argsort(-(similarity.astype(float) + found.lam * beauty.astype(float)))[:25]
    assert rows(found) == expected.tolist()
    assert found.hits[0].beauty == pytest.approx(beauty[expected[0]], abs=1e-4)
    assert found.hits[0].similarity == pytest.approx(similarity[expected[0]], abs=1e-5)
    assert np.sign(found.lam) == np.sign(taste)


def test_what_is_not_wanted_goes_down(index):
    query, away = units(1, 16, 1)[0], units(1, 16, 3)
    plain = find(index, query, 10, Weights(cutoff=0))
    kept = find(index, query, 10, Weights(cutoff=0, avoid=1.0), away=away)
    mean = [np.mean(VECTORS[rows(one)] @ away[0]) for one in (plain, kept)]
    assert mean[1] < mean[0] and rows(plain) == np.argsort(-(VECTORS @ query))[:10].tolist()


def test_the_cutoff_adapts_to_the_query(tmp_path, where):
    """Two queries whose pictures lie at cosines of .9 and of .5: one flat threshold could not serve both."""
    random = np.random.default_rng(0)
    near, far = np.eye(32)[0], np.eye(32)[1]
    others = np.concatenate([np.zeros((300, 2)), random.normal(size=(300, 30))], axis=1)
    away = np.concatenate([np.zeros((10, 2)), random.normal(size=(10, 30))], axis=1)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    good = [0.9 * near + 0.436 * away[:5], 0.5 * far + 0.866 * away[5:]]
    index = open_index(index_of(tmp_path / where, normalised(np.concatenate([*good, others]))))
    for query, expected in ((near, range(5)), (far, range(5, 10))):
        found = find(index, query.astype(np.float32), 20)
        assert sorted(rows(found)) == list(expected) and found.cut > 0
    assert len(find(index, near.astype(np.float32), 20, Weights(cutoff=0)).hits) == 20


def test_taste_does_not_bring_in_what_is_not_relevant(tmp_path, where):
    relevant, beautiful = np.eye(8)[0], np.eye(8)[1]
    vectors = normalised(np.concatenate([relevant + 0.1 * units(5, 8), beautiful + 0.1 * units(50, 8, 1)]))
    index = open_index(index_of(tmp_path / where, vectors))
    query, head = relevant.astype(np.float32), beautiful.astype(np.float32) * 18
    found = find(index, query, 5, Weights(taste=5.0), head=head)
    assert set(rows(found)) == set(range(5))


@pytest.mark.parametrize("taste", [0.5, 1.0, 5.0])
def test_what_is_relevant_is_found_behind_any_number_of_pictures_that_are_only_beautiful(tmp_path, where, taste):
    relevant, beautiful = np.eye(8)[0], np.eye(8)[1]
    vectors = normalised(np.concatenate([relevant + 0.1 * units(50, 8), beautiful + 0.1 * units(3000, 8, 1)]))
    index = open_index(index_of(tmp_path / where, vectors))
    query, head = relevant.astype(np.float32), beautiful.astype(np.float32) * 18
    found = find(index, query, 5, Weights(taste=taste), head=head)
    by_both = vectors[:50].astype(float) @ (query + found.lam * head)
    assert rows(found) == np.argsort(-by_both)[:5].tolist()


def test_one_pick_of_each_group_is_the_best_by_score(tmp_path, where):
    base = units(30, 16)
    burst = normalised(base[0] + 0.02 * units(5, 16, 1))
    index = open_index(index_of(tmp_path / where, np.concatenate([base, burst]), duplicates=0.98))
    query = normalised(burst[2][None])[0]
    found = find(index, query, 10, Weights(cutoff=0))
    group = {0, *range(30, 35)}
    assert len(found.hits) == 10 and len(group & set(rows(found))) == 1
    assert (rows(found)[0], found.hits[0].alike) == (32, 6)
    assert len(group & set(rows(find(index, query, 10, Weights(cutoff=0), groups=False)))) == 6


def test_removed_pictures_are_not_found_nor_counted(tmp_path, where):
    vectors = np.concatenate([np.repeat(units(1, 8), 3, axis=0), units(9, 8, 1)])
    folder = index_of(tmp_path / where, vectors, duplicates=0.97)
    remove(folder, ["0"])
    found = find(open_index(folder), units(1, 8)[0], 5, Weights(cutoff=0))
    assert rows(found)[0] in (1, 2) and found.hits[0].alike == 2


def test_questions_that_cannot_be_answered(index, tmp_path, where):
    query = units(1, 16, 1)[0]
    with pytest.raises(BadInput, match="has no taste"):
        find(index, query, 5, Weights(taste=0.5))
    for k in (0, 10_001):
        with pytest.raises(BadInput, match=f"{k} pictures"):
            find(index, query, k)
    for taste in (float("nan"), 1e300, -1001):
        with pytest.raises(BadInput, match="not a number from -1000 to 1000"):
            find(index, query, 5, Weights(taste=taste), head=query)
    folder = index_of(tmp_path / f"one{where}", units(1, 16))
    remove(folder, ["0"])
    with pytest.raises(BadInput, match="holds no pictures"):
        find(open_index(folder), query, 5)
