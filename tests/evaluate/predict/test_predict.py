"""`uml predict`: which files, which head, tables of every kind, parts that stay."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from click.testing import CliRunner

from s3_server import s3_server
from small_world import CLASSES, sentences, write_pictures
from uml_cache import InputError, Output, WorkError
from uml_evaluate import predict_files
from uml_evaluate.commands.predict_command import predict as command
from uml_evaluate.predict import predictor
from uml_evaluate.predict.predictor import Predicted
from uml_evaluate.predict.table import PredictionTable, Shape, rows_of
from uml_extract import extract
from uml_manifests import from_csv, from_folder
from uml_train import TrainSettings, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on pictures, and in `text` one on sentences."""
    folder = tmp_path_factory.mktemp("world")
    write_pictures(folder / "pictures", 12)
    texts, names = sentences(12)
    with (folder / "texts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "label"])
        writer.writerows(
            [f"t{i}", text, name] for i, (text, name) in enumerate(zip(texts, names, strict=True))
        )
    extract(from_folder(folder / "pictures", name="toy"), "hog-color", out=folder / "feats")
    extract(from_csv(folder / "texts.csv", name="toy"), "hashed-ngrams", out=folder / "feats")
    for target, out in (("image", "runs"), ("text", "text")):
        train(
            TrainSettings(
                cache=folder / "feats", target=target, auxiliaries=(), methods=("unimodal",), shots=(2,),
                seeds=(1,), out=folder / out,
            )
        )  # fmt: skip
    return folder / "runs"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


class _Heard(Output):
    """Keeps the remarks that a command makes."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(quiet=True)
        self._said = said

    def say(self, text: str) -> None:
        self._said.append(text)


def test_a_folder(runs: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "new", 3, seed=4)
    (tmp_path / "new" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "new" / "notes.txt").write_text("no picture either")
    out = tmp_path / "out" / "predictions.csv"
    (tmp_path / "new" / "phone.heic").write_bytes(b"no kind that is read")
    (tmp_path / "new" / "scan").write_bytes(b"no extension")
    said: list[str] = []
    found = predict_files(runs, [str(tmp_path / "new")], out, top=2, output=_Heard(said))
    assert (found.rows, found.failed) == (10, 1)
    left_out = {"neither image nor audio (.txt)": 1, "unreadable format .heic": 1}
    left_out["neither image nor audio (without extension)"] = 1
    assert {name: found.to_json()[name] for name in ("used", "of", "left_out")} == {
        "used": 10, "of": 13, "left_out": left_out,
    }  # fmt: skip
    assert any(line.startswith("10 of 13 used; left out: ") for line in said)
    again = predict_files(runs, [str(tmp_path / "new"), str(tmp_path / "new/broken.png")], tmp_path / "p.csv")
    assert (again.rows, again.to_json()["left_out"]) == (11, left_out)
    assert out.read_text().startswith("path,prediction,probability,prediction_2,probability_2,reason\n")
    rows = _rows(out)
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert rows[-1]["path"] == "red dot/008.png"
    broken = next(row for row in rows if row["path"] == "broken.png")
    assert broken["prediction"] == broken["probability"] == ""
    assert "no picture of a kind" in broken["reason"]
    right = [row["prediction"] == row["path"].partition("/")[0] for row in rows if not row["reason"]]
    assert sum(right) >= 8
    assert not out.with_name("predictions.csv.parts").exists()


def test_tables_of_every_kind_say_the_same(runs: Path, tmp_path: Path) -> None:
    files = [str(file) for file in write_pictures(tmp_path / "new", 2)]
    for kind in ("csv", "jsonl", "parquet"):
        predict_files(runs, files, tmp_path / f"p.{kind}", every=True)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    parquet = pandas.read_parquet(tmp_path / "p.parquet")
    table = pandas.read_csv(tmp_path / "p.csv")
    assert list(table.columns) == list(parquet.columns)
    for name in ("path", "prediction", "probability", *(f"p:{c}" for c in CLASSES)):
        assert list(table[name]) == list(parquet[name]) == [line[name] for line in lines]


def test_a_run_that_cannot_be_written_to(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(file) for file in write_pictures(tmp_path / "new", 2)]
    predict_files(runs, files, tmp_path / "before.csv")
    for head in runs.glob("*/predict/*"):
        head.unlink()
    write = predictor.write_atomic

    def refusing(path: Path, *rest: Any) -> None:
        if runs in path.parents:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        write(path, *rest)

    monkeypatch.setattr(predictor, "write_atomic", refusing)
    predict_files(runs, files, tmp_path / "after.csv")
    assert (tmp_path / "after.csv").read_text() == (tmp_path / "before.csv").read_text()
    assert not list(runs.glob("*/predict/*"))


def test_it_goes_on_where_it_was_stopped(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "new", 4)
    given = [str(tmp_path / "new")]
    predict_files(runs, given, tmp_path / "whole.csv", part_rows=5)
    own = PredictionTable.write

    def stopping(table: PredictionTable, part: int, rows: list[list[Any]]) -> None:
        if part == 2:
            raise KeyboardInterrupt
        own(table, part, rows)

    monkeypatch.setattr(PredictionTable, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict_files(runs, given, tmp_path / "again.csv", part_rows=5)
    monkeypatch.setattr(PredictionTable, "write", own)
    found = predict_files(runs, given, tmp_path / "again.csv", part_rows=5)
    assert found.resumed == 10
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    # Parts of other samples do not count.
    monkeypatch.setattr(PredictionTable, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict_files(runs, given, tmp_path / "again.csv", part_rows=5)
    monkeypatch.setattr(PredictionTable, "write", own)
    write_pictures(tmp_path / "new", 4, seed=8)
    assert predict_files(runs, given, tmp_path / "again.csv", part_rows=5).resumed == 0


def test_what_earlier_calls_did_is_counted(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "new", 4)
    for name in ("a.png", "z.png"):
        (tmp_path / "new" / name).write_bytes(b"no picture")
    given = [str(tmp_path / "new")]
    whole = predict_files(runs, given, tmp_path / "whole.csv", part_rows=5)
    own = PredictionTable.finish
    monkeypatch.setattr(PredictionTable, "finish", lambda _: pytest.fail("killed here"))
    with pytest.raises(pytest.fail.Exception):
        predict_files(runs, given, tmp_path / "again.csv", part_rows=5)
    monkeypatch.setattr(PredictionTable, "finish", own)
    again = predict_files(runs, given, tmp_path / "again.csv", part_rows=5)
    assert again.resumed == again.rows == 14
    assert (again.failed, again.counts) == (whole.failed, whole.counts)
    assert whole.failed == 2


def test_a_choice_of_columns_is_said(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sentence,caption2\none red dot is seen,x\n")
    said: list[str] = []
    predict_files(runs.parent / "text", [str(tmp_path / "t.csv")], tmp_path / "p.csv", output=_Heard(said))
    assert any("no column is called 'text': using 'sentence'" in line for line in said)


def test_values_that_are_not_finite_are_a_reason(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uml_extract.encoders.builtin.pictures import HogColor

    own = HogColor.encode

    def odd(self: Any, samples: Any, **options: Any) -> Any:
        found = own(self, samples, **options)
        found.pooled[0, 2] = np.inf
        return found

    monkeypatch.setattr(HogColor, "encode", odd)
    files = [str(file) for file in write_pictures(tmp_path / "new", 1)]
    found = predict_files(runs, files, tmp_path / "p.csv")
    rows = _rows(tmp_path / "p.csv")
    assert found.failed == 1
    assert [row["reason"] for row in rows if row["reason"]] == ["the encoder gave values that are not finite"]
    assert sum(found.counts.values()) == len(rows) - 1


def test_two_classes_of_one_name_stay_two(tmp_path: Path) -> None:
    part = Predicted(
        rows=np.array([0, 1]), failed={}, probabilities=np.array([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    )
    shape = Shape(("crane", "crane", "gull"), 1, every=True)
    assert shape.columns[3:6] == ["p:crane", "p:crane#2", "p:gull"]
    rows = rows_of(part, range(2), ["a", "b"], shape)
    assert [row[1] for row in rows] == ["crane#2", "crane"]


def test_csv_of_paths_and_of_texts(runs: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "new", 1)
    (tmp_path / "list.csv").write_text("path,taken\nred dot/002.png,monday\ngone.png,tuesday\n")
    (tmp_path / "list.csv").rename(tmp_path / "new" / "list.csv")
    predict_files(runs, [str(tmp_path / "new" / "list.csv")], tmp_path / "p.csv")
    rows = _rows(tmp_path / "p.csv")
    assert [row["path"] for row in rows] == ["red dot/002.png", "gone.png"]
    assert [bool(row["reason"]) for row in rows] == [False, True]
    (tmp_path / "t.csv").write_text("text\nsome green bar stands up\none red dot is seen\n")
    predict_files(runs.parent / "text", [str(tmp_path / "t.csv")], tmp_path / "t_out.csv")
    assert [row["prediction"] for row in _rows(tmp_path / "t_out.csv")] == ["green bar", "red dot"]
    (tmp_path / "t.txt").write_text("a blue ring lies there\n")
    predict_files(runs.parent / "text", [str(tmp_path / "t.txt")], tmp_path / "t_out.csv")
    assert _rows(tmp_path / "t_out.csv")[0]["prediction"] == "blue ring"


def test_json_answer(runs: Path, tmp_path: Path) -> None:
    files = [str(file) for file in write_pictures(tmp_path / "new", 1)]
    arguments = [str(runs), *files, "--out", str(tmp_path / "p.csv"), "--json"]
    found = CliRunner().invoke(command, arguments, catch_exceptions=False)
    answer = json.loads(found.stdout)
    assert answer["rows"] == 3
    assert answer["failed"] == answer["resumed_rows"] == 0
    assert (answer["method"], answer["shots"], answer["seed"]) == ("unimodal", 2, 1)
    assert answer["encoder"] == "hog-color"
    assert sum(answer["predicted"].values()) == 3


@pytest.mark.parametrize(
    ("given", "out", "options", "said"),
    [
        (["nowhere"], "p.csv", {}, "no such file or folder"),
        (["."], "p.txt", {}, "ends in .csv, .jsonl, .parquet"),
        (["."], "p.csv", {"top": 9}, "3 classes"),
        (["."], "p.csv", {"method": "umm"}, "unknown method"),
        (["."], "p.csv", {"shots": 16}, "known: 2"),
        (["."], "p.csv", {"encoder": "pixels"}, "not the one that the features were made with"),
    ],
)
def test_wrong_use_is_said_in_a_line(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], out: str,
    options: dict[str, Any], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "new", 1)
    with pytest.raises(InputError, match=said):
        predict_files(runs, given, tmp_path / out, **options)


def test_nothing_readable_is_a_failure_with_a_table(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(WorkError, match="not one of 1"):
        predict_files(runs, [str(tmp_path / "a.png")], tmp_path / "p.csv")
    assert _rows(tmp_path / "p.csv")[0]["reason"]


@pytest.mark.filterwarnings("ignore")  # moto's and boto's own
def test_a_bucket_gives_what_the_folder_gives(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`s3://bucket/photos`: the same rows as from the disk, an object that is no picture with its reason."""
    import boto3

    files = write_pictures(tmp_path / "new", 3, seed=4)
    broken = tmp_path / "new" / "broken.png"
    broken.write_bytes(b"no picture")
    with s3_server(monkeypatch, bucket="photos") as server:
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}")
        for file in [*files, broken]:
            client.upload_file(str(file), "photos", f"monday/{file.relative_to(tmp_path / 'new').as_posix()}")
        client.put_object(Bucket="photos", Key="monday/notes.txt", Body=b"no picture either")
        words = [str(runs), "s3://photos/monday", "--out", str(tmp_path / "far.csv")]
        done = CliRunner().invoke(command, words, catch_exceptions=False)
        assert done.exit_code == 0
        one = [str(runs), f"s3://photos/monday/red dot/{files[-1].name}", "--out", str(tmp_path / "one.csv")]
        assert CliRunner().invoke(command, one, catch_exceptions=False).exit_code == 0
    predict_files(runs, [str(tmp_path / "new")], tmp_path / "near.csv")
    far, near = (
        sorted((row["path"], row["prediction"], row["probability"]) for row in _rows(tmp_path / name))
        for name in ("far.csv", "near.csv")
    )
    assert far == near
    assert len(far) == 10
    assert [row["path"] for row in _rows(tmp_path / "far.csv") if row["reason"]] == ["broken.png"]
    assert [row["path"] for row in _rows(tmp_path / "one.csv")] == [files[-1].name]
