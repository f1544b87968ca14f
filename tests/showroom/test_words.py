"""The showroom's tokenizer knows every word that captions and titles can have."""

import itertools

from goodeye.showroom import scenes as S
from goodeye.showroom.places import LIGHTS, PLACES
from goodeye.showroom.products import COLOURS, DRAW
from goodeye.showroom.words import LENGTH, build_tokenizer


def test_every_caption_and_title_is_in_known_words_and_fits():
    tokenizer = build_tokenizer()
    where = [p.phrase.format(wall=wall) for p in PLACES.values() for wall in p.walls]
    things = [f"giant {c} {k}" for c, k in itertools.product(COLOURS, DRAW)] + ["miniature red chair"]
    texts = [f"an {things[i % len(things)]} {w}, {light}, beside a {r}"
             for i, (w, light, r) in enumerate(itertools.product(where, LIGHTS, S.REFERENCES))]  # fmt: skip
    texts += things + [S.caption(S.sample(4, i)) for i in range(100)]
    for text in texts:
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids, text
        assert len(ids) < LENGTH, text


def test_other_words_are_unknown_and_case_does_not_matter():
    tokenizer = build_tokenizer()
    assert tokenizer("Zeppelin").input_ids[1] == tokenizer.unk_token_id
    assert tokenizer("Red MUG").input_ids == tokenizer("red mug").input_ids
