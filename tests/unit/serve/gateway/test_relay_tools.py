"""Whether a model takes tools."""

from __future__ import annotations

import pytest

from mycelium.serve.gateway.relay import takes_tools


@pytest.mark.parametrize(
    ("status", "props", "takes"),
    [
        (200, b'{"chat_template_caps":{"supports_tools":false}}', False),
        (200, b'{"chat_template_caps":{"supports_tools":true}}', True),
        (200, b"{}", True),
        (404, b"no such page", True),
        (200, b"no json", True),
    ],
)
def test_only_a_model_that_says_so_takes_no_tools(status: int, props: bytes, takes: bool):
    assert takes_tools(status, props) is takes
