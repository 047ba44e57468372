"""What `myc` was told: the configuration file, then the environment, then flags; the later is the stronger.

Who says neither a URL nor a token talks to the site of the last `myc login`, or else to the one on this machine.

What can be told is listed in table.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mycelium.base import files
from mycelium.base.documents import is_object
from mycelium.base.errors import Fault, Refused, Unavailable, Unknown, refuse
from mycelium.base.home import Home
from mycelium.base.limits import DISK_RESERVE_BYTES
from mycelium.base.units import format_size
from mycelium.client import table
from mycelium.client.lines import line_of
from mycelium.client.table import SETTINGS

_flags: dict[str, Any] = {}


class SiteAccess(NamedTuple):
    """A site and who is asking it."""

    url: str
    token: str


def told(**flags: Any) -> None:
    """Remember the flags of this command line. Those that are None or empty were not given."""
    _flags.clear()
    also_told(**flags)


def also_told(**flags: Any) -> None:
    """A command's own flags that are settings as well, such as `myc up --home`."""
    _flags.update({name: value for name, value in flags.items() if value not in (None, "")})


def config_dir() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mycelium"


def get(name: str) -> Any:
    """The value of the strongest word on a setting; None when nobody said anything. Errors: `Refused`."""
    setting = SETTINGS[name]
    if name in _flags:
        return _flags[name]
    if word := os.environ.get(setting.variable):
        try:
            return setting.read(word)
        except ValueError as error:
            raise Refused(f"{setting.variable}: {error}") from None
    return _configured().get(name) if setting.file else None


def of_command(command: str) -> dict[str, Any]:
    """What was said, anywhere, on each setting that is a flag of this command."""
    return {setting.name: get(setting.name) for setting in table.of_command(command)}


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
        raise Refused(f"{path} is not TOML: {error}".rstrip(".")) from None
    faults = [(line_of(text, key), fault) for key, value in found.items() if (fault := _fault(key, value)) is not None]
    faults.sort(key=lambda placed: placed[0] or 0)
    refuse(
        [Fault(f"{path}:{line}: {f.where}" if line else f"{path}: {f.where}", f.message, f.hint) for line, f in faults]
    )
    return {key: SETTINGS[key].read(value) for key, value in found.items() if value != ""}


def _fault(key: str, value: Any) -> Fault | None:
    """What is wrong with one key of the configuration file."""
    keys = [name for name, setting in SETTINGS.items() if setting.file]
    if key not in keys:
        return Fault(key, "unknown key", hint=f"the keys are: {', '.join(keys)}")
    try:
        if value != "":
            SETTINGS[key].read(value)
    except ValueError as error:
        return Fault(key, str(error))
    return None


def check_url(url: str) -> str:
    """The URL without a slash at its end. Errors: `Refused`."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Refused(f"{url!r} is not the URL of a site", hint="it looks like http://127.0.0.1:8700")
    return url.rstrip("/")


def place(url: str = "", token: str = "") -> SiteAccess:
    """The site to talk to and the token to show; what is given here is the strongest word.

    Errors: `Unavailable` when no site is known, `Unknown` when no token is, `Refused`.
    """
    logins = read_logins()
    url = url or get("url") or ("" if _home_was_told() else str(logins.get("current", "")))
    url = check_url(url) if url else local_url()
    token = token or get("token") or str(logins.get("sites", {}).get(url, "")) or local_token(url)
    if not token:
        raise Unknown(f"no token for {url} is known here", hint=f"`myc login {url} --token -` reads one and keeps it")
    return SiteAccess(url, check_token(token))


def check_token(token: str) -> str:
    """Errors: `Refused` for what no site ever gave out, and no header can carry."""
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise Refused("that is not a token", hint="`myc account add NAME` prints one; MYC_TOKEN or --token pass it on")
    return token


def _home_was_told() -> bool:
    """Who names a home means the site that lives there, and not the one of the last login."""
    return bool(_flags.get("home") or os.environ.get(SETTINGS["home"].variable))


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
        found = json.loads(Home(home()).site.read_text())
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
        said = Home(home()).last_word.read_text(errors="replace").strip()
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
    return Home(home()).admin_token


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
    return found if is_object(found) else {}


def keep_login(url: str, token: str) -> None:
    """Make `url` the current site. The file is only ever readable by its owner."""
    path = logins_path()
    logins = read_logins()
    document = {"current": url, "sites": {**logins.get("sites", {}), url: token}}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    files.write(path, json.dumps(document, indent=1), durable=True)
