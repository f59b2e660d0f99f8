"""Reports: text, HTML, data frame and JSON tell the same; nothing in them is obeyed."""

import base64
import dataclasses
import hashlib
import html.parser
import itertools
import json
import re
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path

import command_line
import numpy as np
import pytest
import report_schema
from reports_made import HOSTILE, headless, made, poisoned

import bnfix
from bnfix.checks.cause import Cause
from bnfix.checks.check_report import CheckReport, Finding
from bnfix.cli import output
from bnfix.cli.commands import group
from bnfix.outcomes import Report
from bnfix.recalibration.statistics import LayerStatistics
from bnfix.rendering import html as rendering
from bnfix.rendering import page
from bnfix.rendering.charts import Bars, Cell, Mood, Panel, Strip
from bnfix.rendering.drawing import drawn, svg
from bnfix.rendering.story import Column, Section, Story, Table
from bnfix.rendering.text import text

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")

VERBS = (
    "inspect", "check", "diagnose", "diagnose without data", "repair", "repair_file",
    "repair_file with data", "fold", "fold lowered", "freeze", "strip_training",
    "strip_augmentation", "to_group_norm", "replace", "open_up", "recalibrate",
    "check of a sound model",
)  # fmt: skip


# The Kerases differ in what is found, hardly in how it is told.
@pytest.fixture(scope="module", params=["tf_keras", pytest.param("keras3", marks=pytest.mark.long)])
def reports(request, tmp_path_factory):
    found = made(request.param, tmp_path_factory.mktemp("reports"))
    assert set(found) == set(VERBS)
    return found


every_verb = pytest.mark.parametrize("verb", VERBS)
#: Drawing takes a second each; these have all kinds of charts.
DRAWN = ("check", "recalibrate", "fold lowered")
some_verbs = pytest.mark.parametrize(
    "verb",
    [verb if verb in DRAWN else pytest.param(verb, marks=pytest.mark.long) for verb in VERBS],
)


