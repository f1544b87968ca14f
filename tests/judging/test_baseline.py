"""The single-image baseline is of RFNet's size and sees the image alone."""

import torch
from tiny_judges import RESNET, rfnet_config
from transformers import ResNetConfig, ResNetForImageClassification

from goodeye.judging.baseline import baseline_for
from goodeye.judging.rfnet import CLASSES, RFNet
from goodeye.judging.rfnet_fit import SMALL, SMALL_BERT, SMALL_RESNET


def test_it_has_as_many_parameters():
    text = SMALL_BERT | {"vocab_size": 400}
    config = rfnet_config(image_encoder=SMALL_RESNET, text_encoder=text, image_size=128, **SMALL)
    ours, theirs = RFNet(config).num_parameters(), baseline_for(config).model.num_parameters()
    assert abs(ours - theirs) / ours < 0.05


def test_it_sees_the_image_alone():
    model = baseline_for(rfnet_config(classes=6)).eval()
    images = torch.rand(2, 3, 80, 64, requires_grad=True)
    logits = model(torch.rand(2, 3, 64, 64), images, None, None)
    assert logits.shape == (2, 6) and torch.equal(logits, model(None, images, torch.rand(2, 1, 64, 64), None))
    logits.sum().backward()
    assert images.grad.abs().sum() > 0


def test_pretrained_weights_are_taken_over_and_it_is_a_transformers_folder(tmp_path):
    torch.manual_seed(0)
    source = ResNetForImageClassification(ResNetConfig(**RESNET, num_labels=10))
    source.save_pretrained(tmp_path / "resnet")
    model = baseline_for(rfnet_config(), tmp_path / "resnet")
    theirs, ours = source.resnet.state_dict(), model.model.resnet.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    model.save_pretrained(tmp_path / "again")
    again = ResNetForImageClassification.from_pretrained(tmp_path / "again")
    assert again.config.id2label == dict(enumerate(CLASSES[:5]))
