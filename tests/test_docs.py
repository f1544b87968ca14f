"""README and docs say what is so: every command line, option, example, link, picture and table in them is looked at."""

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from goodeye import cli
from goodeye.cli import common

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LATER = re.compile(r"<!-- later: !\[[^\]]*\]\((\S+)\) -->")


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced blocks of one kind, in order."""
    return [body for found, body in FENCED.findall(page.read_text("utf-8")) if found == kind]


def prose(page: Path) -> str:
    """The page without its fenced blocks and comments."""
    return COMMENT.sub("", FENCED.sub("", page.read_text("utf-8")))


def shell_lines(program: str) -> list[tuple[str, list[str]]]:
    """Page and words of every line of a shell block that runs `program`."""
    lines = [
        (page.name, shlex.split(line, comments=True))
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.splitlines()
    ]
    return [(page, words) for page, words in lines if words and Path(words[0]).name == program]


def inline_words(start: str) -> list[tuple[str, list[str]]]:
    """Page and words of every inline code that begins so."""
    found = [(page.name, code) for page in PAGES for code in INLINE.findall(prose(page)) if code.startswith(start)]
    return [(page, shlex.split(code)) for page, code in found]


def command_of(words: list[str]) -> tuple[str, ...]:
    """The words of a line that name its command: one, or a job and a verb."""
    depth = 2 if words[1] in ("ads", "edit", "ledger", "models", "search", "showroom", "synth") else 1
    return tuple(word for word in words[1 : 1 + depth] if re.fullmatch(r"[a-z][a-z-]*", word))


def name_of(value: str | list[str]) -> str:
    """A test's name: the page, and the words of the line."""
    return value if isinstance(value, str) else " ".join(value)


def row(name: str, page: str) -> list[str]:
    """The cells of the table row whose first cell is `name`, the first one left out."""
    for line in (REPOSITORY / "docs" / page).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]
        if line.startswith("|") and cells[0].strip("`") == name:
            return cells[1:]
    raise AssertionError(f"{page} has no row for {name}")


# Commands


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Command lines are understood, and nothing runs."""
    real = common.Call
    monkeypatch.setattr(common, "Call", lambda name, run, resume: real(name, lambda: cli.DONE, resume))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def help_of(parse_only: None, capsys: pytest.CaptureFixture[str]) -> Any:
    """The help of a command by its words."""

    def call(*path: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([*path, "--help"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize(("page", "words"), shell_lines("goodeye"), ids=name_of)
def test_every_command_line_is_understood(page: str, words: list[str], parse_only: None) -> None:
    assert cli.main(words[1:]) == cli.DONE


@pytest.mark.parametrize(("page", "words"), inline_words("goodeye "), ids=name_of)
def test_every_command_in_the_text_exists_with_its_options(page: str, words: list[str], help_of: Any) -> None:
    path = command_of(words)
    told = help_of(*path)
    for option in (word for word in words if word.startswith("--") and word != "--help"):
        assert re.search(rf"{option}\b", told), f"{page}: goodeye {' '.join(path)} has no {option}"


def test_every_option_in_the_text_is_one_of_some_command(help_of: Any) -> None:
    commands = {(), *(command_of(words) for _, words in shell_lines("goodeye"))}
    told = "".join(help_of(*path) for path in sorted(commands))
    unknown = [f"{page}: {words[0]}" for page, words in inline_words("--") if not re.search(rf"{words[0]}\b", told)]
    assert unknown == []


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = [words[1] for _, words in [*shell_lines("make"), *inline_words("make ")]]
    assert named and set(named) <= targets


# Python


def objects_of(tree: ast.Module, names: dict[str, Any]) -> None:
    """Imports what a block imports, into `names`; an import that fails is an error."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            names.update({alias.asname or alias.name: importlib.import_module(alias.name) for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            names.update({alias.asname or alias.name: _member(str(node.module), alias.name) for alias in node.names})


def _member(module: str, name: str) -> Any:
    found = importlib.import_module(module)
    return getattr(found, name) if hasattr(found, name) else importlib.import_module(f"{module}.{name}")


