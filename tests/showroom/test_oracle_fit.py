"""Training the oracle's reader: batches, losses, and a small run from nothing to a card."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from goodeye.showroom import degrade as D
from goodeye.showroom import facts as X
from goodeye.showroom import oracle_fit as O
from goodeye.showroom import scenes as S
from goodeye.showroom.oracle import Oracle

TINY = replace(O.TRAINING, steps=3, warmup=1, log_every=1)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("oracle")


@pytest.fixture(scope="module")
def source(work):
    return O.reading_world(work / "world", O.SEED, 16, say=lambda line: None)


def test_its_worlds_are_its_own():
    assert len({O.SEED, O.MEASURED_ON, 11, 12, 13, 14}) == 6


def test_a_batch_is_a_function_of_its_seed(source):
    first, again, other = (O.batch_of(source, [1, 2, 3, 5], seed) for seed in (4, 4, 5))
    assert all(torch.equal(first[name].nan_to_num(), again[name].nan_to_num()) for name in first)
    assert not torch.equal(first["pixels"], other["pixels"])


def test_what_has_lost_its_place_teaches_only_that(source, monkeypatch):
    monkeypatch.setattr(O, "LOST", 1.0)
    batch = O.batch_of(source, [0, 1, 2], 1)
    assert (batch["place"] == X.PLACE_NAMES.index(X.NOWHERE)).all()
    assert batch["horizon"].isnan().all() and (batch["known"] == 0).all() and (batch["reference"] == X.UNKNOWN).all()


def test_a_mirrored_batch_is_mirrored_altogether(source):
    def left_heavy(batch):
        weight = torch.linspace(1, -1, 32)
        return (batch["extension"] * weight).sum((1, 2))

    plain = torch.from_numpy(source.extension[:16])[:, 0].float() / 255
    signs = set()
    for seed in range(6):
        batch = O.batch_of(source, list(range(16)), seed)
        same = torch.equal(batch["extension"], plain)
        signs.add(same)
        side = 1 if same else -1
        assert torch.allclose(left_heavy(batch), side * left_heavy({"extension": plain}), atol=1e-4)
    assert signs == {True, False}


def test_the_product_of_a_spoilt_picture_is_whole(made):
    image = (made.image[0] * 255).round().byte().numpy()
    alpha = (made.product[0, 3:] * 255).round().byte().numpy()
    for lost in (False, True):
        spoilt = D.imitated(image, alpha, np.random.default_rng(1), lost)
        inside = np.broadcast_to(alpha == 255, image.shape)
        assert np.allclose(spoilt[inside], image[inside] / 255, atol=1e-6)
        assert np.abs(spoilt - image / 255).max() > 0.05


def test_unknown_facts_cost_nothing(source):
    batch = O.batch_of(source, list(range(8)), 1)
    seen = X.FactsReader(X.FactsConfig())(batch["pixels"], batch["mask"])
    unknown = batch | {
        name: torch.full_like(batch[name], X.UNKNOWN) for name in ("place", "wall", "light", "reference")
    }
    unknown |= {name: torch.full_like(batch[name], torch.nan) for name in ("horizon", "height")}
    parts = O.losses(seen, unknown | {"known": torch.zeros(8)})
    assert all(part.item() == 0 for part in parts.values())
    assert all(part.item() > 0 for part in O.losses(seen, batch).values())


def test_a_small_run_writes_weights_and_card_and_is_not_done_twice(work, source):
    out = work / "out"
    first = O.train_oracle(out, work, scenes=16, held=10, config=TINY, batch=8)
    assert first.steps == 3 and first.resumed_at == 0
    assert {"model.safetensors", "config.json", "README.md", "measured.json"} <= {f.name for f in out.iterdir()}
    assert (out / "model.safetensors").stat().st_size < 2_000_000
    measured = json.loads((out / "measured.json").read_text())
    assert measured["clean"]["count"] == 10 and set(measured["degraded"]["recall"]) == set(S.CLASSES)
    assert Oracle.from_pretrained(out).version in (out / "README.md").read_text()
    again = O.train_oracle(out, work, scenes=16, held=10, config=TINY, batch=8)
    assert again.resumed_at == 3


def test_agreement_counts_what_it_says():
    true = ["available", "available", "size_mismatch", "size_mismatch"]
    said = ["available", "space_mismatch", "size_mismatch", "available"]
    found = O.agreement(true, said)
    assert (found.count, found.accuracy, found.binary) == (4, 0.5, 0.5)
    assert found.recall["size_mismatch"] == 0.5 and found.balanced["size_mismatch"] == 0.75
    assert found.balanced["space_mismatch"] == 0.25
