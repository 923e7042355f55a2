// The arithmetic of neuropil.associative, for one image at a time: an associative network settles, reads, completes
// and samples. Activity and masks are arrays by the name of their population. `free` has the populations that move, in
// the order of a sweep: its entry is null where all units move, or a mask with 1 for units that do.

const PIXELS = "pixels", LABEL = "label";

const clip = value => Math.min(Math.max(value, 0), 1);

const largest = values => values.reduce((best, value, k) => (value > values[best] ? k : best), 0);

// The network

/** The network in the bytes of a file of neuropil, which is a safetensors file. */
function readNetwork(bytes) {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const types = { F32: Float32Array, I8: Int8Array };
  const tensor = name => {
    const { dtype, data_offsets: [from, to] } = header[name];
    return new types[dtype](bytes.slice(8 + length + from, 8 + length + to).buffer);
  };
  const { learned, settling, sampling } = unwrap(JSON.parse(header.__metadata__.model));
  const { net_: net, shape_: shape, classes_: classes } = learned, weights = {}, bias = {};
  for (const [pre, post] of net.projections) {
    const name = `net.synapses.${pre}>${post}.weight`;
    weights[`${pre}>${post}`] = transposed(tensor(name), tensor(`${name}|scale`), net.sizes[pre]);
  }
  for (const name of Object.keys(net.sizes)) bias[name] = tensor(`net.bias.${name}`);
  return { ...net, weights, bias, settling, sampling, shape, classes };
}

/** A description of settings, without the classes that had them in Python. */
function unwrap(tree) {
  if (tree === null || typeof tree !== "object") return tree;
  if (tree.tuple) return tree.tuple.map(unwrap);
  const { class: name, settings, learned, dict, ...rest } = tree, own = dict ?? settings ?? rest;
  const plain = Object.fromEntries(Object.entries(own).map(([key, value]) => [key, unwrap(value)]));
  return learned ? { ...plain, learned: unwrap(learned) } : plain;
}

/** Rounded weights (post, pre) with a scale for each row as floats (pre, post): one row for each sender. */
function transposed(whole, scale, units) {
  const found = new Float32Array(whole.length), posts = scale.length;
  for (let post = 0; post < posts; post++)
    for (let pre = 0; pre < units; pre++) found[pre * posts + post] = Math.fround(whole[post * units + pre] * scale[post]);
  return found;
}

const generates = net => `${LABEL}>${PIXELS}` in net.weights;

/** `wanted` and all populations that influence it without passing through a `fixed` one, in the order of a sweep. */
function ancestors(net, wanted, fixed) {
  const known = new Set([wanted]), edge = [wanted];
  while (edge.length) {
    const post = edge.pop();
    for (const [pre, target] of net.projections)
      if (target === post && !fixed.includes(pre) && !known.has(pre)) known.add(pre), edge.push(pre);
  }
  return Object.keys(net.sizes).filter(name => known.has(name));
}

/** Populations that take no part while pixels are missing, or while none is. */
function silenced(net, partial) {
  if (!("completion" in net.sizes)) return [];
  return Object.keys(net.roles).filter(name => net.roles[name] === (partial ? "classification" : "completion"));
}

// Drives

/** Add to a drive what one population sends to another. */
function addInput(drive, weights, sent) {
  const posts = drive.length;
  for (let pre = 0; pre < sent.length; pre++) {
    const activity = sent[pre], row = pre * posts;
    if (activity !== 0) for (let post = 0; post < posts; post++) drive[post] += activity * weights[row + post];
  }
}

/** What the populations in `senders` add to the bias, or to the drive `start`, of `post`. */
function driveFrom(net, post, senders, start = net.bias[post]) {
  const drive = Float64Array.from(start);
  for (const [pre, target] of net.projections)
    if (target === post && pre in senders) addInput(drive, net.weights[`${pre}>${post}`], senders[pre]);
  return drive;
}

/** The populations whose names pass, as an object. */
const where = (state, passes) => Object.fromEntries(Object.entries(state).filter(([name]) => passes(name)));

