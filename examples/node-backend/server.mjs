// A backend that takes a photograph, asks a SightX server for its grade, and answers with both.
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import { SightX, SightXError } from './sightx.mjs';

const TYPES = new Set(['image/jpeg', 'image/png']);

/** The body of a request as a Blob; the original bytes, because re-encoding changes the pixels. */
async function receivePhoto(request, limit) {
  const type = request.headers['content-type'] ?? '';
  if (!TYPES.has(type)) throw new SightXError(415, { code: 'unsupported_media_type', message: 'send a JPEG or PNG' });
  const tooLarge = new SightXError(413, { code: 'too_large', message: `the limit is ${limit} bytes` });
  if (Number(request.headers['content-length'] ?? 0) > limit) throw tooLarge;
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > limit) throw tooLarge;
    chunks.push(chunk);
  }
  return new Blob(chunks, { type });
}

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(JSON.stringify(body));
}

/** A backend for POST /grades, in front of a SightX server. */
export function createBackend(sightx) {
  return createServer(async (request, response) => {
    const left = new AbortController(); // of a client that leaves, the grade is not needed
    response.on('close', () => left.abort());
    try {
      if (request.method !== 'POST' || request.url !== '/grades') {
        answer(response, 404, { code: 'not_found' });
        return;
      }
      const { limits, notice } = await sightx.model();
      const photo = await receivePhoto(request, limits.max_bytes);
      const prediction = await sightx.grade(photo, { signal: left.signal });
      const summary = prediction.outcome === 'graded'
        ? { grade: prediction.grade, class: prediction.class }
        : { reasons: prediction.quality.reasons };
      // The whole record is what belongs in the database: it names the weights.
      answer(response, 200, { outcome: prediction.outcome, ...summary, notice, record: prediction });
    } catch (error) {
      if (left.signal.aborted) return;
      const isKnown = error instanceof SightXError;
      if (!isKnown) console.error(error);
      const status = isKnown && error.status < 500 && error.status !== 401 ? error.status : 502;
      answer(response, status, { code: error.code ?? 'unknown', requestId: error.requestId ?? '' });
    }
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const sightx = new SightX(process.env.SIGHTX_URL ?? 'http://127.0.0.1:8000', { token: process.env.SIGHTX_TOKEN });
  const port = Number(process.env.PORT ?? 3000);
  createBackend(sightx).listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}/grades`));
}
