"""Each tiny pipeline is written once, and no test changes it."""

import pytest
from pipelines import write_pipeline


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory):
    """{kind: folder}, made when first asked for."""

    class Folders(dict):
        def __missing__(self, kind):
            self[kind] = write_pipeline(kind, tmp_path_factory.mktemp("pipelines") / kind)
            return self[kind]

    return Folders()
