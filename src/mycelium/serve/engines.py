"""Which engine a site runs on, chosen by name: the only place where the name means anything."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mycelium.base import files
from mycelium.base.errors import Refused
from mycelium.base.home import Home
from mycelium.engine.local.engine import LocalEngine
from mycelium.engine.seam import Engine
from mycelium.head.settings import SiteSettings
from mycelium.nodes.model import Nodes
from mycelium.serve.http.ground import Opened
from mycelium.serve.http.invites import new_site_token
from mycelium.serve.tls import Authority, is_ip

ENGINES = ("local", "ray")


def check_settings(settings: SiteSettings) -> None:
    """Before anything is made on disk. Errors: `Refused` for an engine that is not there or lacks what it needs."""
    if settings.engine not in ENGINES:
        raise Refused(f"no engine is called {settings.engine!r}", hint=f"there are: {', '.join(ENGINES)}")
    if settings.engine != "local" and not settings.address:
        raise Refused("other machines need an address of this one", hint="say it with --address, for example 10.0.0.1")
    if settings.engine == "ray" and find_spec("ray") is None:
        raise Refused("the engine for many machines needs Ray", hint="`pip install 'mycelium[ray]'`")
    for option, said in (("--host", settings.host), ("--address", settings.address)):
        if settings.tls and said and not is_ip(said):
            raise Refused(f"{option} is {said!r}: certificates name IP addresses", hint="say one, such as 127.0.0.1")


def check_nodes(settings: SiteSettings, nodes: Nodes) -> None:
    """Errors: `Refused` for numbers of nodes that other machines have."""
    taken = [node for node in list(nodes.by_id.values())[: settings.nodes] if node.machine]
    if taken:
        raise Refused(
            f"{settings.nodes} nodes here would be one too many: {taken[0].id} is another machine",
            hint="start with as many as before",
        )


def make_engine(settings: SiteSettings, home: Path, authority: Authority | None = None) -> Engine:
    """Of settings that were checked."""
    if settings.engine == "local":
        return LocalEngine(home, settings.nodes)
    from mycelium.engine.ray.engine import RayEngine
    from mycelium.engine.ray.raylet import Tls

    tls = Tls(authority.files.ca, *authority.own(settings.address)) if authority else None
    return RayEngine(home, settings.nodes, address=settings.address, tls=tls)


def make_authority(settings: SiteSettings, home: Path) -> Authority | None:
    return Authority(Home(home).tls) if settings.tls else None


def open_entrance(engine: Engine, home: Path, authority: Authority | None) -> Opened | None:
    """How machines may ask to join, when this engine has any use for them.

    With TLS the file of the token holds the CA's certificate too: who has a copy knows whom to trust.
    """
    if isinstance(engine, LocalEngine):
        return None
    path = Home(home).join_token
    path.parent.mkdir(mode=0o700, exist_ok=True)
    token = path.read_text().split()[0] if path.exists() else new_site_token()
    files.write(path, token + "\n" + (authority.pem if authority else ""), durable=True)
    return Opened(engine, token, authority)  # type: ignore[arg-type]
