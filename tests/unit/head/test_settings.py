"""Where a site can have its home, and whose move it is where it cannot."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mycelium.base.errors import Problem, Refused, Unavailable
from mycelium.head.settings import unusable_home


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOENT, Refused, "no such file or directory"),
        (errno.EEXIST, Refused, "it is not a directory"),
        (errno.EACCES, Refused, "permission denied"),
        (errno.ENOSPC, Unavailable, "no space left on device"),
    ],
)
def test_a_wrong_place_is_refused_and_a_full_one_is_not(number: int, kind: type[Problem], said: str):
    problem = unusable_home(Path("/proc/foo"), OSError(number, os.strerror(number)))
    assert type(problem) is kind
    assert problem.message == f"/proc/foo cannot be used: {said}"