/** What units send: those that are free among clamped ones a fraction of their activity, all others all of it. */
function send(activity, mask, gain, out = mask ? new Float64Array(activity.length) : activity) {
  if (mask) for (let k = 0; k < activity.length; k++) out[k] = activity[k] * (1 + (gain - 1) * mask[k]);
  return out;
}

/** The drive of a population at present. */
function driveOf(net, state, post, free) {
  const gain = net.settling.free_unit_gain, names = Object.keys(state);
  return driveFrom(net, post, Object.fromEntries(names.map(name => [name, send(state[name], free[name], gain)])));
}

// Settling

/** Settle `state` in place. `watch` is called after every sweep. How many sweeps, and how far from rest. */
function settle(net, settling, state, free, watch = () => {}) {
  const { max_iterations, step_size, momentum, tolerance, check_every, free_unit_gain } = settling, names = Object.keys(free);
  const still = where(state, name => !(name in free)), sent = {}, fixed = {}, velocity = {};
  for (const name of names) {
    sent[name] = send(state[name], free[name], free_unit_gain);
    fixed[name] = driveFrom(net, name, still);
    velocity[name] = new Float64Array(state[name].length);
  }
  let residual = NaN, sweeps = 0;
  while (sweeps < max_iterations) {
    const distances = names.map(name => {
      const distance = step(state[name], driveFrom(net, name, sent, fixed[name]), free[name], velocity[name], step_size, momentum);
      if (free[name]) send(state[name], free[name], free_unit_gain, sent[name]);
      return distance;
    });
    sweeps += 1;
    watch(state);
    residual = Math.max(...distances);
    if ((sweeps % check_every === 0 || sweeps === max_iterations) && residual < tolerance) break;
  }
  return { sweeps, residual, settled: residual < tolerance };
}

/** One step of a population, in place: how far its farthest free unit was from where its drive sends it. */
function step(activity, drive, mask, velocity, step_size, momentum) {
  let distance = 0;
  for (let k = 0; k < activity.length; k++) {
    const pull = (clip(drive[k]) - activity[k]) * (mask ? mask[k] : 1);
    distance = Math.max(distance, Math.abs(pull));
    velocity[k] = momentum * velocity[k] + step_size * pull;
    activity[k] = clip(activity[k] + velocity[k]);
  }
  return distance;
}

/** Settling in use: closer, and with more sweeps, than in training. Smaller steps get more sweeps. */
function inUse(net, { step_size, momentum } = net.settling) {
  const { max_iterations, tolerance } = net.settling, slower = net.settling.step_size / step_size;
  const sweeps = Math.ceil(net.patience * max_iterations * slower);
  return { ...net.settling, step_size, momentum, max_iterations: sweeps, tolerance: net.closer * tolerance };
}

/** Activity to start from, and who is free. `masks` has the visible populations that are not all clamped. */
function initialState(net, pixels, label, masks, target, partial) {
  const clamped = [PIXELS, LABEL].filter(name => !(name in masks));
  const moving = ancestors(net, target, [...clamped, ...silenced(net, partial)]);
  const free = Object.fromEntries(moving.map(name => [name, masks[name] ?? null]));
  const state = { pixels: Float64Array.from(pixels), label: Float64Array.from(label) };
  for (const name of moving.filter(name => !(name in state)).sort()) state[name] = driveFrom(net, name, state).map(clip);
  return { state, free };
}

// Answers

/** Where settling on a label starts. */
function toClassify(net, pixels, partial = false) {
  return initialState(net, pixels, new Float64Array(net.classes), { label: null }, LABEL, partial);
}

/** Settle on a label; the drive of every label unit is the score of its class. */
function classify(net, pixels, { partial = false, settling = inUse(net), watch } = {}) {
  const { state, free } = toClassify(net, pixels, partial);
  const end = settle(net, settling, state, free, watch);
  return { ...end, state, scores: driveOf(net, state, LABEL, free) };
}

