"""What is evaluated, and the walk over scorers, ensembles, pairs and sets."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from beholder.config import JobConfig
from beholder.errors import UserError
from beholder.evaluation.ensembles import ensemble
from beholder.evaluation.matrix import (
    MatrixError,
    Opinions,
    Predictions,
    is_zero_shot,
    opinions_of,
    predictions_of,
)
from beholder.evaluation.scorecard import (
    Compared,
    Measured,
    compare_scorers,
    measure_scorer,
    task_means,
)
from beholder.logs import Progress
from beholder.opinions import Scale


class TestSetConfig(JobConfig):
    """A set with opinions."""

    __test__ = False  # no test case, whatever its name says to pytest

    name: str = Field(description="the set's name")
    manifest: str = Field(description="URI of its Parquet manifest, with mos")
    task: str = Field(description="what its mos rates: quality or aesthetics")
    scale: tuple[float, float] = Field(description="what raters could answer, in mos's unit")
    split: str | None = Field(
        "test", description="rows that count where the manifest has a column split; none: all"
    )

    @model_validator(mode="after")
    def _scale_is_in_order(self) -> Self:
        Scale(*self.scale)
        return self


class ScorerConfig(JobConfig):
    """A scorer and its finished passes."""

    name: str = Field(description="what to call the scorer")
    training: str | tuple[str, ...] = Field(
        description="sets that it learned from: a list of names, or free text with the names"
    )
    scores: dict[str, str] = Field(
        min_length=1, description="by test set, the output URI of a finished scoring pass"
    )


class EnsembleConfig(JobConfig):
    """Scorers, and outside scores, taken together by the mean of their z-scores."""

    name: str = Field(description="what to call the ensemble")
    of: tuple[str, ...] = Field(min_length=1, description="names of scorers")
    columns: tuple[str, ...] = Field(
        (), description="the manifest's columns with outside scores, higher is better"
    )


class EvaluateConfig(JobConfig):
    """Scorers by test sets."""

    sets: tuple[TestSetConfig, ...] = Field(min_length=1, description="test sets")
    scorers: tuple[ScorerConfig, ...] = Field(min_length=1, description="scorers")
    ensembles: tuple[EnsembleConfig, ...] = Field((), description="scorers taken together")
    compare: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of scorers or ensembles for a paired test on common items"
    )
    output: str = Field(description="folder or URI to write evaluation.md, .json and .svg to")
    seed: int = Field(0, ge=0, description="of the bootstrap")

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        sets, scorers = [s.name for s in self.sets], [s.name for s in self.scorers]
        named = [*scorers, *(e.name for e in self.ensembles)]
        for kind, names in (("test sets", sets), ("scorers or ensembles", named)):
            twice = next((n for n in names if names.count(n) > 1), None)
            if twice is not None:
                raise ValueError(f"two {kind} are called '{twice}': rename one")
        for scorer in self.scorers:
            for name in scorer.scores:
                if name not in sets:
                    raise ValueError(
                        f"scorer '{scorer.name}' has scores of an unknown set '{name}': add it "
                        f"to sets, or use one of {sets}"
                    )
        for group in self.ensembles:
            for name in group.of:
                _require(name, scorers, f"ensemble '{group.name}'")
            if len(set(group.of)) + len(set(group.columns)) < 2:
                raise ValueError(
                    f"ensemble '{group.name}' has one member: name two scorers, or a scorer and "
                    "a column"
                )
        for pair in self.compare:
            for name in pair:
                _require(name, named, f"compare {list(pair)}")
            if pair[0] == pair[1]:
                raise ValueError(f"compare {list(pair)} names one scorer twice: name two")
        return self


def _require(name: str, known: list[str], where: str) -> None:
    if name not in known:
        raise ValueError(f"{where} names an unknown scorer '{name}': use one of {known}")


@dataclass(frozen=True)
class Evaluation:
    """All that was found.

    Attributes:
        scorers: by scorer, the sets that it learned from; by ensemble, what it is made of.
        sets: names, in order.
        cells: scorers by sets, where there are scores.
        pairs: paired tests.
    """

    scorers: Mapping[str, str]
    sets: tuple[str, ...]
    cells: tuple[Measured, ...]
    pairs: tuple[Compared, ...]

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "scorers": dict(self.scorers),
            "sets": list(self.sets),
            "cells": [cell.as_dict() for cell in self.cells],
            "pairs": [asdict(pair) for pair in self.pairs],
            "tasks": {
                task: {
                    scorer: {"srcc": srcc, "plcc": plcc, "sets": list(sets)}
                    for scorer, (srcc, plcc, sets) in means.items()
                }
                for task, means in task_means(self.cells).items()
            },
        }


Read = Callable[[str], pa.Table]
Table = dict[tuple[str, str], Predictions]


def evaluate_matrix(config: EvaluateConfig, manifests: Read, scores: Read) -> Evaluation:
    """Reads everything, then measures.

    Args:
        config: what is evaluated.
        manifests: reads a checked manifest with ``mos`` by its URI.
        scores: reads a finished pass's rows by its output URI.

    Raises:
        UserError: something can't be read or doesn't fit together, see
            :mod:`beholder.evaluation.matrix`; or a pair or an ensemble has no set in common.
    """
    sets = {
        one.name: opinions_of(
            one.name, one.task, Scale(*one.scale), manifests(one.manifest), one.split
        )
        for one in config.sets
    }
    said = _read_scores(config, sets, scores)
    training: dict[str, tuple[str, ...] | str] = {s.name: s.training for s in config.scorers}
    learned = {name: [trained] for name, trained in training.items()}
    for group in config.ensembles:
        learned[group.name] = [training[name] for name in group.of]
        said |= _ensembles(group, sets, said)
    pairs = tuple(chain.from_iterable(_pair(p, sets, said, config.seed) for p in config.compare))
    cells = []
    with Progress(len(said), "evaluate") as bar:
        for (scorer, name), predictions in said.items():
            fresh = all(is_zero_shot(trained, name) for trained in learned[scorer])
            cells.append(measure_scorer(scorer, predictions, sets[name], fresh, config.seed))
            bar.advance()
    return Evaluation(
        scorers={s.name: _as_text(s.training) for s in config.scorers}
        | {group.name: _made_of(group) for group in config.ensembles},
        sets=tuple(sets),
        cells=tuple(cells),
        pairs=pairs,
    )


def _read_scores(config: EvaluateConfig, sets: Mapping[str, Opinions], scores: Read) -> Table:
    said: Table = {}
    for scorer in config.scorers:
        for name in (one for one in sets if one in scorer.scores):
            try:
                rows = scores(scorer.scores[name])
            except UserError as error:
                raise MatrixError(f"scorer '{scorer.name}' on set '{name}': {error}") from error
            said[scorer.name, name] = predictions_of(scorer.name, sets[name], rows)
        prints = {said[scorer.name, name].fingerprint: name for name in scorer.scores}
        if len(prints) > 1:
            raise MatrixError(
                f"scorer '{scorer.name}' has passes by different scorers, {prints}: give each "
                "fingerprint a name of its own"
            )
    return said


def _ensembles(group: EnsembleConfig, sets: Mapping[str, Opinions], said: Table) -> Table:
    """On every set that all members have scores of, and that has the columns."""
    scored = [name for name in sets if all((member, name) in said for member in group.of)]
    if not scored:
        raise MatrixError(
            f"ensemble '{group.name}': {' and '.join(group.of)} have no set in common: score one "
            "set with all of them"
        )
    carried = {name: set(sets[name].table.column_names) for name in scored}
    # A column that no set has is misspelt: the first set's message says so.
    chosen = [name for name in scored if carried[name].issuperset(group.columns)] or scored[:1]
    return {
        (group.name, name): ensemble(
            group.name, sets[name], {m: said[m, name] for m in group.of}, group.columns
        )
        for name in chosen
    }


def _pair(
    names: tuple[str, str], sets: Mapping[str, Opinions], said: Table, seed: int
) -> list[Compared]:
    shared = [name for name in sets if all((scorer, name) in said for scorer in names)]
    if not shared:
        raise MatrixError(
            f"{names[0]} and {names[1]} have no set in common: score one set with both, or leave "
            "the pair out of compare"
        )
    first, second = names
    return [
        compare_scorers(names, (said[first, name], said[second, name]), sets[name], seed)
        for name in shared
    ]


def _as_text(training: str | tuple[str, ...]) -> str:
    return (training if isinstance(training, str) else ", ".join(training)) or "nothing"


def _made_of(group: EnsembleConfig) -> str:
    return "z-scores of " + ", ".join([*group.of, *(f"column {name}" for name in group.columns)])
