"""The page of the report: it needs nothing else, and takes nothing from a run folder for code."""

import base64
import hashlib
import math
import re
import warnings
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from markupsafe import escape
from matplotlib.figure import Figure
from PIL import Image

from neuropil.errors import Refusal
from neuropil.report import gather as npl_gather
from neuropil.report import sections, write
from neuropil.report.figures.curves import band
from neuropil.report.figures.spikes import spike_panels
from neuropil.report.figures.summary_figure import wide_figure
from neuropil.report.results import gather
from neuropil.report.theme import PAPER, inline, png_of, style, styles_of
from neuropil.report.words import TERMS, Explainer
from neuropil.runs import ImagesRow, RasterRow, Run, SilenceRow, parse_row
from report_runs import HOSTILE, LOCAL, everything, make, result, trial_of_spikes, way_out_of_silence


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with every kind of section, about a learner with a hostile name."""
    tmp_path = tmp_path_factory.mktemp("page")
    save = {f"fields.{HOSTILE}": torch.randn(4, 1, 5, 5), "fields.colour": torch.randn(120, 3, 5, 5)}
    save |= {f"fields_before.{HOSTILE}": torch.randn(4, 1, 5, 5).half()}
    save["wrong"] = torch.randint(256, (2, 1, 5, 5), dtype=torch.uint8)
    folder = make(tmp_path / "run", everything(HOSTILE), save=save, command="neuropil compare '<img src=x>'")
    (folder / "pictures").mkdir()
    Image.new("RGB", (3, 2), "red").save(folder / "pictures/extra.png")
    (folder / "pictures/extra.txt").write_text("caption <u>of</u> it")
    (folder / "pictures/fake.png").write_text("<script>no picture</script>")
    return write([folder], tmp_path / "out" / "report.html")


# The page


class Page(HTMLParser):
    """Every tag with its attributes, and the text between them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


