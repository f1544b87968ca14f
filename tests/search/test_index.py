"""Exact and approximate search, adding, removing, near-duplicates, and files that survive a kill."""

import json
from dataclasses import replace

import numpy as np
import pytest
from places import everywhere
from tiny_clip import ColourClip, index_of, save_picture, units

from goodeye.errors import BadInput
from goodeye.search import build
from goodeye.search.build import remove, writing
from goodeye.search.index import Index, exact, open_index, read_card


def best(vectors, queries, k):
    return np.argsort(-(queries.astype(float) @ vectors.T.astype(float)), axis=1)[:, :k]


def named(index, rows):
    """The numbers that the pictures of these rows are named by."""
    return np.array([[int(index.row(int(row))[0]) for row in line] for line in rows])


@everywhere
def test_a_small_index_is_exact(tmp_path, where):
    vectors, queries = units(300, 24), units(7, 24, 1) * 3.7  # queries of any length
    index = open_index(index_of(tmp_path / where, vectors))
    scores, rows = index.search(queries, 10)
    assert (named(index, rows) == best(vectors, queries, 10)).all()
    assert np.allclose(scores, -np.sort(-(queries @ vectors.T), axis=1)[:, :10], atol=1e-5)


@everywhere
def test_more_is_asked_for_than_there_is(tmp_path, where):
    index = open_index(index_of(tmp_path / where, units(3, 8)))
    scores, rows = index.search(units(1, 8, 1), 5)
    assert rows[0, 3:].tolist() == [-1, -1] and np.isneginf(scores[0, 3:]).all()
    assert sorted(named(index, rows[:, :3])[0]) == [0, 1, 2]


@everywhere
def test_rows_are_added_and_removed(tmp_path, where):
    vectors, more = units(60, 16), units(20, 16, 1)
    folder = index_of(tmp_path / where, vectors)
    index_of(folder, more, [str(row) for row in range(60, 80)])
    assert remove(folder, ["3", "64", "nothing"]) == (2, ["nothing"])
    index = open_index(folder)
    left = np.delete(np.arange(80), [3, 64])
    everything = np.concatenate([vectors, more])
    queries = units(5, 16, 2)
    assert (named(index, index.search(queries, 12)[1]) == left[best(everything[left], queries, 12)]).all()
    assert len(index) == 78 and set(index.names()) == {str(row) for row in left}


def test_adding_leaves_what_is_there_as_it_is(tmp_path):
    folder = index_of(tmp_path / "i", units(60, 16))
    before = (folder / "vectors.f32").read_bytes()
    index_of(folder, units(20, 16, 1), [f"m{row}" for row in range(20)])
    remove(folder, ["3"])
    assert (folder / "vectors.f32").read_bytes()[: len(before)] == before


@pytest.mark.parametrize("queries", [1, 64])
@pytest.mark.parametrize("start", [0, 7])
def test_exact_search_looks_at_the_rows_that_are_left_and_at_no_more(monkeypatch, queries, start):
    import faiss

    monkeypatch.setattr("goodeye.search.index.AT_ONCE", 100)
    vectors, asked = units(400, 16), units(queries, 16, 1)
    removed = np.sort(np.random.default_rng(0).choice(400, 300, replace=False))
    wanted = []
    real = faiss.knn
    monkeypatch.setattr(faiss, "knn", lambda q, v, k, metric: wanted.append((len(v), k)) or real(q, v, k, metric))
    left = np.setdiff1d(np.arange(start, 400), removed)
    scores, rows = exact(vectors, asked, 12, start, removed)
    assert (rows == left[best(vectors[left], asked, 12)]).all()
    assert np.allclose(scores, np.take_along_axis(asked @ vectors.T, rows, 1), atol=1e-5)
    assert sum(size for size, _ in wanted) <= len(left) and all(k <= 12 for _, k in wanted)
    assert (exact(vectors, asked, 150, start, removed)[1][:, len(left) :] == -1).all()
    assert (exact(vectors, asked, 3, start, np.arange(400))[1] == -1).all()


