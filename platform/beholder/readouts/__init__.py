"""Ways of writing an opinion at a slot and reading a distribution back; one file each."""

from beholder.readouts.binary import BinaryReadout
from beholder.readouts.contract import Reading, Readout, Votes, read_slots
from beholder.readouts.digits import DigitReadout
from beholder.readouts.head import HEAD_FILE, load_head, through_head
from beholder.readouts.levels import LevelReadout
from beholder.readouts.registry import make_readout
from beholder.readouts.regression import RegressionReadout
from beholder.readouts.score_tokens import ScoreTokenReadout

__all__ = [
    "HEAD_FILE",
    "BinaryReadout",
    "DigitReadout",
    "LevelReadout",
    "Reading",
    "Readout",
    "RegressionReadout",
    "ScoreTokenReadout",
    "Votes",
    "load_head",
    "make_readout",
    "read_slots",
    "through_head",
]
