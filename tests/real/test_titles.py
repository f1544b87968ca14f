"""MiniLM as RFNet's title encoder: its published numbers, its sense for titles, and what RFNet learns by it."""

import json

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer, ResNetConfig, ResNetModel

from goodeye.judging.licence import licence_of
from goodeye.judging.protocol import Context
from goodeye.judging.rfnet import RFNet, RFNetJudge, encode_titles
from goodeye.judging.rfnet_fit import SMALL_BERT, RFNetTraining, fit_rfnet, predict
from goodeye.judging.samples import Samples

pytestmark = pytest.mark.real

RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "layer_type": "basic"}
RFNET = {"image_size": 32, "width": 32, "heads": 4, "n2": 1, "dropout": 0.0}

# Other words for some of the 24 products.
MEANT = {
    "a sneaker for running": "athletic shoe",
    "wrist watch": "watch",
    "moisturiser in a pump dispenser": "lotion bottle",
    "champagne": "bottle with popping cork",
    "a cup of coffee": "hot beverage",
    "sofa": "couch and lamp",
    "earphones": "headphone",
    "a lady's purse": "handbag",
    "backpack": "school satchel",
    "shades against the sun": "dark sunglasses",
    "football": "soccer ball",
    "plush toy": "teddy bear",
    "novels": "books",
    "a tool to drive nails": "hammer",
    "a shirt with short sleeves": "t-shirt",
    "wake-up clock": "alarm clock",
}
WORN = ["a woollen scarf", "blue jeans", "leather boots", "a winter coat", "silk tie", "a pair of socks"]
WORN += ["sun hat", "a summer dress", "running shorts", "knitted gloves", "denim jacket", "a white blouse"]
EATEN = ["a loaf of bread", "strawberry jam", "dark chocolate", "cheddar cheese", "olive oil", "a box of cereal"]
EATEN += ["apple juice", "roasted almonds", "tomato soup", "vanilla ice cream", "honey", "a bag of rice"]
UNSEEN_WORN = ["sweater", "trousers", "winter shoes", "raincoat", "necktie", "stockings"]
UNSEEN_WORN += ["baseball cap", "an evening gown", "swimming trunks", "mittens", "cardigan", "polo shirt"]
UNSEEN_EATEN = ["toast", "orange marmalade", "candy bar", "butter", "sunflower oil", "cornflakes"]
UNSEEN_EATEN += ["lemonade", "salted peanuts", "noodles", "yoghurt", "maple syrup", "spaghetti"]


@pytest.fixture(scope="module")
def rfnet(minilm, tmp_path_factory) -> RFNet:
    """RFNet on two pretrained encoders: a small ResNet in a folder, and MiniLM."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("resnet")
    ResNetModel(ResNetConfig(**RESNET)).save_pretrained(folder)
    return RFNet.from_encoders(folder, minilm, **RFNET).eval()


@pytest.fixture(scope="module")
def tokenizer(minilm):
    return AutoTokenizer.from_pretrained(minilm)


@torch.no_grad()
def read(model: RFNet, tokenizer, titles: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the title encoder gives RFNet while it judges: [N, T, 384], and the mask [N, T]."""
    ids, mask = encode_titles(tokenizer, titles, 32)
    seen = []
    hook = model.project_title.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    maps = [torch.rand(len(titles), channels, 32, 32) for channels in (3, 3, 1, 1)]
    model(*maps, ids, mask)
    hook.remove()
    return seen[0], mask


