"""The showroom's editor: words of its own beside the generator's, and weights that stand upon each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from goodeye.cli import main
from goodeye.edit.config import Train
from goodeye.edit.generate import Settings, edit, load_editor
from goodeye.edit.rewards import feedback_text
from goodeye.errors import BadInput
from goodeye.modelset import Models, ModelSet, resolve
from goodeye.showroom import editor as E
from goodeye.showroom import scenes as S
from goodeye.showroom.edits import ARTEFACTS, HALF, KINDS, LOST, STRENGTHS
from goodeye.showroom.generator import new_text_encoder, tokens
from goodeye.showroom.halves import shortened
from goodeye.showroom.words import LENGTH, build_tokenizer


@pytest.fixture(scope="module")
def words():
    torch.manual_seed(0)
    encoder = new_text_encoder(build_tokenizer()).eval()
    return encoder, *E.editor_words(encoder)


def test_every_instruction_and_failure_text_is_in_known_words_and_fits(words):
    _, tokenizer, _ = words
    rng, said = np.random.default_rng(0), []
    for number in range(60):
        scene = S.sample(3, number, S.CLASSES[:1])
        for kind in KINDS.values():
            for one in (scene, replace(scene, reference="", blur=0)):
                if (target := kind(rng, one)) is not None:
                    said.append(target[1])
    assert len(set(said)) > 100
    lost = f"changed without being asked: {', '.join(LOST)}"
    for half in (*HALF.values(), "nothing was done", "it was misread", ""):
        said += [feedback_text((half, lost, f"{degree} {name}")) for degree in STRENGTHS.values() for name in ARTEFACTS]
    for text in [*said, "make the wall blue", feedback_text()]:
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids and len(ids) <= LENGTH, text


def test_the_generators_words_keep_their_numbers_and_rows(words):
    encoder, tokenizer, grown = words
    before = build_tokenizer().get_vocab()
    after = tokenizer.get_vocab()
    assert {word for word in before if after[word] != before[word]} == {"</s>"}
    assert after["</s>"] == len(after) - 1 == grown.config.eos_token_id
    old, new = (one.get_input_embeddings().weight for one in (encoder, grown))
    for word in ("red", "kitchen", "</s>", "<pad>", ","):
        assert torch.equal(new[after[word]], old[before[word]])
    assert len(new) == len(after) and not torch.equal(new[2], old[2])


def test_a_caption_is_read_as_before_and_its_end_is_what_is_pooled(words):
    encoder, tokenizer, grown = words
    caption = "a red mug on a wooden floor in a living room with blue walls, soft light"
    with torch.no_grad():
        before = encoder(tokens(build_tokenizer(), [caption])).last_hidden_state
        after = grown.eval()(tokens(tokenizer, [caption, "some noise"]))
    end = len(tokenizer(caption).input_ids) - 1
    assert torch.allclose(before[0, :end], after.last_hidden_state[0, :end], atol=1e-5)
    assert torch.equal(after.pooler_output[0], after.last_hidden_state[0, end])
    assert torch.equal(after.pooler_output[1], after.last_hidden_state[1, 3])


@pytest.fixture(scope="module")
def small(tmp_path_factory, module_words):
    """Both stages trained for two steps on nine triplets, upon random networks of the showroom's kind, but small."""
    root = tmp_path_factory.mktemp("shop")
    weights, models = module_words
    first = Train(stage=1, words=True, rank=2, size=32, batch=2, accumulate=1, steps=2, held=0, flip=False, lr=1e-3)
    second = replace(first, stage=2, words=False, rank=1)
    config = E.Editing(triplets=9, kept=1, first=first, second=second)
    E.train_editor(models, root / "editor", weights / "editor", config)
    E.train_rewards(models, root / "reward_module", weights / "reward_module", config)
    return weights, models


