"""The command line: quick to answer, one plain line for bad input, the right exit status, results where asked for."""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import goodeye
from goodeye.cli import main
from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger

PROGRAM = Path(sys.executable).with_name("goodeye")
HEAVY = ("torch", "transformers", "diffusers", "numpy", "PIL", "cv2", "sqlalchemy", "alembic", "matplotlib", "pyarrow")


def run(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The installed program, as a user runs it."""
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", **environment},
    )


def test_help_answers_in_under_half_a_second() -> None:
    """In processor time, which a busy machine doesn't stretch; with nothing else running, the clock says the same."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["ads", "make", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """Every command's help: the whole tree is built for each of them."""
    code = f"""
import sys
from goodeye.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stderr.strip() == "[]"


def test_ledger_and_review_start_without_torch() -> None:
    """Which takes seconds to load and serves neither."""
    code = (
        "import sys, goodeye.ledger.check, goodeye.ledger.ledger, goodeye.review.serve; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "False"


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    verbs = {
        "ads": "make early train-judge align prove calibrate",
        "search": "index remove query rephrase fit-taste hpir recall compare pretrain align prove",
        "synth": "priors plan render draw score look export",
        "edit": "annotate make measure triplets train",
        "ledger": "check sweep export import",
        "showroom": "render build prove",
        "models": "check",
    }
    for group, names in {"": " ".join([*verbs, "demo judge compare review"]), **verbs}.items():
        with pytest.raises(SystemExit):
            main([*group.split(), "--help"])
        told = capsys.readouterr().out
        assert [name for name in names.split() if not re.search(rf"• {name}\s", told)] == [], group


def test_version() -> None:
    assert run("--version").stdout == f"goodeye {goodeye.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["ads"], ["ads", "bake"], ["ads", "make", "--tile", "x"], ["judge", "a.png"]]
)
def test_a_line_that_cannot_be_understood_is_bad_input(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr


# Errors


def test_bad_input_is_one_plain_line(tmp_path: Path) -> None:
    done = run("ledger", "check", tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"goodeye ledger check: There is no ledger in {tmp_path / 'nowhere'}. "
        "Name another place, or make one with `goodeye ads make`.\n"
    )


def test_a_missing_product_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ads_make([tmp_path / "shoe.png"], tmp_path) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("goodeye ads make: ") and "shoe.png does not exist" in line and out == ""


def test_nothing_to_resume_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ads", "make", "--resume", "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.fixture
def a_ledger(tmp_path: Path) -> Path:
    with Ledger.open(tmp_path / "ledger"):
        return tmp_path / "ledger"


def replace_check(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_arguments: Any, **_more: Any) -> None:
        raise error

    monkeypatch.setattr("goodeye.ledger.check.check", fail)


def test_a_message_of_several_lines_is_still_one(
    a_ledger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_check(monkeypatch, BadInput("cup.png is\nno picture.\n Use another."))
    assert main(["ledger", "check", str(a_ledger)]) == 2
    assert capsys.readouterr().err == "goodeye ledger check: cup.png is no picture. Use another.\n"


def test_a_failure_is_one_plain_line_and_exit_1(
    a_ledger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_check(monkeypatch, RuntimeError("out of luck"))
    assert main(["ledger", "check", str(a_ledger)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("goodeye ledger check: failed: RuntimeError: out of luck.") and "--debug" in line


@pytest.mark.parametrize("error", [RuntimeError("out of luck"), BadInput("cup.png is no picture")])
def test_debug_shows_where(a_ledger: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    replace_check(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["ledger", "--debug", "check", str(a_ledger)])
    monkeypatch.setenv("GOODEYE_DEBUG", "1")
    with pytest.raises(type(error)):
        main(["ledger", "check", str(a_ledger)])


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_arguments: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("goodeye.ads.make.make", stop)
    assert main(["ads", "make", "my cup.png", "--out", "here"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("goodeye ads make: stopped.")
    assert said.endswith("Go on with: goodeye ads make 'my cup.png' --out here --resume\n")
    assert main(["ads", "make", "--resume"]) == 1
    assert capsys.readouterr().err.endswith("Go on with: goodeye ads make --resume\n")


def test_a_reader_that_leaves_is_no_failure_to_speak_of(a_ledger: Path) -> None:
    done = subprocess.run(
        f"'{PROGRAM}' ledger check '{a_ledger}' | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


# Ledger commands


def test_ledger_check_tells_clean_from_torn(tmp_path: Path) -> None:
    from PIL import Image

    place = tmp_path / "ledger"
    with Ledger.open(place) as ledger:
        brief = ledger.add_brief(ledger.start_run("ads", {}, seed=1), "cup", {})
        ledger.record_attempt(brief, 0, 0, 1, Image.new("RGB", (8, 8)))
    clean = run("ledger", "check", place, "--json", tmp_path / "clean.json")
    assert (clean.returncode, clean.stderr) == (0, "") and "Files and rows agree." in clean.stdout
    assert json.loads((tmp_path / "clean.json").read_text())["clean"] is True

    (file,) = (place / "images").rglob("*.png")
    file.unlink()
    torn = run("ledger", "check", "--json", tmp_path / "torn.json", GOODEYE_LEDGER=str(place))
    assert torn.returncode == 1 and str(file) in torn.stdout
    report = json.loads((tmp_path / "torn.json").read_text())
    assert report["missing"] == [str(file)] and report["clean"] is False


def test_ledger_sweep_names_what_it_removes(a_ledger: Path) -> None:
    stray = a_ledger / "images" / "ab" / f"{'ab' * 32}.png"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"left by a kill")
    os.utime(stray, (0, 0))
    done = run("ledger", "sweep", a_ledger)
    assert done.returncode == 0 and str(stray) in done.stdout and not stray.exists()


def test_a_result_that_cannot_be_written_is_bad_input(a_ledger: Path) -> None:
    done = run("ledger", "check", a_ledger, "--json", a_ledger / "ledger.db" / "x.json")
    assert done.returncode == 2 and "x.json" in done.stderr


def test_a_result_that_cannot_be_written_is_said_before_any_work(
    cup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ads_make([cup], tmp_path, json=cup / "x.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "x.json cannot be written" in line and list(tmp_path.iterdir()) == [cup]


def test_a_name_that_is_no_text_can_be_said_and_written(a_ledger: Path, tmp_path: Path) -> None:
    stray = a_ledger / "images" / "ab" / b"\xe9.png".decode("utf-8", "surrogateescape")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"left by a kill")
    done = run("ledger", "check", a_ledger, "--json", tmp_path / "report.json")
    assert done.returncode == 0 and "\\udce9.png" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["unreferenced"] == [str(stray)]


# The showroom


def test_showroom_render_writes_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["showroom", "render", str(tmp_path / "scenes"), "--count", "2", "--size", "32"]) == 0
    assert capsys.readouterr().out == f"2 scenes are in {tmp_path / 'scenes'}.\n"
    assert len(list((tmp_path / "scenes").rglob("*.png"))) >= 2


def test_a_role_that_is_none_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["showroom", "build", str(tmp_path / "built"), "--only", "nose"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("goodeye showroom build: nose is no role") and "vae" in line


# Ads, from end to end on a tiny model set


@pytest.fixture
def cup(tmp_path: Path) -> Path:
    from PIL import Image, ImageDraw

    picture = Image.new("RGBA", (60, 40))
    ImageDraw.Draw(picture).ellipse([10, 5, 50, 35], fill="red")
    picture.save(tmp_path / "cup.png")
    return tmp_path / "cup.png"


def test_ads_make_runs_the_others_when_one_is_bad(
    tiny_set: Path, cup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    inputs = [tmp_path / "empty.png", cup]
    options = {"models": tiny_set, "want": 2, "threshold": 0, "json": tmp_path / "result.json"}
    assert ads_make(inputs, tmp_path, **options) == 2
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("goodeye ")]  # a busy machine adds progress
    assert line.startswith("goodeye ads make: ") and "empty.png" in line
    assert "2 of 2 pictures passed" in out and str(tmp_path / "out" / "report.html") in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert [brief["passed"] for brief in result["briefs"]] == [2] and len(result["problems"]) == 1


def test_ads_make_says_that_nothing_passed(
    tiny_set: Path, cup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ads_make([cup], tmp_path, models=tiny_set, want=1, attempts=2, threshold=1) == 0
    out = capsys.readouterr().out
    assert "0 of 1 picture passed" in out and "Why the others failed: " in out
    assert f"No picture of cup passed; its best are in {tmp_path / 'out' / 'not_passed'}." in out


def test_train_judge_learns_from_the_others_when_a_row_is_bad(
    tiny_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    rows = ["image,label,split"]
    for number in range(6):
        Image.new("RGB", (32, 32), (40 * number, 90, 120)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'available' if number % 2 else 'size'},{'test' if number > 3 else 'train'}")
    (tmp_path / "good.csv").write_text("\n".join(rows))
    (tmp_path / "bad.csv").write_text("\n".join([*rows, "gone.png,available,train"]))
    options = ["--models", str(tiny_set), "--epochs", "1", "--batch", "2"]

    def train(table: str) -> int:
        return main(["ads", "train-judge", str(tmp_path / table), "--out", str(tmp_path / f"{table}.out"), *options])

    assert train("good.csv") == 0 and "goodeye ads train-judge" not in capsys.readouterr().err
    assert train("bad.csv") == 2
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("goodeye ")]
    assert line.startswith("goodeye ads train-judge: ") and "gone.png" in line
    assert str(tmp_path / "bad.csv.out" / "judge") in out and (tmp_path / "bad.csv.out" / "judge").is_dir()


def ads_make(inputs: list[Path], folder: Path, **options: object) -> int:
    """The command in this process, where torch is loaded already."""
    given = {"out": folder / "out", "ledger": folder / "ledger", **options}
    return main(["ads", "make", *map(str, inputs), *(f"--{name}={value}" for name, value in given.items())])


def test_ctrl_c_then_the_line_that_it_names(
    tiny_set: Path, cup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real interrupt in the middle of the work; the named command completes the run, each attempt once."""
    want = 80
    line = f"ads make {cup} --models {tiny_set} --want {want} --threshold 0 --batch 2 --out out --ledger ledger"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [PROGRAM, *line.split()], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert wait_for_pictures(tmp_path / "ledger" / "images", 6, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    said = err.splitlines()[-1]
    assert said.startswith("goodeye ads make: stopped. What was done is kept. Go on with: goodeye ads make ")
    assert "Traceback" not in err
    program, *again = shlex.split(said.partition("Go on with: ")[2])
    assert program == "goodeye"
    with Ledger.open(tmp_path / "ledger") as ledger:
        before = {attempt.id for attempt in ledger.attempts(1)}
        assert 0 < len(before) < want and ledger.run(1).status == "stopped"
    monkeypatch.chdir(tmp_path)
    assert main(again) == 0
    assert f"{want} of {want} pictures passed" in capsys.readouterr().out
    with Ledger.open(tmp_path / "ledger") as ledger:
        after = ledger.attempts(1)
        assert before < {attempt.id for attempt in after} and len(after) == want == len({one.seed for one in after})
    assert main(["ledger", "check", "ledger"]) == 0


def wait_for_pictures(folder: Path, count: int, process: "subprocess.Popen[str]") -> bool:
    deadline = time.monotonic() + 300  # on a busy machine, loading the libraries alone takes long
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(folder.rglob("*.png"))) >= count:
            return True
        time.sleep(0.01)
    return False