def embedded(model: RFNet, tokenizer, titles: list[str]) -> torch.Tensor:
    """One unit vector a title, as MiniLM's card says: the mean over its words."""
    hidden, mask = read(model, tokenizer, titles)
    return F.normalize((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=1)


def test_titles_are_read_by_minilm_itself(rfnet, tokenizer, minilm, products):
    titles = [*products, "Écharpe d’été 👗 " + 20 * "very long title "]
    hidden, mask = read(rfnet, tokenizer, titles)
    given = tokenizer(titles, padding=True, truncation=True, max_length=32, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(minilm)(**given).last_hidden_state
    assert hidden.shape == (25, 32, 384)
    assert torch.allclose(hidden[mask.bool()], expected[mask.bool()], atol=1e-5)


def test_similarities_are_those_that_its_makers_publish(rfnet, tokenizer):
    """The example of sentence-transformers' README, for this very model."""
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = embedded(rfnet, tokenizer, sentences)
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    assert torch.allclose(vectors @ vectors.T, torch.tensor(published), atol=2e-4)


def test_a_product_in_other_words_is_nearest_to_its_title(rfnet, tokenizer, products):
    titles = list(products)
    near = embedded(rfnet, tokenizer, list(MEANT)) @ embedded(rfnet, tokenizer, titles).T
    found = {words: titles[int(row.argmax())] for words, row in zip(MEANT, near, strict=True)}
    wrong = {words: title for words, title in found.items() if MEANT[words] != title}
    assert len(wrong) <= 2, wrong


def only_titles_tell(worn: list[str], eaten: list[str], copies: int = 1) -> Samples:
    """Samples whose label only the title tells: what is worn is available, what is eaten is not. Pictures are noise."""
    titles = copies * [*worn, *eaten]
    random = torch.Generator().manual_seed(len(titles))
    pictures = [
        torch.randint(0, 256, (len(titles), channels, 32, 32), generator=random).to(torch.uint8)
        for channels in (4, 3, 1, 1)
    ]
    labels = torch.tensor(copies * ([0] * len(worn) + [1] * len(eaten)))
    return Samples(*pictures, titles, labels)


def learn(text_encoder, run_dir):
    config = RFNetTraining(
        image_encoder=RESNET,
        text_encoder=text_encoder,
        rfnet={name: value for name, value in RFNET.items() if name != "image_size"},
        epochs=12,
        batch_size=24,
        lr=5e-4,
        drop_at=0.7,
        mirror=False,
        log_every=1,
    )
    return fit_rfnet(only_titles_tell(WORN, EATEN, copies=3), config, run_dir=run_dir)


def known(plane: torch.Tensor):
    """A map estimator that knows the maps of the pictures it will be shown, in order."""

    def estimate(images):
        return plane.float() / 255

    estimate.differentiable, estimate.version = False, "1"
    return estimate


def test_trained_on_some_titles_it_understands_others(minilm, tmp_path):
    """With a title encoder from nothing, words that were not trained on mean nothing."""
    fitted = learn(str(minilm), tmp_path / "minilm")
    rows = [json.loads(line) for line in (tmp_path / "minilm" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])
    unseen = only_titles_tell(UNSEEN_WORN, UNSEEN_EATEN, copies=2)
    right = [
        float((predict(model.model, model.tokenizer, unseen).argmax(1) == unseen.labels.numpy()).mean())
        for model in (fitted, learn(SMALL_BERT, tmp_path / "nothing"))
    ]
    assert right[0] >= 0.75 and right[0] > right[1] + 0.1, right

    fitted.save_pretrained(tmp_path / "judge")
    again, tokenizer = RFNet.from_pretrained(tmp_path / "judge"), AutoTokenizer.from_pretrained(tmp_path / "judge")
    expected = predict(fitted.model, fitted.tokenizer, unseen)
    assert (predict(again, tokenizer, unseen) == expected).all()
    assert isinstance(tokenizer, type(AutoTokenizer.from_pretrained(minilm))) and licence_of(minilm) == "apache-2.0"
    judge = RFNetJudge.from_pretrained(tmp_path / "judge", *(known(plane) for plane in (unseen.depth, unseen.saliency)))
    products, images = unseen.products.float() / 255, unseen.images.float() / 255
    contexts = [Context(product, title) for product, title in zip(products, unseen.titles, strict=True)]
    got = [verdict.scores["available"] for verdict in judge.inspect(images, contexts)]
    assert got == pytest.approx(expected[:, 0].tolist(), abs=1e-4)
    assert not any(path.suffix in (".bin", ".pt", ".pth") for path in (tmp_path / "judge").iterdir())
