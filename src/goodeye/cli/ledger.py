"""`goodeye ledger`: the record of every image, verdict and run."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from goodeye.cli.common import (
    BAD_INPUT,
    DONE,
    FAILED,
    Images,
    Json,
    Place,
    command,
    complain_of,
    ledger,
    optional,
    say,
    write_json,
)

FormatName = Literal["csv", "rf1m", "hpir", "rewardedit", "preferences", "coco", "label-studio", "argilla"]


@command(ledger, "ledger check")
def ledger_check(
    place: Place = None,
    /,
    *,
    images: Images = None,
    json: Json = None,
) -> int:
    """Proves that the ledger's files and rows agree; exits 1 if they don't."""
    from dataclasses import asdict

    from goodeye.ledger.check import check, describe
    from goodeye.ledger.ledger import Ledger
    from goodeye.progress import progress

    with Ledger.open(place, images, create=False) as opened, progress("checking pictures", unit="files") as advance:
        report = check(opened, on_file=advance)
    say(describe(report))
    write_json(json, {"clean": report.clean, **asdict(report)})
    return DONE if report.clean else FAILED


@command(ledger, "ledger sweep")
def ledger_sweep(place: Place = None, /, *, images: Images = None) -> int:
    """Removes picture files that no row names, such as a kill leaves behind."""
    from goodeye.ledger.ledger import Ledger

    with Ledger.open(place, images, create=False) as opened:
        removed = opened.sweep()
    for file in removed:
        say(f"removed {file}")
    say(f"{len(removed)} files removed.")
    return DONE


@command(ledger, "ledger export")
def ledger_export(
    place: Place = None,
    /,
    *,
    format: FormatName,
    out: Path,
    run: Annotated[tuple[int, ...], arg(metavar="RUN...")] = (),
    images: Images = None,
    json: Json = None,
) -> int:
    """Writes votes, comparisons and pictures for other tools, and names what their format cannot hold.

    Args:
        format: csv, rf1m, hpir, rewardedit, preferences, coco, label-studio or argilla
        out: an empty or new folder
        run: only these runs
    """
    from goodeye.exchange.formats import export
    from goodeye.ledger.ledger import Ledger

    with Ledger.open(place, images, create=False) as opened:
        done = export(opened, format, out, run)
    complain_of("goodeye ledger export", done.left_out, "--json FILE names all of them")
    say(done.summary())
    left_out = list(map(vars, done.left_out))
    write_json(json, {"path": str(done.path), "written": done.written, "lost": done.lost, "left_out": left_out})
    return DONE


@command(ledger, "ledger import", resume=" ")
def ledger_import(
    source: Annotated[Positional[Path], arg(metavar="SOURCE")],
    place: Place = None,
    /,
    *,
    format: FormatName,
    person: Annotated[str, optional("NAME")] = "",
    job: Annotated[str, optional("JOB")] = "",
    pictures: Annotated[Path | None, optional("FOLDER")] = None,
    images: Images = None,
    json: Json = None,
) -> int:
    """Takes votes, comparisons and pictures of other tools in, each once, however often the file is imported.

    Args:
        source: the file or folder
        format: csv, rf1m, hpir, rewardedit, preferences, coco, label-studio or argilla
        person: who voted, where the rows do not say
        job: of the runs that are made; the format's own if not given
        pictures: a folder in which pictures may lie besides that of the file; what lies elsewhere is refused
    """
    from dataclasses import asdict

    from goodeye.errors import BadInput
    from goodeye.exchange.formats import import_into
    from goodeye.ledger.ledger import Ledger
    from goodeye.progress import progress

    if not source.exists():  # before a ledger is made
        raise BadInput(f"{source} does not exist. Check the path.")
    with Ledger.open(place, images) as opened, progress("importing", unit="rows") as advance:
        done = import_into(opened, format, source, person=person, job=job, pictures=pictures, on_row=advance)
    complain_of("goodeye ledger import", done.skipped, "--json FILE names all of them")
    say(done.summary())
    write_json(json, asdict(done))
    return BAD_INPUT if done.skipped else DONE
