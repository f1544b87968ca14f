"""RFNet, the inspector of advertising images (ads paper, section 3.2), and the judge made of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ResNetConfig,
    ResNetModel,
)
from transformers import initialization as init

from goodeye.errors import BadInput
from goodeye.judging.loading import identity, load_model
from goodeye.judging.maps import MapEstimator
from goodeye.judging.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels, on_white, resize
from goodeye.judging.protocol import (
    Axis,
    Context,
    Images,
    Need,
    Scores,
    Verdict,
    check_contexts,
    check_scores,
    fingerprint,
)

CLASSES = (
    "available",
    "space_mismatch",
    "size_mismatch",
    "indistinctiveness",
    "shape_hallucination",
    "unsuitable",  # only in the released labels: the product photograph itself is bad
)
FAILURES = {
    "space_mismatch": "the product does not stand where a thing can stand",
    "size_mismatch": "the product has the wrong size for what is around it",
    "indistinctiveness": "the product does not stand out from the background",
    "shape_hallucination": "the background grows parts onto the product",
    "unsuitable": "the product picture itself cannot be used",
}
PARTS = ("product", "image", "depth", "saliency")  # e_o, e_g, e_d, e_s of the paper

Tokens = Float[Tensor, "N L width"]


def class_number(text: str, name: str = "the row") -> int:
    """A label as the number of its class in CLASSES: the class's name, or the beginning of one (space, size, shape).

    name: of the row, for the error: raises BadInput for any other label.
    """
    word = re.sub(r"[^a-z]+", "_", text.strip().lower()).strip("_")
    matches = [number for number, known in enumerate(CLASSES) if word and known.startswith(word)]
    exact = [number for number in matches if CLASSES[number] == word]
    if len(exact or matches) != 1:
        raise BadInput(f"{name} has the label {text!r}. Use one of {', '.join(CLASSES)}.")
    return (exact or matches)[0]


class RFNetConfig(PreTrainedConfig):
    """Sizes and switches of RFNet. Defaults: the paper's, or a third party's reading of it (width, heads, 384 px)."""

    model_type = "goodeye_rfnet"

    image_encoder: dict[str, Any] | None = None  # fields of transformers' ResNetConfig; None: ResNet-50
    text_encoder: dict[str, Any] | None = None  # any BERT-family config with its model_type; None: BERT base
    classes: int = 5  # the first so many of CLASSES
    image_size: int = 384
    feature_stride: int = 32  # pixels a token; 16 or 8 leave the last stages unstrided
    title_length: int = 32  # tokens; longer titles are cut
    width: int = 384
    heads: int = 8
    n1: int = 1  # feature filters, eq 3
    n2: int = 3  # self-attention layers, eq 4
    dropout: float = 0.1
    shared_towers: bool = False  # one ResNet for the four images, or one each (not published; ours)
    use_product: bool = True
    use_depth: bool = True
    use_saliency: bool = True
    use_title: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if not 2 <= self.classes <= len(CLASSES):
            raise ValueError(f"classes must be 2 to {len(CLASSES)}, not {self.classes}")
        if self.feature_stride not in (8, 16, 32) or self.image_size % self.feature_stride:
            raise ValueError(
                f"{self.image_size} px cannot be cut into tokens of {self.feature_stride} px (8, 16 or 32)"
            )
        kwargs.pop("num_labels", None)
        self.id2label = dict(enumerate(CLASSES[: self.classes]))
        self.label2id = {name: number for number, name in self.id2label.items()}
        super().__post_init__(**kwargs)

    @property
    def parts(self) -> tuple[str, ...]:
        """The pictures that are looked at, in order."""
        used = {"product": self.use_product, "image": True, "depth": self.use_depth, "saliency": self.use_saliency}
        return tuple(part for part in PARTS if used[part])

    @property
    def part_tokens(self) -> int:
        """Tokens a picture."""
        return (self.image_size // self.feature_stride) ** 2


class FeatureFilter(nn.Module):
    """e_f = Conv(Conv(CrossAttn(Q=e_o, K=V=e_c)) * Conv(e_o)) + e_o (ads paper, eq 3).

    Each Conv is 1x1, which over a row of tokens is a linear layer on each token. A picture without a title keeps e_o.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.conv_title = nn.Linear(width, width)
        self.conv_product = nn.Linear(width, width)
        self.conv_out = nn.Linear(width, width)

    def forward(self, product: Tokens, title: Tokens, title_mask: Bool[Tensor, "N T"]) -> Tokens:
        """product: e_o [N, L, width]; title: e_c [N, T, width]; title_mask: true where there is a word."""
        titled = title_mask.any(1)
        padding = ~title_mask & titled[:, None]  # attention over nothing would be NaN: let it see, then drop it
        attended, _ = self.attend(product, title, title, key_padding_mask=padding, need_weights=False)
        filtered = self.conv_out(self.conv_title(attended) * self.conv_product(product)) + product
        return torch.where(titled[:, None, None], filtered, product)


