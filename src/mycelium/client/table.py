"""The settings of `myc`, each in one line: its kind, who has it as a flag, and what it says of itself.

The keys of config.toml, the variables MYC_…, the flags with their help and completion, what `myc up` takes up again
and the reference page all follow from `SETTINGS`. A new one is a line here, and for a flag of `myc up` a field of the
same name in head/settings.py.
Never: says which word is the strongest (settings.py), or imports anything heavy: every command reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mycelium.base.limits import GANG_NODES_MAX, GATEWAYS_MAX

TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class SettingKind(NamedTuple):
    """How a word becomes a value. `read` raises `ValueError`, in the same words wherever the word was said."""

    read: Callable[[str], Any]
    switch: bool = False  # as a flag it takes no value: --tls or --no-tls


def _read_truth(word: str) -> bool:
    if word.lower() not in TRUTHS:
        raise ValueError(f"{word[:40]!r} is not one of {', '.join(TRUTHS)}")
    return TRUTHS[word.lower()]


def whole(low: int, high: int) -> SettingKind:
    """A whole number within these bounds."""

    def read(word: str) -> int:
        if not (word.removeprefix("-").isascii() and word.removeprefix("-").isdigit()) or len(word) > 20:
            raise ValueError(f"{word[:40]!r} is not a whole number")
        if not low <= int(word) <= high:
            raise ValueError(f"{word} is not from {low} to {high}")
        return int(word)

    return SettingKind(read)


def _read_keep(word: str) -> str:
    if word != "forever" and not (word.isascii() and word.isdigit() and len(word) < 6 and int(word) <= KEEP_DAYS_MAX):
        raise ValueError(f"{word[:40]!r} is neither 0 to {KEEP_DAYS_MAX} days nor 'forever'")
    return word


KEEP_DAYS_MAX = 36_500
KEEP = SettingKind(_read_keep)
TEXT = SettingKind(str)
TRUTH = SettingKind(_read_truth, switch=True)


class Setting(NamedTuple):
    """`says` is its line of help. `flag_of`: the commands that have it as a flag; "" is `myc` itself.

    `again`: `myc up` takes it up as it was when the site ran last (up.json). `unsaid`: what holds when nobody says it,
    where `default` and `again` would not tell.
    """

    name: str
    kind: SettingKind
    metavar: str
    says: str
    default: Any = None
    flag_of: tuple[str, ...] = ()
    again: bool = False
    unsaid: str = ""
    file: bool = True  # whether it may stand in config.toml

    @property
    def variable(self) -> str:
        return f"MYC_{self.name.upper()}"

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def flags(self) -> str:
        """As it is declared and shown: with its opposite where it has one."""
        return f"{self.flag}/--no-{self.flag.removeprefix('--')}" if self.kind.switch else self.flag

    def help(self, command: str) -> str:
        """Its line, with what holds when nobody says it."""
        default = ("yes" if self.default else "no") if self.kind.switch else str(self.default)
        words = ["as before"] if self.again and command == "up" else []
        words += [default] if self.default is not None else []
        unsaid = self.unsaid or "; ".join(words)
        return f"{self.says} [{unsaid}]" if unsaid else self.says

    def read(self, said: Any) -> Any:
        """The value of a word, or of what TOML made of it. Errors: `ValueError`."""
        if isinstance(said, bool) and self.kind.switch:
            return said
        if isinstance(said, bool):
            said = str(said).lower()
        if not isinstance(said, str | int):
            raise ValueError(f"a {type(said).__name__} is not a text")  # noqa: TRY004 - people's mistake, not the code's
        return self.kind.read(str(said))

    def words(self, value: Any) -> list[str]:
        """The words of a command line that say it."""
        if self.kind.switch:
            return [self.flag if value else f"--no-{self.flag.removeprefix('--')}"]
        return [f"{self.flag}={value}"]


PORT = 8700  # tried first, so that a site is found where it was; any other one when it is taken
UP = ("up",)
SETTINGS: dict[str, Setting] = {
    one.name: one
    for one in (
        Setting("url", TEXT, "URL", "The site to talk to.", flag_of=("",)),
        Setting("token", TEXT, "TOKEN", "Who is asking; better kept in MYC_TOKEN.", flag_of=("",)),
        Setting(
            "home",
            TEXT,
            "DIR",
            "Where a site or a node on this machine keeps its state.",
            flag_of=("", "up", "join", "leave"),
        ),
        Setting("nodes", whole(1, GANG_NODES_MAX), "N", "Virtual nodes.", 1, UP, unsaid="as before; 1"),
        Setting(
            "port", whole(0, 65535), "P", "Where to listen; 0 is any.", None, UP, again=True, unsaid=f"{PORT}, if free"
        ),
        Setting(
            "host",
            TEXT,
            "ADDRESS",
            "The address to listen at; 127.0.0.1 keeps it to this machine.",
            "127.0.0.1",
            UP,
            again=True,
        ),
        Setting("log_url", TEXT, "URL", "Keep the log in PostgreSQL instead of SQLite.", None, UP),
        Setting("log_keep", KEEP, "DAYS", "How long events stay in the log, before files alone hold them.", "30", UP),
        Setting("name", TEXT, "TEXT", "What the site is called.", "mycelium", UP),
        Setting("engine", TEXT, "NAME", "local, or ray for many machines.", "local", UP, again=True),
        Setting("address", TEXT, "IP", "Where other machines reach this one.", None, ("up", "join"), again=True),
        Setting("tls", TRUTH, "", "Speak TLS, with certificates of the site's own CA.", False, UP, again=True),
        Setting("gateways", whole(1, GATEWAYS_MAX), "N", "Gateways to models.", 1, UP, again=True),
        Setting("traceback", TRUTH, "", "Show where in its code a fault of `myc` is.", False, file=False),
    )
}


def of_command(command: str) -> tuple[Setting, ...]:
    """What a command has as flags, in the order of the table."""
    return tuple(one for one in SETTINGS.values() if command in one.flag_of)
