"""What people voted on a ledger's advertising images, as `train_judge` reads it."""

from collections.abc import Collection
from pathlib import Path

from PIL.Image import Image

from goodeye.ads.canvas import standing
from goodeye.images import open_image, to_pil
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.training import Labels, label_table
from goodeye.modelset import resolve


def voted_pictures(
    ledger: str | Path,
    folder: str | Path,
    *,
    models: str = "showroom",
    images: str | Path | None = None,
    runs: Collection[int] = (),
) -> Labels:
    """Writes folder/metadata.csv of every attempt of a ledger that people labelled, with its cut-out as the model set
    places it in the picture (`goodeye.ledger.training.label_table`).

    ledger: by folder or URL; images: of a ledger in a database. runs: only of these. Raises BadInput where there is no
    ledger, and where there are no votes.
    """
    scale = resolve(models).settings.product_scale

    def placed(cutout: Path, picture: Path) -> Image:
        return to_pil(standing(cutout, open_image(picture).width, scale))

    with Ledger.open(ledger, images, create=False) as opened:
        return label_table(opened, Path(folder), placed, runs=runs)
