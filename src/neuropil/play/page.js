// What the page does: it takes what is written and hidden, asks the network, and shows its answers step by step.

const by = id => document.getElementById(id);
const facts = JSON.parse(by("facts").textContent);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const page = { strokes: [], example: null, known: null, pen: [0.5, 0.5], down: false, trace: [], answer: null, jobs: {} };
let network = null;

/** The network, out of the page. */
async function unpack() {
  const zipped = Uint8Array.from(atob(by("weights").textContent), letter => letter.charCodeAt(0));
  const bytes = new Response(new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  network = { ...readNetwork(new Uint8Array(await bytes)), ...facts.constants };
  page.known = new Float64Array(network.sizes[PIXELS]).fill(1);
}

const tell = text => { by("status").textContent = text; };

const nextFrame = () => new Promise(done => setTimeout(done, 16));

function element(tag, properties = {}, ...inside) {
  const one = Object.assign(document.createElement(tag), properties);
  one.append(...inside);
  return one;
}

/** A canvas that says in words what it shows. */
function picture(label) {
  const canvas = element("canvas", { className: "image" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  return canvas;
}

// What is asked

/** How activity settles, as the controls say. */
function settling() {
  const own = network.settling.momentum || 0.5;
  return inUse(network, { step_size: +by("step-size").value, momentum: by("momentum").checked ? own : 0 });
}

const isEmpty = () => !page.example && !page.strokes.length;

/** The strokes, and where the pen is if the keyboard moves it. */
function showPaper() {
  showStrokes(by("paper"), page.strokes, facts.layout.shown, by("paper").matches(":focus-visible") && page.pen);
}

/** Ask the network about what is on the paper, and show what it answers. `animate`: from the first step on. */
function update({ animate = true } = {}) {
  const image = page.example ?? imageOf(page.strokes, facts.layout, network.shape);
  showPaper();
  showImage(by("seen"), image, network.shape, page.known);
  const whole = page.known.every(one => one);
  by("seen").setAttribute("aria-label", `The image as the network sees it; ${whole ? "all of it is known" : "a part is hidden"}`);
  cancelAnimationFrame(page.jobs.frame);
  page.trace = [];
  if (!isEmpty()) ask(image);
  by("answers").hidden = isEmpty();
  if (isEmpty()) tell("The paper is empty: write something, or take an example.");
  else play(animate && !calm.matches);
  completeToo(isEmpty() || whole ? null : image, animate);
}

/** Settle, and keep every step of it. */
function ask(image) {
  const keep = state => page.trace.push(Object.fromEntries(Object.entries(state).map(([name, one]) => [name, one.slice()])));
  keep(toClassify(network, image.map((value, k) => value * page.known[k]), !page.known.every(one => one)).state);
  page.answer = read(network, image, page.known, { settling: settling(), watch: keep });
  const highest = page.answer.completed ? 1 + network.completed_weight : 1;
  page.trace.at(-1)[LABEL] = page.answer.scores.map(score => clip(score / highest));
}

// The settling, step by step

/** Show the steps one after the other, or the last one alone. */
function play(animate) {
  const last = page.trace.length - 1, start = performance.now(), whole = Math.min(2500, 250 * last);
  Object.assign(by("step"), { max: last, value: animate ? 0 : last });
  const frame = () => {
    const part = animate ? Math.min((performance.now() - start) / whole, 1) : 1;
    by("step").value = Math.floor(part * last);
    showStep();
    if (part < 1) page.jobs.frame = requestAnimationFrame(frame);
    else tell(inWords());
  };
  frame();
}

/** Bars and hidden activity at the step that the slider says. */
function showStep() {
  const at = +by("step").value, state = page.trace[at], best = largest(state[LABEL]), said = `step ${at} of ${page.trace.length - 1}`;
  by("step").setAttribute("aria-valuetext", said);
  by("step-said").textContent = said;
  [...by("bars").children].forEach((row, k) => {
    row.classList.toggle("best", k === best && state[LABEL][k] > 0);
    row.querySelector("i").style.width = `${100 * state[LABEL][k]}%`;
    row.querySelector(".value").textContent = state[LABEL][k].toFixed(2);
  });
  const hidden = Object.keys(state).filter(name => name !== PIXELS && name !== LABEL);
  const shown = [...by("units").children].map(one => one.dataset.name);
  if (hidden.join() !== shown.join()) by("units").replaceChildren(...hidden.map(unitsFigure));
  for (const figure of by("units").children) showUnitsOf(figure, state[figure.dataset.name]);
}

function unitsFigure(name) {
  const figure = element("figure", {}, picture(""), element("figcaption"));
  figure.dataset.name = name;
  return figure;
}

function showUnitsOf(figure, activity) {
  const active = activity.filter(value => value > 0.05).length;
  const roles = { completion: "units that read images of which a part is hidden", classification: "units that read whole images" };
  const said = `${active} of ${activity.length} ${roles[network.roles[figure.dataset.name]] ?? "hidden units"} are active`;
  showUnits(figure.firstChild, activity);
  figure.firstChild.setAttribute("aria-label", said);
  figure.lastChild.textContent = said;
}

/** The answer in a sentence or two. */
function inWords() {
  const { scores, sweeps, residual, settled } = page.answer, best = largest(scores), others = scores.map((one, k) => (k === best ? -Infinity : one));
  const next = largest(others), rest = settled ? `It settled after ${sweeps} steps.` : `After ${sweeps} steps it still moves by ${residual.toPrecision(1)}.`;
  by("answer").textContent = facts.classes[best];
  const more = page.answer.completed ? " It looked twice: at what is known, and at the image that it completed." : "";
  return `The network reads: ${facts.classes[best]}. Next is ${facts.classes[next]}, ${(scores[best] - scores[next]).toFixed(2)} behind. ${rest}${more}`;
}

// What is hidden, and what comes in its place

const HIDES = {
  nothing: () => false,
  "the lower half": (x, y) => y >= 0.5,
  "the upper half": (x, y) => y < 0.5,
  "the left half": x => x < 0.5,
  "the right half": x => x >= 0.5,
  "the middle": (x, y) => Math.max(Math.abs(x - 0.5), Math.abs(y - 0.5)) < 0.25,
  "all but the middle": (x, y) => Math.max(Math.abs(x - 0.5), Math.abs(y - 0.5)) > 0.25,
};

/** Known (1) or hidden (0) for every pixel. */
function hide(hidden, onto = null) {
  const [, height, width] = network.shape;
  const known = (k) => (hidden(((k % width) + 0.5) / width, (Math.floor(k / width) + 0.5) / height) ? 0 : 1);
  page.known = Float64Array.from(page.known, (before, k) => (onto ? Math.min(before, known(k)) : known(k)));
}

/** Show the hidden part as the network expects it, and as three samples; nothing without an image. */
function completeToo(image, samples) {
  by("completion").hidden = !image || !generates(network);
  page.jobs.samples = null;
  if (by("completion").hidden) return;
  const expected = page.answer.completed ?? complete(network, image, page.known, { settling: settling() }).image;
  showImage(by("expected"), expected, network.shape);
  const known = page.known.slice(), places = [...by("completions").querySelectorAll("canvas")].slice(1);
  if (samples) sampleInto(places, "samples", canvas => ({ image, known, label: -1, canvas }));
}

/** Fill canvases with samples, one after the other, while the page stays awake; a newer job of this name ends it. */
async function sampleInto(places, job, asked) {
  const random = generator(Math.floor(Math.random() * 2 ** 32)), ticket = (page.jobs[job] = {}), found = [];
  for (const place of places) place.getContext("2d").clearRect(0, 0, place.width, place.height);
  for (const place of places) {
    const { image, known, label } = asked(place), steps = sample(network, image, known, label, random);
    let one = steps.next(), since = performance.now();
    for (; !one.done; one = steps.next()) {
      if (performance.now() - since < 30) continue;
      showImage(place, one.value, network.shape);
      await nextFrame();
      since = performance.now();
      if (page.jobs[job] !== ticket) return null;
    }
    showImage(place, one.value.image, network.shape);
    place.setAttribute("aria-label", `A sample that the network reads as ${facts.classes[one.value.read]}`);
    found.push(one.value);
    await nextFrame();
    if (page.jobs[job] !== ticket) return null;
  }
  return found;
}

/** Sample images of a class. */
async function askFor(label) {
  const image = new Float64Array(network.sizes[PIXELS]), name = facts.classes[label];
  tell(`Images of ${name} are being sampled.`);
  const found = await sampleInto([...by("samples").children], "asked", () => ({ image, known: image, label }));
  if (!found) return;
  const right = found.filter(one => one.read === label).length, attempts = found.reduce((sum, one) => sum + one.attempts, 0);
  tell(`${found.length} images of ${name} were sampled in ${attempts} attempts. The network reads ${right} of them as ${name}.`);
}
