import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, so that nothing is read from or left in the user's."""
    monkeypatch.setenv("SUPERLORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
