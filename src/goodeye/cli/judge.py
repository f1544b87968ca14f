"""`goodeye judge`: scores pictures by one or more judges."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    Json,
    ModelSet,
    Pictures,
    app,
    command,
    complain_of,
    optional,
    write_json,
)


@command(app, "judge", resume="--resume")
def judge(
    pictures: Pictures,
    /,
    *,
    judges: Annotated[tuple[str, ...], arg(name="with", metavar="JUDGE...")],
    title: Annotated[str, optional("TEXT")] = "",
    prompt: Annotated[str, optional("TEXT")] = "",
    product: Annotated[Path | None, optional("FILE")] = None,
    head: Annotated[Path | None, optional("FILE")] = None,
    models: ModelSet = "showroom",
    out: Annotated[Path | None, optional("FILE")] = None,
    batch: int = 16,
    device: str = "cpu",
    resume: bool = False,
    json: Json = None,
) -> int:
    """Scores pictures by one or more judges.

    Args:
        pictures: picture files, folders of them, or CSV or Parquet tables (image, product, title, prompt)
        judges: which judges: clip, aesthetic, rfnet
        title: what the product is, where a picture has no title of its own
        prompt: what the picture was to show, where it has no prompt of its own
        product: the cut-out as it stands in the picture (for rfnet), where it has none of its own
        head: weights of the aesthetic head
        out: write all scores to this Parquet file, every minute and at the end
        batch: pictures scored at once
        device: cpu, cuda, cuda:1, mps
        resume: go on with the file in --out
    """
    from rich.console import Console

    from goodeye.judging.files import judge_files, score_table
    from goodeye.modelset import Models, resolve

    judged = judge_files(
        pictures,
        judges,
        Models(resolve(models), device=device),
        batch_size=batch,
        title=title,
        prompt=prompt,
        product=product,
        aesthetic_head=head,
        out=out,
        resume=resume,
    )
    complain_of("goodeye judge", judged.skipped, "--json FILE names all of them")
    if judged.rows:
        Console().print(score_table(judged))
    write_json(json, {"versions": judged.versions, "rows": judged.rows, "skipped": list(map(vars, judged.skipped))})
    return BAD_INPUT if judged.skipped else DONE
