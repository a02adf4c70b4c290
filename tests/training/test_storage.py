"""Where a run's result lies makes no difference to what is in it."""

from __future__ import annotations

from pathlib import Path

from microtome_training.storage import Storage


def test_a_log_in_a_store_is_brought_to_be_added_to(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch\n1\n")
    storage = Storage("memory://bucket/model")
    storage.upload(tmp_path)
    (tmp_path / "log.csv").unlink()
    storage.fetch("log.csv", tmp_path)
    storage.fetch("none.csv", tmp_path)
    assert (tmp_path / "log.csv").read_text() == "epoch\n1\n"