class RFNet(PreTrainedModel):
    """Product, image, depth, saliency and title -> logits of the classes (ads paper, section 3.2).

    Where the paper is silent, ours: learned position and modality embeddings, pre-norm layers, mean pooling; with no
    product to filter, the title's tokens join the self-attention themselves.
    """

    config_class = RFNetConfig
    base_model_prefix = "rfnet"
    main_input_name = "image"
    config: RFNetConfig

    def __init__(self, config: RFNetConfig) -> None:
        super().__init__(config)
        width = config.width
        resnet = ResNetConfig(**(config.image_encoder or {}))
        towers = ["shared"] if config.shared_towers else list(config.parts)
        self.towers = nn.ModuleDict({name: _tower(resnet, config.feature_stride) for name in towers})
        self.project = nn.ModuleDict(
            {
                part: nn.Sequential(nn.Linear(resnet.hidden_sizes[-1], width), nn.LayerNorm(width))
                for part in config.parts
            }
        )
        self.positions = nn.Parameter(torch.empty(config.part_tokens, width))
        self.modalities = nn.Parameter(torch.empty(len(PARTS) + 1, width))
        if config.use_title:
            self.text_encoder = _text_encoder(config.text_encoder or {"model_type": "bert"})
            self.project_title = nn.Linear(self.text_encoder.config.hidden_size, width)
        filters = config.n1 if config.use_title and config.use_product else 0
        self.filters = nn.ModuleList([FeatureFilter(width, config.heads, config.dropout) for _ in range(filters)])
        self.layers = nn.ModuleList([_attention_layer(config) for _ in range(config.n2)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.classes)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, RFNet):
            init.normal_(module.positions, std=0.02)
            init.normal_(module.modalities, std=0.02)

    @classmethod
    def from_encoders(
        cls, image_encoder: str | Path | dict[str, Any], text_encoder: str | Path | dict[str, Any], **fields: Any
    ) -> "RFNet":
        """A new RFNet on pretrained encoders: a ResNet and a BERT-family model, each a hub id or folder.

        An encoder given as a dict of config fields starts from random weights. `fields` are RFNetConfig's others.
        """
        resnet = None if isinstance(image_encoder, dict) else _pretrained(image_encoder, "image")
        text = None if isinstance(text_encoder, dict) else _pretrained(text_encoder, "text")
        config = RFNetConfig(
            image_encoder=resnet.config.to_dict() if resnet else image_encoder,
            text_encoder=text.config.to_dict() if text else text_encoder,
            **fields,
        )
        model = cls(config)
        if resnet:
            for tower in model.towers.values():
                tower.load_state_dict(resnet.state_dict())
        if text and config.use_title:
            weights = {name: value for name, value in text.state_dict().items() if not name.startswith("pooler.")}
            model.text_encoder.load_state_dict(weights)
        return model

    def forward(
        self,
        product: Float[Tensor, "N 3 H W"] | None,
        image: Float[Tensor, "N 3 H W"],
        depth: Float[Tensor, "N 1 H W"] | None,
        saliency: Float[Tensor, "N 1 H W"] | None,
        input_ids: Int[Tensor, "N T"] | None = None,
        attention_mask: Int[Tensor, "N T"] | None = None,
    ) -> Float[Tensor, "N classes"]:
        """All pictures in [0, 1], of any size; the product on white. A modality that is switched off may be None.

        attention_mask: 1 where a title has a word, 0 where it is padded; a row of zeros is a picture without a title.
        """
        return self.trunk(product, image, depth, saliency, input_ids, attention_mask)[0]

    def trunk(
        self,
        product: Tensor | None,
        image: Tensor,
        depth: Tensor | None,
        saliency: Tensor | None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> tuple[Float[Tensor, "N classes"], Float[Tensor, "N width"], Tokens]:
        """The logits, and what they are made of: the pooled tokens, and those of the generated image."""
        groups = self.tokens(product, image, depth, saliency, input_ids, attention_mask)
        tokens = torch.cat([group for group, _ in groups.values()], 1)
        present = torch.cat([mask for _, mask in groups.values()], 1)
        padding = None if "title" not in groups else ~present
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=padding)
        tokens = self.norm(tokens)
        weight = present[..., None].to(tokens.dtype)
        pooled = (tokens * weight).sum(1) / weight.sum(1)
        first = list(groups).index("image") * self.config.part_tokens
        return self.head(pooled), pooled, tokens[:, first : first + self.config.part_tokens]

    def tokens(
        self,
        product: Tensor | None,
        image: Tensor,
        depth: Tensor | None,
        saliency: Tensor | None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> dict[str, tuple[Tokens, Bool[Tensor, "N L"]]]:
        """What self-attention sees, in eq 4's order: the tokens of each modality, and which of them are there."""
        pictures = {"product": product, "image": image, "depth": depth, "saliency": saliency}
        encoded = self._encode({part: pictures[part] for part in self.config.parts})
        title, title_mask = self._encode_title(input_ids, attention_mask) if self.config.use_title else (None, None)
        for block in self.filters:
            encoded["product"] = block(encoded["product"], title, title_mask)
        groups = {}
        for part, tokens in encoded.items():
            placed = tokens + self.positions + self.modalities[PARTS.index(part)]
            groups[part] = placed, torch.ones(placed.shape[:2], dtype=torch.bool, device=placed.device)
        if title is not None and title_mask is not None and not self.config.use_product:
            groups["title"] = title + self.modalities[-1], title_mask
        return groups

    def _encode(self, pictures: dict[str, Tensor | None]) -> dict[str, Tokens]:
        prepared = {}
        for part, picture in pictures.items():
            if picture is None:
                raise ValueError(f"this RFNet looks at {part}, and got none")
            prepared[part] = self._prepare(picture)
        if self.config.shared_towers:  # in one batch, so that BatchNorm sees in training what it will see later
            maps = self.towers["shared"](torch.cat(list(prepared.values()))).last_hidden_state.chunk(len(prepared))
        else:
            maps = tuple(self.towers[part](pixels).last_hidden_state for part, pixels in prepared.items())
        named = zip(prepared, maps, strict=True)
        return {part: self.project[part](features.flatten(2).transpose(1, 2)) for part, features in named}

    def _prepare(self, picture: Tensor) -> Tensor:
        size = self.config.image_size
        picture = resize(picture.to(self.positions.dtype), (size, size))
        return _NORMALISE(picture.expand(-1, 3, -1, -1))

    def _encode_title(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> tuple[Tokens, Tensor]:
        if input_ids is None or attention_mask is None:
            raise ValueError("this RFNet reads titles, and got no input_ids or no attention_mask; see encode_titles")
        seen = attention_mask.clone()
        seen[:, 0] = 1  # a row of zeros would be attention over nothing; the filter drops it afterwards
        hidden = self.text_encoder(input_ids=input_ids, attention_mask=seen).last_hidden_state
        return self.project_title(hidden), attention_mask.bool()


_NORMALISE = Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD)


# So that AutoConfig, AutoModel and AutoTokenizer know the folders that save_pretrained writes.
AutoConfig.register(RFNetConfig.model_type, RFNetConfig)
AutoModel.register(RFNetConfig, RFNet)


def _tower(config: ResNetConfig, stride: int) -> ResNetModel:
    tower = ResNetModel(config)
    own = 4 * 2 ** (len(config.hidden_sizes) - 1 + int(config.downsample_in_first_stage))
    if own < stride:
        raise ValueError(f"the image encoder has stride {own}, less than feature_stride {stride}")
    stages = list(tower.encoder.stages)
    while own > stride:
        _unstride(stages.pop())
        own //= 2
    return tower


def _unstride(stage: nn.Module) -> None:
    """Keeps the resolution through a stage. Weights keep their shapes, so pretrained ones still fit."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)


def _text_encoder(fields: dict[str, Any]) -> PreTrainedModel:
    encoder = AutoModel.from_config(AutoConfig.for_model(**fields))
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # every token is used, so the pooled one is only weight
    return encoder


def _attention_layer(config: RFNetConfig) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        config.width,
        config.heads,
        4 * config.width,
        dropout=config.dropout,
        activation=F.gelu,
        batch_first=True,
        norm_first=True,
    )


def _pretrained(folder_or_id: str | Path, kind: Literal["image", "text"]) -> PreTrainedModel:
    try:
        model = AutoModel.from_pretrained(str(folder_or_id), use_safetensors=True, dtype=torch.float32)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"the {kind} encoder {folder_or_id} cannot be loaded: {reason}") from error
    if kind == "image" and model.config.model_type != "resnet":
        raise BadInput(f"the image encoder {folder_or_id} is a {model.config.model_type}. RFNet takes a ResNet.")
    return model


def encode_titles(
    tokenizer: PreTrainedTokenizerBase, titles: Sequence[str], length: int, device: str | torch.device = "cpu"
) -> tuple[Int[Tensor, "N T"], Int[Tensor, "N T"]]:
    """Titles -> input_ids and attention_mask, padded to the longest. An empty title's mask is all zeros."""
    encoded = tokenizer(list(titles), padding=True, truncation=True, max_length=length, return_tensors="pt")
    mask = encoded["attention_mask"].clone()
    mask[torch.tensor([not title.strip() for title in titles], dtype=torch.bool)] = 0
    return encoded["input_ids"].to(device), mask.to(device)


class RFNetJudge:
    """RFNet with its own depth and saliency estimators, as a judge: the probability of each class.

    Each context needs the product on the canvas, as far as the model looks at it; a missing title is allowed.
    threshold: an image is available when p(available) reaches it. aux_grad: whether gradient passes through depth and
    saliency (where they are differentiable) or only through the image itself; not published, through is ours.
    """

    name = "rfnet"
    differentiable = True

    def __init__(
        self,
        model: RFNet,
        tokenizer: PreTrainedTokenizerBase | None,
        depth: MapEstimator | None,
        saliency: MapEstimator | None,
        *,
        threshold: float = 0.5,
        aux_grad: Literal["through", "detach"] = "through",
        licence: str = "Apache-2.0",
    ) -> None:
        config = model.config
        needs = {"tokenizer": (config.use_title, tokenizer), "depth estimator": (config.use_depth, depth)}
        needs["saliency estimator"] = (config.use_saliency, saliency)
        for what, (used, given) in needs.items():
            if used and given is None:
                raise BadInput(f"this RFNet needs a {what}. Give one, or train it without that modality.")
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.depth, self.saliency = tokenizer, depth, saliency
        self.threshold, self.aux_grad, self.licence = threshold, aux_grad, licence
        self.classes = [config.id2label[number] for number in range(config.classes)]
        self.axes = tuple(Axis(name, 0.0, 1.0, higher_is_better=name == "available") for name in self.classes)
        self._version = ""

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path,
        depth: MapEstimator | None,
        saliency: MapEstimator | None,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        threshold: float = 0.5,
        aux_grad: Literal["through", "detach"] = "through",
    ) -> "RFNetJudge":
        """Loads what `save_pretrained` wrote: the model (safetensors) and its tokenizer beside it."""
        model = load_model(RFNet, folder_or_id, dtype).to(device)
        tokenizer = AutoTokenizer.from_pretrained(str(folder_or_id)) if model.config.use_title else None
        return cls(model, tokenizer, depth, saliency, threshold=threshold, aux_grad=aux_grad)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model and tokenizer into one folder."""
        self.model.save_pretrained(str(folder))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))

    @property
    def version(self) -> str:
        """Changes with RFNet's weights, settings and tokenizer, and with its depth or saliency estimator."""
        if not self._version:
            used = [part.version for part in (self.depth, self.saliency) if part is not None]
            self._version = fingerprint(identity(self.model, self.tokenizer), *used)
        return self._version

    @property
    def needs(self) -> frozenset[Need]:
        """The product, as far as the model looks at it."""
        return frozenset({"product"}) if self.model.config.use_product else frozenset()

    def score(self, images: Images, contexts: Sequence[Context]) -> Scores:
        """The probability of each class, [N] each; they sum to one."""
        probabilities = self.logits(images, contexts).softmax(-1)
        return {name: probabilities[:, number] for number, name in enumerate(self.classes)}

    def logits(self, images: Images, contexts: Sequence[Context]) -> Float[Tensor, "N classes"]:
        """What `score` takes the softmax of; gradient reaches the images."""
        check_contexts(self.name, images, contexts)
        config = self.model.config
        images = images.to(self.model.device)
        product = self._products(contexts).to(images) if config.use_product else None
        depth = self._map(self.depth, images) if config.use_depth else None
        saliency = self._map(self.saliency, images) if config.use_saliency else None
        ids, mask = None, None
        if config.use_title and self.tokenizer is not None:
            titles = [context.title for context in contexts]
            ids, mask = encode_titles(self.tokenizer, titles, config.title_length, images.device)
        return self.model(product, images, depth, saliency, ids, mask).float()

    @torch.no_grad()
    def inspect(self, images: Images, contexts: Sequence[Context]) -> list[Verdict]:
        """One verdict an image: available, or the likeliest fault with its probability in words."""
        scores = check_scores(self, self.score(images, contexts), len(images))
        table = torch.stack([scores[name] for name in self.classes], 1).tolist()
        return [self._verdict(dict(zip(self.classes, row, strict=True))) for row in table]

    def _verdict(self, scores: dict[str, float]) -> Verdict:
        if scores["available"] >= self.threshold:
            return Verdict(self.name, self.version, "available", scores, [])
        fault = max(self.classes[1:], key=lambda name: scores[name])
        return Verdict(self.name, self.version, fault, scores, [f"{FAILURES[fault]} ({scores[fault]:.0%} sure)"])

    def _map(self, estimator: MapEstimator | None, images: Images) -> Tensor:
        assert estimator is not None  # made sure of in __init__
        if estimator.differentiable and self.aux_grad == "through":
            return estimator(images)
        with torch.no_grad():
            return estimator(images.detach())

    def _products(self, contexts: Sequence[Context]) -> Tensor:
        size = self.model.config.image_size
        products = []
        for context in contexts:
            if context.product is None:
                raise BadInput("rfnet compares an image with its product, and no product was given. Give the cut-out.")
            products.append(resize(on_white(context.product[None]), (size, size)))
        return torch.cat(products)