@pytest.fixture
def sealed(tmp_path, monkeypatch):
    """An index with inverted lists (from 2,000 rows here), its vectors around 40 centres as real ones are."""
    monkeypatch.setattr(build, "EXACT", 2000)
    random = np.random.default_rng(0)
    centres = units(40, 32, 5)
    vectors = centres[random.integers(0, 40, 3000)] + 0.1 * random.normal(size=(3000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return index_of(tmp_path / "i", vectors), vectors


def recall(found, truth):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)])


def test_a_large_index_finds_nearly_what_exact_search_finds(sealed):
    folder, vectors = sealed
    index = Index(folder)
    assert index.card.sealed == 3000 and index.card.recall >= 0.97
    queries = vectors[::60] + 0.1 * np.random.default_rng(1).normal(size=(50, 32)).astype(np.float32)
    scores, rows = index.search(queries, 10)
    assert recall(rows, best(vectors, queries, 10)) >= 0.95
    assert np.allclose(scores, np.take_along_axis(queries @ vectors.T, rows, 1), atol=1e-4)  # products are exact


def test_a_query_of_mapped_lists_starts_no_threads_that_read_ahead(sealed):
    import faiss

    assert faiss.downcast_InvertedLists(Index(sealed[0]).lists.invlists).prefetch_nthread == 0


def test_inverted_lists_give_few_rows_and_all(sealed):
    """One row is the nearest indeed, not the nearest by 8-bit numbers; where fewer are found, the last are -1."""
    folder, vectors = sealed
    index = Index(folder)
    queries = vectors[::40] + 0.02 * np.random.default_rng(1).normal(size=(75, 32)).astype(np.float32)
    assert (index.search(queries, 1, nprobe=index.lists.nlist)[1] == best(vectors, queries, 1)).all()
    scores, rows = index.search(queries[:2], 3100, nprobe=index.lists.nlist)
    assert [sorted(line) for line in rows.tolist()] == [[-1] * 100 + list(range(3000))] * 2
    assert np.isneginf(scores[:, 3000:]).all() and (np.diff(scores[:, :3000]) <= 0).all()


def test_rows_behind_the_lists_are_found_and_removed_ones_are_not(sealed):
    folder, vectors = sealed
    assert index_of(folder, units(30, 32, 9), [f"n{row}" for row in range(30)])
    index = Index(folder)
    assert (index.card.rows, index.card.sealed) == (3030, 3000)
    queries = units(30, 32, 9)
    assert (index.search(queries, 1)[1][:, 0] == np.arange(3000, 3030)).all()
    top = Index(folder).search(vectors[:40], 1)[1][:, 0]
    assert (top == np.arange(40)).all()
    remove(folder, [str(row) for row in range(40)])
    assert not set(Index(folder).search(vectors[:40], 10)[1].ravel().tolist()) & set(range(40))


def test_lists_grow_without_new_centroids(sealed):
    folder, vectors = sealed
    import faiss

    def centroids():
        lists = faiss.read_index(str(next(folder.glob("ivf-*.faiss"))))
        return faiss.downcast_index(lists.quantizer).reconstruct_n(0, lists.nlist)

    before = centroids()
    more = units(2500, 32, 4)
    index_of(folder, more, [f"n{row}" for row in range(2500)])
    assert Index(folder).card.sealed == 5500 and np.array_equal(centroids(), before)
    assert len(list(folder.glob("ivf-*.faiss"))) == 1


def test_an_index_that_grew_since_it_was_opened_is_not_called_damaged(sealed):
    folder, _ = sealed
    before = Index(folder)
    index_of(folder, units(2500, 32, 4), [f"n{row}" for row in range(2500)])
    with pytest.raises(BadInput, match="has grown since it was opened. Open it again"):
        before.search(units(1, 32), 3)
    assert Index(folder).search(units(1, 32), 3)[1].min() >= 0
    next(folder.glob("ivf-*.faiss")).unlink()
    with pytest.raises(BadInput, match="missing or damaged"):
        Index(folder).search(units(1, 32), 3)


