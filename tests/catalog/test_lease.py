"""The lease of a date: one driver at a time, epochs that only grow, zombies that are told."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from beholder.catalog import lease as module
from beholder.catalog import patience
from beholder.catalog.lease import Lease, LeaseLostError, LeaseTakenError
from beholder.errors import UserError
from beholder.media import conditional
from beholder.media.storage import StorageError


@pytest.fixture(autouse=True)
def equal_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """All drivers here have the same clock."""
    monkeypatch.setattr(module, "SKEW_S", 0.0)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "leases" / "2026-11-20.json")


def stored(uri: str) -> dict:
    return json.loads(Path(uri).read_bytes())


def test_a_live_lease_is_refused_with_its_holder_and_the_remedy(uri: str) -> None:
    with Lease(uri, holder="first"):
        with pytest.raises(LeaseTakenError, match=r"driver first .*take_over=true") as refusal:
            Lease(uri)
        assert "another 60 s" in str(refusal.value)
    with Lease(uri, holder="next") as lease:  # given back: nobody waits
        assert (lease.epoch, lease.holder) == (2, "next")
        lease.check()


@pytest.mark.parametrize("junk", [b"junk", b"{}", b"[]", b""])
def test_a_damaged_one_is_named_with_the_remedy(uri: str, junk: bytes) -> None:
    Path(uri).parent.mkdir()
    Path(uri).write_bytes(junk)
    with pytest.raises(UserError, match=rf"{uri} is no lease .*remove it, and run the date again"):
        Lease(uri)


def test_one_that_has_run_out_is_taken_by_the_next_epoch(uri: str) -> None:
    Path(uri).parent.mkdir()
    dead = {"epoch": 4, "holder": "dead", "expires": time.time() - 0.01}
    Path(uri).write_text(json.dumps(dead))
    with Lease(uri) as lease:
        assert lease.epoch == 5


def test_clocks_may_be_apart(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SKEW_S", 5.0)
    Path(uri).parent.mkdir()
    record = {"epoch": 1, "holder": "slow clock", "expires": time.time() - 4.5}
    Path(uri).write_text(json.dumps(record))
    with pytest.raises(LeaseTakenError, match="slow clock"):
        Lease(uri)


def test_it_is_renewed_at_every_third(uri: str) -> None:
    with Lease(uri, seconds=0.6):
        expires = {stored(uri)["expires"]}
        end = time.monotonic() + 1.5
        while time.monotonic() < end and len(expires) < 4:
            expires.add(stored(uri)["expires"])
            time.sleep(0.01)  # what is watched is another thread's clock
        assert len(expires) == 4
        with pytest.raises(LeaseTakenError):
            Lease(uri)


def test_whoever_was_taken_over_is_told_so(uri: str) -> None:
    zombie = Lease(uri, seconds=600, holder="zombie")
    with Lease(uri, take_over=True, holder="heir") as heir:
        assert heir.epoch == 2
        zombie.check()  # its lease runs, and it has not looked: what it commits is by `create`
        zombie._renew()
        for _ in range(2):
            with pytest.raises(LeaseLostError, match=r"heir \(epoch 2\) has taken .* zombie"):
                zombie.check()
        zombie.release()
        assert stored(uri)["holder"] == "heir", "what was lost isn't given back"


def test_one_that_was_held_up_asks_before_it_goes_on(uri: str) -> None:
    """Stopped for longer than its lease, as by SIGSTOP: the renewing thread stood still too."""
    zombie = Lease(uri, seconds=600, holder="zombie")
    alone = Lease(str(Path(uri).with_name("other.json")), seconds=600)
    for lease in (zombie, alone):
        lease._record = module._Record(1, lease.holder, time.time() - 1)
    with Lease(uri, take_over=True, holder="heir"), pytest.raises(LeaseLostError, match="heir"):
        zombie.check()
    alone.check()  # nobody came: it goes on
    assert stored(alone.uri)["expires"] > time.time()
    alone.release()


def test_of_many_at_once_one_gets_it(uri: str) -> None:
    together = threading.Barrier(8)
    taken: list[Lease] = []
    refused: list[str] = []

    def driver() -> None:
        together.wait()
        try:
            taken.append(Lease(uri))
        except LeaseTakenError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=driver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 7)
    taken[0].release()


def test_a_store_that_is_gone_for_a_while_loses_no_lease(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(uri, seconds=600)

    def gone(*_: object) -> str:
        raise StorageError("no answer")

    monkeypatch.setattr(module, "replace", gone)
    lease.check()
    lease._record = module._Record(1, lease.holder, time.time() - 1)
    with pytest.raises(StorageError, match="no answer"):
        lease.check()
    monkeypatch.setattr(module, "replace", conditional.replace)
    lease.check()
    lease.release()


def test_a_write_whose_answer_was_lost_is_its_own(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has it, the driver was told of a time-out: it must not take itself for another."""

    def deaf(write: Callable) -> Callable:
        calls: list[int] = []

        def once(*given: object) -> str:
            version = write(*given)
            calls.append(1)
            if len(calls) == 1:
                raise StorageError("no answer") from TimeoutError()
            return version

        return once

    monkeypatch.setattr(patience, "WAITS_S", (0.0,))
    monkeypatch.setattr(module, "create", deaf(conditional.create))
    lease = Lease(uri, seconds=600)
    assert (lease.epoch, stored(uri)["epoch"]) == (1, 1)
    monkeypatch.setattr(module, "replace", deaf(conditional.replace))
    lease._record = module._Record(1, lease.holder, time.time() - 1)
    lease.check()
    assert stored(uri)["expires"] > time.time() + 500
    monkeypatch.setattr(module, "replace", deaf(conditional.replace))
    lease.release()
    assert stored(uri) == {"epoch": 1, "holder": lease.holder, "expires": 0.0}
