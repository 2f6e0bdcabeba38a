// A client for `sightx serve`, without dependencies. Types: sightx.d.mts.
import { setTimeout as sleep } from 'node:timers/promises';

const REPEATED = new Set([408, 503]); // a prediction changes nothing, so it may be repeated
const FIRST_WAIT = 0.25; // seconds; doubled for every further try without Retry-After

/** An answer that is not a grade. `code` is stable; `requestId` is in the server's log. */
export class SightXError extends Error {
  constructor(status, { code, message, hint = '', request_id: requestId = '' }) {
    super(hint ? `${message}; ${hint}` : message);
    this.name = 'SightXError';
    Object.assign(this, { status, code, requestId });
  }
}

export class SightX {
  #model = null;

  /** `timeout` is in milliseconds and for each try; `tries` counts the first one. */
  constructor(url, { token = '', timeout = 15_000, tries = 4 } = {}) {
    Object.assign(this, { url: url.replace(/\/$/, ''), token, timeout, tries });
  }

  /** What the server says of its model, its classes and its limits; asked for once. */
  async model({ signal } = {}) {
    this.#model ??= JSON.parse(await this.#ask('/v1/model', {}, signal));
    return this.#model;
  }

  /** The grade of a photograph: a Blob whose `type` is image/jpeg or image/png. */
  async grade(photo, { signal } = {}) {
    await this.#checkSize([photo], signal);
    return JSON.parse(await this.#ask('/v1/predict', post(photo), signal));
  }

  /** The grade of a patient, from photographs of the left and the right eye. */
  async gradePair(left, right, { signal } = {}) {
    await this.#checkSize([left, right], signal);
    const form = new FormData(); // which writes Content-Type itself: it has the boundary
    form.append('left', left);
    form.append('right', right);
    return JSON.parse(await this.#ask('/v1/predict/pair', { method: 'POST', body: form }, signal));
  }

  /** A PNG, as a Buffer: where the network looked. */
  async explain(photo, { signal } = {}) {
    await this.#checkSize([photo], signal);
    return this.#ask('/v1/explain', post(photo), signal);
  }

  /** Refuse here what the server would refuse: nothing is sent in vain. */
  async #checkSize(photos, signal) {
    const limit = (await this.model({ signal })).limits.max_bytes;
    const size = photos.reduce((sum, photo) => sum + photo.size, 0);
    if (size > limit) {
      throw new SightXError(413, { code: 'too_large', message: `${size} bytes, the limit is ${limit}` });
    }
  }

  async #ask(path, options, signal) {
    for (let number = 1; ; number += 1) {
      let failure;
      try {
        return await this.#try(path, options, signal);
      } catch (error) {
        signal?.throwIfAborted();
        // Without a status the connection was lost or the time was over.
        if (number >= this.tries || (error.status && !REPEATED.has(error.status))) throw error;
        failure = error;
      }
      const seconds = failure.retryAfter ?? FIRST_WAIT * 2 ** (number - 1);
      await sleep(1000 * seconds * (0.8 + 0.4 * Math.random()), undefined, { signal });
    }
  }

  async #try(path, options, signal) {
    const limit = AbortSignal.timeout(this.timeout); // a fresh one per try: a used one stays aborted
    const answer = await fetch(this.url + path, {
      ...options,
      headers: { ...options.headers, ...(this.token && { authorization: `Bearer ${this.token}` }) },
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    const bytes = Buffer.from(await answer.arrayBuffer()); // within the same time limit
    if (answer.ok) return bytes;
    const error = new SightXError(answer.status, errorOf(answer, bytes));
    const retryAfter = Number(answer.headers.get('retry-after'));
    if (retryAfter > 0) error.retryAfter = retryAfter;
    throw error;
  }
}

const post = (photo) => ({ method: 'POST', body: photo, headers: { 'content-type': photo.type } });

/** The error in an answer; a proxy may have written another body. */
function errorOf(answer, bytes) {
  try {
    return JSON.parse(bytes).error;
  } catch {
    return { code: 'unknown', message: `status ${answer.status}` };
  }
}
