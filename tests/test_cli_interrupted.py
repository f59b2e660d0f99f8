"""Killed or interrupted at any moment, a command leaves the old file or the new one, whole."""

import random
import shutil
import signal
import time

import command_line
import pytest
import zoo
from forking import Server, after, once_writing, real_command

import bnfix
from bnfix.files.damage import understood

REPAIR = "repair model.h5 --data x.npy -o model.h5 --overwrite"

#: Writes as one would without thinking of it, and slowly enough to be caught.
IN_PLACE = """
import contextlib, pathlib, shutil, tempfile, time

@contextlib.contextmanager
def in_place(path):
    folder = pathlib.Path(tempfile.mkdtemp())
    yield folder / path.name
    whole = (folder / path.name).read_bytes()
    shutil.rmtree(folder)
    with open(path, "wb", buffering=0) as file:
        file.write(whole[: len(whole) // 2])
        time.sleep(0.2)
        file.write(whole[len(whole) // 2 :])

sys.modules["bnfix.files.repair"].replacing = in_place
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with a model to repair."""
    folder = tmp_path_factory.mktemp("original")
    command_line.fill(folder, "tf_keras")
    shutil.rmtree(folder / "images")
    return folder


@pytest.fixture
def here(original, tmp_path):
    """A copy of the folder."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def server(original, tmp_path_factory):
    """Works on a copy of the folder; knows how many seconds a repair takes."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(original, folder, dirs_exist_ok=True)
    started = Server(folder)
    begin = time.monotonic()
    assert started.run(REPAIR) == 0, started.said()
    started.takes = time.monotonic() - begin
    yield started
    started.close()


def restore(original, here):
    for entry in here.iterdir():
        if entry.name.startswith("."):  # what a killed process could not clean up
            shutil.rmtree(entry)
    shutil.copyfile(original / "model.h5", here / "model.h5")


def is_repaired(file, before: bytes) -> bool:
    """Whether `file` is the new model; it is the old one otherwise, to the byte."""
    if file.read_bytes() == before:
        return False
    model = bnfix.load(file)
    assert len(zoo.batch_norms(model)) == 2
    assert bnfix.diagnose(model).ok
    return True


def killed(server, original, kills: int, prepare: str = "") -> int:
    """Kill the repair `kills` times, each second time while it writes; how often it was done."""
    here, before = server.folder, (original / "model.h5").read_bytes()
    chance, done = random.Random(0), 0
    for turn in range(kills):
        restore(original, here)
        if turn % 2:
            disturb = after(chance.uniform(0, server.takes), signal.SIGKILL)
        else:
            disturb = once_writing(here, chance.uniform(0, 0.08))
        status = server.run(REPAIR, disturb, prepare=prepare)
        if status not in (0, -signal.SIGKILL):
            pytest.fail(server.said())
        done += is_repaired(here / "model.h5", before)
    return done


@pytest.mark.parametrize("kills", [2, pytest.param(200, marks=pytest.mark.long)])
def test_killed_at_any_moment_the_file_is_the_old_one_or_the_new_one(server, original, kills):
    done = killed(server, original, kills)
    if kills >= 100:  # both have been seen
        assert 0 < done < kills


def test_writing_in_place_fails_that_law(server, original):
    with pytest.raises(bnfix.FileError):
        killed(server, original, 5, prepare=IN_PLACE)


@pytest.mark.parametrize("times", [3, pytest.param(60, marks=pytest.mark.long)])
def test_interrupted_at_any_moment_nothing_is_left_behind(server, original, times):
    here, before = server.folder, (original / "model.h5").read_bytes()
    chance, interrupted = random.Random(1), 0
    names = {entry.name for entry in original.iterdir()}
    for turn in range(times):
        restore(original, here)
        if turn % 2:
            disturb = after(chance.uniform(0, server.takes), signal.SIGINT)
        else:
            disturb = once_writing(here, chance.uniform(0, 0.02), signal.SIGINT)
        status = server.run(REPAIR, disturb)
        assert status in (0, 130), server.said()
        assert "Traceback" not in server.said()
        assert {entry.name for entry in here.iterdir()} - {"stderr.txt"} == names
        is_repaired(here / "model.h5", before)
        interrupted += status == 130
    assert interrupted


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)]
)
@pytest.mark.parametrize(
    "seconds", [1.5, *(pytest.param(s, marks=pytest.mark.long) for s in (0.2, 0.7, 2.5, 4, 6, 8))]
)
def test_the_real_command_can_be_stopped_from_outside(original, here, number, seconds):
    before = (original / "model.h5").read_bytes()
    running = real_command(REPAIR, here)
    time.sleep(seconds)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    # As a shell tells it. Python ends by the signal itself, not by the status that it was told to
    # end with, where Ctrl-C has met an `exec` of some text, as in the making of a dataclass.
    status = 128 - running.returncode if running.returncode < 0 else running.returncode
    assert status == 128 + number or (status == 0 and seconds > 3), err
    assert "Traceback" not in err
    if status == 130:
        assert out == ""
        assert {entry.name for entry in here.iterdir()} == {"model.h5", "x.npy", "xy.npz"}
    is_repaired(here / "model.h5", before)


def test_an_interruption_that_compiled_code_reports_as_its_own_error_stays_one():
    with pytest.raises(KeyboardInterrupt), understood("m.h5", "/", "HDF5", (SystemError,)):
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()
