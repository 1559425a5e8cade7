"""`uml doctor`: what it says of the machine, and which encoders it times."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import uml_extract.doctor as doctor
from uml_extract.doctor_command import doctor as command


def test_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "hub_answers", lambda: False)
    monkeypatch.setattr(doctor, "weights_at_hand", lambda name: name in ("hog-color", "hashed-ngrams"))
    monkeypatch.setattr(doctor, "_SECONDS", 0.0)
    found = CliRunner().invoke(command, ["--json"], catch_exceptions=False)
    answer = json.loads(found.stdout)
    assert set(answer["encoders"]) == {"hog-color", "hashed-ngrams"}
    assert all(milliseconds > 0 for milliseconds in answer["encoders"].values())
    assert "pixels" in answer["absent"]
    assert answer["devices"][0] == "cpu"
    assert not answer["hub"]
    shown = CliRunner().invoke(command, ["--no-timing"], catch_exceptions=False).stdout
    assert "cannot be reached" in shown
