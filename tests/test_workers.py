"""Several processes recalibrate one model: as one would, or not at all, and all of them alike."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import numpy as np
import pytest
import workers
from hypothesis import strategies as st

import bnfix
from bnfix.numerics.moments import ChannelMoments
from bnfix.recalibration import meeting as module
from bnfix.recalibration.meeting import Meeting, Together, room_for

CHANNELS = {"one": 3, "two": 5}
ENGINES = ("exact", "streaming")


# --- meetings, between threads ---------------------------------------------------------------


class Threads:
    """Workers of one process: what `all_reduce` is asked for, and nothing else."""

    def __init__(self, rank, size, shared):
        self.rank, self.size, self.shared = rank, size, shared

    def own_part(self, ds):
        return ds

    def all_reduce(self, values):
        tables, barrier = self.shared
        tables[self.rank] = values
        barrier.wait(timeout=20)
        total = np.sum(np.stack([tables[rank] for rank in range(self.size)]), axis=0)
        barrier.wait(timeout=20)
        return total


def met(size, work, facts=None):
    """What `work(meeting, rank)` returns or raises in each of `size` workers."""
    shared = {}, threading.Barrier(size)

    def one(rank):
        meeting = Together(Threads(rank, size, shared), CHANNELS, ENGINES)
        try:
            with meeting.attended():
                meeting.compare({"options": "as usual"} if facts is None else facts[rank])
                return work(meeting, rank)
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


def agreed(meeting):
    meeting.agree(engine="exact", room=room_for(CHANNELS.values()))


def moments_of(values):
    moments = ChannelMoments(values.shape[-1])
    moments.update(values, axis=1)
    return moments


@hypothesis.given(
    cuts=st.lists(st.integers(0, 60), min_size=0, max_size=4),
    shift=st.sampled_from([0.0, 1e3, 1e7]),
    seed=st.integers(0, 99),
)
def test_moments_merge_as_if_one_worker_had_seen_all(cuts, shift, seed):
    values = np.random.default_rng(seed).normal(shift, 2, size=(60, 3))
    bounds = [0, *sorted(cuts), 60]

    def work(meeting, rank):
        agreed(meeting)
        found = {"one": moments_of(values[bounds[rank] : bounds[rank + 1]])}
        return meeting.merged(found, at="one")["one"]

    results = met(len(bounds) - 1, work)
    whole = moments_of(values)
    for found in results:
        np.testing.assert_array_equal(found.counts, whole.counts)
        np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-14)
        np.testing.assert_allclose(found.variance(), values.var(0), rtol=1e-9)
        assert found.part[1].tobytes() == results[0].part[1].tobytes()
        assert found.part[2].tobytes() == results[0].part[2].tobytes()


def test_the_law_rejects_an_average_of_what_the_workers_found(monkeypatch):
    def averaged(self, rows):
        parts = [row[1:].reshape(3, 3) for row in rows if row.size]
        found = ChannelMoments(3)
        found.merge(*np.mean(parts, axis=0))
        return {"one": found}

    monkeypatch.setattr(Together, "_pooled", averaged)
    with pytest.raises(AssertionError):
        test_moments_merge_as_if_one_worker_had_seen_all.hypothesis.inner_test([20], 0.0, 0)


def test_a_worker_that_fails_says_so_to_all_others():
    def work(meeting, rank):
        agreed(meeting)
        if rank == 1:
            raise bnfix.DataError("row 7 is odd.")
        return meeting.merged({}, at="one")

    first, failed, last = met(3, work)
    assert isinstance(failed, bnfix.DataError)
    for told in (first, last):
        assert isinstance(told, bnfix.WorkerError)
        assert "worker 1 failed" in str(told)
        assert "row 7 is odd" in str(told)
        assert told.kind == "DataError"


def test_a_worker_that_is_interrupted_says_so_at_the_next_meeting():
    def work(meeting, rank):
        agreed(meeting)
        if rank == 1:
            meeting.cancelled.set()  # as the thread does that waits, at Ctrl-C
        return meeting.gathered(np.zeros(0), at="all is done")

    first, stopped = met(2, work)
    assert isinstance(stopped, bnfix.ModelError)
    assert isinstance(first, bnfix.WorkerError)
    assert "worker 1 failed" in str(first)
    assert "interrupted" in str(first)


def test_the_law_rejects_a_worker_that_fails_in_silence(monkeypatch):
    monkeypatch.setattr(Together, "attended", lambda self: Silent())
    monkeypatch.setattr(threading.Barrier, "wait", waiting_little(threading.Barrier.wait))
    with pytest.raises((AssertionError, threading.BrokenBarrierError)):
        test_a_worker_that_fails_says_so_to_all_others()


class Silent:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def waiting_little(wait):
    return lambda self, timeout: wait(self, 0.5)


def test_other_facts_engines_and_places_are_refused_by_all():
    def all_are(results, message):
        for told in results:
            assert isinstance(told, bnfix.WorkerError), told
            assert message in str(told)

    facts = [{"weights": "a"}, {"weights": "a"}, {"weights": "b"}]
    all_are(met(3, lambda m, rank: agreed(m), facts), "workers 0 and 2 have not the same weights")

    def engines(meeting, rank):
        meeting.agree(engine=ENGINES[rank], room=1)

    all_are(met(2, engines), "the exact engine and others through the streaming one")

    def places(meeting, rank):
        agreed(meeting)
        meeting.merged({}, at=f"place {rank}")

    all_are(met(2, places), "at another place")


def test_a_worker_without_data_follows_and_is_told_what_came_of_it():
    values = np.random.default_rng(0).normal(size=(40, 3))

    def work(meeting, rank):
        if rank == 1:
            return meeting.follow()
        agreed(meeting)
        found = {"one": moments_of(values[rank * 10 : 10 + rank * 15])}
        for at in ("first", "second"):
            merged = meeting.merged(found, at=at)
        meeting.finish(merged)
        return "exact", merged

    results = met(3, work)
    assert [engine for engine, _ in results] == ["exact"] * 3
    parts = [found["one"].part for _, found in results]
    for part in parts[1:]:
        np.testing.assert_array_equal(part, parts[0])
    assert met(2, lambda meeting, rank: meeting.follow()) == [None, None]


def test_what_is_too_long_for_a_meeting_is_said_in_parts():
    said = np.random.default_rng(0).normal(size=(2, 20_000))

    def work(meeting, rank):
        for _ in range(2):  # at first in the room that all have, then in what they agree on
            parts = [*meeting.gathered_in_parts(said[rank])]
            np.testing.assert_array_equal(np.concatenate(parts, axis=1), said)
            meeting.agree(engine="exact", room=(9_000, 15_000)[rank])
        return len(parts), meeting.gathered(said[rank][:15_000], at="a long one")[1].size

    assert met(2, work) == [(2, 15_000)] * 2


def test_moments_have_the_room_that_is_asked_for_them(monkeypatch):
    """No less, which no meeting would take, and no more, which all would have to pass on."""
    monkeypatch.setattr(module, "_ROOM", 2)
    found = {path: moments_of(np.ones((4, channels))) for path, channels in CHANNELS.items()}

    def work(meeting, rank):
        agreed(meeting)
        return meeting.merged(found, at="both")

    for merged in met(2, work):
        assert [moments.count for moments in merged.values()] == [8, 8]
    assert room_for(CHANNELS.values()) == 2 + 3 * (3 + 5), "of each, which, and three numbers"


def test_the_engine_and_the_moments_are_those_of_the_first_worker_with_data():
    values = np.random.default_rng(0).normal(size=(9, 5))

    def work(meeting, rank):
        if rank == 0:
            return meeting.follow()
        meeting.agree(engine="streaming", room=1)
        meeting.finish({"two": moments_of(values)} if rank == 1 else {})
        return None

    (engine, found), *_ = met(3, work)
    assert engine == "streaming"
    assert list(found) == ["two"]
    np.testing.assert_array_equal(found["two"].part, moments_of(values).part)


def test_alone_everything_is_as_it_was_found():
    found = {"one": moments_of(np.ones((4, 3)))}
    assert Meeting().merged(found, at="here") == found
    assert Meeting().follow() is None


# --- processes -------------------------------------------------------------------------------


def by_scenario(told):
    """For each scenario, in their order, what all workers said."""
    return list(zip(*told, strict=True))


@pytest.mark.parametrize(
    ("dialect", "size"),
    [
        ("keras3", 2),
        pytest.param("keras3", 3, marks=pytest.mark.long),
        pytest.param("tf_keras", 3, marks=pytest.mark.long),
        pytest.param("tf_keras", 2, marks=pytest.mark.long),
        pytest.param("keras3", 4, marks=pytest.mark.long),
        pytest.param("tf_keras", 4, marks=pytest.mark.long),
    ],
)
def test_workers_find_what_one_process_finds_and_stay_in_step_when_calls_are_refused(dialect, size):
    """Of three workers one has no data; the others have parts of unequal length."""
    told, _ = workers.run(dialect, "calls", size)
    assert len(told) == size
    seen = []
    for lines in by_scenario(told):
        scenario = lines[0]["scenario"]
        seen.append(scenario)
        assert all(line["scenario"] == scenario for line in lines)
        if "off" in lines[0]:
            assert len({line["bits"] for line in lines}) == 1, "all have the same bits"
            assert all(line["off"] < 1e-6 and line["same_counts"] for line in lines), lines
        else:
            assert all(line["same"] for line in lines), "nothing was changed"
    assert seen.count("exact") == 2
    refusals = {lines[0]["scenario"]: [line.get("error") for line in lines] for lines in
                by_scenario(told)}  # fmt: skip
    others = ["WorkerError"] * (size - 1)
    assert refusals["bad_data"] == [*others, "DataError"]
    for scenario in ("other_options", "other_weights"):
        assert set(refusals[scenario]) == {"WorkerError"}
    assert set(refusals["no_data"]) == {"DataError"}
    assert set(refusals["too_few"]) == {"StatisticsError"}
    (diagnosed,) = [lines for lines in by_scenario(told) if lines[0]["scenario"] == "diagnosed"]
    for line in diagnosed:
        assert line["text"] == line["wanted"] == diagnosed[0]["text"] != []
        assert line["near"]
    (alone,) = [lines for lines in by_scenario(told) if lines[0]["scenario"] == "alone_only"]
    assert all(line["said"] == [True, True] for line in alone)
    (guarded,) = [lines for lines in by_scenario(told) if lines[0]["scenario"] == "guarded"]
    assert {(line["kept"], line["verdict"], line["said"]) for line in guarded} == {
        (False, guarded[0]["verdict"], 1)
    }


def test_replicas_are_equal_after_each_epoch_of_fit():
    """With tf_keras; Keras 3 has no `fit` under MultiWorkerMirroredStrategy."""
    told, _ = workers.run("tf_keras", "fitted", 2)
    (lines,) = by_scenario(told)
    assert len(lines[0]["bits"]) == 2
    assert lines[0]["bits"] == lines[1]["bits"]


@pytest.mark.long
def test_the_law_of_replicas_is_broken_without_the_callback():
    told, _ = workers.run("tf_keras", "fitted_without", 2)
    (lines,) = by_scenario(told)
    assert all(a != b for a, b in zip(lines[0]["bits"], lines[1]["bits"], strict=True))


#: Seconds within which a worker that is killed or stands still is missed.
BOUND = 60


def is_missed(scenario, size, monkeypatch, gone):
    monkeypatch.setenv("GONE", str(gone))
    told, _ = workers.run("keras3", scenario, size)
    assert len(told) == size - 1, "all but the one that is gone have ended by themselves"
    for lost, waited in told:
        assert lost["error"] == "WorkerError", lost
        assert lost["same"], "nothing was changed"
        assert waited["seconds"] < BOUND


def test_a_worker_that_is_killed_is_missed_by_the_others_and_nothing_is_changed(monkeypatch):
    is_missed("dies", 2, monkeypatch, gone=1)


@pytest.mark.long
def test_so_is_the_first_one(monkeypatch):
    is_missed("dies", 2, monkeypatch, gone=0)


@pytest.mark.long
@pytest.mark.parametrize("time", range(20))
def test_it_is_missed_every_time(monkeypatch, time):
    is_missed("dies", 2 + time % 2, monkeypatch, gone=1)


@pytest.mark.long
@pytest.mark.parametrize("time", range(5))
def test_a_worker_that_stands_still_is_missed_too(monkeypatch, time):
    is_missed("stands_still", 2 + time % 2, monkeypatch, gone=1)


@pytest.mark.long
@pytest.mark.parametrize("gone", [0, 1])
def test_ctrl_c_in_one_worker_ends_all_and_nothing_is_changed(monkeypatch, gone):
    monkeypatch.setenv("GONE", str(gone))
    told, _ = workers.run("keras3", "interrupted", 2)
    errors = [lost["error"] for lost, _ in told]
    assert errors == ["KeyboardInterrupt" if rank == gone else "WorkerError" for rank in range(2)]
    for lost, waited in told:
        assert lost["same"], "nothing was changed"
        assert waited["seconds"] < BOUND


@pytest.mark.long
def test_a_worker_that_never_comes_is_waited_for_no_longer_than_said(monkeypatch):
    monkeypatch.setattr(workers, "ENOUGH", 90.0)  # the one that never comes is ended then
    told, _ = workers.run("keras3", "absent", 2)
    ((lost, waited),) = told
    assert lost["error"] == "WorkerError"
    assert "did not come within 10 seconds" in lost["said"]
    assert lost["same"], "nothing was changed"
    assert 10 <= waited["seconds"] < BOUND


def test_no_worker_is_left_behind(monkeypatch):
    jobs = []

    def started(ended, arguments, start=workers.started_one):
        jobs.append(start(ended, arguments))
        return jobs[-1]

    monkeypatch.setattr(workers, "started_one", started)
    monkeypatch.setattr(workers, "ENOUGH", 1.0)
    workers.run("keras3", "exact", 2)
    assert [job.returncode for job in jobs] == [-signal.SIGKILL] * 2
