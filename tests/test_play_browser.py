"""The page to play with, in a real browser: its arithmetic is that of Python, hand and keyboard reach everything."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import chromium
import neuropil as npl
import strokes
from neuropil.associative import CLASSIFY, GENERATE, AssociativeNetwork, AssociativeTraining, Settling
from neuropil.associative.inference import class_scores, settle_fully, state_to_classify
from neuropil.data import load
from neuropil.data.masks import image_mask
from neuropil.play import render

pytestmark = [
    pytest.mark.skipif(not chromium.PROGRAM, reason="needs chromium, for example: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore:.*samples had not settled"),
]
NAME, N = "digits-mstdp", 50
PARTS = "(({scores, state, completed}) => [scores, completed ?? state.classification1, state.label].map(a => [...a]))"


@pytest.fixture(scope="module")
def test():
    (header,) = npl.saved_models(NAME)
    return load("digits", seed=header.about["seed"])[1][:N]


@pytest.fixture(scope="module")
def network():
    return npl.load(NAME)  # its weights are rounded already, as those of the page


@pytest.fixture(scope="module")
def place(network, test, tmp_path_factory):
    """A browser, and the page."""
    page = tmp_path_factory.mktemp("page") / "play.html"
    page.write_text(render(network, {"data": "digits"}, test)[0], encoding="utf-8")
    found = chromium.Browser()
    yield found, page
    found.close()


@pytest.fixture
def browser(place):
    """A browser with the page just opened; nothing may go wrong in it, and nothing is asked of a network."""
    found, page = place
    found.open(page, width=400)
    found.run("ready")
    yield found
    assert found.errors == []


def answers(browser, expression, images):
    """The value of `expression` for every image `x`, as numbers."""
    numbers = json.dumps(images.flatten(1).tolist())
    return browser.run(f"{numbers}.map(one => Float64Array.from(one)).map(x => {expression})")


def assert_close(got, want):
    np.testing.assert_allclose(np.array(got), want.flatten(1).numpy(), rtol=0, atol=1e-3)


def test_whole_images_are_read_as_in_python(browser, network, test):
    scores, hidden, label = zip(*answers(browser, f"{PARTS}(read(network, x, page.known))", test.x))
    state, free, _ = state_to_classify(network.net_, test.x.flatten(1))
    settle_fully(network.net_, network.settling, state, free)
    assert_close(scores, network.decision_function(test.x))
    assert_close(label, state["label"])
    assert_close(hidden, state["classification1"])
    assert np.argmax(scores, 1).tolist() == network.predict(test.x).tolist()


def test_momentum_and_small_steps_are_those_of_python(browser, network, test):
    how = "{settling: inUse(network, {step_size: 0.3, momentum: 0.6})}"
    got = answers(browser, f"[...classify(network, x, {how}).scores]", test.x)
    most = -(-network.settling.max_iterations * 10 // 3) + 1  # more sweeps for smaller steps
    settling = replace(network.settling, step_size=0.3, momentum=0.6, max_iterations=most)
    assert_close(got, class_scores(network.net_, settling, test.x))


@pytest.mark.parametrize("known", ["top", "frame"])
def test_hidden_parts_are_completed_and_read_as_in_python(browser, network, test, known):
    mask = image_mask(known, test.x.shape[1:])
    given = f"Float64Array.from({mask.flatten().tolist()})"
    scores, completed, _ = zip(*answers(browser, f"{PARTS}(read(network, x, {given}))", test.x))
    assert_close(completed, network.complete(test.x, mask))
    assert_close(scores, network.decision_function(test.x, mask))
    assert np.argmax(scores, 1).tolist() == network.predict(test.x, mask).tolist()
    as_seven = answers(browser, f"[...complete(network, x, {given}, {{label: 7}}).image]", test.x)
    assert_close(as_seven, network.complete(test.x, mask, labels=torch.full((N,), 7)))
    hidden = f"x.map((value, k) => ({given}[k] ? value : 1 - value))"  # values of hidden pixels do not matter
    same = f"complete(network, x, {given}).image.join() === complete(network, {hidden}, {given}).image.join()"
    assert all(answers(browser, same, test.x[:5]))


def test_deep_networks_with_skips_are_those_of_python(place, test, tmp_path):
    settling, gains = Settling(20, step_size=0.7, momentum=0.3, free_unit_gain=0.4), {"pixels": 0.6, "label": 0.7}
    training = AssociativeTraining(tasks=(CLASSIFY, GENERATE))
    deep = AssociativeNetwork((30, 20), settling=settling, training=training, skip_connections=True, init_gains=gains)
    deep.initialise_(test, torch.Generator().manual_seed(3))
    page = tmp_path / "deep.html"
    page.write_text(render(deep, {})[0], encoding="utf-8")
    deep = npl.load(deep.save(tmp_path / "deep.safetensors", precision="int8"))
    place[0].open(page)
    place[0].run("ready")
    mask = image_mask("left", test.x.shape[1:])
    given = f"Float64Array.from({mask.flatten().tolist()})"
    parts = f"[read(network, x, page.known).scores, complete(network, x, {given}).image].map(a => [...a])"
    scores, completed = zip(*answers(place[0], parts, test.x))
    assert_close(scores, deep.decision_function(test.x))
    assert_close(completed, deep.complete(test.x, mask))
    assert np.std(completed, 0).mean() > 0.01
    assert place[0].errors == []


def test_samples_are_read_as_what_was_asked_and_differ(browser, network):
    one = "atOnce(sample(network, new Float64Array(64), new Float64Array(64), label, random))"
    each = f"[1, 2, 3, 4].map(seed => {{const random = generator(seed); return [...{one}.image]}})"
    many = f"[3, 8].flatMap(label => {each})"
    images = torch.tensor(browser.run(many), dtype=torch.float32)
    assert (network.predict(images.view(-1, 1, 8, 8)) == torch.tensor([3, 8]).repeat_interleave(4)).sum() >= 7
    want = network.generate(torch.tensor([3, 8]), 40, torch.Generator().manual_seed(0)).images.view(2, 40, 64)
    proud = "network.sampling = {...network.sampling, accept_margin: 9, max_attempts: 3};"  # no sample reaches that
    assert browser.run(f"{proud} (random => {one}.attempts)(generator(1))".replace("label", "3")) == 3
    spread = images.view(2, 4, 64).std(1).mean()
    assert 0.6 < spread / want.std(1).mean() < 1.6
    assert (images.view(2, 4, 64).mean(1) - want.mean(1)).abs().mean() < 0.1


def test_pixels_that_are_sampled_again_forget_what_they_were(browser, network):
    seen = browser.run(
        "(() => {const seen = [], before = settle;"
        "settle = (net, how, state, free) => {seen.push([[...state.pixels], [...free.pixels]]);"
        " return before(net, how, state, free);};"
        "try {atOnce(sampleOnce(network, new Float64Array(64), new Float64Array(64), 3, generator(1)));}"
        " finally {settle = before;} return seen;})()"
    )
    pixels, free = np.array(seen).swapaxes(0, 1)
    n_rounds, again = network.sampling.n_rounds, network.sampling.n_rounds // 10
    assert len(seen) == n_rounds + again * network.sampling.n_resamples
    assert (free[0] == 1).all()
    begins = range(n_rounds, len(seen), again)  # where pixels begin to be sampled again
    assert all((pixels[k][free[k] == 1] == 0).all() for k in begins)
    assert all(set(pixels[k][free[k] == 0]) == {0, 1} for k in begins)
    assert len({tuple(free[k]) for k in begins}) == len(begins)  # others each time
    assert 0.15 < free[list(begins)].mean() < 0.35


def test_what_a_hand_writes_is_read(browser):
    rows = strokes.sheet(seed=0)
    each = f"{json.dumps([one for _, one in rows])}.map(one => imageOf(one, facts.layout, network.shape)).map(x => "
    read, wanted = f"{each} largest(read(network, x, page.known).scores))", np.array([digit for digit, _ in rows])
    assert np.allclose(browser.run(f"{each} total(x))"), 19.6, atol=0.5)  # ink of a training image
    assert (np.array(browser.run(read)) == wanted).sum() >= 25
    as_it_is = (np.array(browser.run(f"facts.layout.fit = 'none'; {read}")) == wanted).sum()
    assert as_it_is < 20  # of 30: the images must be as those of training


def test_a_finger_writes_and_rubs(browser):
    box = browser.run("(({left, top, width}) => [left, top, width])(by('paper').getBoundingClientRect())")
    (digit, (first, *_)) = strokes.sheet(seed=0)[6]
    touch = lambda kind, spot: browser.ask(
        "Input.dispatchTouchEvent",
        type=kind,
        touchPoints=[{"x": box[0] + spot[0] * box[2], "y": box[1] + spot[1] * box[2]}] if spot else [],
    )
    choose = "(value => {by('hide').value = value; by('hide').dispatchEvent(new Event('change'))})"
    browser.run(f"{choose}('the right half')")
    touch("touchStart", first[0])
    for spot in first[1:]:
        touch("touchMove", spot)
    touch("touchEnd", None)
    sampled = (
        "[...document.querySelectorAll('#completions canvas')].filter(one => one.ariaLabel.startsWith('A sample'))"
    )
    wait = "new Promise(done => setTimeout(done, 50))"
    browser.run(f"(async () => {{for (let k = 0; k < 200 && {sampled}.length < 3; k++) await {wait}}})()")
    assert browser.run(f"{sampled}.length") == 3  # they began when the finger went up
    browser.run(f"{choose}('nothing'); play(false)")
    assert browser.run("by('answer').textContent") == str(digit) == "2"
    assert f"The network reads: {digit}." in browser.run("by('status').textContent")
    assert browser.run("scrollY") == 0
    browser.run("rub([0.5, 0.9]); update({animate: false})")
    assert browser.run("page.known.filter(one => !one).length") == 4
    assert not browser.run("by('completion').hidden")


def test_the_keyboard_does_all_of_it(browser):
    press = lambda key, times=1: [
        browser.run(
            f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"
        )
        for _ in range(times)
    ]
    browser.run("by('paper').focus()")
    press("ArrowUp", 8), press(" "), press("ArrowDown", 16), press(" ")
    browser.run("play(false)")
    assert browser.run("by('answer').textContent") == "1"
    choose = "(id, value) => {by(id).value = value; by(id).dispatchEvent(new Event('change'))}"
    browser.run(f"({choose})('hide', 'the lower half'); play(false)")
    assert "It looked twice" in browser.run("by('status').textContent")
    browser.run(f"({choose})('example', '4'); ({choose})('hide', 'nothing'); play(false)")
    assert browser.run("by('answer').textContent") == "4"
    steps = browser.run("page.answer.sweeps")
    browser.run("by('step').value = 1; by('step').dispatchEvent(new Event('input'))")
    assert browser.run("by('step').getAttribute('aria-valuetext')") == f"step 1 of {steps}"
    browser.run("by('momentum').click()")
    assert browser.run("page.answer.sweeps") > steps
    browser.run("askFor(6)")
    assert "8 images of 6 were sampled" in browser.run("by('status').textContent")
    press("Backspace")
    browser.run("by('clear').click()")
    assert "The paper is empty" in browser.run("by('status').textContent")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_overflows_and_everything_has_a_name(place, width, dark):
    browser, page = place
    browser.open(page, width=width, dark=dark)
    browser.run("ready.then(() => {by('example').value = '4'; takeExample(); hide(HIDES['the middle']); update({})})")
    assert browser.run("document.documentElement.scrollWidth") == width
    boxes = "[...document.querySelectorAll('{}')].map(one => one.getBoundingClientRect()).filter(box => {}).length"
    assert browser.run(boxes.format("main *", "box.right > innerWidth + 1")) == 0
    assert browser.run(boxes.format("button, select", "box.height < 44")) == 0  # CSS pixels that a finger needs
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "slider", "checkbox", "image", "application", "list", "group"}
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    assert roles <= {role for role, _ in named}
    assert [role for role, name in named if role in roles and not name.strip()] == []
    assert browser.errors == []
