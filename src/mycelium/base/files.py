"""Files written whole: whenever the writer dies, a reader finds what was there before, or all of what is new.

What is new is written aside, under a name that nobody else takes, and then renamed. It is private if nothing is said.
`durable` waits for the disk, so that it survives a power cut as well. That is for what cannot be made again, or what
somebody was told to rely on: keys, tokens, certificates, how a site is to be started again. It is not for what every
start says anew (where a process listens, under which number) and not for caches, because each wait takes milliseconds.

Standard library only, and little of it: the shim of every step imports this.
Never: leaves half a file; or a draft, unless its writer was killed.
"""

# Paths are text here, because this runs at the start of every step.
# ruff: noqa: PTH105, PTH108, PTH118, PTH120

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import BinaryIO

    StrPath = str | os.PathLike[str]

PRIVATE, PUBLIC = 0o600, 0o644


def write(path: StrPath, data: bytes | str, *, mode: int = PRIVATE, durable: bool = False) -> None:
    """Put `data` in the place of what was there. Errors: `OSError`."""
    with whole(path, mode=mode, durable=durable) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def whole(path: StrPath, *, mode: int = PRIVATE, durable: bool = False, once: bool = False) -> Generator[BinaryIO]:
    """An open file that lies at `path` when the block has ended, and nowhere when the block has failed.

    `once`: only if nothing is there. Errors: `OSError`; with `once`, `FileExistsError`.
    """
    directory = os.path.dirname(path) or "."
    draft = os.path.join(directory, f".{os.urandom(8).hex()}.part")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(fd)
        if once:
            os.link(draft, path)  # unlike a rename, refuses a file that has appeared meanwhile
            os.unlink(draft)
        else:
            os.replace(draft, path)
        if durable:
            sync_directory(directory)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def sync_directory(directory: StrPath) -> None:
    """Make the names in a directory survive a power cut. Errors: `OSError`."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
