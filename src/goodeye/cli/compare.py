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
from goodeye.cli.search import server_named

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    from goodeye.ads.canvas import standing
    from goodeye.compare.judges import judge_named
    from goodeye.compare.runs import compare_runs
    from goodeye.modelset import Models, resolve

    loaded = Models(resolve(models), device=device)
    scale = loaded.model_set.settings.product_scale

    def judge_of(sides: "Sequence[Side]") -> "PairJudge":
        return judge_named(
            judge or "clip",
            sides,
            loaded,
            head=aesthetic_head,
            server=server_named(server, model) if judge == "large" else None,
            placed=lambda file, side: standing(file, side, scale),
        )

    asked = judge is not None or votes is None
    done = compare_runs(
        runs, judge_of if asked else None, people=votes is not None, ledger=ledger, images=images, out=out, seed=seed
    )
    for failure in done.failures:
        complain("goodeye compare", failure)
    say(done.summary())
    if votes is not None and not done.found[-1].kept:
        numbers = " ".join(str(side.run) for side in done.sides)
        say(f"Nobody has compared these runs yet. Ask people with: goodeye review --run {numbers}")
    write_json(json, [one.to_json() for one in done.found])
    return BAD_INPUT if done.failures else DONE
