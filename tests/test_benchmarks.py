"""The benchmarks run, tell what they measured, missed and left out, and RESULTS.md says no more."""

import csv
import json
from dataclasses import dataclass, replace

import pytest

import benchmarks.__main__ as command
from benchmarks import import_cost, tables
from benchmarks.benchmark import Benchmark, Measured, Row, Skipped, Target, once
from benchmarks.pictures import picture
from benchmarks.results import Earlier, Results, load, save
from benchmarks.running import run
from benchmarks.scale import bend
from benchmarks.timing import Fresh, interleaved


@dataclass(frozen=True)
class Nothing:
    """No options."""


def made(*found, targets=(), requires=(), options=None, name="made"):
    """A benchmark that measures `found`."""
    options = options or Nothing()
    about = "What is made up?\n\n    python -m benchmarks.made\n\nNothing is true of it.\n"
    return Benchmark(name, about, lambda _: iter(found), options, options, targets, requires)


def ran(benchmark, *, quick=False):
    return run(benchmark, benchmark.full, quick=quick)


def document(benchmark, entry, earlier=()):
    return tables.document(Results({benchmark.name: entry}, earlier), [benchmark])


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the command writes of the smallest benchmark."""
    out = tmp_path_factory.mktemp("measured")
    options = import_cost.Options(modules=("json",), repeats=2)
    small = replace(import_cost.BENCHMARK, quick=options)
    assert command.run_here([small], out, quick=True) == 0
    return out


def test_a_run_writes_every_repeat_with_unit_machine_and_versions(folder):
    entry = json.loads((folder / "results.json").read_text())["entries"]["import_cost"]
    assert {"processor", "cores", "memory"} <= entry["machine"].keys()
    assert {"python", "numpy", "keras", "bnfix"} <= entry["versions"].keys()
    assert entry["options"] == {"modules": ["json"], "repeats": 2}
    (row,) = entry["rows"]
    time = row["numbers"]["time"]
    assert time["unit"] == "s"
    assert time["median"] == pytest.approx(sum(time["repeats"]) / 2)
    with (folder / "import_cost.csv").open() as file:
        values = [float(line["value"]) for line in csv.DictReader(file)]
    assert values == time["repeats"]


def test_a_run_writes_the_table_that_its_json_gives(folder):
    found = load(folder / "results.json")
    text = (folder / "RESULTS.md").read_text()
    assert text == tables.document(found, command.benchmarks())
    assert "| json |" in text


def test_what_is_read_back_gives_the_same_table(tmp_path):
    row = Row({"network": "one"}, {"time": Measured("s", (1.0, 3.0, 2.0))}, {"why": "so"}, "T", 3.0)
    benchmark = made(row, Skipped("two", "it is not installed"))
    found = Results({"made": ran(benchmark)}, (Earlier("old", "other", ("text", [["a"], ["1"]])),))
    save(found, tmp_path / "results.json")
    again = load(tmp_path / "results.json")
    assert tables.document(again, [benchmark]) == tables.document(found, [benchmark])
    save(again, tmp_path / "again.json")
    texts = [(tmp_path / name).read_text() for name in ("results.json", "again.json")]
    assert texts[0] == texts[1]


def test_curves_and_ratios_are_drawn(tmp_path):
    ratio = Row({"network": "one"}, {"ratio": Measured("x", (1.0, 2.0))})
    points = [Row({"n": str(n)}, {"time": once("s", n)}, table="of n", at=n) for n in (1, 2, 4)]
    for rows, lines in (([ratio], 2), (points, 4)):  # a range and 1; three points and the curve
        benchmark = made(*rows)
        figure = picture(benchmark, ran(benchmark))
        assert len(figure.axes[0].lines) == lines
        figure.savefig(tmp_path / "drawn.png")
    plain = made(Row({"n": "1"}, {"time": once("s", 1)}))
    assert picture(plain, ran(plain)) is None


# --- targets -------------------------------------------------------------------------------------


def judged(repeats, most, *, quick=False):
    """The line of a target, beside a row that it is not for."""
    rows = (
        Row(
            {"network": "one"},
            {"ratio": Measured("x", repeats), "limit": once("x", 0.5), "share": once("%", 12)},
        ),
        Row({"network": "two"}, {"ratio": once("x", 99)}),
    )
    target = Target("one is fast", "ratio", most, {"network": "one"}, ("limit", "share"))
    benchmark = made(*rows, targets=(target,))
    text = document(benchmark, ran(benchmark, quick=quick))
    (line,) = (line for line in text.splitlines() if "one is fast" in line)
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


def assert_targets_are_judged_by_medians():
    assert judged((2.0, 0.9, 2.0), 1.0)[2] == "**no**"
    assert judged((2.0, 0.9, 0.9), 1.0)[2] == "yes"


def test_a_missed_target_is_told_as_missed_with_what_bounds_it():
    bounds = "limit: 0.50; share: 12.0 %"
    assert judged((2.0, 0.9, 2.0), 1.0) == ["1", "2.00 (0.90 to 2.00)", "**no**", bounds]
    assert_targets_are_judged_by_medians()


@pytest.mark.parametrize("mutant", [min, max])
def test_that_law_notices_a_judge_who_takes_the_best_or_worst_round(mutant, monkeypatch):
    monkeypatch.setattr(Measured, "median", property(lambda number: mutant(number.repeats)))
    with pytest.raises(AssertionError):
        assert_targets_are_judged_by_medians()


def test_a_quick_run_judges_nothing():
    assert judged((0.1,), 1.0, quick=True)[2] == "not judged: a quick run"


def test_what_was_not_measured_is_not_met():
    benchmark = made(targets=(Target("one is fast", "ratio", 1.0),))
    assert "| one is fast | 1 |  | not measured |" in document(benchmark, ran(benchmark))
    assert "not measured" in tables.document(Results(), [benchmark])


def test_of_several_rows_the_worst_counts():
    rows = [Row({"n": str(n)}, {"ratio": once("x", n)}) for n in (1, 3, 2)]
    assert Target("", "ratio", 1.0).row(rows) is rows[1]


# --- what is left out ----------------------------------------------------------------------------


@dataclass(frozen=True)
class InKerases:
    kerases: tuple[str, ...] = ("no_such_keras",)


@pytest.mark.parametrize(
    ("benchmark", "reason"),
    [
        (made(requires=("no_such_package",)), "made, no_such_package is not installed."),
        (made(options=InKerases()), "made in no_such_keras, it is not installed."),
        (made(Skipped("LiteRT", "it cannot")), "LiteRT, it cannot."),
    ],
)
def test_what_is_skipped_is_told_by_name_with_its_reason(benchmark, reason):
    assert f"Skipped: {reason}" in document(benchmark, ran(benchmark))


def breaks_down(_):
    yield Row({"network": "one"}, {"time": once("s", 1)})
    raise OSError("no space left")


def test_an_error_is_told_and_keeps_what_was_measured_before(tmp_path):
    broken = replace(made(name="import_cost"), measure=breaks_down)
    assert command.run_here([broken], tmp_path, quick=False) == 1
    entry = load(tmp_path / "results.json").entries["import_cost"]
    assert entry.failed == "OSError: no space left"
    assert len(entry.rows) == 1
    assert "no space left" in document(broken, entry)


# --- what is kept --------------------------------------------------------------------------------


def test_a_run_replaces_none_that_is_worth_more():
    row = Row({}, {"time": once("s", 1)})
    full, quick = (ran(made(row), quick=quick) for quick in (False, True))
    failed = ran(replace(made(), measure=breaks_down))
    skipped = ran(made(Skipped("all of it", "it is not here")))
    kept = Results().with_entry("made", full)
    for less in (quick, failed, skipped):
        assert kept.with_entry("made", less) is kept
    for more in (full, ran(made(row))):
        for less in (quick, failed, skipped, full):
            known = Results().with_entry("made", less)
            assert known.with_results(Results({"made": more})).entries["made"] is more


def test_only_a_full_run_replaces_what_was_measured_earlier():
    row = Row({}, {"time": once("s", 1)})
    earlier = (Earlier("old", "made", ("text",)), Earlier("older", "other", ()))
    full, quick = (ran(made(row), quick=quick) for quick in (False, True))
    assert Results({}, earlier).with_entry("made", quick).earlier == earlier
    assert Results({}, earlier).with_entry("made", full).earlier == earlier[1:]


def test_results_are_written_from_a_folder_into_those_that_are_kept(tmp_path):
    row = Row({"network": "one"}, {"time": once("s", 1.25)})
    found = Results({"import_cost": ran(made(row))})
    save(found, tmp_path / "measured" / "results.json")
    save(Results({}, (Earlier("old", "scale", ("text",)),)), tmp_path / "results.json")
    command.write_results(tmp_path / "measured", tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| one | 1.25 |" in text
    assert "### old" in text


def assert_made_of_the_json(text):
    assert text == tables.document(load(command.HERE / "results.json"), command.benchmarks())


def test_the_results_are_what_the_command_makes_of_the_json_beside_them():
    text = (command.HERE / "RESULTS.md").read_text("utf-8")
    assert_made_of_the_json(text)
    with pytest.raises(AssertionError):
        assert_made_of_the_json(text.replace("0", "1", 1))  # by hand


# --- how it is measured --------------------------------------------------------------------------


def test_contenders_take_turns_and_new_things_are_made_for_each_round():
    log = []
    calls = {
        "a": lambda: log.append("a"),
        "b": Fresh(lambda: len(log), lambda made: log.append(made)),
    }
    found = interleaved(calls, 2, warm_up=1)
    assert log == ["a", 1, "a", 3, "a", 5]
    assert [len(time.repeats) for time in found.values()] == [2, 2]


def test_ratios_and_differences_are_those_of_the_same_round():
    a, b = Measured("s", (2.0, 8.0)), Measured("s", (1.0, 2.0))
    assert (a / b) == Measured("x", (2.0, 4.0))
    assert (a - b) == Measured("s", (1.0, 6.0))
    with pytest.raises(ValueError, match="do not compare"):
        a / once("ms", 1)


PLACES = [1.0, 2.0, 4.0, 8.0, 16.0]


def assert_bends_where_curves_do(bend):
    assert bend(PLACES, [5 + 3 * n for n in PLACES]) == pytest.approx(0, abs=1e-6)
    assert bend(PLACES, [5 + n**0.8 for n in PLACES]) < 0
    assert bend(PLACES, [5 + n**1.5 for n in PLACES]) > 15


def over_the_first(places, seconds):
    """Forgets what does not grow."""
    return 100 * (seconds[-1] / seconds[0] / (places[-1] / places[0]) - 1)


def from_all_points(places, seconds):
    """Forgets to leave out the last."""
    import numpy as np

    slope, start = np.polyfit(places, seconds, 1)
    return 100 * (seconds[-1] / (start + slope * places[-1]) - 1)


def test_a_bend_is_what_lies_above_the_line_through_the_other_points():
    assert_bends_where_curves_do(bend)


@pytest.mark.parametrize("mutant", [over_the_first, from_all_points])
def test_that_law_notices_other_bends(mutant):
    with pytest.raises(AssertionError):
        assert_bends_where_curves_do(mutant)


# --- all of them ---------------------------------------------------------------------------------


def test_every_benchmark_asks_a_question_and_goes_by_the_name_of_its_module(capsys):
    for name, benchmark in zip(command.NAMES, command.benchmarks(), strict=True):
        assert benchmark.name == name
        assert benchmark.question.endswith("?")
        assert type(benchmark.quick) is type(benchmark.full)
        assert benchmark.quick != benchmark.full or name in ("comparison",)
    assert command.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(command.NAMES)


def test_a_name_that_no_benchmark_has_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "no_such_benchmark"])
    assert "import_cost" in capsys.readouterr().err
