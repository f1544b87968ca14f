"""The same questions to an index in Milvus, on Milvus Lite: a file, no server."""

from importlib.util import find_spec

import numpy as np
import pytest
from tiny_clip import ColourClip, index_of, save_picture, units

from goodeye.errors import BadInput
from goodeye.search.build import index_pictures, remove
from goodeye.search.index import in_milvus, open_index
from goodeye.search.milvus import number_of, split_url, whole_url
from goodeye.search.query import Weights, find
from goodeye.search.shift import Scale
from goodeye.search.vectors import normalised

lite = pytest.mark.skipif(
    not (find_spec("pymilvus") and find_spec("milvus_lite")),
    reason="needs pymilvus and milvus-lite: pip install 'goodeye[milvus]' milvus-lite",
)


def test_urls():
    assert split_url("http://here:19530/photos") == ("http://here:19530", "photos")
    assert whole_url("http:/here/photos") == "http://here/photos" and whole_url("a/b.db") == "a/b.db"
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


@pytest.mark.parametrize("where", ["i", pytest.param("i.db", marks=lite)])
@pytest.mark.filterwarnings("ignore")
def test_a_group_stays_together_without_its_first_picture(tmp_path, where):
    base = units(30, 16)
    burst = normalised(base[:1] + 0.02 * units(5, 16, 1))
    index_of(tmp_path / where, np.concatenate([base, burst]), duplicates=0.98)
    remove(tmp_path / where, ["0", "31", "7"])
    more = normalised(base[:1] + 0.02 * units(2, 16, 9))
    index = open_index(index_of(tmp_path / where, more, ["x", "y"], duplicates=0.98))
    found = find(index, base[0], 40, Weights(cutoff=0)).hits
    assert len(found) == 29 and found[0].alike == 6 and index.bursts == 1 and len(index) == 34
    assert {found[0].name} < {"30", "32", "33", "34", "x", "y"}


@lite
@pytest.mark.filterwarnings("ignore")
def test_a_caption_that_is_too_long_is_named_and_the_others_are_taken(tmp_path):
    for number in range(5):
        path = save_picture(tmp_path / "p" / f"{number}.png", (40 * number, 0, 0))
    path.with_suffix(".txt").write_text("x" * 70_000)
    built = index_pictures(tmp_path / "p", tmp_path / "i.db", ColourClip(), "showroom", duplicates=0)
    assert built.added == len(open_index(tmp_path / "i.db")) == 4
    assert "longer than 65,535 bytes" in built.skipped[0].message and built.skipped[0].name == str(path)


@lite
def test_files_that_are_no_index(tmp_path):
    with pytest.raises(BadInput, match="is no index"):
        open_index(tmp_path / "none.db")
