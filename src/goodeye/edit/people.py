"""What people scored of edits on the ledger, as annotations: the same files that a large model's scores come in.

Of each person the last vote with scores counts, of each axis the mean over the people who scored it; nobody's is
missing. People give no words of what failed. What judges said of the same edits stands beside, each under its own name,
in sources.json: two sources are never mixed in one score.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from goodeye.atomic import write_bytes
from goodeye.edit.annotate import missing_and_means, require_no_rewards, require_same
from goodeye.edit.book import JOB
from goodeye.edit.rewards import AXES, Rewards
from goodeye.edit.triplets import REWARDS, TABLE, Picture, Triplet, check_instruction, write_parquet, write_rewards
from goodeye.errors import BadInput
from goodeye.ledger.ledger import Ledger
from goodeye.ledger.rows import AttemptRow, BriefRow, VerdictRow
from goodeye.ledger.sample import RANDOM, UNSURE, chosen_in_doubt, fair_sample
from goodeye.ledger.training import last_scores, runs_of
from goodeye.progress import track
from goodeye.runfolder import RunFolder
from goodeye.tables import Skipped

PEOPLE = "people"  # as a source
SOURCES = "sources.json"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An edit that people scored. voters: how many scored each axis. judges: what each said of it, by name and version.
    chosen: why it was put before people (random, unsure), "" where that is not known."""

    triplet: Triplet
    voters: Mapping[str, int]
    judges: Mapping[str, Mapping[str, float]]
    chosen: str

    def to_json(self) -> dict[str, Any]:
        """Each source by its name."""
        scores = self.triplet.rewards.scores if self.triplet.rewards else ()
        people = {axis: score for axis, score in zip(AXES, scores, strict=True) if score is not None}
        return {PEOPLE: people, "voters": dict(self.voters), "judges": self.judges, "chosen": self.chosen}


@dataclass(frozen=True, kw_only=True)
class FromPeople:
    """What came of it. missing: scores that nobody gave, by axis."""

    out: Path
    edits: int
    people: int
    missing: dict[str, int]
    means: dict[str, float]
    skipped: list[Skipped] = field(default_factory=list)

    def summary(self) -> str:
        """What a terminal shows."""
        lines = [f"{self.edits} edits with scores by {self.people} people."]
        lines += [f"{axis}: mean {self.means[axis]:.2f}" for axis in AXES if axis in self.means]
        if any(self.missing.values()):
            lines.append(f"missing: {', '.join(f'{axis} {n}' for axis, n in self.missing.items() if n)}")
        lines.append(f"rewards: {self.out / REWARDS}, {self.out / TABLE}; beside judges: {self.out / SOURCES}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {**vars(self), "out": str(self.out), "skipped": [vars(one) for one in self.skipped]}


def annotate_by_people(
    place: str | Path, out: str | Path, *, images: str | Path | None = None, runs: Collection[int] = ()
) -> FromPeople:
    """Writes what people scored of a ledger's edits as rewards.json, triplets.parquet (source: people) and
    sources.json, where judges' scores stand beside. The same call again takes in the votes that came since.

    place: a ledger, by folder or URL; images: of a ledger in a database. runs: only of these. Raises BadInput where
    nobody scored an edit, and for a folder that holds other annotations.
    """
    folder, skipped = RunFolder(Path(out)), list[Skipped]()
    with Ledger.open(place, images, create=False) as ledger:
        where = ledger.where if "://" in str(place) else str(Path(place).resolve())
        about = {"job": "edit annotate", "triplets": where, "model": PEOPLE, "runs": sorted(set(runs))}
        if folder.holds_a_run():
            require_same(folder, about)
        else:
            require_no_rewards(folder)
        voters = set[str]()
        scored = list(scored_by_people(ledger, runs, skipped, voters))
        if not scored:
            why = f" First: {skipped[0].message}" if skipped else ""
            raise BadInput(f"The ledger {ledger.where} holds no scores of edits. Ask with `goodeye review`.{why}")
        folder.begin(about)
        whole = [one.triplet for one in scored]
        write_rewards(whole, folder.path / REWARDS)
        skipped += write_parquet(track(whole, "writing edits", unit="edits"), folder.path / TABLE, PEOPLE)
        said = {one.triplet.key: one.to_json() for one in scored}
        write_bytes(folder.path / SOURCES, (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode())
    missing, means = missing_and_means(whole)
    return FromPeople(
        out=folder.path, edits=len(whole), people=len(voters), missing=missing, means=means, skipped=skipped
    )


def scored_by_people(
    ledger: Ledger, runs: Collection[int], skipped: list[Skipped], voters: set[str]
) -> Iterator[Scored]:
    """The edits of the ledger that people scored, with both pictures and the instruction; those who scored go to
    `voters`, and what cannot be used to `skipped`. Votes of people set aside do not count."""
    mine = runs_of(ledger, JOB, runs)
    with ledger.reading() as connection:
        ids = [run.id for run in mine]
        why = {UNSURE: chosen_in_doubt(connection, ids), RANDOM: fair_sample(connection, ids)} if ids else {}
    for run in mine:
        said = last_scores(ledger.votes(run.id), AXES, skipped)
        briefs = {brief.id: brief for brief in ledger.briefs(run.id)} if said else {}
        for row in ledger.attempts(run.id) if said else ():
            if row.id not in said:
                continue
            try:
                triplet = _triplet(ledger, row, briefs[row.brief_id])
            except BadInput as error:
                skipped.append(Skipped(f"attempt {row.id}", f"attempt {row.id}: {error}"))
                continue
            given = [vote.axes for vote in said[row.id].values()]
            voters |= set(said[row.id])
            columns = {axis: [scores[axis] for scores in given if axis in scores] for axis in AXES}
            yield Scored(
                triplet=replace(triplet, rewards=Rewards(_means(columns))),
                voters={axis: len(column) for axis, column in columns.items()},
                judges={_name(one): one.scores for one in row.verdicts if any(axis in one.scores for axis in AXES)},
                chosen=next((name for name, attempts in why.items() if row.id in attempts), ""),
            )


def _means(columns: Mapping[str, Sequence[float]]) -> tuple[float | None, float | None, float | None]:
    first, second, third = (sum(columns[axis]) / len(columns[axis]) if columns[axis] else None for axis in AXES)
    return first, second, third


def _name(said: VerdictRow) -> str:
    return f"{said.judge} {said.version}".strip()


def _triplet(ledger: Ledger, row: AttemptRow, brief: BriefRow) -> Triplet:
    """The edit with its pictures as the ledger has them. Its key tells its run's brief and the attempt."""
    if not brief.product_sha or not row.image_sha:
        raise BadInput("the original or the edited picture is not on record. Record both.")
    words = brief.content.get("instruction") or brief.content.get("prompt") or brief.content.get("title") or ""
    key = f"{brief.key.replace('/', '_')}-{row.id}"
    return Triplet(
        key=key,
        instruction=check_instruction(str(words)),
        original=Picture(f"{key} original", ledger.image_path(brief.product_sha)),
        edited=Picture(f"{key} edited", ledger.image_path(row.image_sha)),
    )
