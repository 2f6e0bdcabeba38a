// Bodies of 9, 11, 40 and 200 MB to a server whose limit is 10 MB, from both clients of Node.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';

const { SIGHTX_URL: url, SIGHTX_TOKEN: token } = process.env;
const headers = { 'content-type': 'image/png', authorization: `Bearer ${token}` };
const megabytes = (count) => Buffer.alloc(1e6 * count);

async function byFetch(body) {
  const answer = await fetch(`${url}/v1/predict`, { method: 'POST', body, headers });
  return [answer.status, (await answer.json()).error.code];
}

function byRequest(body) {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}/v1/predict`, { method: 'POST', headers: { ...headers, 'content-length': body.length } });
    sent.on('error', reject);
    sent.on('response', async (response) => {
      response.on('error', reject);
      resolve([response.statusCode, JSON.parse(await response.toArray().then(Buffer.concat)).error.code]);
    });
    sent.end(body);
  });
}

for (const [name, post] of [['fetch', byFetch], ['http.request', byRequest]]) {
  test(`${name} hears why a body is refused`, async () => {
    for (let round = 0; round < 2; round += 1) {
      assert.deepEqual(await post(megabytes(9)), [422, 'not_jpeg_or_png']);
      assert.deepEqual(await post(megabytes(11)), [413, 'too_large']);
      assert.deepEqual(await post(megabytes(40)), [413, 'too_large']);
    }
  });

  test(`${name} cannot send what is far too large`, async () => {
    const outcome = await post(megabytes(200)).catch((error) => [error.constructor.name]);
    assert.ok(outcome.length === 1 || outcome[0] === 413, String(outcome));
    assert.deepEqual(await post(megabytes(1)), [422, 'not_jpeg_or_png']); // the server lives
  });
}
