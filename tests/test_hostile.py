"""Files that are damaged or made to do harm are refused: soon, with little memory, and unread.

One process of its own runs `inspect`, an edit and `load` over all of them (`hostile_run.py`).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
import zoo

import bnfix

SECONDS = 5
GROWTH = 512 << 20
OPERATIONS = ("inspect", "edit", "load")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders: of the files, for results, for temporary files, and where the process runs."""
    root = tmp_path_factory.mktemp("hostile")
    for name in ("files", "out", "tmp", "cwd", "path"):
        (root / name).mkdir()
    for name, build in hostile.CORPUS.items():
        build(root / "files" / name)
    (root / "path" / "canary_module.py").write_text(
        f"{hostile.CANARY}\ndef act(x):\n    return x\nclass Evil:\n    pass\n"
    )
    return root


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Names, sizes and times of what is in `folder`."""
    found = {path.name: path.lstat() for path in folder.iterdir()}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


@pytest.fixture(scope="module")
def results(place):
    """What came of each file and operation, and what is left lying around."""
    before = listing(place / "files")
    tests = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(bnfix.__file__).parents[1]}:{tests}:{place / 'path'}",
        "BNFIX_CANARY": str(place / "canary"),
        "TMPDIR": str(place / "tmp"),
    }
    command = [sys.executable, str(tests / "hostile_run.py"), str(place / "files")]
    done = subprocess.run(
        command, env=environment, cwd=place / "cwd", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines[-1]["done"] == len(before) - 1, done.stderr[-2000:]
    after = {"files": (before, listing(place / "files")), "cwd": lines[-1]["cwd"]}
    return {(line["file"], line["operation"]): line for line in lines[:-1]}, after


def test_there_are_many_kinds():
    assert len(hostile.CORPUS) >= 40


@pytest.mark.parametrize("name", hostile.CORPUS)
def test_a_hostile_file_is_refused_soon_and_with_little_memory(name, results):
    found = [results[0].get((name, operation)) for operation in OPERATIONS]
    for result in filter(None, found):
        what = f"{result['operation']} of {name}: {result['error']}: {result['message'][:300]}"
        harmless = name in hostile.INSPECTABLE and result["operation"] != "load"
        assert result["error"] or harmless, f"{what}: not refused"
        assert result["error"] is None or result["own"], what
        assert result["seconds"] < SECONDS, f"{what}: took {result['seconds']:.1f} s"
        assert result["grown"] < GROWTH, f"{what}: took {result['grown'] >> 20} MiB"
        if result["error"]:
            assert result["error"] in ("FileError", "UnsafeFileError"), what
            assert result["message"].endswith("Nothing was changed."), what
            assert Path(name).name.partition(".")[0] in result["message"], what


def test_each_file_that_only_opening_makes_dangerous_can_be_looked_into(results):
    for name in hostile.INSPECTABLE:
        assert results[0][name, "inspect"]["error"] is None, results[0][name, "inspect"]


def test_no_code_of_theirs_was_run(place, results):
    assert not (place / "canary").exists()


def test_the_canary_sings_where_nobody_listens(place, monkeypatch):
    """The lambda of the corpus does run where it is allowed to: the test above can fail."""
    monkeypatch.setenv("BNFIX_CANARY", str(place / "tried"))
    tf_keras = zoo.keras_module("tf_keras")
    tf_keras.models.load_model(str(place / "files" / "marshalled_lambda.h5"))
    assert (place / "tried").exists()


def test_nothing_was_written_beside_them(place, results):
    before, after = results[1]["files"]
    assert after == before
    assert results[1]["cwd"] == []
    assert list((place / "tmp").iterdir()) == []
    assert {path.name for path in (place / "out").iterdir()} <= hostile.INSPECTABLE


@pytest.mark.parametrize(
    "version", ["2.15.0", pytest.param("3.9.0", marks=pytest.mark.since(keras3="3.6"))]
)
def test_the_files_that_they_are_made_from_are_harmless(version, tmp_path):
    """Else all of the corpus could be refused for another reason than the one it is about."""
    zoo.keras_module("tf_keras")
    path = tmp_path / "plain.h5"
    hostile.plain_h5(path)
    assert len(bnfix.inspect(path).batch_norms) == 1
    assert bnfix.load(path).count_params() == 4 * hostile.CHANNELS
    path = tmp_path / "plain.keras"
    hostile.plain_keras(path, version=version)
    report = bnfix.inspect(path)
    assert [norm.channels for norm in report.batch_norms] == [hostile.CHANNELS]
    if version.startswith("3"):
        assert bnfix.load(path).count_params() == 4 * hostile.CHANNELS