def test_lists_that_grow_after_removals_look_at_few_and_still_find(sealed):
    folder, vectors = sealed
    first = Index(folder).card
    remove(folder, [str(row) for row in range(1200)])
    random = np.random.default_rng(3)
    more = vectors[random.integers(0, 3000, 2500)] + 0.02 * random.normal(size=(2500, 32))
    more = (more / np.linalg.norm(more, axis=1, keepdims=True)).astype(np.float32)
    index_of(folder, more, [f"n{row}" for row in range(2500)])
    index = Index(folder)
    assert index.card.sealed == 5500 and index.card.recall >= 0.97 and index.card.nprobe <= 4 * first.nprobe
    everything = np.concatenate([vectors, more])
    left = np.arange(1200, 5500)
    queries = everything[left[::70]] + 0.1 * random.normal(size=(62, 32)).astype(np.float32)
    found = index.search(queries, 10)[1]
    assert found.min() >= 1200 and recall(found, left[best(everything[left], queries, 10)]) >= 0.95


def test_lists_of_which_every_row_was_removed(sealed):
    folder, _ = sealed
    remove(folder, [str(row) for row in range(3000)])
    with writing(folder) as writer:
        writer.card = replace(writer.card, sealed=0)
        writer.finish()
    assert len(Index(folder)) == 0 and (Index(folder).search(units(2, 32), 3)[1] == -1).all()


def test_no_more_lists_are_looked_at_than_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "EXACT", 500)
    monkeypatch.setattr(build, "WANTED", 1.1)  # never reached
    index = Index(index_of(tmp_path / "i", units(600, 16)))
    assert index.card.nprobe == index.lists.nlist == 48  # 2 sqrt(600): no power of two


