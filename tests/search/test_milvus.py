"""What is Milvus's alone; that it answers as an index in a folder does is in test_index.py and test_query.py."""

import os
from pathlib import Path

import numpy as np
import pytest
from places import everywhere, lite, quiet
from tiny_clip import ColourClip, index_of, save_picture, units

from goodeye.errors import BadInput
from goodeye.search.build import index_pictures, remove
from goodeye.search.index import in_milvus, open_index
from goodeye.search.milvus import number_of, split_url, whole_url
from goodeye.search.query import Weights, find
from goodeye.search.vectors import normalised


def test_urls():
    assert split_url("http://here:19530/photos") == ("http://here:19530", "photos")
    assert whole_url("http:/here/photos") == "http://here/photos" and whole_url("a/b.db") == "a/b.db"
    assert split_url("https:/here/photos") == ("https://here", "photos")  # as a path writes it
    assert split_url("a/photos.db") == ("a/photos.db", "goodeye")
    assert in_milvus("http:/here/photos") and in_milvus("a.db") and not in_milvus("photos-index")
    with pytest.raises(BadInput, match="names no collection"):
        split_url("http://here:19530")
    assert 0 <= number_of("a") < 2**63 and number_of("a") != number_of("b")


@everywhere
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
@quiet
def test_a_caption_that_is_too_long_is_named_and_the_others_are_taken(tmp_path):
    for number in range(5):
        path = save_picture(tmp_path / "p" / f"{number}.png", (40 * number, 0, 0))
    path.with_suffix(".txt").write_text("x" * 70_000)
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "p") + b"/z\xff.png"))  # bytes that are no text
    odd.write_bytes(path.read_bytes())
    built = index_pictures(tmp_path / "p", tmp_path / "i.db", ColourClip(), "showroom", duplicates=0)
    assert built.added == len(open_index(tmp_path / "i.db")) == 4
    assert "longer than 65,535 bytes" in built.skipped[0].message and built.skipped[0].name == str(path)
    assert "is no text, which Milvus needs" in built.skipped[1].message and len(built.skipped) == 2
