// Hand, keyboard and buttons.

/** Where on a canvas an event is: [x, y] in [0, 1]. */
function spotOf(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return [clip((event.clientX - box.left) / box.width), clip((event.clientY - box.top) / box.height)];
}

/** At most one update in a frame, without animation. */
function updateSoon() {
  cancelAnimationFrame(page.jobs.soon);
  page.jobs.soon = requestAnimationFrame(() => update({ animate: false }));
}

/** Call `begin` and `move` with places while a finger or a button is down on a canvas, and `end` after that. */
function onDrag(canvas, begin, move, end) {
  let held = null;
  canvas.addEventListener("pointerdown", event => {
    if (held !== null || event.button) return;
    held = event.pointerId;
    canvas.setPointerCapture(held);
    begin(spotOf(event));
    updateSoon();
  });
  canvas.addEventListener("pointermove", event => {
    if (event.pointerId === held) move(spotOf(event)), updateSoon();
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, event => {
      if (event.pointerId !== held) return;
      held = null;
      cancelAnimationFrame(page.jobs.soon);
      end();
    });
}

function begin(spot) {
  page.example = null;
  by("example").value = "";
  page.pen = spot;
  page.strokes.push([spot]);
}

function move(spot) {
  page.pen = spot;
  page.strokes.at(-1).push(spot);
}

/** Arrow keys move the pen, space sets it down or lifts it, backspace takes the last stroke away. */
function onKey(event) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, way = steps[event.key];
  if (way) {
    const spot = page.pen.map((place, k) => clip(place + 0.04 * way[k]));
    if (page.down) move(spot);
    else page.pen = spot;
  } else if (event.key === " ") {
    page.down = !page.down;
    if (page.down) begin(page.pen);
  } else if (event.key === "Backspace") undo();
  else return;
  event.preventDefault();
  update({ animate: event.key === " " && !page.down });
  if (event.key === " " && page.down) tell("The pen is down.");
}

function undo() {
  page.down = false;
  page.strokes.pop();
  update();
}

function clear() {
  Object.assign(page, { strokes: [], example: null, down: false });
  by("example").value = "";
  by("hide").value = "nothing";
  hide(HIDES.nothing);
  update();
}

/** Show a test image in the place of what was written. */
function takeExample() {
  const chosen = facts.examples[by("example").value];
  page.strokes = [];
  page.example = chosen ? Float64Array.from(atob(chosen.pixels), letter => letter.charCodeAt(0) / 255) : null;
  update();
}

/** Hide what is within a tenth of the image of the finger. */
function rub([x, y]) {
  hide((a, b) => Math.hypot(a - x, b - y) < 0.12, page.known);
  by("hide").value = "";
}

/** Build what depends on the network. */
function build() {
  const option = (value, text = value) => element("option", { value, textContent: text });
  by("bars").append(...facts.classes.map(name => element("li", {},
    element("span", { className: "class", textContent: name }),
    element("span", { className: "bar", ariaHidden: "true" }, element("i")),
    element("span", { className: "value" }))));
  by("hide").append(...Object.keys(HIDES).map(name => option(name)), element("option", { value: "", textContent: "by hand", hidden: true }));
  by("example").append(...facts.examples.map(({ label }, k) => option(k, `an image of ${facts.classes[label]}`)));
  by("examples").hidden = !facts.examples.length;
  const own = network.settling.step_size, sizes = [own, 0.3, 0.1].filter(size => size <= own);
  by("step-size").append(...sizes.map(size => option(size, size === own ? `${size}, as in training` : size)));
  by("momentum").checked = network.settling.momentum > 0;
  by("asking").hidden = !generates(network);
  by("asks").append(...facts.classes.map((name, label) =>
    element("button", { type: "button", textContent: name, onclick: () => askFor(label) })));
  by("samples").append(...Array.from({ length: 8 }, () => picture("No sample yet")));
  by("completions").append(...[1, 2, 3].map(k =>
    element("figure", {}, picture("No sample yet"), element("figcaption", { textContent: `sample ${k}` }))));
}

function listen() {
  onDrag(by("paper"), begin, move, () => update());
  onDrag(by("seen"), rub, rub, () => update());
  by("paper").addEventListener("keydown", onKey);
  for (const name of ["focus", "blur"]) by("paper").addEventListener(name, showPaper);
  by("undo").addEventListener("click", undo);
  by("clear").addEventListener("click", clear);
  by("again").addEventListener("click", () => play(true));
  by("step").addEventListener("input", () => { cancelAnimationFrame(page.jobs.frame); showStep(); });
  by("example").addEventListener("change", takeExample);
  by("hide").addEventListener("change", () => { hide(HIDES[by("hide").value]); update(); });
  for (const id of ["momentum", "step-size"]) by(id).addEventListener("change", () => update());
}

/** Resolves once the page can be used. */
const ready = unpack().then(() => {
  build();
  listen();
  by("play").hidden = false;
  update();
}, () => tell("This browser is too old to unpack the network: it needs DecompressionStream, which browsers have since 2023."));
