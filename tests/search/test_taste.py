"""A head fitted by ridge regression, for any backbone; heads of another model are refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_clip import index_of, units

from goodeye.cli import main
from goodeye.errors import BadInput
from goodeye.judging.aesthetic import AestheticHead
from goodeye.search.index import Index, read_card
from goodeye.search.taste import fit_ridge, fit_taste, load_head


def solve(x, y, sure, alpha):
    """Ridge with a free offset by its normal equations."""
    weights = sure / sure.mean()
    rows = np.column_stack([np.ones(len(x)), x]).astype(float)
    penalty = alpha * np.diag([0.0, *np.ones(x.shape[1])])
    return np.linalg.solve(rows.T @ (weights[:, None] * rows) + penalty, rows.T @ (weights * y))


@pytest.mark.parametrize("alpha", [0.1, 5.0])
@pytest.mark.parametrize("votes", [False, True])
def test_ridge_solves_its_normal_equations(alpha, votes):
    random = np.random.default_rng(0)
    x, sure = units(40, 6), random.integers(1, 9, 40).astype(float) if votes else np.ones(40)
    y = x @ np.arange(6) + random.normal(size=40) + 5
    found = fit_ridge(x, y, sure, alphas=[alpha])
    expected = solve(x, y, sure, alpha)
    assert found.bias == pytest.approx(expected[0], abs=1e-6) and np.allclose(found.weight, expected[1:], atol=1e-5)


def test_held_out_predictions_are_those_of_fits_without_the_picture():
    random = np.random.default_rng(1)
    x = units(25, 4)
    y = x @ np.arange(4) + 0.3 * random.normal(size=25)
    found = fit_ridge(x, y, alphas=[0.5])
    for row in (0, 7, 24):
        left = np.delete(np.arange(25), row)
        bias, *weight = solve(x[left], y[left], np.ones(24), 0.5)
        assert found.held_out[row] == pytest.approx(bias + x[row] @ weight, abs=1e-8)


def test_fewer_pictures_than_numbers_and_alpha_by_what_is_held_out():
    x = units(30, 200)
    y = x @ units(1, 200, 1)[0]
    assert np.isfinite(fit_ridge(x, y).held_out).all()
    noise = np.random.default_rng(0).normal(size=30)
    assert fit_ridge(x, noise).alpha > fit_ridge(units(500, 5), units(500, 5) @ np.arange(5)).alpha


def table(path, scores, head="image,score"):
    path.write_text("\n".join([head, *(f"{name},{value}" for name, value in scores.items())]) + "\n")
    return path


def test_a_taste_is_learned_from_scores_and_found_by_the_index(tmp_path):
    vectors, hidden = units(200, 8), units(1, 8, 3)[0]
    folder = index_of(tmp_path / "i", vectors)
    random = np.random.default_rng(0)
    scores = {str(row): vectors[row] @ hidden + 0.05 * random.normal() for row in range(0, 200, 2)}
    fitted = fit_taste(folder, table(tmp_path / "s.csv", {**scores, "gone": 1}))
    assert (fitted.count, fitted.missing) == (100, [str(tmp_path / "gone")])
    assert fitted.rank.low > 0.9 and fitted.explained > 0.9
    head = load_head(folder / "taste.safetensors", read_card(folder))
    others = np.arange(1, 200, 2)
    got = head(torch.from_numpy(np.array(Index(folder).vectors[others]))).numpy()
    assert np.corrcoef(got, vectors[others] @ hidden)[0, 1] > 0.98


def test_a_ledger_that_was_moved_is_known_by_its_files_own_names(tmp_path):
    files = [f"{row:064x}.png" for row in range(20)]
    folder = index_of(tmp_path / "i", units(20, 4), names=[f"/before/images/{file}" for file in files])
    votes = {f"{tmp_path}/images/{file}": row for row, file in enumerate(files)}
    fitted = fit_taste(folder, table(tmp_path / "v.csv", {**votes, f"{tmp_path}/images/gone.png": 1}))
    assert (fitted.count, fitted.missing) == (20, [f"{tmp_path}/images/gone.png"])


def test_votes_count_by_their_number(tmp_path):
    folder = index_of(tmp_path / "i", units(30, 4))
    rows = {str(row): "9,1" if row % 2 else "2,8" for row in range(30)}
    fitted = fit_taste(folder, table(tmp_path / "v.csv", rows, "image,up,down"), out=tmp_path / "mine.safetensors")
    head = AestheticHead.from_pretrained(tmp_path / "mine.safetensors")
    assert fitted.path == tmp_path / "mine.safetensors" and not (folder / "taste.safetensors").exists()
    share = head(torch.from_numpy(units(30, 4))).mean()
    assert float(share) == pytest.approx((10 / 12 + 3 / 12) / 2, abs=0.02)  # (up + 1) / (up + down + 2)


def test_pictures_that_nobody_voted_on_are_left_out_and_counted(tmp_path, capsys):
    folder = index_of(tmp_path / "i", units(30, 4))
    voted = {str(row): "9,1" if row % 2 else "2,8" for row in range(24)}
    alone = fit_taste(folder, table(tmp_path / "v.csv", voted, "image,up,down"))
    more = table(tmp_path / "m.csv", {**voted, **{str(row): "0,0" for row in range(24, 30)}}, "image,up,down")
    fitted = fit_taste(folder, more, out=tmp_path / "mine.safetensors")
    assert (alone.count, alone.unvoted, fitted.count, fitted.unvoted) == (24, 0, 24, 6)
    assert (tmp_path / "mine.safetensors").read_bytes() == (folder / "taste.safetensors").read_bytes()
    assert (fitted.rank, fitted.explained) == (alone.rank, alone.explained)
    assert main(["search", "fit-taste", str(folder), str(more)]) == 0
    said = capsys.readouterr()
    assert "learned from 24 pictures;" in said.out and "6 pictures have no vote" in said.err


@pytest.mark.parametrize(
    ("rows", "head", "words"),
    [
        ({"0": 1, "1": 2}, "image,score", "of which .* has 2. Score at least 10"),
        ({str(r): 3 for r in range(20)}, "image,score", "the same score"),
        ({str(r): "good" for r in range(20)}, "image,score", "row 1: score is 'good', not a number"),
        ({str(r): "nan" for r in range(20)}, "image,score", "not a finite number"),
        ({str(r): r for r in range(20)}, "image,stars", "has no column score \\(it has stars\\)"),
        ({str(r): "-1,2" for r in range(20)}, "image,up,down", "votes below 0"),
        ({str(r): f"{r // 15},0" for r in range(20)}, "image,up,down", "has votes on 5 pictures"),
        ({str(r): r for r in range(20)}, "file,score", "no column named image"),
    ],
)
def test_tables_that_do_not_say_enough(tmp_path, rows, head, words):
    folder = index_of(tmp_path / "i", units(30, 4))
    with pytest.raises(BadInput, match=words):
        fit_taste(folder, table(tmp_path / "s.csv", rows, head))
    assert not (folder / "taste.safetensors").exists()


def test_heads_of_another_model_are_refused(tmp_path):
    folder = index_of(tmp_path / "i", units(30, 4))
    fit_taste(folder, table(tmp_path / "s.csv", {str(r): r for r in range(30)}))
    card = read_card(folder)
    assert load_head(folder / "taste.safetensors", card) is not None
    other = SimpleNamespace(**{**vars(card), "version": "other"})
    with pytest.raises(BadInput, match=r"belongs to another CLIP \(v1, where this one is other\)"):
        load_head(folder / "taste.safetensors", other)
    save_file({"weight": torch.ones(1, 5), "bias": torch.ones(1)}, tmp_path / "five.safetensors")
    with pytest.raises(BadInput, match="5 numbers, where this one gives 4"):
        load_head(tmp_path / "five.safetensors", card)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="not a whole .safetensors"):
        load_head(tmp_path / "bad.safetensors", card)