/** Read an image of which `known` pixels (1) are there: from these, and from the image that they complete to. */
function read(net, pixels, known, options = {}) {
  if (known.every(one => one)) return classify(net, pixels, options);
  const seen = pixels.map((value, k) => value * known[k]);
  const first = classify(net, seen, { ...options, partial: true });
  if (!generates(net) || !("completion" in net.sizes)) return first;
  const completed = complete(net, pixels, known, options).image, { settling } = options;
  const second = classify(net, completed, { settling }).scores.map(clip);
  const scores = first.scores.map((score, k) => clip(score) + net.completed_weight * second[k]);
  return { ...first, scores, completed };
}

/** Where settling starts that fills in what is missing; `label` is -1 if it is unknown. */
function toFill(net, pixels, known, label) {
  const masks = { pixels: Float64Array.from(known, one => 1 - one) };
  const asked = new Float64Array(net.classes);
  if (label >= 0) asked[label] = 1;
  else masks.label = new Float64Array(net.classes).fill(1);
  return initialState(net, pixels.map((value, k) => value * known[k]), asked, masks, PIXELS, true);
}

/** The image with its missing pixels as the network expects them. */
function complete(net, pixels, known, { label = -1, settling = inUse(net) } = {}) {
  const { state, free } = toFill(net, pixels, known, label);
  const end = settle(net, settling, state, free);
  return { ...end, image: state.pixels };
}

// Samples

/** Numbers in [0, 1) that come again with the same seed (mulberry32). */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Places 0 to n - 1 in random order. */
function shuffled(places, random) {
  return places.map(place => [random(), place]).sort(([a], [b]) => a - b).map(([, place]) => place);
}

/** All free pixels spike or stay silent, in rounds, each of which knows the earlier ones; yields after each. */
function* spikeInRounds(net, state, free, rounds, random) {
  const left = free.pixels, order = shuffled([...left.keys()].filter(k => left[k] > 0), random);
  let done = 0;
  for (let round = 1; round <= rounds; round++) {
    settle(net, net.settling, state, free);
    for (; done < order.length && done / order.length < round / rounds; done++) {
      state.pixels[order[done]] = random() < state.pixels[order[done]] ? 1 : 0;
      left[order[done]] = 0;
    }
    yield state.pixels;
  }
}

/** A sample of the missing pixels; yields the image as it comes about, and returns it. */
function* sampleOnce(net, pixels, known, label, random) {
  const { state, free } = toFill(net, pixels, known, label), missing = free.pixels, { n_rounds, n_resamples, contrast } = net.sampling;
  free.pixels = missing.slice();
  yield* spikeInRounds(net, state, free, n_rounds, random);
  for (let again = 0; again < n_resamples; again++) {
    free.pixels = missing.map(one => (random() < net.resampled ? one : 0));
    state.pixels = state.pixels.map((value, k) => value * (1 - free.pixels[k]));
    yield* spikeInRounds(net, state, free, Math.max(1, Math.floor(n_rounds / 10)), random);
  }
  for (const name of Object.keys(free).filter(name => name !== PIXELS)) {
    const goal = driveOf(net, state, name, free);
    state[name] = state[name].map((value, k) => (free[name]?.[k] === 0 ? value : clip(goal[k])));
  }
  const drive = driveOf(net, state, PIXELS, free);
  return state.pixels.map((value, k) => (missing[k] > 0 ? clip((drive[k] - 0.5) * contrast + 0.5) : value));
}

/** Samples of one image until the network reads it as `label`; the best one, how many there were, and its margin. */
function* sample(net, pixels, known, label, random) {
  const { accept_margin, max_attempts } = net.sampling, asks = label >= 0 && accept_margin !== null;
  let best = null;
  for (let attempts = 1; attempts <= (asks ? max_attempts : 1); attempts++) {
    const image = yield* sampleOnce(net, pixels, known, label, random), scores = classify(net, image).scores;
    const margin = asks ? scores[label] - Math.max(...scores.filter((_, k) => k !== label)) : Infinity;
    best = { ...(best && best.margin >= margin ? best : { image, margin, read: largest(scores) }), attempts };
    if (margin >= accept_margin) break;
  }
  return best;
}

/** What a generator function returns, at once. */
function atOnce(steps) {
  let one = steps.next();
  while (!one.done) one = steps.next();
  return one.value;
}
