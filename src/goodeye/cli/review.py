"""`goodeye review`: the web app in which people look, vote and compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from goodeye.cli.common import DONE, WHICH_LEDGER, app, command, optional, say

if TYPE_CHECKING:
    from goodeye.search.box import Box


@command(app, "review")
def review(
    *,
    ledger: Annotated[str | None, optional("FOLDER|URL", WHICH_LEDGER)] = None,
    images: Annotated[Path | None, optional("FOLDER", "of the picture files, if not the ledger's own")] = None,
    host: str = "127.0.0.1",
    port: int = 8060,
    votes: int = 3,
    random_share: Annotated[float, arg(metavar="PART")] = 0.2,
    repeat_share: Annotated[float, arg(metavar="PART")] = 0.05,
    run: Annotated[tuple[int, ...], arg(metavar="RUN...")] = (),
    index: Annotated[str | None, optional("INDEX")] = None,
    device: str = "cpu",
) -> int:
    """Serves the web app in which people label, compare and look. Ctrl-C stops it; every vote is on record by then.

    Only this machine can reach it, unless GOODEYE_REVIEW_PASSWORD holds a password of 8 characters or more.

    Args:
        host: the address to serve at; another than this machine's own needs the password
        port: 0 takes a free one
        votes: people asked about each picture and each pair
        random_share: the part of the work that is chosen by chance alone, for unbiased measurement
        repeat_share: the part that is shown to the same person again, to see how steady they are
        run: ask only about attempts of these runs
        index: an index by `goodeye search index`, in which Look then searches by words and by pictures
        device: of the index's model: cpu, cuda, cuda:1, mps
    """
    from goodeye.ledger.ledger import Ledger
    from goodeye.progress import progress
    from goodeye.review.items import catch_up
    from goodeye.review.queue import Rules
    from goodeye.review.serve import listening, serve

    rules = Rules(votes=votes, random_share=random_share, repeat_share=repeat_share, runs=run)
    with listening(host, port, rules) as listener, Ledger.open(ledger, images, create=False) as opened:
        for number in run:
            opened.run(number)  # says so where there is none
        finder = _finder(index, device) if index is not None else None
        with progress("reading the ledger", unit="attempts") as advance:
            catch_up(opened, on_items=advance)
        serve(opened, host, listener, rules, lambda url: say(f"Review at {url} (Ctrl-C stops it)"), finder)
    return DONE


def _finder(index: str, device: str) -> "Box":
    from goodeye.search.ask import Searcher
    from goodeye.search.box import Box

    return Box(Searcher(index, device=device))
