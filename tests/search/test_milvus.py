"""The same questions to an index in Milvus, on Milvus Lite: a file, no server."""

from importlib.util import find_spec

import numpy as np
import pytest
from tiny_clip import index_of, units

from goodeye.errors import BadInput
from goodeye.search.build import remove
from goodeye.search.index import in_milvus, open_index
from goodeye.search.milvus import number_of, split_url
from goodeye.search.query import Weights, find
from goodeye.search.shift import Scale

lite = pytest.mark.skipif(
    not (find_spec("pymilvus") and find_spec("milvus_lite")),
    reason="needs pymilvus and milvus-lite: pip install 'goodeye[milvus]' milvus-lite",
)


def test_urls():
    assert split_url("http://here:19530/photos") == ("http://here:19530", "photos")
    assert split_url("https:/here/photos") == ("https://here", "photos")  # as a path writes it
    assert split_url("a/photos.db") == ("a/photos.db", "goodeye")
    assert in_milvus("http:/here/photos") and in_milvus("a.db") and not in_milvus("photos-index")
    with pytest.raises(BadInput, match="names no collection"):
        split_url("http://here:19530")
    assert 0 <= number_of("a") < 2**63 and number_of("a") != number_of("b")


@lite
@pytest.mark.filterwarnings("ignore")  # of the libraries behind it
def test_questions_get_the_answers_of_an_index_in_a_folder(tmp_path):
    vectors, query = units(60, 16), units(1, 16, 1)[0]
    ours = open_index(index_of(tmp_path / "i.db", vectors))
    plain = open_index(index_of(tmp_path / "i", vectors))
    scores, rows = ours.search(query[None], 10)
    expected, places = plain.search(query[None], 10)
    assert np.allclose(scores, expected, atol=1e-5)
    assert [ours.row(int(row))[0] for row in rows[0]] == [str(place) for place in places[0]]
    head = units(1, 16, 2)[0]
    weights = Weights(taste=0.5, cutoff=0)
    found = [hit.name for hit in find(ours, query, 5, weights, head=head).hits]
    moved = query + Scale(vectors, head).lam(0.5, query) * head
    assert found == [str(row) for row in np.argsort(-(vectors @ moved))[:5]]
    index_of(tmp_path / "i.db", units(5, 16, 3), [f"m{row}" for row in range(5)])
    assert remove(tmp_path / "i.db", ["3", "m4", "nothing"]) == (2, ["nothing"])
    again = open_index(tmp_path / "i.db")
    assert len(again) == 63
    assert set(again.names()) == {str(row) for row in range(60) if row != 3} | {f"m{row}" for row in range(4)}
    with pytest.raises(ValueError, match="queries are finite numbers"):
        again.search(np.full((1, 16), np.nan, np.float32), 1)
    with pytest.raises(BadInput, match="not of length 1"):
        index_of(tmp_path / "i.db", 3 * units(5, 16, 3))
    assert len(open_index(tmp_path / "i.db")) == 63


@lite
@pytest.mark.filterwarnings("ignore")
def test_near_duplicates_form_groups_that_do_not_chain(tmp_path):
    angles = np.deg2rad([0, 8, 16, 90, 92, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    index = open_index(index_of(tmp_path / "i.db", vectors, duplicates=0.98))
    rows = [number_of(str(at)) for at in range(6)]
    assert index.groups[rows].tolist() == [rows[at] for at in (0, 0, 2, 3, 3, 5)]
    assert index.group_sizes[[rows[0], rows[2], rows[3]]].tolist() == [2, 1, 2] and index.bursts == 2


@lite
def test_files_that_are_no_index(tmp_path):
    with pytest.raises(BadInput, match="is no index"):
        open_index(tmp_path / "none.db")
