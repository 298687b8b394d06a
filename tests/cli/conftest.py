"""Each family's run is made once, when a test first asks for it, and no test changes it."""

import pytest

from .family_runs import make_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """{kind: run}"""

    class Runs(dict):
        def __missing__(self, kind):
            self[kind] = make_run(kind, tmp_path_factory.mktemp(kind))
            return self[kind]

    return Runs()