@pytest.fixture(scope="module")
def module_words(tiny_set, tmp_path_factory):
    """A showroom's weights folder with a tiny U-Net and VAE, and the showroom's own tokenizer with a small encoder."""
    import shutil

    from transformers import CLIPTextConfig, CLIPTextModel

    weights = tmp_path_factory.mktemp("weights")
    for role in ("unet", "vae", "scheduler"):
        shutil.copytree(tiny_set.parent / role, weights / role)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(weights / "tokenizer")
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=LENGTH, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(weights / "text_encoder")
    roles = {role: str(weights / role) for role in ("unet", "vae", "scheduler", "tokenizer", "text_encoder")}
    return weights, Models(ModelSet(name="showroom", roles=roles))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_are_halves_that_load_from_another_place(small, tmp_path):
    import shutil

    weights, models = small
    for part in ("editor/base", "reward_module/editor", "reward_module/no_reward", "reward_module"):
        (file,) = (weights / part).glob("*.safetensors")
        assert {value.dtype for value in load_file(file).values()} == {torch.float16}
    base = load_file(weights / "editor/base/adapter_model.safetensors")
    assert {len(value) for name, value in base.items() if "lora_A" in name} == {1}  # trained with 2, kept 1
    moved = tmp_path / "moved"
    shutil.copytree(weights, moved)
    own = {"editor": "reward_module/editor", "rewards": "reward_module", "editor_tokenizer": "editor/tokenizer",
           "editor_text_encoder": "editor/text_encoder"}  # fmt: skip
    roles = {role: str(moved / role) for role in models.model_set.roles} | {r: str(moved / p) for r, p in own.items()}
    rows = E.rows_of(ModelSet(name="showroom", roles=roles))
    assert list(rows) == ["base", "no_reward", "full"]
    made = {}
    for name, one in rows.items():
        found = load_editor(Models(one))
        assert found.rewarded == (name == "full") and found.models.tokenizer("paint").input_ids[1] != 3
        made[name] = edit(found, torch.rand(1, 3, 32, 32), ["paint the wall blue"], [1], settings=Settings(steps=1))
    assert made["full"].shape == (1, 3, 32, 32)
    assert E.rows_of(ModelSet(name="mine", roles={"editor": "a", "rewards": "b"})).keys() == {"full"}


def test_a_shortened_adapter_changes_a_layer_as_nearly_as_its_rank_allows():
    torch.manual_seed(0)
    names = ("conv.lora_A.weight", "conv.lora_B.weight")
    scales = torch.tensor([3.0, 1.0, 0.01, 0.0])[:, None, None, None]
    weights = {
        names[0]: scales * torch.randn(4, 5, 3, 3),
        names[1]: torch.randn(6, 4, 1, 1),
        "conv_in.bias": torch.ones(3),
    }

    def change(found):
        return found[names[1]].flatten(1) @ found[names[0]].flatten(1)

    full, two, one = change(weights), shortened(weights, 2), shortened(weights, 1)
    assert two[names[0]].shape == (2, 5, 3, 3) and two[names[1]].shape == (6, 2, 1, 1)
    assert torch.equal(two["conv_in.bias"], weights["conv_in.bias"])
    lost = torch.linalg.svdvals(full)  # what the nearest matrix of a rank lacks (Eckart and Young 1936)
    for found, rank in ((two, 2), (one, 1)):
        assert torch.linalg.norm(full - change(found)) == pytest.approx(float(lost[rank:].norm()), rel=1e-3)
    assert torch.linalg.norm(full - change(two)) < 0.02 * torch.linalg.norm(full)


def test_without_an_editor_there_is_nothing_to_prove(tiny_set, tmp_path, capsys, monkeypatch):
    with pytest.raises(BadInput, match="no editor to begin with"):
        E.train_rows({}, (), tmp_path, 4, 2)
    monkeypatch.setattr("goodeye.showroom.edit_truth.bench", lambda seed, n: None)
    line = ["edit", "prove", "--n", "2", "--models", str(tiny_set), "--out", str(tmp_path / "out")]
    assert main(line) == 2 and "no editor to prove" in capsys.readouterr().err
    assert resolve("showroom").tables["edit"]["steps"] == 20
