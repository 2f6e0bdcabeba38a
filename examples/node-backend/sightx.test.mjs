// `node --test`. With SIGHTX_URL, SIGHTX_TOKEN and SIGHTX_IMAGE a real server is asked as well.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import { createBackend } from './server.mjs';
import { SightX, SightXError } from './sightx.mjs';

const { SIGHTX_URL: url, SIGHTX_TOKEN: token, SIGHTX_IMAGE: file } = process.env;
const skip = url ? false : 'SIGHTX_URL is not set';
const photo = new Blob([new Uint8Array(100)], { type: 'image/png' });
const MODEL = { limits: { max_bytes: 1000 }, notice: 'a notice' };
const servers = [];
after(() => servers.forEach((server) => { server.closeAllConnections(); server.close(); }));

/** Start a server whose n-th prediction is answered by the n-th function. */
async function fake(...steps) {
  const seen = [];
  const address = await listen(createServer(async (request, response) => {
    if (request.url === '/v1/model') return response.end(JSON.stringify(MODEL));
    let size = 0;
    for await (const chunk of request) size += chunk.length;
    seen.push(size);
    return steps[Math.min(seen.length, steps.length) - 1](request, response);
  }));
  return { address, seen };
}

function listen(server) {
  servers.push(server);
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

const graded = (_, response) => response.end('{"outcome":"graded","grade":2,"class":"moderate"}');
const fail = (status, code, headers = {}) => (_, response) => {
  response.writeHead(status, headers);
  response.end(JSON.stringify({ error: { code, message: code, hint: '', request_id: '7' } }));
};
const reset = (request) => request.socket.resetAndDestroy();
const stall = () => {};

test('a busy server, a lost connection and a stalled one are tried again, with the whole body', async () => {
  const { address, seen } = await fake(fail(503, 'busy'), reset, stall, graded);
  const client = new SightX(address, { timeout: 300 });
  assert.equal((await client.grade(photo)).grade, 2);
  assert.deepEqual(seen, [100, 100, 100, 100]);
});

test('Retry-After is waited for', async () => {
  const { address } = await fake(fail(503, 'busy', { 'retry-after': '1' }), graded);
  const start = performance.now();
  await new SightX(address).grade(photo);
  assert.ok(performance.now() - start >= 790);
});

test('tries have an end', async () => {
  const { address, seen } = await fake(fail(503, 'busy'));
  await assert.rejects(new SightX(address, { tries: 2 }).grade(photo), { status: 503, code: 'busy', requestId: '7' });
  assert.equal(seen.length, 2);
});

test('an error of the photograph is not tried again', async () => {
  for (const [status, code] of [[413, 'too_large'], [422, 'truncated'], [401, 'unauthorized'], [500, 'internal']]) {
    const { address, seen } = await fake(fail(status, code));
    await assert.rejects(new SightX(address).grade(photo), { status, code });
    assert.equal(seen.length, 1);
  }
});

test('a body that is too large is not sent', async () => {
  const { address, seen } = await fake(graded);
  const large = new Blob([new Uint8Array(1001)], { type: 'image/png' });
  await assert.rejects(new SightX(address).grade(large), { status: 413, code: 'too_large' });
  assert.equal(seen.length, 0);
});

test('the caller can give up, and nothing is tried again', async () => {
  const { address, seen } = await fake(stall);
  await assert.rejects(new SightX(address).grade(photo, { signal: AbortSignal.timeout(100) }), { name: 'TimeoutError' });
  assert.equal(seen.length, 1);
});

test('an answer of a proxy is an error too', async () => {
  const { address } = await fake((_, response) => { response.writeHead(502); response.end('<html>'); });
  await assert.rejects(new SightX(address).grade(photo), (error) => error instanceof SightXError && error.code === 'unknown');
});

test('the backend passes grades on, and hides what is not for its clients', async () => {
  const { address } = await fake(graded, fail(422, 'truncated'), fail(401, 'unauthorized'));
  const backend = `${await listen(createBackend(new SightX(address)))}/grades`;
  const send = (body, type = 'image/png') => fetch(backend, { method: 'POST', body, headers: { 'content-type': type } });
  const first = await (await send(photo)).json();
  assert.deepEqual([first.outcome, first.grade, first.notice], ['graded', 2, 'a notice']);
  assert.equal((await send(photo)).status, 422);
  assert.equal((await send(photo)).status, 502);
  assert.equal((await send('x', 'text/plain')).status, 415);
  assert.equal((await send(new Uint8Array(1001))).status, 413);
  assert.equal((await fetch(backend)).status, 404);
});

test('a real server gives a grade, a grade for a pair, and a map', { skip }, async () => {
  const client = new SightX(url, { token });
  const eye = new Blob([await readFile(file)], { type: 'image/png' });
  const model = await client.model();
  const prediction = await client.grade(eye);
  assert.equal(prediction.outcome, 'graded');
  assert.deepEqual(prediction.probabilities.map((share) => share.class), model.classes);
  const pair = await client.gradePair(eye, eye);
  assert.deepEqual([pair.outcome, pair.grade, pair.from], ['graded', prediction.grade, 'both']);
  assert.equal((await client.explain(eye)).subarray(1, 4).toString(), 'PNG');
});

test('a real server names what is wrong', { skip }, async () => {
  const client = new SightX(url, { token });
  await assert.rejects(client.grade(photo), { status: 422, code: 'not_jpeg_or_png' });
  await assert.rejects(client.grade(new Blob(['x'], { type: 'text/plain' })), { status: 415 });
  await assert.rejects(new SightX(url, { token: 'wrong' }).grade(photo), { status: 401, code: 'unauthorized' });
});
