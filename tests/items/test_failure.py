"""Failures survive every process border that an item crosses."""

import copy
from concurrent.futures import ProcessPoolExecutor

import pytest

from beholder.items import RETRY, FailureCode, ItemError


def fail(code: str) -> None:
    raise ItemError(FailureCode(code), "'a.jpg' ends after 12 bytes", bytes_read=12)


def test_every_code_has_a_retry_policy() -> None:
    assert set(RETRY) == set(FailureCode)
    assert RETRY[FailureCode.DECODE_TRUNCATED].attempts == 1
    assert RETRY[FailureCode.FETCH_TIMEOUT].attempts > 1


def test_codes_are_the_published_ones() -> None:
    published = {
        "fetch.not_found",
        "fetch.denied",
        "fetch.timeout",
        "fetch.changed",
        "decode.truncated",
        "decode.unsupported",
        "limit.pixels",
        "limit.bytes",
        "limit.duration",
        "video.no_frames",
        "video.timeout",
        "answer.unparsable",
        "model.nan",
    }
    assert published <= {str(code) for code in FailureCode}


def test_an_item_error_crosses_processes() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(ItemError) as caught:
        pool.submit(fail, "decode.truncated").result()
    failure = caught.value.failure
    assert failure.code is FailureCode.DECODE_TRUNCATED
    assert failure.message == "'a.jpg' ends after 12 bytes"
    assert failure.bytes_read == 12
    assert str(caught.value) == "decode.truncated: 'a.jpg' ends after 12 bytes"


def test_a_copy_is_equal() -> None:
    error = ItemError(FailureCode.LIMIT_PIXELS, "too many")
    assert copy.copy(error).failure == error.failure
