"""`goodeye ads prove`: what each method gains, measured side by side."""

from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction

from goodeye.cli.common import DONE, Json, ModelSet, Text, ads, command, optional, row_of, say, write_json


@command(ads, "ads prove", resume=" ")
def ads_prove(
    *,
    n: int = 256,
    seed: int = 0,
    models: ModelSet = "showroom",
    row: Annotated[UseAppendAction[tuple[str, ...]], optional("NAME=FOLDER")] = (),
    attempts: int = 5,
    pictures: int = 4,
    spread_briefs: Annotated[int | None, optional("BRIEFS")] = None,
    suffix: Text = None,
    lpips: Annotated[Path | None, optional("FILE")] = None,
    out: Path = Path("goodeye-proof"),
    batch: int = 16,
    device: str = "cpu",
    json: Json = None,
) -> int:
    """Measures every method on fresh briefs of the showroom, side by side, by a judge that nothing was trained against.

    Args:
        n: how many briefs
        seed: another seed, other briefs
        row: a row more, of what `goodeye ads align` trained; or in place of the shipped adapter of that name
        attempts: of the recurrent rows, at most so many for each picture
        pictures: of each of the briefs on which diversity is measured
        spread_briefs: how many those are; a sixth of all, and at least 16, if not given
        suffix: what the row "prompt" puts after each prompt
        lpips: weights (.safetensors) to measure diversity by
        out: folder for the attempts, results.json and report.html; what is there already is not made again
        batch: attempts made at once
        device: cpu, cuda, cuda:1, mps
    """
    from goodeye.ads.prove import ALIGNED, Prove, prove
    from goodeye.ads.prove_report import table
    from goodeye.judging.lpips import Lpips
    from goodeye.modelset import SHOWROOM, Models, resolve
    from goodeye.showroom.briefs import fresh_briefs
    from goodeye.showroom.prove import SUFFIX, the_oracle

    shipped = {name: SHOWROOM / "align" / name for name in ALIGNED if models == "showroom"}
    proof = prove(
        fresh_briefs(seed, n),
        models=Models(resolve(models), device=device),
        held_out=the_oracle(),
        adapters={name: folder for name, folder in shipped.items() if folder.is_dir()} | dict(map(row_of, row)),
        config=Prove(
            seed=seed,
            attempts=attempts,
            pictures=pictures,
            spread_briefs=spread_briefs,
            batch=batch,
            suffix=SUFFIX if suffix is None else suffix,
        ),
        lpips=Lpips.from_pretrained(lpips) if lpips else None,
        out=out,
        progress=True,
    )
    say(table(proof.numbers))
    say(f"Report: {proof.report}")
    write_json(json, proof.numbers)
    return DONE
