"""Importing without garbage collection: it rests, comes back as it was, and freezes what is there only once."""

import gc

import pytest

from seglab.machine.imports import _freeze, without_collection


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_rests_and_is_as_it_was(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    _freeze.cache_clear()
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        for _ in range(2):
            with pytest.raises(ImportError), without_collection():
                assert not gc.isenabled()
                raise ImportError
            assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert frozen == [1]  # a second time, garbage of trainings would stay for ever
