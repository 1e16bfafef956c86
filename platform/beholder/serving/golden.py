"""Whether a scorer is the one that was measured, before it says anything to anybody."""

import logging

from PIL import Image

from beholder.items import Item
from beholder.logs import event
from beholder.readouts import make_readout
from beholder.scoring import Scorer, ScorerError, ScorerFile, check_panel
from beholder.serving.preprocess import made_picture
from beholder.serving.service import About

log = logging.getLogger(__name__)


def require_golden(scorer: Scorer) -> None:
    """Scores the scorer's golden panel; one without a panel scores a made picture.

    Raises:
        ScorerError: it says something else than when it was made, or nothing.
    """
    if scorer.panel is not None:
        check = check_panel(scorer)
        if not check.ok:
            raise ScorerError(f"scorer {scorer.fingerprint} must not serve: {check.reason}")
        event(log, "golden.ok", fingerprint=scorer.fingerprint, difference=check.difference)
        return
    picture = golden_picture(scorer)
    # Nothing encodes videos here, but a list of frames is one, too.
    source = picture or [Image.linear_gradient("L")] * 2
    (score,) = scorer.score([Item("golden", source)])
    if score.failure is not None:
        raise ScorerError(f"scorer {scorer.fingerprint} must not serve: {score.failure.message}")
    event(log, "golden.none", fingerprint=scorer.fingerprint, meaning="a made picture has a score")


def golden_picture(scorer: Scorer) -> bytes | None:
    """Encoded media that the scorer is known to rate; None of a video scorer without a panel."""
    if scorer.panel is not None:
        return scorer.panel.data[0]
    rates_pictures = any("image" in task.kinds for task in scorer.tasks.values())
    return made_picture() if rates_pictures else None


def about_scorer(scorer: Scorer) -> About:
    """What an endpoint tells of its scorer."""
    return about_file(scorer.file)._replace(golden=golden_picture(scorer))


def about_file(file: ScorerFile) -> About:
    """What ``scorer.json`` tells, without golden media."""
    readout = make_readout(file.readout)
    return About(
        file.fingerprint,
        readout.name,
        (readout.scale.minimum, readout.scale.maximum),
        {name: list(task.kinds) for name, task in file.tasks.items()},
        None,
    )