def test_the_page_needs_nothing_else(page):
    seen = Page(page.read_text())
    assert not {"iframe", "object", "embed"} & {tag for tag, _ in seen.tags}
    assert [attrs for tag, attrs in seen.tags if tag == "script"] == [{}]  # ours, written into the page
    (policy,) = [attrs["content"] for tag, attrs in seen.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", page.read_text(), flags=re.S)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:")
    links = [v for tag, attrs in seen.tags for k, v in attrs.items() if k in ("src", "href") and tag != "a"]
    clicked = [attrs["href"] for tag, attrs in seen.tags if tag == "a" and not attrs["href"].startswith("#")]
    assert clicked == ["https://example.org/paper"]
    links += [attrs["href"] for tag, attrs in seen.tags if tag == "a" and attrs["href"].startswith("#")]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,", "data:,")) for link in links)
    assert not re.search(r"url\((?!#)|@import", page.read_text())
    assert not [key for _, attrs in seen.tags for key in attrs if key.startswith("on")]
    ids = [attrs["id"] for _, attrs in seen.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_hostile_names_are_plain_text_in_the_page(page):
    text = page.read_text()
    seen = Page(text)
    assert text.count("<script") == 1  # ours
    assert "javascript:" not in text
    assert "&lt;script&gt;alert(" in text
    assert "\x1b" not in text
    assert not {"i", "u", "b"} & {tag for tag, _ in seen.tags}
    assert "caption <u>of</u> it" in seen.words
    assert "neuropil compare '<img src=x>'" in seen.words
    assert not [attrs for tag, attrs in seen.tags if tag == "img" and attrs["src"] == "x"]
    assert all(re.fullmatch(r"[a-z0-9-]+\.png", file.name) for file in (page.parent / "figures").iterdir())


def test_the_page_has_every_section_in_order(page):
    text = page.read_text()
    order = ["accuracy", "results", "methods", "curves", "labels", "fields", "images", "spikes", "activity"]
    order += ["confusion", "units", "numbers", "pictures", "warnings", "reproduce", "words"]
    spots = [text.index(f'<section id="{name}"') for name in order]
    assert spots == sorted(spots)
    assert re.findall(r'<li><a href="#(.*?)"', text) == order[1:]
    words = Page(text).words
    assert "2 learners on digits, 2 seeds, 1,437 training examples" in words
    assert "12 units never win <i>" in words
    assert "16 of 16 values are NaN or infinite and are not plotted." in words
    assert "25.0 %" in words  # one of four units is dead
    assert "1→0 30.0 %, 0→1 10.0 %" in words
    assert "100 of 120 units. Red, green and blue" in words
    assert "4 of 4 units, those that win most first." in words
    assert "5 spikes of one training example of class 1. Hollow marks after the end of the trial are 2 pseudo" in words
    assert "On the grey ground no output fires." in words
    assert "0.3 at its start, where no neurons fire, never below 0.3." in words
    assert "Left out: fake of run run; it is not a PNG file." in words


def test_pictures_have_words_and_follow_the_theme(page):
    seen = Page(page.read_text())
    assert all(attrs.get("alt") for tag, attrs in seen.tags if tag == "img")
    figures = [attrs for tag, attrs in seen.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(figures) >= 8
    assert all(attrs["aria-label"] for attrs in figures)
    styles = [attrs["style"] for tag, attrs in seen.tags if tag in ("path", "text", "use") and "style" in attrs]
    drawn = [style for style in styles if re.search(r"(fill|stroke): (?!none)", style)]
    assert drawn
    assert all("var(--" in style for style in drawn)
    assert "prefers-color-scheme: dark" in page.read_text()


def test_a_stage_of_one_pass_is_a_point(tmp_path):
    rows = [("epoch", {"learner": LOCAL, "seed": 0, "stage": "features", "epoch": 0, "loss": 0.5}), result()]
    page = write([make(tmp_path / "run", rows)], tmp_path / "report.html")
    assert "loss against epoch, stage features" in page.read_text()


def test_learners_of_a_comparison_all_look_different(tmp_path):
    rows = [result(f"rule {k}", k, family="local") for k in range(6)]
    rows += [result(name, 0, family="baseline") for name in ("backprop", "linear", "random features", "a", "b", "c")]
    styles = styles_of(gather([make(tmp_path / "run", rows)]))
    assert len({style.colour for style in styles.values()}) == len(styles) == 12
    assert (styles["backprop"].variable, styles["linear"].variable) == ("baseline-0", "baseline-2")
    assert {style.variable.split("-")[0] for name, style in styles.items() if name.startswith("rule")} == {"local"}


def test_spiking_networks_are_green_and_no_baselines(tmp_path):
    rows = [
        result("linear", 0, family="local"),
        result("spikes", 0, family="spiking"),
        result("backprop", family="baseline"),
    ]
    rows += [result("spikes", 1, family="spiking")]
    study = gather([make(tmp_path / "run", rows)])
    families = {name: style.variable for name, style in styles_of(study).items()}
    assert families == {"linear": "local-0", "spikes": "spiking-0", "backprop": "baseline-0"}
    page = write([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert "the best spiking network is spikes, 90.00" in Page(page).words.replace("\N{NO-BREAK SPACE}", " ")
    assert page.count('<tr class="baseline"') == 1


def marks(axes):
    """(time, height, filled) of every spike in a raster."""
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    return {
        (round(x, 3), round(y, 3), line.get_markerfacecolor() != PAPER)
        for line in dots
        for x, y in zip(*line.get_data())
    }


def test_a_raster_has_a_mark_for_every_spike_and_pseudospikes_are_hollow():
    (panel,) = spike_panels(RasterRow(learner="a", **trial_of_spikes()), None, style("a", "spiking", 0))
    axes = Figure().add_subplot()
    panel.plot(axes)
    low, middle, high = 0.0, 1.12, 2.84  # where the layers begin: 1, 1.6 and 1 high, 0.12 apart
    hidden = [(1.0, 1.6 / 6, True), (1.5, 0.8, True), (1.9, 0.8, True), (6.0, 1.6 * 5 / 6, False)]  # by first time
    want = {(0.5, low + 0.25, True), (4.0, high + 0.25, False), (1.75, high + 0.75, True)}
    want |= {(time, round(middle + y, 3), filled) for time, y, filled in hidden}
    assert marks(axes) == want
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["2 input", "3 hidden", "2 output"]


def test_the_way_out_of_silence_is_dashed_after_the_end_and_solid_before():
    first, second = spike_panels(None, SilenceRow(learner="a", **way_out_of_silence()), style("a", "spiking", 0))
    axes = Figure().add_subplot()
    first.plot(axes)
    curves = [line for line in axes.lines if len(line.get_xdata()) == 5]
    solid = [line for line in curves if line.get_linestyle() == "-" and np.isfinite(line.get_ydata()).any()]
    dashed = [line for line in curves if line.get_linestyle() != "-"]
    assert [line.get_color() for line in solid] == [style("a", "spiking", 0).colour]  # only the class fires
    assert np.nanmax(dashed[0].get_ydata()) == 5.0
    assert np.nanmin(solid[0].get_ydata()) == 1.5
    assert np.nanmax(solid[0].get_ydata()) == 1.9
    assert "outputs silent" in [text.get_text() for text in axes.texts]
    axes = Figure().add_subplot()
    second.plot(axes)
    assert axes.lines[0].get_ydata().tolist() == way_out_of_silence()["gradient"]


def test_spikes_of_a_wrong_shape_are_refused():
    with pytest.raises(Refusal, match="raster needs two or more layers with neurons, got 0 for 'a'"):
        spike_panels(RasterRow(learner="a", **{**trial_of_spikes(), "layers": []}), None, style("a", "spiking", 0))
    with pytest.raises(Refusal, match="path out of silence needs one row of times"):
        spike_panels(
            None, SilenceRow(learner="a", **{**way_out_of_silence(), "gradient": [1.0]}), style("a", "spiking", 0)
        )


def test_one_and_two_seeds_are_shown_as_what_they_are(tmp_path):
    """One seed is a point alone; two have a tick and a thin line that may leave the figure, and nothing is certain."""
    two = [result(LOCAL, seed, 0.9) for seed in (0, 1)] + [result("backprop", seed, 0.8) for seed in (0, 1)]
    two += [result("linear", seed, (0.2, 0.8)[seed]) for seed in (0, 1)]
    for name, rows, said in (("one", two[::2], "One seed: there is no interval"), ("two", two, "Two seeds: their")):
        folder = make(tmp_path / name, rows)
        seen = Page(write([folder], folder / "report.html").read_text())
        assert said in seen.words
        assert ("The diamond" in seen.words, "the tick is the mean" in seen.words) == (False, name == "two")
        assert not [attrs for _, attrs in seen.tags if "certain" in attrs.get("class", "")]
    summaries = gather([tmp_path / "two"]).on("digits")
    figure = wide_figure(summaries, styles_of(gather([tmp_path / "two"])))
    low, high = figure.axes[0].get_xlim()
    assert (low > 10, high < 101) == (True, True)  # the seeds fill it, not the interval from -331 to 431
    arrows = [line.get_marker() for line in figure.axes[0].lines if line.get_marker() in ("<", ">")]
    assert sorted(arrows) == ["<", ">"]
    three = [*two, *(result(name, 2, 0.9 - 0.1 * (name == "backprop")) for name in (LOCAL, "backprop"))]
    seen = Page(write([make(tmp_path / "three", three)], tmp_path / "three.html").read_text())
    assert [attrs for _, attrs in seen.tags if "certain" in attrs.get("class", "")]


def test_curves_of_two_seeds_span_the_two():
    assert band([0.5, 0.7]) == pytest.approx((0.6, 0.1))
    assert band([0.5, 0.6, 0.7])[1] == pytest.approx(0.1 * 4.30265273 / math.sqrt(3))
    assert math.isnan(band([0.5])[1])


def test_warnings_come_last_and_those_of_baselines_are_folded(tmp_path):
    rows = [result(), result("backprop", family="baseline")]
    rows += [("warning", {"learner": name, "seed": 0, "message": f"{name} worries"}) for name in (LOCAL, "backprop")]
    words = Page(write([make(tmp_path / "run", rows)], tmp_path / "report.html").read_text()).words
    assert words.index("Results") < words.index(f"{LOCAL} worries") < words.index("about baselines (1)")
    assert words.index("about baselines (1)") < words.index("backprop worries") < words.index("Every run")


def test_a_run_without_results_has_a_report_too(tmp_path):
    rows = [
        ("epoch", {"learner": "from silence", "seed": 0, "stage": "updates", "epoch": k, "loss": 1.0 / k})
        for k in (1, 2)
    ]
    folder = make(tmp_path / "run", [*rows, ("concept", {"curve": "QIF", "jump": 0.25})])
    (folder / "pictures").mkdir()
    Image.new("RGB", (3, 2), "red").save(folder / "pictures/concept.png")
    text = write([folder], tmp_path / "report.html").read_text()
    assert re.findall(r'<section id="(\w+)"', text) == ["pictures", "curves", "numbers", "reproduce", "words"]
    assert "<h1>Compare</h1>" in text
    assert "0.25" in Page(text).words


def test_an_attack_has_a_title_of_its_own(tmp_path):
    run = Run.start(tmp_path / "run", recipe="attack", config={}, command="neuropil attack")
    run.log(parse_row({"kind": "result", **result()[1]}))
    run.update_metadata(purpose="The suite on <models>.")
    run.finish()
    text = write([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert "<title>Robustness under attack: digits</title>" in text
    assert "The suite on &lt;models&gt;." in text


def test_a_notebook_shows_table_and_figure(page):
    shown = npl_gather([page.parents[1] / "run"])._repr_html_()
    assert shown.count("<table") == 1
    assert shown.count('role="img"') == 2  # wide and narrow
    assert "&lt;script&gt;" in shown
    assert not {"script", "html", "body"} & {tag for tag, _ in Page(shown).tags}
    assert ".neuropil {" in shown


def test_a_term_is_explained_once_and_in_its_own_word():
    explain = Explainer()
    text = explain("Two seeds, a seed & <i>seeds</i>: Linf-like Linf.")
    assert text.count("<abbr") == 2
    assert text.startswith(f'Two <abbr title="{escape(TERMS["seed"])}">seeds</abbr>, a seed &amp; &lt;i&gt;seeds')
    assert [term for term, _ in explain.glossary()] == ["Linf", "seed"]


def test_sections_without_rows_are_left_out(tmp_path):
    text = write([make(tmp_path / "run", [result(), result(seed=1)])], tmp_path / "report.html").read_text()
    assert re.findall(r'<section id="(\w+)"', text) == ["accuracy", "results", "reproduce", "words"]
    assert sorted(file.name for file in (tmp_path / "figures").iterdir()) == ["accuracy.png"]


def test_the_page_is_small_and_its_figures_are_pictures(page):
    assert page.stat().st_size < 1_000_000
    files = list((page.parent / "figures").iterdir())
    assert len(files) == 10
    for file in files:
        with Image.open(file) as image:
            assert image.format == "PNG"
            assert image.width > 300


def test_large_pictures_are_named_not_embedded(tmp_path):
    folder = make(tmp_path / "run", [result()])
    (folder / "pictures").mkdir()
    noise = torch.randint(256, (1300, 1300, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).save(folder / "pictures/noise.png")
    page = write([folder], tmp_path / "report.html")
    assert page.stat().st_size < 1_000_000
    assert "Left out: noise of run run; with its 5.1 MB" in page.read_text()


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    folder = make(tmp_path / "run", [result()])
    page = write([folder], tmp_path / "out/report.html")
    before = page.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neuropil.runs.files.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write([folder], page)
    assert page.read_bytes() == before
    assert not list(page.parent.rglob("*.part"))


def test_two_reports_of_the_same_runs_are_the_same_bytes(tmp_path):
    folder = make(tmp_path / "run", everything(), save={f"fields.{LOCAL}": torch.randn(4, 1, 5, 5)})
    first, second = (write([folder], tmp_path / name / "report.html") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


# Receptive fields


def test_a_letter_that_the_font_lacks_is_news_for_a_png_and_none_for_the_page():
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "学")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "学" in inline(figure, "one", "a letter", 200)
    with pytest.warns(UserWarning, match="missing from font"):
        png_of(figure)


def test_the_headline_says_who_is_a_baseline(page):
    text = page.read_text()
    assert re.search(r">\W*backprop \(baseline\)\W*<", text)
    assert not re.search(r"Krotov-Hopfield \(baseline\)", text)


def test_images_that_are_stored_as_bytes_are_shown_from_0_to_1(monkeypatch):
    shown = []
    monkeypatch.setattr(sections, "labelled_tiles", lambda pixels, row: shown.append(pixels.max()))
    for images in (torch.full((1, 1, 2, 2), 51, dtype=torch.uint8), torch.full((1, 1, 2, 2), 0.2)):
        row = ImagesRow(title="t", tensor="a", caption="all of them")
        run = SimpleNamespace(of=lambda kind, row=row: [row], tensors={"a": images})
        (group,) = sections.images_section(SimpleNamespace(shown=[run], learners=[])).groups
        assert (group.text, group.figures[0].caption) == ("all of them", "")  # said once
    assert shown == pytest.approx([0.2, 0.2])
