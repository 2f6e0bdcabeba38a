// `node --test`: reproduce the golden answers of an exported model from preprocess.json alone.
// SIGHTX_MODEL is its folder, whose steps are `center-crop`; NODE_PATH has onnxruntime-node.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { inflateSync } from 'node:zlib';

const ort = createRequire(import.meta.url)('onnxruntime-node');
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

test('PNG files are preprocessed to the same pixels and get the same probabilities', async () => {
  const description = read('preprocess.json');
  const { classes } = read('labels.json');
  const session = await ort.InferenceSession.create(join(folder, 'model.onnx'));
  const [, ...shape] = description.input.shape;
  const golden = Object.entries(read('golden/golden.json')).filter(([name]) => name.endsWith('.png'));
  assert.equal(golden.length, 4);
  for (const [name, answer] of golden) {
    const image = decodePng(readFileSync(join(folder, 'golden', name)));
    const pixels = preprocess(image, description);
    assert.equal(createHash('sha256').update(pixels).digest('hex'), answer.pixels_sha256, name);
    const input = new ort.Tensor(description.input.type, pixels, [1, ...shape]);
    const { probabilities } = await session.run({ [description.input.name]: input });
    assert.deepEqual(answer.probabilities.map((share) => share.class), classes);
    answer.probabilities.forEach(({ probability }, position) => {
      assert.ok(Math.abs(probabilities.data[position] - probability) < 1e-5, name);
    });
  }
});
