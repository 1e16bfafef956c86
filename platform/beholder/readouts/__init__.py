"""Ways of writing an opinion at a slot and reading a distribution back; one file each."""

from beholder.readouts.contract import Reading, Readout
from beholder.readouts.levels import LevelReadout
from beholder.readouts.registry import make_readout

__all__ = ["LevelReadout", "Reading", "Readout", "make_readout"]
