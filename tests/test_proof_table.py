"""The table of a proof: which columns it has, how numbers are written, and how they stand under each other."""

import pytest

from goodeye import proof_table as T

COLUMNS = (("rate", "rate", "a share"), ("cost", "ms", "milliseconds"), ("never", "never", "in no row"))
NUMBERS = {
    "rows": {
        "base": {"rate": {"mean": 0.5, "low": 0.25, "high": 0.75}},
        "longer": {
            "cost": {"mean": 12.34, "low": 1.5, "high": 100.0},
            "rate": {"mean": None, "low": None, "high": None},
        },
    }
}


def test_a_measure_that_no_row_has_gets_no_column():
    assert T.measured(NUMBERS, COLUMNS) == list(COLUMNS[:2])


def test_rows_stand_under_their_headings():
    assert T.lines(NUMBERS, COLUMNS, fine=2) == [
        "        rate                    ms",
        "base    0.500 (0.250 to 0.750)  -",
        "longer  -                       12.3 (1.500 to 100.0)",
    ]


@pytest.mark.parametrize(
    ("fine", "signed", "told"), [(2, False, "3.0 (2.0 to 4.0)"), (10, True, "+3.000 (+2.000 to +4.000)")]
)
def test_small_numbers_have_three_decimals_and_differences_a_sign(fine, signed, told):
    assert T.cell({"mean": 3.0, "low": 2.0, "high": 4.0}, fine, signed) == told


def test_a_number_without_an_interval_stands_alone():
    assert T.cell({"mean": 0.5, "low": None, "high": None}, 2) == "0.500"


def test_on_the_page_the_interval_is_small_and_below():
    assert T.small({"mean": 0.5, "low": 0.25, "high": 0.75}, 2) == "0.500<small>0.250 to 0.750</small>"
    assert T.small({"mean": 0.5, "low": -0.25, "high": 0.75}, 2, signed=True) == "+0.500<small>-0.250 to +0.750</small>"
