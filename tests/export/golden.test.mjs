// `node --test`: reproduce the golden answers of an exported model from preprocess.json alone.
// SIGHTX_MODEL is its folder, whose steps are `center-crop`; NODE_PATH has onnxruntime-node and jpeg-js.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { inflateSync } from 'node:zlib';

const require = createRequire(import.meta.url);
const ort = require('onnxruntime-node');
const jpeg = require('jpeg-js');
const folder = process.env.SIGHTX_MODEL;
const read = (name) => JSON.parse(readFileSync(join(folder, name), 'utf8'));
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

/** Decode a PNG without interlacing: rows of samples of 8 bits (of 16, the upper 8), and its palette. */
function decodePng(file) {
  const chunks = {};
  for (let at = 8; at < file.length;) {
    const length = file.readUInt32BE(at);
    const kind = file.toString('latin1', at + 4, at + 8);
    (chunks[kind] ??= []).push(file.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const [header] = chunks.IHDR;
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const [depth, colour] = [header[8], header[9]];
  const data = inflateSync(Buffer.concat(chunks.IDAT));
  const channels = CHANNELS[colour];
  const size = Math.ceil((width * channels * depth) / 8);
  const step = Math.max(1, (channels * depth) >> 3);
  const rows = [];
  for (let y = 0; y < height; y += 1) {
    const row = Buffer.from(data.subarray(y * (size + 1) + 1, (y + 1) * (size + 1)));
    const filter = data[y * (size + 1)];
    for (let x = 0; x < size; x += 1) {
      const left = x < step ? 0 : row[x - step];
      const above = y ? rows[y - 1][x] : 0;
      const corner = y && x >= step ? rows[y - 1][x - step] : 0;
      const [a, b, c] = [above - corner, left - corner, left + above - 2 * corner].map(Math.abs);
      const paeth = a <= b && a <= c ? left : b <= c ? above : corner;
      row[x] += [0, left, above, (left + above) >> 1, paeth][filter];
    }
    rows.push(row);
  }
  const sample = (row, number) => {
    if (depth === 16) return row[2 * number];
    if (depth === 8) return row[number];
    return (row[(number * depth) >> 3] >> (8 - depth - ((number * depth) & 7))) & ((1 << depth) - 1);
  };
  const palette = chunks.PLTE?.[0];
  return {
    width, height,
    /** Return red, green and blue of a pixel, drawn on black. */
    pixel(y, x) {
      const values = Array.from({ length: channels }, (_, k) => sample(rows[y], x * channels + k));
      if (colour === 3) return [0, 1, 2].map((k) => palette[3 * values[0] + k]);
      const colours = channels > 2 ? values.slice(0, 3) : Array(3).fill(values[0]);
      const alpha = colour & 4 ? values.at(-1) / 255 : 1;
      return colours.map((value) => Math.round(value * alpha));
    },
  };
}

/** Return the orientation of a JPEG, 1 to 8, from its EXIF data in big-endian or little-endian order. */
function orientationOf(file) {
  const start = file.indexOf('Exif\0\0', 0, 'latin1') + 6;
  if (start < 6) return 1;
  const isLittle = file.toString('latin1', start, start + 2) === 'II';
  const read16 = (at) => (isLittle ? file.readUInt16LE(at) : file.readUInt16BE(at));
  const first = start + (isLittle ? file.readUInt32LE(start + 4) : file.readUInt32BE(start + 4));
  const entries = Array.from({ length: read16(first) }, (_, number) => first + 2 + 12 * number);
  const entry = entries.find((at) => read16(at) === 0x0112);
  return entry ? read16(entry + 8) : 1;
}

/** Decode a JPEG in colour or CMYK, and turn it as its EXIF data says. */
function decodeJpeg(file) {
  const { width, height, data } = jpeg.decode(file, { useTArray: true, formatAsRGBA: false });
  const pixel = (y, x) => [...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3)];
  if (orientationOf(file) === 1) return { width, height, pixel };
  assert.equal(orientationOf(file), 6); // a quarter turn clockwise
  return { width: height, height: width, pixel: (y, x) => pixel(height - 1 - x, y) };
}

/** Return the input of the network, uint8 (3, height, width), as preprocess.json describes it. */
function preprocess(image, { steps, input: { shape: [, channels, height, width] } }) {
  assert.deepEqual(steps.map((step) => step.use), ['center-crop']);
  assert.equal(channels, 3);
  const [top, left] = [Math.round((image.height - height) / 2), Math.round((image.width - width) / 2)];
  const pixels = new Uint8Array(3 * height * width);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      image.pixel(top + y, left + x).forEach((value, channel) => {
        pixels[(channel * height + y) * width + x] = value;
      });
    }
  }
  return pixels;
}

const description = read('preprocess.json');
const session = await ort.InferenceSession.create(join(folder, 'model.onnx'));

/** Return the network's probabilities for an image, and the SHA-256 of its pixels. */
async function predict(image) {
  const pixels = preprocess(image, description);
  const [, ...shape] = description.input.shape;
  const input = new ort.Tensor(description.input.type, pixels, [1, ...shape]);
  const { probabilities } = await session.run({ [description.input.name]: input });
  return { probabilities: probabilities.data, digest: createHash('sha256').update(pixels).digest('hex') };
}

function golden(ending, count) {
  const answers = Object.entries(read('golden/golden.json')).filter(([name]) => name.endsWith(ending));
  assert.equal(answers.length, count);
  return answers.map(([name, answer]) => [name, answer, readFileSync(join(folder, 'golden', name))]);
}

function compare(name, probabilities, answer, bound) {
  assert.deepEqual(answer.probabilities.map((share) => share.class), read('labels.json').classes);
  answer.probabilities.forEach(({ probability }, position) => {
    const difference = Math.abs(probabilities[position] - probability);
    assert.ok(difference < bound, `${name}: ${difference}`);
  });
}

test('PNG files are preprocessed to the same pixels and get the same probabilities', async () => {
  for (const [name, answer, file] of golden('.png', 4)) {
    const { probabilities, digest } = await predict(decodePng(file));
    assert.equal(digest, answer.pixels_sha256, name);
    compare(name, probabilities, answer, 1e-5);
  }
});

test('JPEG files get the same probabilities but for the rounding of another decoder', async () => {
  const inputs = {};
  for (const [name, answer, file] of golden('.jpeg', 4)) {
    const image = decodeJpeg(file);
    inputs[name] = preprocess(image, description);
    compare(name, (await predict(image)).probabilities, answer, 0.01);
  }
  // All four are the same picture: in colour, turned, in CMYK, and with a quarter of the light.
  const { 'colour.jpeg': colour, ...others } = inputs;
  for (const [name, pixels] of Object.entries(others)) {
    const scale = name === 'dark.jpeg' ? 4 : 1;
    const sum = pixels.reduce((total, value, at) => total + Math.abs(scale * value - colour[at]), 0);
    assert.ok(sum / pixels.length < 8, `${name}: ${sum / pixels.length}`);
  }
});
