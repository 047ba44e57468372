"""Every bound is a number, and those that belong together fit together."""

from __future__ import annotations

from mycelium.base import limits


def bounds() -> dict[str, int]:
    return {name: value for name, value in vars(limits).items() if name.isupper() and isinstance(value, int)}


def test_every_bound_is_above_zero() -> None:
    assert len(bounds()) > 60
    assert all(value > 0 for value in bounds().values())


def test_what_is_inside_fits_what_is_around_it() -> None:
    assert limits.BEAT_MS < limits.NODE_SUSPECT_S * 1000 < limits.NODE_LOST_S * 1000
    assert limits.ORDER_RESEND_MS < limits.NODE_LOST_S * 1000
    assert limits.LOG_SEGMENT_BYTES < limits.LOG_BYTES_MAX
    assert limits.LOG_CHUNK_BYTES < limits.FRAME_BYTES_MAX
    assert limits.COMMAND_BYTES_MAX + limits.ENV_BYTES_MAX < limits.BODY_BYTES_MAX < limits.FRAME_BYTES_MAX
    assert limits.TIME_MS_DEFAULT <= limits.TIME_MS_MAX
    assert limits.JOBS_PER_SUBMIT_MAX <= limits.QUEUED_JOBS_MAX
    assert limits.COMMAND_BYTES_MAX + limits.ENV_BYTES_MAX < limits.EVENT_BYTES_MAX