def calls_of(tree: ast.Module, names: dict[str, Any]) -> Iterator[tuple[ast.Call, Any]]:
    """Calls of imported things, and of their members, with what is called."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in names:
            yield node, names[node.func.id]
        elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            owner = names.get(node.func.value.id)
            if owner is not None and getattr(owner, "__name__", "").split(".")[0] != "torch":
                yield node, getattr(owner, node.func.attr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_import_what_exists_and_call_it_rightly(page: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        objects_of(tree, names)
        for call, called in calls_of(tree, names):
            if not any(isinstance(one, ast.Starred) for one in call.args):
                given = {str(keyword.arg): None for keyword in call.keywords}
                inspect.signature(called).bind(*[None] * len(call.args), **given)


@pytest.mark.parametrize(
    ("page", "mark"),
    [("judging.md", "class Brightness"), ("judging.md", "CompositeJudge("), ("training.md", "fit("),
     ("ledger.md", "start_run(")],
)  # fmt: skip
def test_examples_that_need_no_models_run(
    page: str, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks(REPOSITORY / "docs" / page, "python"):
        if mark in block or "class Brightness" in block:
            exec(compile(block, page, "exec"), names)
    assert len(names) > 2


def test_model_set_examples_resolve(tmp_path: Path) -> None:
    from goodeye.modelset import resolve

    examples = [block for page in PAGES for block in blocks(page, "toml")]
    assert examples
    for number, example in enumerate(examples):
        folder = tmp_path / str(number)
        for place in tomllib.loads(example).get("roles", {}).values():
            if "#" not in place:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).touch()
        (folder / "example.toml").write_text(example)
        resolve(folder / "example.toml")


# Links and pictures


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_exists(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        place, _, anchor = target.partition("#")
        file = page.parent / place if place else page
        assert file.exists(), f"{page.name} names {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} names {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_a_picture_that_is_there_is_shown() -> None:
    for page in PAGES:
        for place in LATER.findall(page.read_text("utf-8")):
            assert not (page.parent / place).exists(), f"{page.name}: {place} is there; take <!-- later: --> away"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"^  - .*: (\w+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {page.name for page in (REPOSITORY / "docs").glob("*.md")}


# Tables


def test_the_settings_are_those_of_the_model_sets() -> None:
    from goodeye.modelset import ROLES, Settings, sd15, showroom

    def shown(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "empty"

    for one in fields(Settings):
        cells = row(one.name, "ads.md")
        if one.name != "prompts":
            assert cells[:2] == [shown(getattr(models.settings, one.name)) for models in (showroom(), sd15())]
    named = "".join(INLINE.findall(prose(REPOSITORY / "docs" / "ads.md")))
    assert [role for role in ROLES if role not in named] == []


def test_the_loop_has_these_defaults() -> None:
    from goodeye.training.loop import Loop

    assert {one.name: row(one.name, "training.md")[0] for one in fields(Loop)} == {
        one.name: str(one.default) for one in fields(Loop)
    }


def test_the_judges_are_those_of_the_command() -> None:
    from goodeye.judging.files import NAMES

    assert all(len(row(name, "judging.md")) == 4 for name in NAMES)


def test_the_showroom_holds_what_its_page_says() -> None:
    from goodeye.showroom.build import ROLES
    from goodeye.showroom.looks import WEIGHTS
    from goodeye.showroom.places import LIGHTS, PLACES, WALLS
    from goodeye.showroom.products import COLOURS, DRAW
    from goodeye.showroom.scenes import CLASSES, REFERENCES

    lists = {"products": DRAW, "colours": COLOURS, "places": PLACES, "light": LIGHTS}
    for name, things in {**lists, "wall colours": WALLS, "things of known size": REFERENCES}.items():
        assert row(name, "showroom.md")[0].split(" (")[0].split(", ") == list(things)
    assert {name: float(row(name, "showroom.md")[0]) for name in WEIGHTS} == WEIGHTS
    for name in (*CLASSES, *(role for role in ROLES if role != "unet")):
        assert row(name, "showroom.md")


def test_the_ledgers_picture_shows_every_table_and_column() -> None:
    from goodeye.ledger.schema import Base

    picture = (REPOSITORY / "docs" / "images" / "ledger.svg").read_text()
    words = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    for table in Base.metadata.sorted_tables:
        assert table.name in words and row(table.name, "ledger.md")
        assert {column.name for column in table.columns} <= set(words)