@everywhere
def test_near_duplicates_form_groups_that_do_not_chain(tmp_path, where):
    """Steps of 8 degrees: neighbours are near (cos .990), the second next is not (cos .961)."""
    angles = np.deg2rad([0, 8, 16, 90, 92, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    index = open_index(index_of(tmp_path / where, vectors, duplicates=0.98))
    rows = [index.names()[str(at)] for at in range(6)]
    assert index.groups[rows].tolist() == [rows[at] for at in (0, 0, 2, 3, 3, 5)]
    assert index.group_sizes[[rows[at] for at in (0, 2, 3)]].tolist() == [2, 1, 2] and index.bursts == 2


def test_a_burst_larger_than_the_neighbours_looked_at_is_one_group(tmp_path):
    vectors = np.concatenate([np.repeat(units(1, 16), 50, axis=0), units(50, 16, 1)])
    folder = index_of(tmp_path / "i", vectors, duplicates=0.97)
    assert Index(folder).groups.tolist() == [0] * 50 + list(range(50, 100))
    index_of(folder, vectors[:1], ["again"], duplicates=0.97)
    assert Index(folder).groups[100] == 0


@pytest.mark.parametrize("kill_at", ["vectors.f32", "rows.jsonl", "rows.i64", "index.json"])
def test_a_kill_while_writing_leaves_the_index_as_it_was(tmp_path, monkeypatch, kill_at):
    vectors, more = units(40, 8), units(10, 8, 1)
    folder = index_of(tmp_path / "i", vectors)
    real = build._append

    class Killed(BaseException):
        pass

    def append(path, at, data):
        if path.name == kill_at:
            path.write_bytes(path.read_bytes() + data[: len(data) // 2])  # half of it reached the disk
            raise Killed
        real(path, at, data)

    with monkeypatch.context() as patch, pytest.raises(Killed), writing(folder) as writer:
        patch.setattr(build, "_append", append)
        if kill_at == "index.json":
            patch.setattr(writer, "_commit", lambda card: (_ for _ in ()).throw(Killed))
        writer.append([f"m{row}" for row in range(10)], [""] * 10, more)
    index = Index(folder)
    assert len(index) == 40 and index.row(39) == ("39", "")
    index_of(folder, more, [f"m{row}" for row in range(10)])
    index = Index(folder)
    assert np.array_equal(index.vectors, np.concatenate([vectors, more])) and index.row(49)[0] == "m9"


def test_one_process_writes_at_a_time(tmp_path):
    folder = index_of(tmp_path / "i", units(3, 4))
    with writing(folder), pytest.raises(BadInput, match="being written by another process"), writing(folder):
        pass


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda v: v * 3, "not of length 1 \\(row 0"),
        (lambda v: np.where(np.arange(3)[:, None] == 1, np.nan, v), "NaN or infinity in row 1"),
        (lambda v: np.where(np.arange(3)[:, None] == 2, np.inf, v), "NaN or infinity in row 2"),
        (lambda v: v[:, :3], "embeddings of 3 numbers"),
        (lambda v: v[0], "where embeddings are numbers"),
    ],
)
@everywhere
def test_what_is_no_unit_embedding_is_refused_and_nothing_is_written(tmp_path, where, spoil, words):
    folder = index_of(tmp_path / where, units(5, 4))
    with writing(folder) as writer, pytest.raises(BadInput, match=words):
        writer.append(["a", "b", "c"], [""] * 3, spoil(units(3, 4, 1)))
    assert len(open_index(folder)) == 5


@everywhere
def test_queries_that_are_none_are_refused(tmp_path, where):
    index = open_index(index_of(tmp_path / where, units(5, 4)))
    for bad in (np.full((1, 4), np.nan, np.float32), units(1, 3), units(4, 4)[0]):
        with pytest.raises(ValueError, match="queries are finite numbers"):
            index.search(bad, 1)


@everywhere
def test_places_that_are_no_index(tmp_path, where):
    with pytest.raises(BadInput, match="is no index"):
        open_index(tmp_path / where)
    with pytest.raises(BadInput, match="is no index"):
        remove(tmp_path / where, ["0"])
    assert not (tmp_path / where).exists(), "who asks makes nothing"


@pytest.mark.parametrize(
    ("name", "left"), [("removed.npy", 9), ("removed.npy", 0), ("rows.jsonl", 0), ("rows.jsonl", 7)]
)
def test_damaged_files_are_named(tmp_path, name, left):
    folder = index_of(tmp_path / "i", units(5, 4))
    remove(folder, ["0"])
    path = folder / name
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(BadInput, match=f"{name} is damaged"):
        Index(folder).names()


@everywhere
def test_what_a_near_duplicate_is_stays_as_it_was(tmp_path, where):
    """A later call that says nothing of it keeps the index's own threshold, also where that is none."""
    save_picture(tmp_path / "a" / "0.png", (200, 0, 0))
    save_picture(tmp_path / "b" / "1.png", (0, 200, 0))
    for asked, kept in ((None, 0.97), (0.8, 0.8), (0.0, 0.0)):
        out = tmp_path / f"{kept}{where}"
        build.index_pictures(tmp_path / "a", out, ColourClip(), "showroom", duplicates=asked)
        build.index_pictures(tmp_path / "b", out, ColourClip(), "showroom")
        assert open_index(out).card.duplicates == kept and len(open_index(out)) == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="exists and is no index"):
        index_of(tmp_path / "other", units(3, 4))
    folder = index_of(tmp_path / "i", units(3, 4))
    (folder / "vectors.f32").write_bytes(b"short")
    with pytest.raises(BadInput, match="missing or too short"):
        Index(folder)
    card = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**card, "surprise": 1}))
    with pytest.raises(BadInput, match="damaged"):
        read_card(folder)
