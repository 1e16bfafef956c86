"""Readouts by name: what ``scorer.json`` and the training configs say."""

from typing import Any

from beholder.readouts.binary import BinaryReadout
from beholder.readouts.contract import Readout
from beholder.readouts.digits import DigitReadout
from beholder.readouts.levels import LevelReadout
from beholder.readouts.regression import RegressionReadout
from beholder.readouts.score_tokens import ScoreTokenReadout

READOUTS: dict[str, type[Readout]] = {
    readout.name: readout
    for readout in (
        LevelReadout,
        BinaryReadout,
        ScoreTokenReadout,
        DigitReadout,
        RegressionReadout,
    )
}


def make_readout(config: dict[str, Any]) -> Readout:
    """A readout from what its ``config`` method wrote.

    Raises:
        ValueError: no readout of that name, or a field that it doesn't have.
    """
    fields = dict(config)
    name = fields.pop("name", None)
    if name not in READOUTS:
        raise ValueError(f"unknown readout '{name}': use one of {', '.join(READOUTS)}")
    try:
        return READOUTS[name](**fields)
    except TypeError as error:
        raise ValueError(f"readout '{name}' does not take {sorted(fields)}: {error}") from error
