"""One word in a tuple mounts a domain, and everything follows; what could not work is refused at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import Struct

from mycelium.base.domain import Asked, Domain, EventKind
from mycelium.base.errors import Conflict, Denied, Refused, Unknown
from mycelium.base.subject import NOBODY, SITE
from mycelium.head.core import Core
from mycelium.head.domains import DOMAINS, LOOKS, mounted
from mycelium.head.history import about, event_view
from mycelium.head.mount import Clash, mount
from mycelium.head.replay import replay
from mycelium.jobs.events import JobEnded
from mycelium.log import MemoryLog
from tests.toy import TOY, MakeToy, ToyMade, Toys
from tests.unit.head.played import ADA, Played

HOUSE = mount((*DOMAINS, TOY), LOOKS)


class Toyed(Played):
    """A site with one domain more."""

    def restart(self) -> None:
        self.core = Core(self.log, self.now_ns, self.settings, HOUSE)

    def toys(self) -> dict[str, str]:
        return self.core.site.toys.color_of


@pytest.fixture
def site() -> Toyed:
    site = Toyed()
    site.restart()
    site.hello("node-1")
    return site


def test_its_command_is_decided_and_its_event_applied(site: Toyed) -> None:
    assert site.do(MakeToy(ADA, "bear", "brown")) == "bear"
    assert site.toys() == {"bear": "brown"}
    with pytest.raises(Conflict):
        site.do(MakeToy(ADA, "bear"))


def test_its_guard_is_asked(site: Toyed) -> None:
    for subject, error in ((NOBODY, Unknown), (SITE, Denied)):
        answer = site.core.turn([Asked(subject, MakeToy(ADA, "bear"))], site.now_ns).answers[0]
        assert isinstance(answer.problem, error)
    assert site.toys() == {}


def test_it_reacts_to_the_event_of_another_domain_in_the_same_turn(site: Toyed) -> None:
    site.submit()
    site.exited("node-1", "job-1-a1-r0")
    assert site.kinds()[-2:] == ["JobEnded", "ToyMade"]
    assert site.toys() == {"toy-of-job-1": "gold"}


def test_a_restart_replays_it_and_reacts_to_nothing_again(site: Toyed) -> None:
    site.do(MakeToy(ADA, "bear"))
    site.submit()
    site.exited("node-1", "job-1-a1-r0")
    known, events = dict(site.toys()), site.log.last_seq
    site.restart()
    assert (site.toys(), site.log.last_seq) == (known, events)


def test_a_restart_from_a_snapshot_knows_it(site: Toyed) -> None:
    site.do(MakeToy(ADA, "bear"))
    taken = site.core.take_snapshot()
    site.log.save_snapshot(taken.seq, taken.version, taken.data)
    site.do(MakeToy(ADA, "duck", "yellow"))
    site.restart()
    assert site.toys() == {"bear": "red", "duck": "yellow"}


def test_an_old_version_of_its_event_is_lifted(site: Toyed) -> None:
    site.log.append(site.now_ns, [("ToyMade/1", b'{"toy":"bear","colour":"brown","account":"account-2"}')])
    site.restart()
    assert site.toys() == {"bear": "brown"}
    assert site.core.codec.encode(ToyMade("bear", "brown", ADA))[0] == "ToyMade/2"


def test_it_has_a_story_by_each_whom_it_concerns(site: Toyed) -> None:
    site.do(MakeToy(ADA, "bear"))
    for subject in ("bear", ADA):
        entry, event = list(about(site.core, subject))[-1]
        assert event_view(site.core, entry, event)["says"] == "ada made a red toy"


def test_its_view_is_shown(site: Toyed) -> None:
    site.do(MakeToy(ADA, "bear"))
    show = site.core.house.shows["toys"]
    assert show.view(site.core.view, SITE, site.now_ns) == {"toys": [{"toy": "bear", "color": "red"}]}


def test_unmounted_again_the_start_is_refused_because_the_log_holds_its_events(site: Toyed) -> None:
    site.do(MakeToy(ADA, "bear"))
    with pytest.raises(Refused, match="the log holds an event of kind 'ToyMade/2'"):
        Core(site.log, site.now_ns)
    taken = site.core.take_snapshot()
    site.log.save_snapshot(taken.seq, taken.version, taken.data)
    with pytest.raises(Refused, match="the log holds an event of kind 'ToyMade/2'"):
        Core(site.log, site.now_ns)


def test_a_site_to_which_nothing_of_it_has_happened_starts_without_it(site: Toyed) -> None:
    taken = site.core.take_snapshot()
    site.log.save_snapshot(taken.seq, taken.version, taken.data)
    assert Core(site.log, site.now_ns).site == replay(site.log.read())


def test_a_house_with_it_starts_on_a_log_from_before_it() -> None:
    site = Played()
    site.submit()
    taken = site.core.take_snapshot()
    site.log.save_snapshot(taken.seq, taken.version, taken.data)
    assert Core(site.log, site.now_ns, house=HOUSE).site.toys == Toys()


def clash(*domains: Domain) -> str:
    with pytest.raises(Clash) as caught:
        mount((*DOMAINS, *domains))
    return str(caught.value)


def test_two_domains_that_know_one_name_are_refused() -> None:
    ended = type("JobEnded", (Struct,), {"__annotations__": {"job": str}})
    kind = EventKind(ended, lambda view, event, at_ns: None, str, ("job",))
    assert "two domains have one name" in clash(TOY, TOY)
    assert "'ToyMade'" in clash(TOY, replace(TOY, name="others", shows={}))
    assert "two domains have an event that is called 'JobEnded'" in clash(replace(TOY, kinds=(kind,)))
    assert "'MakeToy'" in clash(TOY, replace(TOY, name="others", kinds=(), shows={}))
    assert "'toys'" in clash(TOY, replace(TOY, name="others", kinds=(), commands={}))


def test_a_circle_of_reactions_is_refused() -> None:
    def nothing(view: Any, event: Any, now_ns: int) -> list[Any]:
        return []

    jobs = next(domain for domain in DOMAINS if domain.name == "jobs")
    round_ = replace(jobs, reacts={**jobs.reacts, ToyMade: nothing})
    with pytest.raises(Clash, match="reactions go round in a circle"):
        mount((*(domain for domain in DOMAINS if domain is not jobs), round_, TOY))
    assert "reacts to its own event" in clash(replace(TOY, reacts={ToyMade: nothing}))
    assert "which no domain has" in clash(replace(TOY, reacts={Toys: nothing}))
    assert JobEnded in TOY.reacts


def test_the_house_as_it_stands_is_sound() -> None:
    house = mounted()
    assert {kind.__name__ for kind in house.kinds} >= {"JobSubmitted", "NodeJoined", "AccountAdded", "ModelAdded"}
    assert isinstance(Core(MemoryLog(), 1).site, house.State)
