"""What `myc` was told: the configuration file, then the environment, then flags; the later is the stronger.

| key | in config.toml | in the environment | as a flag |
|---|---|---|---|
| where a site on this machine keeps its state | `home` | `MYC_HOME` | `--home` |
| the site to talk to | `url` | `MYC_URL` | `--url` |
| who is asking | `token` | `MYC_TOKEN` | `--token` |
| where the site listens | `port` | `MYC_PORT` | `myc up --port` |
| virtual nodes of the site | `nodes` | `MYC_NODES` | `myc up --nodes` |
| the address of the site | `host` | `MYC_HOST` | `myc up --host` |
| a database for the log | `log_url` | `MYC_LOG_URL` | `myc up --log-url` |
| days that events stay in the log, or `forever` | `log_keep` | `MYC_LOG_KEEP` | `myc up --log-keep` |
| what the site is called | `name` | `MYC_NAME` | `myc up --name` |
| one machine, or many on Ray | `engine` | `MYC_ENGINE` | `myc up --engine` |
| where other machines reach this one | `address` | `MYC_ADDRESS` | `myc up --address` |
| whether the site speaks TLS | `tls` | `MYC_TLS` | `myc up --tls` |

Who says neither a URL nor a token talks to the site of the last `myc login`, or else to the one on this machine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mycelium.base.errors import Fault, Refused, Unavailable, Unknown, refuse
from mycelium.base.limits import DISK_RESERVE_BYTES
from mycelium.base.units import format_size
from mycelium.client.lines import line_of

KEYS = ("home", "url", "token", "port", "nodes", "host", "log_url", "log_keep", "name", "engine", "address", "tls")

NUMBERS = ("port", "nodes")

_flags: dict[str, str] = {}


class Place(NamedTuple):
    """A site and who is asking it."""

    url: str
    token: str


def told(**flags: str) -> None:
    """Remember the flags of this command line. Empty ones were not given."""
    _flags.clear()
    _flags.update({key: value for key, value in flags.items() if value})


def also_told(**flags: str) -> None:
    """A command's own flags that are settings as well, such as `myc up --home`."""
    _flags.update({key: value for key, value in flags.items() if value})


def config_dir() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mycelium"


def get(key: str) -> str:
    """The strongest word on `key`; empty when nobody said anything."""
    written = _flags.get(key) or os.environ.get(f"MYC_{key.upper()}") or _configured().get(key, "")
    return str(written)


def number(key: str, flag: int | None) -> int | None:
    """The strongest word on a key that is a number. Errors: `Refused`."""
    said = str(flag) if flag is not None else get(key)
    if not said:
        return None
    if not said.isdigit():
        raise Refused(f"{key} is {said!r}; it must be a whole number", hint=f"see MYC_{key.upper()} and config.toml")
    return int(said)


def home() -> Path:
    said = get("home")
    return Path(said).expanduser().absolute() if said else default_home()


def default_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "mycelium"


def _configured() -> dict[str, Any]:
    path = config_dir() / "config.toml"
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    import tomllib

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is no TOML: {error}".rstrip(".")) from None
    faults = [(line_of(text, key), fault) for key, value in found.items() if (fault := _fault(key, value)) is not None]
    faults.sort(key=lambda placed: placed[0] or 0)
    refuse(
        [Fault(f"{path}:{line}: {f.where}" if line else f"{path}: {f.where}", f.message, f.hint) for line, f in faults]
    )
    return found


def _fault(key: str, value: Any) -> Fault | None:
    """What is wrong with one key of the configuration file."""
    if key not in KEYS:
        return Fault(key, "is no key", hint=f"the keys are: {', '.join(KEYS)}")
    if key in NUMBERS and (isinstance(value, bool) or not str(value).isdigit()):
        return Fault(key, "must be a whole number")
    if not isinstance(value, str | int):
        return Fault(key, "must be a text")
    return None


