"""`goodeye ledger`: the record of every image, verdict and run."""

from goodeye.cli.common import DONE, FAILED, Images, Json, Place, command, ledger, say, write_json


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
