"""Similarity of image and text by CLIP or SigLIP, through transformers, with gradient to the image."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from goodeye.errors import BadInput
from goodeye.judging.licence import licence_of
from goodeye.judging.loading import identity, load_model
from goodeye.judging.pixels import Pixels
from goodeye.judging.protocol import Axis, Context, Images, Need, Scores, check_contexts
from goodeye.lora import is_adapter, merged, stands_upon

Embeddings = Float[Tensor, "N D"]  # of length 1


class Clip:
    """A two-tower model of images and texts with one common space: CLIP, SigLIP and those built like them.

    Its weights are frozen; gradient reaches the images.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pixels: Pixels, *, licence: str = "unknown"
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.pixels, self.licence = tokenizer, pixels, licence
        self._version = ""

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> "Clip":
        """Loads safetensors weights, the tokenizer, and how pixels are prepared, all from one folder or hub id. The
        folder of a LoRA adapter is merged into what it stands upon (see `goodeye.lora`), whose tokenizer it reads by.

        Raises BadInput for a model that is not of images and texts, and for an adapter upon an adapter.
        """
        if is_adapter(folder_or_id):
            return cls._adapted(folder_or_id, device, dtype)
        model = load_model(AutoModel, folder_or_id, dtype).to(device)
        if not hasattr(model, "get_text_features"):
            raise BadInput(f"{folder_or_id} is a {model.config.model_type}, not a model of images and texts like CLIP.")
        tokenizer = AutoTokenizer.from_pretrained(str(folder_or_id))
        return cls(model, tokenizer, Pixels.from_pretrained(folder_or_id), licence=licence_of(folder_or_id))

    @classmethod
    def _adapted(cls, folder: str | Path, device: str | torch.device, dtype: torch.dtype) -> "Clip":
        named = stands_upon(folder)
        if is_adapter(named):
            raise BadInput(f"{folder} stands upon {named}, an adapter, too. Merge that one into its model first.")
        base = cls.from_pretrained(named, device, dtype)
        return cls(merged(base.model, folder), base.tokenizer, base.pixels, licence=licence_of(folder))

    @property
    def version(self) -> str:
        """Changes with the weights, the tokenizer, and how pixels are prepared."""
        self._version = self._version or identity(self.model, self.tokenizer, repr(self.pixels))
        return self._version

    @property
    def dimensions(self) -> int:
        """The length D of an embedding."""
        config = self.model.config
        return getattr(config, "projection_dim", None) or config.text_config.projection_size

    def embed_images(self, images: Images) -> Embeddings:
        """images: [N, 3, H, W] in [0, 1] of any size. Returns [N, D], each of length 1."""
        pixels = self.pixels(images).to(device=self.model.device, dtype=self.model.dtype)
        return F.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output.float(), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Returns [N, D], each of length 1. Texts longer than the model reads are cut."""
        config = self.model.config.text_config
        siglip = self.model.config.model_type.startswith("siglip")  # was trained on texts padded to one length
        encoded = self.tokenizer(
            list(texts),
            padding="max_length" if siglip else True,
            truncation=True,
            max_length=config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.model.device)
        inputs = {"input_ids": encoded["input_ids"]}
        if not siglip:
            inputs["attention_mask"] = encoded["attention_mask"]
        return F.normalize(self.model.get_text_features(**inputs).pooler_output.float(), dim=-1)


class ClipJudge:
    """Cosine of the angle between an image and its text: the prompt, or the title where there is no prompt."""

    name = "clip"
    axes = (Axis("similarity", -1.0, 1.0),)
    differentiable = True
    needs: frozenset[Need] = frozenset({"text"})

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.licence = clip.licence

    @property
    def version(self) -> str:
        """Changes with all that `Clip.version` changes with."""
        return self.clip.version

    def score(self, images: Images, contexts: Sequence[Context]) -> Scores:
        """similarity: [N] in [-1, 1]."""
        check_contexts(self.name, images, contexts)
        return self.score_embedded(self.clip.embed_images(images), contexts)

    def score_embedded(self, embeddings: Embeddings, contexts: Sequence[Context]) -> Scores:
        """`score` of images whose embeddings [N, D] by `self.clip` are at hand.

        Raises BadInput where a context has neither prompt nor title.
        """
        if len(contexts) != len(embeddings):
            raise ValueError(f"clip got {len(embeddings)} embeddings and {len(contexts)} contexts; give one each")
        texts = [context.prompt.strip() or context.title.strip() for context in contexts]
        if not all(texts):
            raise BadInput("clip compares an image with a text, and there is none. Give a prompt or a title.")
        distinct = list(dict.fromkeys(texts))
        embedded = self.clip.embed_texts(distinct)[[distinct.index(text) for text in texts]]
        return {"similarity": (embeddings * embedded).sum(-1)}
