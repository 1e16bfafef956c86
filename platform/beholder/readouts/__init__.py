"""Ways of writing an opinion at a slot and reading a distribution back; one file each."""

from beholder.readouts.contract import Reading, Readout, Votes, read_slots
from beholder.readouts.digits import DigitReadout
from beholder.readouts.levels import LevelReadout
from beholder.readouts.registry import make_readout
from beholder.readouts.score_tokens import ScoreTokenReadout

__all__ = [
    "DigitReadout",
    "LevelReadout",
    "Reading",
    "Readout",
    "ScoreTokenReadout",
    "Votes",
    "make_readout",
    "read_slots",
]
