from __future__ import annotations

import pytest

from mycelium.base.errors import Denied, Unknown
from mycelium.base.limits import INVITE_S
from mycelium.base.units import S_NS
from mycelium.serve.http.invites import check, new_invite, new_site_token

NOW_NS = 1_800_000_000 * S_NS


def test_the_sites_token_names_no_invite() -> None:
    token = new_site_token()
    assert check(token, token, NOW_NS) == ""


def test_a_one_time_token_has_a_name_of_its_own() -> None:
    token = new_site_token()
    one, other = new_invite(token, NOW_NS), new_invite(token, NOW_NS)
    assert check(token, one, NOW_NS) != check(token, other, NOW_NS)


def test_an_old_one_time_token_is_denied() -> None:
    token = new_site_token()
    invite = new_invite(token, NOW_NS)
    assert check(token, invite, NOW_NS + INVITE_S * S_NS)
    with pytest.raises(Denied, match="too old"):
        check(token, invite, NOW_NS + (INVITE_S + 1) * S_NS)


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "0", lambda t: t.replace("myconce_1", "myconce_9", 1)]
)
def test_an_altered_one_time_token_is_not_known(change) -> None:
    token = new_site_token()
    with pytest.raises(Unknown):
        check(token, change(new_invite(token, NOW_NS)), NOW_NS)


@pytest.mark.parametrize("shown", ["", ".", "myconce_", "myconce_..", "mycjoin_x", "é" * 50, "\x00"])
def test_nonsense_is_not_known(shown: str) -> None:
    with pytest.raises(Unknown):
        check(new_site_token(), shown, NOW_NS)
