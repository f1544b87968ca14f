"""Rewards: three numbers from 0 to 5, RewardEdit's JSON, and the words for nothing."""

import pytest

from goodeye.edit.rewards import Rewards, check_rewards, feedback_text, from_json, parse_rewards
from goodeye.errors import BadInput


def reward(score, text=""):
    return {"Score": score, "Negative Prompt": text}


def test_the_published_form_is_read_and_written():
    given = [reward(4, "the cup is still there"), reward(4.5), reward("3.0", "blurred")]
    found = from_json(given)
    assert found == Rewards((4.0, 4.5, 3.0), ("the cup is still there", "", "blurred")) and found.complete
    assert from_json(dict(zip("abc", given, strict=True))) == found
    assert from_json(found.to_json()) == found


def test_what_is_missing_stays_missing():
    found = from_json([reward(None), {"Negative Prompt": "dull"}, reward("")])
    assert found == Rewards((None, None, None), ("", "dull", "")) and not found.complete
    assert [row["Score"] for row in found.to_json()] == [None] * 3


@pytest.mark.parametrize("bad", [None, [], [reward(1)] * 2, {"following": 5}, [5, 5, 5], [reward(1)] * 4])
def test_three_are_wanted(bad):
    with pytest.raises(BadInput, match="not three rewards"):
        from_json(bad)


@pytest.mark.parametrize("bad", [6, -0.1, "good", True, "nan", [4]])
def test_a_score_is_a_number_from_0_to_5(bad):
    with pytest.raises(BadInput, match="the score of preserving is .* 0 to 5"):
        from_json([reward(1), reward(bad), reward(1)])


def test_rewards_of_a_command_line():
    assert parse_rewards("5,5,5") == (5, 5, 5) and parse_rewards("0, 2.5,4") == (0, 2.5, 4)
    for bad in ("5,5", "5", "", "5,5,5,5", "a,b,c", "5;5;5", "6,5,5", "5,-1,5", "nan,5,5", "inf,0,0"):
        with pytest.raises(BadInput, match=r"the rewards are .* Give three numbers"):
            parse_rewards(bad)
    with pytest.raises(BadInput, match="5, 5"):
        check_rewards([5, 5])


def test_nothing_failed_has_words_of_its_own():
    assert feedback_text() == feedback_text(("", " ", "")) == "none; none; none"
    assert feedback_text(("too dark", "", "the dog is gone")) == "too dark; none; the dog is gone"
