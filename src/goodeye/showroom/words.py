"""The showroom's language: a word-level tokenizer over the words its captions and titles can use."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from goodeye.showroom.places import LIGHTS, PLACES, WALLS
from goodeye.showroom.products import COLOURS, DRAW
from goodeye.showroom.scenes import REFERENCES

LENGTH = 32
WORD = Regex(r"[\p{L}\p{N}-]+|,")  # letters, digits and hyphens, or one comma
# Words that users put into titles; they are known to the tokenizer so that models may learn them later.
COMMON = [
    "the",
    "of",
    "and",
    "for",
    "by",
    "athletic",
    "alarm",
    "bar",
    "large",
    "small",
    "new",
    "soft",
    "dark",
    "bright",
    "sunglasses",
    "couch",
    "soccer",
    "teddy",
    "bear",
    "top",
    "hot",
    "beverage",
    "lotion",
    "t-shirt",
    "hammer",
    "satchel",
    "school",
    "popping",
    "cork",
    "classic",
    "modern",
    "leather",
    "wooden",
    "glass",
    "ceramic",
    "steel",
    "gold",
    "silver",
    "grey",
    "gray",
    "set",
    "pair",
]
# What instructions and failure texts of edits (`goodeye.showroom.edits`) say beyond captions and titles.
EDITING = (
    "make paint turn into wall walls change to give it remove take away add put left right replace blur background "
    "hardly less than half done not entirely nothing was misread changed without being asked details colour color place "
    "noise coarse blocks lost sharpness stains wavy lines melted things blots torn patches slight some strong none"
)


def vocabulary() -> list[str]:
    """Every word of the showroom's captions and titles, in a fixed order."""
    text = " ".join(
        [
            "a an beside",
            "miniature giant",
            *COLOURS,
            *DRAW,
            *REFERENCES,
            *WALLS,
            *LIGHTS,
            *(p.phrase for p in PLACES.values()),
        ]
    )
    words = re.findall(r"[a-z0-9-]+", text.lower().replace("{wall}", " "))
    return list(dict.fromkeys([*words, *COMMON, ",", "."]))


def build_tokenizer(end_last: bool = False, more: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Lower-cased words; unknown ones become <unk>. Adds <s> and </s>, pads to `LENGTH` like CLIP's.

    more: words that come after all others, whose numbers stay. end_last: </s> has the highest number, as a CLIPModel wants it: where its number is 2, transformers takes a text's
    embedding at the highest number of all, so that with a comma nothing behind the comma would count.
    """
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    vocab = {w: i for i, w in enumerate(dict.fromkeys([*special, *vocabulary(), *more]))}
    if end_last:
        last = list(vocab)[-1]
        vocab["</s>"], vocab[last] = vocab[last], vocab["</s>"]
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(WORD, behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", vocab["<s>"]), ("</s>", vocab["</s>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=LENGTH,
    )
