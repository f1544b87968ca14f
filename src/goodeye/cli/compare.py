"""`goodeye compare`: which of several runs is better, by a judge or by people."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    WHICH_LEDGER,
    Images,
    Json,
    ModelSet,
    app,
    command,
    complain,
    optional,
    say,
    write_json,
)

if TYPE_CHECKING:
    from torch import Tensor

    from goodeye.compare.judges import PairJudge
    from goodeye.compare.sides import Side

JudgeName = Literal["clip", "aesthetic", "rfnet", "large"]


@command(app, "compare", resume=" ")
def compare(
    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="A B [C...]")],
    /,
    *,
    judge: Annotated[JudgeName | None, arg(name="with", metavar="JUDGE", help_behavior_hint="")] = None,
    votes: Annotated[Literal["people"] | None, optional("people")] = None,
    ledger: Annotated[str | None, optional("FOLDER|URL", WHICH_LEDGER)] = None,
    images: Images = None,
    models: ModelSet = "showroom",
    aesthetic_head: Annotated[Path | None, optional("FILE")] = None,
    server: Annotated[str | None, optional("URL")] = None,
    model: Annotated[str | None, optional("NAME")] = None,
    out: Path = Path("runs/compare"),
    seed: int = 0,
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Compares two runs or more on the briefs that they share, and ranks them. What was asked once is not asked again.

    Args:
        runs: run folders, folders of pictures, or numbers of runs on the ledger
        judge: clip, aesthetic, rfnet, or large: a large model, asked in both orders; clip if nothing is said
        votes: people: rank by what people chose in `goodeye review`, beside the judge if one is named
        aesthetic_head: for the judge aesthetic: LAION's .pth, or a .safetensors file
        server: for the judge large: base URL of an OpenAI-compatible server; GOODEYE_SERVER if not given
        model: its model; GOODEYE_MODEL if not given
        out: folder for report.html and report.json
        seed: of the intervals
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.compare.report import summary, write_report
    from goodeye.compare.sides import ledger_of, read_side
    from goodeye.compare.tournament import by_judge, by_people
    from goodeye.ledger.ledger import Ledger
    from goodeye.progress import progress

    with Ledger.open(ledger_of(runs, ledger), images) as opened:
        sides = [read_side(opened, run) for run in runs]
        found = []
        if judge is not None or votes is None:
            chosen = _judge(judge or "clip", sides, models, aesthetic_head, server, model, device)
            with progress("comparing", unit="questions") as advance:
                found.append(by_judge(opened, sides, chosen, seed, on_asked=advance))
        if votes is not None:
            found.append(by_people(opened, sides, seed))
        page = write_report(out, sides, found)
    for one in found:
        for failure in one.failures:
            complain("goodeye compare", failure)
        say(summary(one))
    if votes is not None and not found[-1].kept:
        numbers = " ".join(str(side.run) for side in sides)
        say(f"Nobody has compared these runs yet. Ask people with: goodeye review --run {numbers}")
    say(f"report: {page}")
    write_json(json, [one.to_json() for one in found])
    return BAD_INPUT if any(one.failures for one in found) else DONE


def _judge(
    name: JudgeName,
    sides: "list[Side]",
    models: str,
    head: Path | None,
    server: str | None,
    model: str | None,
    device: str,
) -> "PairJudge":
    """The judge of that name as one of pairs."""
    from goodeye.compare.judges import ByLargeModel, ByScore

    if name == "large":
        from goodeye.judging.large import LargeModel, cache_folder, server_from

        rows = any(len(answer.pictures) > 1 for side in sides for answer in side.answers.values())
        return ByLargeModel(LargeModel(server_from(server, model), cache_folder()), rows)
    from goodeye.ads.canvas import place
    from goodeye.images import open_image
    from goodeye.judging.files import make_judges
    from goodeye.modelset import Models, resolve

    loaded = Models(resolve(models), device=device)
    scale = loaded.model_set.settings.product_scale
    (made,) = make_judges([name], loaded, head)
    if name != "rfnet":
        return ByScore(made)

    def placed(file: Path, side: int) -> "Tensor":
        return place(open_image(file).convert("RGBA"), side, scale, name=str(file)).product

    return ByScore(made, placed)