class Seen(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = [], set(), ""
        self.rows: list[list[str]] = []
        self.within = False
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.within = True

    def handle_data(self, data):
        self.text += f"{data} "
        if self.within:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self.within = self.within and tag not in ("td", "th")


def tables(story: Story) -> list[Table]:
    inner = [table for section in story.sections() for table in tables(section.story)]
    return [*story.tables(), *inner]


# --- one table, four ways ------------------------------------------------------------------------


@every_verb
def test_html_has_every_row_of_every_table_that_is_told(reports, verb):
    story = reports[verb].story()
    seen = Seen(rendering.fragment(story))
    for table in tables(story):
        for row in table.rows:
            assert [row[at].text for at in table.told] in seen.rows
    assert story.head in seen.text


@every_verb
def test_text_says_what_html_says_but_for_what_pages_add(reports, verb):
    said = set(re.findall(r"[\w.]+", Seen(rendering.fragment(reports[verb].story())).text))
    lines = str(reports[verb]).splitlines()
    ours = {word for line in lines for word in re.findall(r"[\w.]+", line)}
    # How text counts what it does not list, and what it calls code.
    assert ours - said <= {"and", "more", "in", "fix", "follows", "from", "that", "the", "model"}


def test_columns_of_text_stand_below_each_other(reports):
    lines = str(reports["diagnose"]).splitlines()
    at = next(n for n, line in enumerate(lines) if line.split()[:1] == ["layer"])
    title, *rows = lines[at : at + 3]
    for word in ("values", "by", "left", "updates"):
        end = title.index(word) + len(word)
        assert all(row[end - 1] != " " and row[end : end + 1].strip() == "" for row in rows), word


def test_a_data_frame_has_the_numbers_that_the_text_shows_and_those_taken_apart(reports):
    report = reports["recalibrate"]
    frame = report.to_dataframe()
    assert frame["path"].tolist() == [layer.path for layer in report.layers]
    for name in ("mean_shift", "variance_ratio", "distance"):
        np.testing.assert_array_equal(frame[name], [getattr(one, name) for one in report.layers])
    assert frame["count"].dtype.kind == "i"
    assert reports["check"].to_dataframe("findings")["cause"][0] == "batch_statistics"


def test_a_table_that_is_not_there_is_refused_with_those_that_are(reports):
    with pytest.raises(bnfix.OptionError, match=r"table is 'rows'; .*findings"):
        reports["check"].to_dataframe("rows")
    with pytest.raises(bnfix.OptionError, match="Ask one of its parts: before, after"):
        reports["repair"].to_dataframe()


@every_verb
def test_a_report_is_what_the_published_schema_says(reports, verb):
    jsonschema = pytest.importorskip("jsonschema", reason="bnfix[test] brings jsonschema")
    published = json.loads(report_schema.PUBLISHED.read_text("utf-8"))
    told = output.strict(reports[verb].to_dict())
    own = {"$ref": f"#/$defs/{type(reports[verb]).__name__}", "$defs": published["$defs"]}
    jsonschema.Draft202012Validator(published).validate(told)
    validator = jsonschema.Draft202012Validator(own)
    validator.validate(told)
    first = next(iter(told))
    less = {name: value for name, value in told.items() if name != first}
    for wrong in ({**told, "more": 1}, {**told, first: object()}, less):
        assert not validator.is_valid(wrong)


def test_the_published_schema_is_that_of_the_reports():
    assert json.loads(report_schema.PUBLISHED.read_text("utf-8")) == report_schema.schema()


def test_what_is_published_of_a_type_changes_with_it():
    @dataclasses.dataclass(frozen=True)
    class Longer(bnfix.Outcome):
        more: int = 0

    found = {}
    report_schema._define(Longer, found)
    assert found["Longer"]["properties"]["more"] == {"type": "integer"}


# --- in a console --------------------------------------------------------------------------------


def test_layers_are_short_in_a_console():
    many = np.linspace(0, 1, 512)
    layers = tuple(
        LayerStatistics(f"bn{n}", 8, many, many, many, many, momentum=0.99) for n in range(53)
    )
    report = bnfix.RecalibrationReport(layers, 1)
    shown = repr(report.layers)
    assert len(shown) < 1600
    assert "path='bn0'" in shown
    assert "<512 numbers, 0 to 1>" in shown
    assert "and 47 more" in shown
    assert report.layers == layers
    assert len(repr(layers)) > 8000  # what a plain tuple says


# --- nothing is obeyed ---------------------------------------------------------------------------

ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "script", "div", "p", "span", "section", "h2",
    "table", "caption", "thead", "tbody", "tr", "th", "td", "hr",
}  # fmt: skip