def check_url(url: str) -> str:
    """The URL without a slash at its end. Errors: `Refused`."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Refused(f"{url!r} is no URL of a site", hint="it looks like http://127.0.0.1:8700")
    return url.rstrip("/")


def place(url: str = "", token: str = "") -> Place:
    """The site to talk to and the token to show; what is given here is the strongest word.

    Errors: `Unavailable` when no site is known, `Unknown` when no token is, `Refused`.
    """
    logins = read_logins()
    url = url or get("url") or ("" if _home_was_told() else str(logins.get("current", "")))
    url = check_url(url) if url else local_url()
    token = token or get("token") or str(logins.get("sites", {}).get(url, "")) or local_token(url)
    if not token:
        raise Unknown(f"no token for {url} is known here", hint=f"`myc login {url} --token -` reads one and keeps it")
    return Place(url, check_token(token))


def check_token(token: str) -> str:
    """Errors: `Refused` for what no site ever gave out, and no header can carry."""
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise Refused("that is no token", hint="`myc account add NAME` prints one; MYC_TOKEN or --token pass it on")
    return token


def _home_was_told() -> bool:
    """Who names a home means the site that lives there, and not the one of the last login."""
    return bool(_flags.get("home") or os.environ.get("MYC_HOME"))


def running() -> dict[str, Any]:
    """What the site of this home says of itself while it runs: its `url` and `pid`. Empty when none does."""
    found = _site_file()
    return found if found and lives(int(found["pid"])) else {}


def was_running() -> bool:
    """Whether a site of this home was killed, and so could not clear away what it says of itself."""
    return bool(_site_file()) and not running()


def _site_file() -> dict[str, Any]:
    """Left behind by a site that was killed: then its process is gone."""
    try:
        found = json.loads((home() / "site.json").read_text())
        return found if {"url", "pid"} <= set(found) else {}
    except (OSError, ValueError, TypeError):
        return {}


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def local_url() -> str:
    found = running()
    if found:
        return str(found["url"])
    hint = "`myc up --detach` starts one; `myc login URL --token -` uses one elsewhere"
    if was_running():
        raise Unavailable(f"the site in {home()} is not running: {_last_word()}", hint=_how_to_go_on())
    raise Unavailable(f"no site runs on this machine (looked in {home()})", hint=hint)


def _last_word() -> str:
    """What the head said of its end (serve/last_word.py), if it could."""
    try:
        said = (home() / "last-word").read_text(errors="replace").strip()
    except OSError:
        said = ""
    return f"it ended because {said}" if said else "it ended without a word"


def _how_to_go_on() -> str:
    again = "`myc up --detach` starts it again; nothing that was accepted is lost"
    try:
        disk = os.statvfs(home())
    except OSError:
        return again
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes >= DISK_RESERVE_BYTES:
        return again
    short = f"its disk has {format_size(free_bytes)} left, and it needs {format_size(DISK_RESERVE_BYTES)}"
    return f"{short}: free some; {again}"


def local_token(url: str) -> str:
    """The admin's token of the site of this home, if that is the site in question."""
    if running().get("url") != url:
        return ""
    try:
        return token_path().read_text().strip()
    except OSError:
        return ""


def token_path() -> Path:
    return home() / "tokens" / "admin"


# What `myc login` keeps.


def logins_path() -> Path:
    return config_dir() / "logins.json"


def read_logins() -> dict[str, Any]:
    try:
        found = json.loads(logins_path().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise Refused(f"{logins_path()} cannot be read", hint="remove it and run `myc login` again") from None
    return found if isinstance(found, dict) else {}


def keep_login(url: str, token: str) -> None:
    """Make `url` the current site. The file is only ever readable by its owner."""
    path = logins_path()
    logins = read_logins()
    document = {"current": url, "sites": {**logins.get("sites", {}), url: token}}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(f".{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file, indent=1)
    fresh.replace(path)
