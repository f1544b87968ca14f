"""The report of an alignment: everything inside, the guard's choice shown, whatever a run has measured so far."""

import json
import re
from dataclasses import asdict

from PIL import Image

from goodeye.ads.align import Align
from goodeye.ads.align_report import curves_figure, write_report


def test_it_holds_curves_pictures_and_settings_in_one_file(tmp_path):
    rows = [
        {"step": 0, "trained": 0.4, "trained_se": 0.05, "held_out": 0.3, "held_out_se": 0.05},
        {"step": 10, "loss": 0.9, "reward_loss": 0.8, "available": 0.5, "lr": 1e-5},
        {"step": 10, "trained": 0.625, "trained_se": 0.04, "held_out": 0.35, "held_out_se": 0.05},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "samples").mkdir()
    for step in (0, 10):
        Image.new("RGB", (16, 8)).save(tmp_path / "samples" / f"{step:08}.png")
    page = write_report(tmp_path, asdict(Align(method="refl")), stopped="the judge <falls>", best=10).read_text()
    assert page.count("data:image/svg+xml") == 1 and page.count("data:image/webp") == 1
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "the judge &lt;falls&gt;" in page and "step 10 was best" in page
    assert re.search(r"trained</td><td>0.400</td><td>0.625", page) and "refl" in page


def test_curves_are_drawn_of_what_there_is():
    empty, some = curves_figure([]), curves_figure([{"step": 2, "loss": 1.0}, {"step": 4, "loss": 0.5}])
    assert len(empty.axes) == 1 and len(some.axes) == 1
    assert some.axes[0].lines[0].get_ydata().tolist() == [1.0, 0.5]
