import importlib.metadata

import mycelium
from mycelium.base.version import __version__


def test_the_package_that_is_installed_says_the_version_of_its_code() -> None:
    assert importlib.metadata.version("mycelium") == mycelium.__version__ == __version__
