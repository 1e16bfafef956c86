"""``scorers/current``: whose scores the readers of a catalog see, since when, and whose before.

HEAD's snapshot decides, and this object follows it: whoever moves HEAD to another scorer's
snapshot, forward or back, settles it at once, and whoever asks for the current scorer does so,
too. What a process that died left behind is so put right by the next one.
"""

from datetime import datetime
from itertools import takewhile

from pydantic import ValidationError

from beholder.catalog.config import CURRENT, NightlyConfig
from beholder.catalog.head import Head, lost_record, read_head, refuse_lost_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.patience import patiently, trouble
from beholder.catalog.record import DamagedError, Record, Stored, find_record, lineage
from beholder.errors import UserError
from beholder.media.conditional import WriteConflictError, create, read_version, replace
from beholder.media.storage import StorageError, Trouble, exists

CALIBRATION = "calibration.json"
"""Of a promotion: which new mean stands where an old one stood, by task."""


class CurrentScorer(Stored):
    """What ``scorers/current`` says."""

    scorer: str
    """URI"""
    fingerprint: str
    snapshot: str
    """with which readers came to see its scores"""
    since: datetime
    by: str
    """who let them"""
    before: str | None
    """fingerprint of the scorer whose scores they saw until then"""
    calibration: str | None
    """map from the scores of the scorer that it was promoted over, below the catalog's root"""


def read_current(layout: Layout) -> CurrentScorer | None:
    """What stands there; None before the first publication.

    Raises:
        DamagedError: it is damaged.
        StorageError: the storage can't be used.
    """
    return _read(layout)[0]


def settle_current(layout: Layout) -> CurrentScorer | None:
    """Brings ``scorers/current`` in line with the snapshot that HEAD names.

    Returns:
        What stands there now; None before the first publication.

    Raises:
        DamagedError: HEAD or what stands there is damaged.
        StorageError: the storage can't be used.
    """
    while (head := read_head(layout)) is not None:
        record = find_record(layout, RunId.parse(head.snapshot))
        if record is None:
            raise lost_record(layout, head)
        said, version = _read(layout)
        if said and (said.scorer, said.fingerprint) == (record.scorer, record.fingerprint):
            return said
        data = _settled(layout, said, head, record).encode()
        try:
            _write(layout, data, version)
        except WriteConflictError:
            continue
        # Once more: HEAD may have moved since it was read, by somebody who found this in line.
    return None


def with_current_scorer(config: NightlyConfig) -> NightlyConfig:
    """The config with the scorer's URI in place of ``current``.

    Raises:
        UserError: the catalog has no current scorer yet; or what :func:`settle_current` raises.
    """
    if config.scorer != CURRENT:
        return config
    current = settle_current(Layout(config.catalog))
    if current is None:
        refuse_lost_head(Layout(config.catalog))
        raise UserError(
            f"{config.catalog} has no current scorer before its first night: set scorer to a "
            "scorer's folder"
        )
    return config.model_copy(update={"scorer": current.scorer})


def _settled(
    layout: Layout, said: CurrentScorer | None, head: Head, record: Record
) -> CurrentScorer:
    if said and said.fingerprint == record.fingerprint:  # the same one, from elsewhere
        return said.model_copy(update={"scorer": record.scorer})
    mine = takewhile(lambda one: one.fingerprint == record.fingerprint, lineage(layout, record.id))
    *_, first = mine
    calibration = layout.promotion(RunId.parse(first.id), CALIBRATION)
    return CurrentScorer(
        scorer=record.scorer,
        fingerprint=record.fingerprint,
        snapshot=record.id,
        since=head.at,
        by=head.by,
        before=said.fingerprint if said else None,
        calibration=layout.relative(calibration) if exists(calibration) else None,
    )


def _read(layout: Layout) -> tuple[CurrentScorer | None, str]:
    try:
        data, version = patiently(lambda: read_version(layout.current_scorer))
        return CurrentScorer.model_validate_json(data), version
    except ValidationError as error:
        raise DamagedError(
            f"{layout.current_scorer} is damaged ({error.errors()[0]['msg']}): remove it, and run "
            "the same command again, which writes it anew"
        ) from None
    except StorageError as error:
        if trouble(error) is not Trouble.OBJECT_MISSING:
            raise
        return None, ""


def _write(layout: Layout, data: bytes, version: str) -> None:
    uri = layout.current_scorer
    patiently(lambda: replace(uri, data, version) if version else create(uri, data))
