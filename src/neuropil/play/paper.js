// From strokes to an image like those that the network has learned from, and from numbers to pictures on the page.
// A stroke is a list of points [x, y] in [0, 1]; a layout says how training images were centred and scaled.

const FINE = 8; // dots across a pixel, each way

/** Smallest box around all points: left, top, right, bottom. */
function boxOf(strokes) {
  const xs = strokes.flat().map(([x]) => x), ys = strokes.flat().map(([, y]) => y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** Where points of the paper lie in the image, in pixels: factors and shifts across and down. */
function placed(strokes, layout, [, height, width], pen) {
  if (layout.fit === "none") return { sx: width, sy: height, dx: 0, dy: 0 };
  const [left, top, right, bottom] = boxOf(strokes), [across, down] = layout.box.map(side => side - pen);
  const tall = Math.max(bottom - top, 0.1), wide = Math.max(right - left, 1e-9); // a dot stays a dot
  const sy = layout.fit === "height" ? down / tall : Math.min(down / tall, across / wide), sx = Math.min(sy, across / wide);
  return { sx, sy, dx: width / 2 - (sx * (left + right)) / 2, dy: height / 2 - (sy * (top + bottom)) / 2 };
}

/** Ink in [0, 1] of every pixel, from strokes of a round pen that is `pen` pixels wide. */
function inked(strokes, { sx, sy, dx, dy }, pen, [, height, width]) {
  const canvas = inked.canvas ?? document.createElement("canvas");
  inked.canvas = Object.assign(canvas, { width: width * FINE, height: height * FINE }); // setting its size clears it
  const sheet = canvas.getContext("2d", { willReadFrequently: true });
  Object.assign(sheet, { lineWidth: pen * FINE, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  for (const stroke of strokes) {
    sheet.beginPath();
    for (const [x, y] of [stroke[0], ...stroke]) sheet.lineTo((sx * x + dx) * FINE, (sy * y + dy) * FINE);
    sheet.stroke();
  }
  const dots = sheet.getImageData(0, 0, canvas.width, canvas.height).data, image = new Float64Array(height * width);
  for (let y = 0; y < canvas.height; y++)
    for (let x = 0; x < canvas.width; x++)
      image[Math.floor(y / FINE) * width + Math.floor(x / FINE)] += dots[4 * (y * canvas.width + x) + 3] / 255 / FINE ** 2;
  return image;
}

const total = image => image.reduce((sum, value) => sum + value, 0);

/** Strokes as an image of this shape. */
function imageOf(strokes, layout, shape) {
  if (!strokes.flat().length) return new Float64Array(shape[1] * shape[2]);
  let [pen, widest] = layout.pen, at = placed(strokes, layout, shape, pen), image = inked(strokes, at, pen, shape);
  for (let more = (widest - pen) / 2; layout.ink && more > 0.02; more /= 2) { // as much ink as the training images have
    pen += total(image) < layout.ink ? more : -more;
    at = placed(strokes, layout, shape, pen);
    image = inked(strokes, at, pen, shape);
  }
  return layout.centre === "mass" ? inked(strokes, centred(image, at, layout, shape), pen, shape) : image;
}

/** The same place, shifted so that the centre of mass of the ink lies where that of training images does. */
function centred(image, at, { middle }, [, height, width]) {
  let x = 0, y = 0;
  image.forEach((value, k) => { x += value * ((k % width) + 0.5); y += value * (Math.floor(k / width) + 0.5); });
  return { ...at, dx: at.dx + middle[0] - x / total(image), dy: at.dy + middle[1] - y / total(image) };
}

/** The points of a stroke and of all before it, as the pen leaves them on the paper. */
function showStrokes(canvas, strokes, pen, spot) {
  const sheet = canvas.getContext("2d"), side = canvas.width;
  sheet.clearRect(0, 0, side, side);
  Object.assign(sheet, { lineWidth: pen * side, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  for (const stroke of strokes) {
    sheet.beginPath();
    for (const [x, y] of [stroke[0], ...stroke]) sheet.lineTo(x * side, y * side);
    sheet.stroke();
  }
  if (!spot) return;
  Object.assign(sheet, { lineWidth: 3, strokeStyle: "#e8622c" });
  sheet.beginPath();
  sheet.arc(spot[0] * side, spot[1] * side, (pen * side) / 2 + 3, 0, 7);
  sheet.stroke();
}

/** Grey values in [0, 1] on a canvas of as many dots; those that are not `known` are tinted. */
function showImage(canvas, image, [, height, width], known = null) {
  const dots = new ImageData(width, height);
  image.forEach((value, k) => {
    const grey = Math.round(255 * value), there = !known || known[k];
    dots.data.set(there ? [grey, grey, grey, 255] : [16, 97 + ((k + Math.floor(k / width)) % 2) * 12, 173, 255], 4 * k);
  });
  Object.assign(canvas, { width, height }).getContext("2d").putImageData(dots, 0, 0);
}

/** Activity in [0, 1] of hidden units, a square each. */
function showUnits(canvas, activity) {
  const width = Math.ceil(Math.sqrt(2 * activity.length)), height = Math.ceil(activity.length / width);
  const dots = new ImageData(width, height);
  activity.forEach((value, k) => dots.data.set([232, 98, 44, Math.round(255 * value)], 4 * k));
  Object.assign(canvas, { width, height }).getContext("2d").putImageData(dots, 0, 0);
}
