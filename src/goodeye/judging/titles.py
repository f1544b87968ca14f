"""A small tokenizer for judges that are trained from nothing."""

import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD = re.compile(r"\w+|[^\w\s]")


def title_tokenizer(titles: Iterable[str], size: int = 8000) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the `size` most frequent words, lower case, [CLS] words [SEP]; the rest is [UNK].

    Equal titles give an equal tokenizer, whatever their order.
    """
    counts = Counter(word for title in titles for word in _WORD.findall(title.lower()))
    words = sorted(counts, key=lambda word: (-counts[word], word))[: size - len(SPECIAL)]
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
