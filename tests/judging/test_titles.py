"""The word-level tokenizer of judges trained from nothing."""

from transformers import AutoTokenizer

from goodeye.judging.titles import title_tokenizer

TITLES = ["Red mug, big", "a red chair", "Ein roter Stuhl"]


def test_words_and_ends():
    tokenizer = title_tokenizer(TITLES)
    words = tokenizer.convert_ids_to_tokens(tokenizer("A RED mug, unseen")["input_ids"])
    assert words == ["[CLS]", "a", "red", "mug", ",", "[UNK]", "[SEP]"]
    assert tokenizer.pad_token_id == 0


def test_the_same_titles_give_the_same_tokenizer_and_it_is_bounded():
    assert title_tokenizer(TITLES).get_vocab() == title_tokenizer(TITLES[::-1]).get_vocab()
    small = title_tokenizer(TITLES, size=6)
    assert len(small.get_vocab()) == 6 and "red" in small.get_vocab()  # the most frequent word stays


def test_saved_and_loaded_again(tmp_path):
    tokenizer = title_tokenizer(TITLES)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TITLES)["input_ids"] == tokenizer(TITLES)["input_ids"]
