"""RFNet against its paper's equations, and the judge made of it."""

import math

import pytest
import torch
from tiny_judges import BERT, RESNET, rfnet_config
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, DistilBertConfig, ResNetConfig, ResNetModel

from goodeye.errors import BadInput
from goodeye.judging.protocol import Context, Judge, check_scores
from goodeye.judging.rfnet import CLASSES, FeatureFilter, RFNet, RFNetConfig, RFNetJudge, encode_titles
from goodeye.judging.titles import title_tokenizer

TITLES = ["a red mug", "a very small wooden chair", ""]


def inputs(count=3, size=64, seed=0):
    random = torch.Generator().manual_seed(seed)
    picture = [torch.rand(count, channels, size, size, generator=random) for channels in (3, 3, 1, 1)]
    ids = torch.randint(5, 64, (count, 6), generator=random)
    mask = torch.ones_like(ids)
    mask[0, 3:] = 0
    return *picture, ids, mask


@pytest.fixture
def model():
    torch.manual_seed(0)
    return RFNet(rfnet_config()).eval()


def attention_by_hand(attend: nn.MultiheadAttention, queries, keys, allowed):
    """softmax(Q K' / sqrt(d)) V of each head, with plain matrix products (Vaswani et al. 2017, eq 1)."""
    width, heads = attend.embed_dim, attend.num_heads
    parts = zip(
        attend.in_proj_weight.split(width), attend.in_proj_bias.split(width), (queries, keys, keys), strict=True
    )
    q, k, v = (
        (x @ weight.T + bias).view(*x.shape[:2], heads, width // heads).transpose(1, 2) for weight, bias, x in parts
    )
    scores = q @ k.transpose(2, 3) / math.sqrt(width // heads)
    scores = scores.masked_fill(~allowed[:, None, None, :], float("-inf"))
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return mixed @ attend.out_proj.weight.T + attend.out_proj.bias


def test_the_feature_filter_is_equation_3():
    torch.manual_seed(1)
    block = FeatureFilter(16, 2, dropout=0.0).eval()
    product, title = torch.randn(2, 9, 16), torch.randn(2, 5, 16)
    allowed = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()

    def conv(layer, tokens):  # a 1x1 convolution on a 3x3 map, literally
        image = tokens.transpose(1, 2).reshape(2, 16, 3, 3)
        return nn.functional.conv2d(image, layer.weight[:, :, None, None], layer.bias).flatten(2).transpose(1, 2)

    crossed = attention_by_hand(block.attend, product, title, allowed)
    expected = conv(block.conv_out, conv(block.conv_title, crossed) * conv(block.conv_product, product)) + product
    assert torch.allclose(block(product, title, allowed), expected, atol=1e-5)


def test_self_attention_runs_over_the_concatenation(model):
    batch = inputs()
    groups = model.tokens(*batch)
    assert list(groups) == ["product", "image", "depth", "saliency"]  # eq 4: e_f, e_g, e_d, e_s
    tokens = torch.cat([group for group, _ in groups.values()], 1)
    for layer in model.layers:  # pre-norm transformer layers, by hand
        normed = layer.norm1(tokens)
        everything = torch.ones(tokens.shape[:2], dtype=torch.bool)
        tokens = tokens + attention_by_hand(layer.self_attn, normed, normed, everything)
        tokens = tokens + layer.linear2(nn.functional.gelu(layer.linear1(layer.norm2(tokens))))
    expected = model.head(model.norm(tokens).mean(1))
    with torch.no_grad():
        assert torch.allclose(model(*batch), expected, atol=1e-5)
    assert torch.allclose(model(*batch), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("off", "left"),
    [
        ([], {"product": 4, "image": 4, "depth": 4, "saliency": 4}),
        (["depth"], {"product": 4, "image": 4, "saliency": 4}),
        (["saliency"], {"product": 4, "image": 4, "depth": 4}),
        (["title"], {"product": 4, "image": 4, "depth": 4, "saliency": 4}),
        (["product"], {"image": 4, "depth": 4, "saliency": 4, "title": 6}),
        (["product", "depth", "saliency", "title"], {"image": 4}),
    ],
)
def test_a_modality_that_is_off_leaves_no_tokens_and_no_weights(off, left):
    torch.manual_seed(0)
    model = RFNet(rfnet_config(**{f"use_{name}": False for name in off})).eval()
    product, image, depth, saliency, ids, mask = inputs()
    given = {
        "product": None if "product" in off else product,
        "image": image,
        "depth": None if "depth" in off else depth,
        "saliency": None if "saliency" in off else saliency,
        "input_ids": None if "title" in off else ids,
        "attention_mask": None if "title" in off else mask,
    }
    shapes = {name: tuple(tokens.shape) for name, (tokens, _) in model.tokens(**given).items()}
    assert shapes == {name: (3, count, 16) for name, count in left.items()}
    assert model(**given).shape == (3, 5)
    names = " ".join(name for name, _ in model.named_parameters())
    assert all(f"towers.{name}." not in names for name in off)
    assert ("text_encoder" in names) is ("title" not in off)
    assert ("filters" in names) is not bool({"title", "product"} & set(off))


@pytest.mark.parametrize("which", range(6))
def test_every_input_matters_and_gets_gradient(model, which):
    batch = list(inputs())
    before = model(*batch)
    if which < 4:
        batch[which] = (1 - batch[which]).requires_grad_(True)
    elif which == 4:
        batch[4] = batch[4].roll(1, 1)
    else:
        batch[5] = torch.ones_like(batch[5])
    after = model(*batch)
    assert not torch.allclose(before[0], after[0], atol=1e-6)
    if which < 4:
        after.square().sum().backward()
        assert (batch[which].grad.abs().sum((1, 2, 3)) > 0).all()


def test_padding_is_never_read(model):
    product, image, depth, saliency, ids, mask = inputs()
    other = ids.clone()
    other[0, 3:] = 7
    with torch.no_grad():
        same = model(product, image, depth, saliency, other, mask)
        expected = model(product, image, depth, saliency, ids, mask)
        longer = nn.functional.pad(ids, (0, 5)), nn.functional.pad(mask, (0, 5))
        padded = model(product, image, depth, saliency, *longer)
    assert torch.allclose(same, expected, atol=1e-6)
    assert torch.allclose(padded, expected, atol=1e-6)


def test_without_product_padding_is_not_read_either():
    torch.manual_seed(0)
    model = RFNet(rfnet_config(use_product=False)).eval()
    _, image, depth, saliency, ids, mask = inputs()
    mask[2] = 0
    longer = nn.functional.pad(ids, (0, 5)), nn.functional.pad(mask, (0, 5))
    with torch.no_grad():
        expected = model(None, image, depth, saliency, ids, mask)
        assert torch.allclose(model(None, image, depth, saliency, *longer), expected, atol=1e-6)


def test_a_picture_without_a_title_keeps_its_product_features(model):
    batch = list(inputs())
    batch[5] = torch.zeros_like(batch[5])
    plain = RFNet(rfnet_config(use_title=False)).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    logits = model(*batch)
    assert torch.isfinite(logits).all()
    assert torch.allclose(logits, plain(*batch[:4]), atol=1e-6)
    logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_shared_towers_hold_one_resnet():
    separate, shared = RFNet(rfnet_config()), RFNet(rfnet_config(shared_towers=True))
    tower = sum(p.numel() for p in ResNetModel(ResNetConfig(**RESNET)).parameters())
    assert separate.num_parameters() - shared.num_parameters() == 3 * tower
    assert list(shared.towers) == ["shared"] and list(separate.towers) == ["product", "image", "depth", "saliency"]
    assert shared(*inputs()).shape == (3, 5)


def test_parameters_by_hand():
    model = RFNet(rfnet_config())
    width, tokens, text = 16, 4, BertModel(BertConfig(**BERT), add_pooling_layer=False).num_parameters()
    tower = ResNetModel(ResNetConfig(**RESNET)).num_parameters()
    linear = width * width + width
    block = 4 * linear + 2 * 2 * width + (4 * width * width + 4 * width) + (4 * width * width + width)
    expected = 4 * (tower + 24 * width + width + 2 * width) + (tokens + 5) * width
    expected += text + (16 * width + width) + (4 + 3) * linear + 2 * block + 2 * width + 5 * width + 5
    assert model.num_parameters() == expected


@pytest.mark.parametrize(("stride", "tokens"), [(32, 16), (16, 64), (8, 256)])
def test_feature_stride_sets_the_tokens_and_not_the_weights(stride, tokens):
    model = RFNet(rfnet_config(image_size=128, feature_stride=stride))
    product, image, depth, saliency, ids, mask = inputs(2, 128)
    groups = model.tokens(product, image, depth, saliency, ids[:2], mask[:2])
    assert groups["image"][0].shape == (2, tokens, 16) and model.config.part_tokens == tokens
    plain = RFNet(rfnet_config(image_size=128)).towers.state_dict()
    assert {k: v.shape for k, v in model.towers.state_dict().items()} == {k: v.shape for k, v in plain.items()}


@pytest.mark.parametrize("fields", [{}, {"shared_towers": True, "classes": 6}, {"use_product": False, "n1": 2}])
def test_saved_and_loaded_again(tmp_path, fields):
    torch.manual_seed(3)
    model = RFNet(rfnet_config(**fields)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    torch.manual_seed(4)
    again = RFNet.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(*inputs()), model(*inputs()))
    assert again.config.id2label == dict(enumerate(CLASSES[: model.config.classes]))
    ours, theirs = again.config.to_dict(), model.config.to_dict()
    assert {k: v for k, v in ours.items() if k != "_name_or_path"} == {
        k: v for k, v in theirs.items() if k != "_name_or_path"
    }


def test_transformers_own_classes_know_the_folder(tmp_path, capfd):
    model = RFNet(rfnet_config())
    model.save_pretrained(tmp_path)
    title_tokenizer(TITLES).save_pretrained(tmp_path)
    assert isinstance(AutoModel.from_pretrained(tmp_path), RFNet)
    assert AutoTokenizer.from_pretrained(tmp_path)("a mug")["input_ids"]
    assert "goodeye_rfnet" not in capfd.readouterr().err  # no warning of an unknown model type


def test_pretrained_encoders_are_taken_over(tmp_path):
    torch.manual_seed(5)
    resnet, text = ResNetModel(ResNetConfig(**RESNET)), BertModel(BertConfig(**BERT))
    resnet.save_pretrained(tmp_path / "resnet")
    text.save_pretrained(tmp_path / "text")
    model = RFNet.from_encoders(
        tmp_path / "resnet", tmp_path / "text", image_size=64, width=16, heads=2, feature_stride=16
    )
    first = resnet.state_dict()["embedder.embedder.convolution.weight"]
    for tower in model.towers.values():
        assert torch.equal(tower.state_dict()["embedder.embedder.convolution.weight"], first)
    ids = torch.arange(5)[None]
    hidden = text.eval()(ids).last_hidden_state
    assert torch.allclose(model.eval().text_encoder(ids).last_hidden_state, hidden, atol=1e-6)
    with pytest.raises(BadInput, match="takes a ResNet"):
        RFNet.from_encoders(tmp_path / "text", BERT)
    with pytest.raises(BadInput, match="cannot be loaded"):
        RFNet.from_encoders(tmp_path / "nothing", BERT)


def test_any_bert_family_encodes_titles():
    config = DistilBertConfig(vocab_size=64, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=32)
    assert RFNet(rfnet_config(text_encoder=config.to_dict()))(*inputs()).shape == (3, 5)


def test_the_papers_size_is_the_default():
    config = RFNetConfig()
    assert (config.width, config.heads, config.n1, config.n2, config.part_tokens) == (384, 8, 1, 3, 144)
    resnet = ResNetConfig(**(config.image_encoder or {}))
    assert (tuple(resnet.depths), resnet.layer_type) == ((3, 4, 6, 3), "bottleneck")  # ResNet-50


@pytest.mark.parametrize("fields", [{"classes": 7}, {"feature_stride": 12}, {"image_size": 100}])
def test_impossible_sizes_are_refused(fields):
    with pytest.raises(ValueError, match=r"classes must|cannot be cut"):
        rfnet_config(**fields)


def test_titles_are_padded_cut_and_emptied():
    tokenizer = title_tokenizer(TITLES)
    ids, mask = encode_titles(tokenizer, [*TITLES, "☕ " * 40], 8)
    assert ids.shape == mask.shape == (4, 8)
    assert mask.sum(1).tolist() == [5, 7, 0, 8]


@pytest.fixture
def judge(model):
    def flat(images):
        return images.mean(1, keepdim=True)

    flat.differentiable, flat.version = True, "1"
    return RFNetJudge(model, title_tokenizer(TITLES), flat, flat)


def contexts(count=3, size=64):
    products = torch.rand(count, 4, size, size, generator=torch.Generator().manual_seed(2))
    return [Context(product, title) for product, title in zip(products, TITLES, strict=True)]


def test_the_judge_gives_probabilities_with_gradient(judge):
    images = inputs()[1].requires_grad_(True)
    scores = check_scores(judge, judge.score(images, contexts()), 3)
    assert isinstance(judge, Judge) and list(scores) == list(CLASSES[:5])
    assert torch.allclose(torch.stack(list(scores.values())).sum(0), torch.ones(3), atol=1e-6)
    scores["available"].log().sum().backward()
    assert (images.grad.abs().sum((1, 2, 3)) > 0).all()
    assert [axis.higher_is_better for axis in judge.axes] == [True, False, False, False, False]


def test_gradient_can_be_kept_out_of_depth_and_saliency(judge):
    def gradient(way):
        judge.aux_grad = way
        images = inputs()[1].requires_grad_(True)
        judge.score(images, contexts())["available"].sum().backward()
        return images.grad

    assert not torch.allclose(gradient("through"), gradient("detach"))


def test_the_judge_sees_the_product_on_white(judge):
    images, with_product = inputs()[1], contexts()
    hidden = [Context(torch.cat([c.product[:3], torch.zeros(1, 64, 64)]), c.title) for c in with_product]
    white = [Context(torch.ones(4, 64, 64), c.title) for c in with_product]
    first, second = judge.logits(images, hidden), judge.logits(images, white)
    assert torch.allclose(first, second, atol=1e-5)
    assert not torch.allclose(first, judge.logits(images, with_product), atol=1e-5)


def test_verdicts_follow_the_threshold(judge):
    images = inputs()[1]
    available = judge.score(images, contexts())["available"]
    judge.threshold = float(available[0])
    verdicts = judge.inspect(images, contexts())
    for verdict, probability in zip(verdicts, available.tolist(), strict=True):
        passed = probability >= judge.threshold
        assert (verdict.label == "available") is passed and bool(verdict.failures) is not passed
        assert verdict.judge == "rfnet" and verdict.version == judge.version
        assert verdict.scores["available"] == pytest.approx(probability, abs=1e-6)
    worst = [v for v in verdicts if v.label != "available"]
    assert all(v.scores[v.label] == max(list(v.scores.values())[1:]) for v in worst)


def test_the_judge_round_trips_with_its_tokenizer(judge, tmp_path):
    judge.save_pretrained(tmp_path)
    again = RFNetJudge.from_pretrained(tmp_path, judge.depth, judge.saliency)
    images = inputs()[1]
    assert torch.allclose(again.logits(images, contexts()), judge.logits(images, contexts()), atol=1e-6)
    assert again.version == judge.version


def test_what_the_judge_cannot_do_is_said(model, judge):
    with pytest.raises(BadInput, match="no product was given"):
        judge.score(inputs()[1], [Context()] * 3)
    with pytest.raises(BadInput, match="needs a saliency estimator"):
        RFNetJudge(model, judge.tokenizer, judge.depth, None)
