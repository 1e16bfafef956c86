"""Beholder teaches multimodal language models to rate pictures and videos as people do.

Rooms, by floor (imports point down only):

- 0 ``opinions``, ``items``, ``config``
- 1 ``media``, ``conversations``
- 2 ``backbones``, ``readouts``
- 3 ``scoring``, ``evaluation``, ``datasets``
- 4 ``training``, ``catalog``, ``serving``: the only rooms that import Ray or DeepSpeed
"""

__version__ = "0.1.0"
