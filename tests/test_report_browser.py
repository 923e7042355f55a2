"""The page in a real browser: nothing overflows, nothing is asked of a network, tables sort and curves light up."""

import pytest
import torch

import chromium
from neuropil.report import write
from report_runs import BASELINE, HOSTILE, LOCAL, everything, make, result
from test_report_robustness import rows as under_attack

pytestmark = pytest.mark.skipif(not chromium.PROGRAM, reason="needs chromium, for example: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    found = chromium.Browser()
    yield found
    found.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Everything that a page can show, about two learners of which one has a long and hostile name."""
    folder = tmp_path_factory.mktemp("page")
    rows = everything(LOCAL) + [row for row in under_attack(invalid=[LOCAL]) if row[0] != "result"]
    rows += [result(HOSTILE * 3, seed, 0.5 + 0.1 * seed) for seed in (0, 1, 2)]
    save = {f"fields.{LOCAL}": torch.randn(30, 1, 5, 5), f"fields_before.{LOCAL}": torch.randn(30, 1, 5, 5).half()}
    save["wrong"] = torch.randint(256, (2, 1, 5, 5), dtype=torch.uint8)
    return write([make(folder / "run", rows, save=save)], folder / "report.html")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 800, 1400])
def test_nothing_overflows_and_nothing_is_wrong(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.errors == []
    assert browser.run("document.documentElement.scrollWidth") == width
    outside = """[...document.querySelectorAll('main *')].filter(one => one.checkVisibility() &&
      !one.closest('.scroll, pre, svg')
      && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"""
    assert browser.run(outside) == []
    captions = (
        "Math.max(...[...document.querySelectorAll('caption span')].map(one => one.getBoundingClientRect().right))"
    )
    assert browser.run(captions) <= width
    cropped = """[...document.querySelectorAll('svg[role=img]')].filter(svg => svg.checkVisibility()).flatMap(svg =>
      [...svg.querySelectorAll('text')].filter(text => {
        const [a, b] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
        return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
      }).map(text => text.textContent))"""
    assert browser.run(cropped) == []
    on_top = """[...document.querySelectorAll('svg[role=img]')].filter(svg => svg.checkVisibility()).flatMap(svg => {
      const ticks = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
      return ticks.filter(([, a], k) => ticks.some(([, b], other) => other > k && Math.abs(a.top - b.top) < 1
        && a.left < b.right - 1 && b.left < a.right - 1)).map(([text]) => text);
    })"""
    assert browser.run(on_top) == []
    small = """Math.min(...[...document.querySelectorAll('svg[role=img] text')].filter(one => one.checkVisibility())
      .map(one => one.getBoundingClientRect().height))"""
    assert browser.run(small) >= 8  # CSS pixels of the smallest letters
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")


def test_on_a_phone_the_difference_is_in_sight(browser, page):
    browser.open(page, width=400)
    ends = browser.run(
        "[...document.querySelectorAll('td.c-difference')].map(one => one.getBoundingClientRect().right)"
    )
    assert len(ends) == 3
    assert max(ends) <= 400
    wider = "[...document.querySelectorAll('#results .scroll')].some(one => one.scrollWidth > one.clientWidth)"
    assert not browser.run(wider)


NAMES = "[...document.querySelectorAll('table.cards tbody tr')].map(row => row.cells[0].innerText.trim().slice(0, 8))"


@pytest.mark.parametrize("width", [400, 1400])
def test_tables_sort_by_number_and_by_name_and_back(browser, page, width):
    browser.open(page, width=width)
    first = browser.run(NAMES)
    assert [name.strip() for name in first[:2]] == [BASELINE, LOCAL[:8]]  # best first
    press = "document.querySelector('table.cards th.c-{} button').click()"
    browser.run(press.format("accuracy"))
    assert browser.run(NAMES) == first
    browser.run(press.format("accuracy"))
    assert browser.run(NAMES) == first[::-1]
    browser.run(press.format("learner"))
    assert browser.run(NAMES) == sorted(first, key=str.lower)
    assert browser.run("document.querySelectorAll('[aria-sort]').length") == 1


def test_one_curve_is_highlighted_and_the_rest_is_grey(browser, page):
    browser.open(page)
    dim = "[...document.querySelectorAll('#labels svg [data-series]')].map(one => getComputedStyle(one).opacity < 0.5)"
    grey = "document.querySelectorAll('svg .dim').length"
    assert browser.run(grey) == 0
    browser.run("document.querySelector('#accuracy ~ section .legend button').click()")
    assert browser.run(grey) > 0
    tag = browser.run("document.querySelector('[aria-pressed=true]').parentNode.dataset.series")
    series = browser.run("[...document.querySelectorAll('#accuracy svg [data-series]')].map(one => one.dataset.series)")
    lit = browser.run(dim.replace("#labels", "#accuracy"))
    assert {one == tag for one in series} == {True, False}
    assert lit == [one != tag for one in series]
    browser.run("document.querySelector('#accuracy ~ section .legend button').click()")
    assert browser.run(grey) == 0


def test_values_and_words_are_told_on_hover_and_on_a_tap(browser, page):
    browser.open(page)
    told = browser.run("[...document.querySelectorAll('#accuracy .wide .spots title')].map(one => one.textContent)")
    assert f"{LOCAL}, seed 1: 91.00 %" in told
    browser.run("document.querySelector('abbr').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert browser.run("document.querySelector('.tip').innerText") == browser.run(
        "document.querySelector('abbr').title"
    )


def test_without_its_script_the_page_can_still_be_read(browser, page):
    browser.open(page, script=False)
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.run("document.querySelectorAll('button').length") == 0
    assert browser.run("document.querySelectorAll('table.cards tbody tr').length") == 3
    assert "the same in numbers" in browser.run("document.querySelector('#labels').innerText")


def test_captions_stand_where_they_belong(browser, page):
    """Of tables at the left, of small images in their middle."""
    browser.open(page)
    assert browser.run("getComputedStyle(document.querySelector('table caption')).textAlign") == "left"
    assert browser.run("getComputedStyle(document.querySelector('.tiles figcaption')).textAlign") == "center"