def assert_harmless(markup: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", markup, re.DOTALL)
    for picture in pictures:
        nodes = xml.dom.minidom.parseString(picture).getElementsByTagName("*")
        assert {node.tagName for node in nodes} <= {
            "svg",
            "g",
            "path",
            "defs",
            "use",
            "style",
            "clipPath",
            "rect",
            "pattern",
        }
    seen = Seen(re.sub(r"<svg.*?</svg>", "", markup, flags=re.DOTALL))
    assert set(seen.tags) <= ALLOWED
    assert seen.tags.count("script") <= 1
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert seen.attributes <= {
        "class",
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "data-key",
    }
    assert "\x1b" not in markup
    assert "\u202e" not in markup


@every_verb
def test_names_out_of_a_file_are_text_and_nothing_else(reports, verb):
    report = poisoned(reports[verb])
    shown = rendering.fragment(report.story())
    assert_harmless(shown)
    assert "&lt;script&gt;alert(1)" in shown
    for line in str(report).splitlines():
        assert line.isprintable()


@some_verbs
def test_names_out_of_a_file_are_text_in_pages_and_pictures(reports, verb):
    assert_harmless(page.page(poisoned(reports[verb]).story(), ()))


@pytest.mark.parametrize("part", ["escape", "printable"])
def test_a_page_that_does_not_escape_is_seen(monkeypatch, part):
    story = poisoned(Report("fold", (bnfix.Outcome("bn", False, "why"),))).story()
    assert_harmless(rendering.fragment(story))
    monkeypatch.setattr(rendering, "escaped", {"escape": str, "printable": _only_escaped}[part])
    with pytest.raises(AssertionError):
        assert_harmless(rendering.fragment(story))


def _only_escaped(told: str) -> str:
    return html.escape(told)


def test_nothing_but_the_script_that_sorts_may_run_in_a_page(reports):
    written = page.page(reports["check"].story(), ())
    (script,) = re.findall(r"<script>(.*?)</script>", written, re.DOTALL)
    digest = hashlib.sha256(script.encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in written
    assert "default-src 'none'" in written
    assert not re.search(r"(?:src|href)=\"(?!#)", written)


# --- files ---------------------------------------------------------------------------------------


def sound() -> Report:
    return Report("fold", (bnfix.Outcome("bn", True, "folded into conv", ("conv",)),))


def test_a_page_says_with_what_it_was_made_and_of_which_files(tmp_path):
    data = tmp_path / "x.npy"
    data.write_bytes(b"abc")
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.png").write_bytes(b"abc")
    place = tmp_path / "report.html"
    sound().to_html(place, files=[data, tmp_path / "images"])
    seen = Seen(place.read_text("utf-8"))
    known = hashlib.sha256(b"abc").hexdigest()
    assert [str(data), "3", known] in seen.rows
    listed = hashlib.sha256(f"{known}  a/1.png\n".encode()).hexdigest()
    assert [str(tmp_path / "images"), "3", listed] in seen.rows
    assert ["bnfix", bnfix.__version__] in seen.rows
    assert ["numpy", np.__version__] in seen.rows


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    place = tmp_path / "report.html"
    place.write_text("the old one")

    def interrupted(self, *args):
        self.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sound().to_html(place)
    assert place.read_bytes() == b"the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("place", "files", "said"),
    [
        ("model.h5", [], "model.h5 is no name for a page; one that ends in .html is required"),
        ("gone/report.html", [], "cannot be written"),
        ("report.html", ["gone.npy"], "gone.npy cannot be read for its fingerprint"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch, place, files, said):
    monkeypatch.chdir(tmp_path)
    Path("model.h5").write_bytes(b"weights")
    with pytest.raises(bnfix.FileError, match=said):
        sound().to_html(place, files=files)
    assert [path.name for path in tmp_path.iterdir()] == ["model.h5"]
    assert Path("model.h5").read_bytes() == b"weights"


# --- pictures ------------------------------------------------------------------------------------


@some_verbs
def test_every_report_has_a_picture(reports, verb):
    from matplotlib.figure import Figure

    figure = reports[verb].plot()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    assert figure._repr_png_()[:4] == b"\x89PNG"


def bars(rows: int) -> Bars:
    labels = tuple(f"encoder/stage_of_a_rather_long_name/block{row}/bn" for row in range(rows))
    values = tuple(float(row % 7) for row in range(rows))
    moods = tuple(Mood.BAD if row in (4, 5) else Mood.WARNING for row in range(rows))
    return Bars("many", labels, (Panel("a", values), Panel("b", values, log=True)), moods)


def assert_legible(figure) -> None:
    """No two names of rows touch."""
    figure.draw_without_rendering()
    for axes in (axes for part in figure.subfigs for axes in part.axes):
        boxes = [tick.get_window_extent() for tick in axes.get_yticklabels() if tick.get_text()]
        boxes.sort(key=lambda box: box.y0)
        assert all(one.y1 <= other.y0 + 1 for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize("rows", [0, 1, 9, 60, 430])
def test_names_in_a_picture_do_not_overlap(rows):
    figure = drawn([bars(rows)])
    assert_legible(figure)
    assert figure.get_figheight() < 11
    if rows > 5:
        told = [tick.get_text() for tick in figure.subfigs[0].axes[0].get_yticklabels()]
        assert any("block4/bn" in name for name in told)  # what is to blame has a name


def test_names_that_overlap_are_seen():
    figure = drawn([bars(430)])
    axes = figure.subfigs[0].axes[0]
    axes.set_yticks(range(430), ["name"] * 430)
    with pytest.raises(AssertionError):
        assert_legible(figure)


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "values",
    [(), (0.0,), (float("nan"), 1.0), (float("inf"),), (None, None), (1e-30, 1e30), (-1.0, 5.0)],
    ids=str,
)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_any_numbers_can_be_drawn(values, log, start):
    panel = Panel("odd", values, log=log, start=start, limit=1.0)
    svg(Bars("odd", tuple(f"row {n}" for n in range(len(values))), (panel,)))


def test_a_network_of_any_length_can_be_drawn():
    for number in (0, 1, 54, 55, 600):
        cells = tuple(Cell(f"layer{n}", "Conv2D", Mood.BAD, f"why {n}") for n in range(number))
        figure = drawn([Strip("long", cells, ((0, number - 1),) if number > 1 else ())])
        figure.draw_without_rendering()


def test_pictures_take_the_colour_of_the_text_around_them():
    picture = svg(bars(3))
    assert "currentColor" in picture
    assert "#202124" not in picture
    assert 'id="figure_1"' not in picture


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_picture_leaves_matplotlib_as_it_was():
    code = (
        "import matplotlib, sys, bnfix;"
        # To ask for the backend would choose one.
        "told = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'};"
        "before = told(); bnfix.Report('fold', (bnfix.Outcome('bn', True, 'done'),)).plot();"
        "print(told() == before, 'matplotlib.pyplot' in sys.modules)"
    )
    assert python(code).split() == ["True", "False"]


def test_without_matplotlib_plot_refuses_and_a_page_says_so(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "bnfix.rendering.drawing")
    monkeypatch.delattr("bnfix.rendering.drawing", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(bnfix.BnfixError, match=r'pip install "bnfix\[plot\]"'):
        sound().plot()
    sound().to_html(tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text("utf-8")
    assert "Pictures are left out" in written
    assert "<svg" not in written


def test_without_pandas_a_data_frame_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(bnfix.BnfixError, match="pip install pandas"):
        sound().to_dataframe()


# --- on the command line -------------------------------------------------------------------------


def test_every_command_with_a_report_writes_it_as_a_page():
    for name, command in group.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--html" in options) == (name != "demo")
        assert ("--html" in options) == ("--json" in options)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command_line.fill(tmp_path, "tf_keras")
    return tmp_path


def test_a_command_files_its_report_with_the_fingerprints_of_what_it_read_and_wrote(here):
    assert command_line.bnfix("inspect model.h5 --html seen.html").status == 1
    done = command_line.bnfix("strip-training model.h5 -o new.h5 --html done.html --json")
    assert (done.status, done.told["out"]) == (0, "new.h5")
    for place, files in (("seen.html", ["model.h5"]), ("done.html", ["model.h5", "new.h5"])):
        seen = Seen(Path(place).read_text("utf-8"))
        for name in files:
            known = hashlib.sha256(Path(name).read_bytes()).hexdigest()
            assert [name, known] in [[row[0], row[-1]] for row in seen.rows if row]
    assert "backend" in Path("done.html").read_text("utf-8")


@pytest.mark.every(2)
@pytest.mark.parametrize("place", ["gone/seen.html", "model.h5", "seen"])
def test_a_page_that_cannot_be_is_refused_before_any_work(here, place):
    done = command_line.bnfix(f"repair model.h5 -o new.h5 --html {place}")
    assert done.status in (2, 3)
    assert "--html" in done.err or ".html is required" in done.err
    assert not Path("new.h5").exists()
    assert Path("model.h5").stat().st_size > 100


def test_a_page_that_fails_after_the_model_was_written_does_not_say_that_nothing_was(
    here, monkeypatch
):
    def full(*args, **kwargs):
        raise bnfix.ResourceError("done.html cannot be written: the disk is full.")

    monkeypatch.setattr(Report, "to_html", full)
    done = command_line.bnfix("strip-training model.h5 -o new.h5 --html done.html")
    assert done.status == 3
    assert "new.h5 was written, its page was not: done.html" in done.err
    assert "Nothing was changed" not in done.err
    assert Path("new.h5").exists()


# --- the mechanism -------------------------------------------------------------------------------


def test_sections_for_pages_alone_are_not_in_the_text():
    table = Table.of("numbers", [1, 2], [Column("n", lambda n: n, right=True, least=4)])
    inner = Story("inner", (table,))
    story = Story("head", (Section("told", inner), Section("shown", Story("x"), in_text=False)))
    assert text(story) == "head\ntold\n  inner\n       n\n       1\n       2"
    assert "<h2>shown</h2>" in rendering.fragment(story)


def test_markup_hides_in_no_hostile_name():
    assert all(part in HOSTILE for part in ("<script>", "$", "\x1b", "\n", '"'))


# --- in a browser --------------------------------------------------------------------------------

#: Sorts the first table of several columns, if any, by its first, twice, and tells what is seen.
PROBE = """
addEventListener("load", () => {
  const th = document.querySelector("th:has(+ th)");
  const sorted = () => {
    if (!th) return null;
    th.querySelector("button").click();
    return [...th.closest("table").tBodies[0].rows].map((row) => row.cells[0].textContent);
  };
  const up = sorted(), down = sorted();
  const wide = document.documentElement.scrollWidth > innerWidth;
  const ran = document.querySelectorAll("img").length;
  document.title = JSON.stringify({up, down, wide, ran});
});
"""


@pytest.mark.long
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@every_verb
def test_a_browser_shows_a_page(reports, verb, dark, tmp_path):
    browser = headless()
    if browser is None:
        pytest.skip("no Chromium here; CHROMIUM may name one")
    place = tmp_path / "page.html"
    poisoned(reports[verb]).to_html(place)
    # The page's policy forbids other scripts, so the probe asks from a copy without it.
    plain = re.sub(r"<meta http-equiv[^>]*>", "", place.read_text("utf-8"))
    place.write_text(plain.replace("</body>", f"<script>{PROBE}</script></body>"), "utf-8")
    common = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    common += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    shot, url = tmp_path / "page.png", place.as_uri()
    subprocess.run([*common, f"--screenshot={shot}", url], check=True, capture_output=True)
    dumped = subprocess.run(
        [*common, "--dump-dom", url], check=True, capture_output=True, text=True
    )
    told = json.loads(html.unescape(re.findall(r"<title>(.*?)</title>", dumped.stdout)[0]))
    assert (told["up"] is None) == (not re.search(r"</th>\s*<th", plain))
    if told["up"] is not None:
        assert told["down"] == told["up"][::-1] or len(set(told["up"])) < len(told["up"])
    assert (told["wide"], told["ran"]) == (False, 0)
    red, green, blue = _corner(shot)
    assert (max(red, green, blue) < 60) == dark


def test_long_paths_take_lines_and_do_not_push_columns_out_of_the_page(tmp_path):
    browser = headless()
    if browser is None:
        pytest.skip("no Chromium here; CHROMIUM may name one")
    path = "/".join(["an_inner_stage_of_the_feature_pyramid"] * 5)
    seen, advice = "it was seen " * 9, "this is to be done " * 9
    finding = Finding(path, Cause.BATCH_STATISTICS, "call, tf.function", seen, None, advice)
    place = tmp_path / "page.html"
    CheckReport(False, 1.0, 1.0, 1e-5, (finding,), (), 8).to_html(place)
    probe = """addEventListener("load", () => {
      const wide = [...document.querySelectorAll(".wide")];
      document.title = wide.map((one) => one.scrollWidth - one.clientWidth).join();
    });"""
    plain = re.sub(r"<meta http-equiv[^>]*>", "", place.read_text("utf-8"))
    place.write_text(plain.replace("</body>", f"<script>{probe}</script></body>"), "utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    command += ["--dump-dom", place.as_uri()]
    dumped = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert set(re.findall(r"<title>(.*?)</title>", dumped)[0].split(",")) == {"0"}


def _corner(shot: Path) -> tuple[int, int, int]:
    from PIL import Image

    with Image.open(shot) as picture:
        return picture.convert("RGB").getpixel((2, 2))
