// The page of a SightX server: one photograph or a pair of eyes, its grade, and why.
const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share > 0.0995 && share < 0.9995 ? 0 : 1)} %`;
const wait = (seconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, 1000 * seconds);
  signal?.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); });
});

let model = null; // the answer of /v1/model
let token = ''; // kept in memory, for this tab only
let photos = []; // { file, url, heat }
let isAdding = false; // whether the next file is the other eye
let result = ''; // the sentence about the photographs
let work = null; // aborts what the page is doing

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function say(text, isError = false) {
  const status = byId('status');
  status.className = isError ? 'error' : '';
  status.textContent = text;
}

// -- the server

class ServerError extends Error {
  constructor(status, error, retryAfter) {
    super([error.message, error.hint].filter(Boolean).join('; '));
    Object.assign(this, { status, code: error.code, retryAfter });
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({ error: { message: `status ${answer.status}` } }));
  const retryAfter = answer.status === 503 ? Number(answer.headers.get('Retry-After')) || 1 : 0;
  throw new ServerError(answer.status, body.error, retryAfter);
}

// Repeat a request while the server is busy, and count down meanwhile.
async function patiently(request, signal) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!error.retryAfter) throw error;
      for (let left = error.retryAfter; left > 0; left -= 1) {
        const what = error.code === 'not_ready' ? 'The model is being loaded.' : 'The server is busy.';
        say(`${what} Next try in ${left} s.`);
        await wait(1, signal);
      }
    }
  }
}

// Run a task that a newer one, or the button Cancel, ends; show how it went.
async function run(text, task, retry) {
  work?.abort();
  const own = work = new AbortController();
  byId('retry').hidden = true;
  byId('working').hidden = byId('cancel').hidden = false;
  say(text);
  try {
    await task(own.signal);
  } catch (error) {
    if (own !== work) return;
    if (own.signal.aborted) say('Cancelled.');
    else if (error.status === 401) askForToken();
    else say(error instanceof ServerError ? sentence(error.message) : 'The server cannot be reached.', true);
    byId('retry').hidden = error.status === 401;
    byId('retry').onclick = retry;
  } finally {
    if (own === work) {
      byId('working').hidden = byId('cancel').hidden = true;
      work = null;
    }
  }
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1).replace(/\.?$/, '.')}`;

function askForToken() {
  const isWrong = Boolean(token);
  token = '';
  say(isWrong ? 'The token is wrong.' : '', true);
  byId('model').textContent = '';
  byId('token-form').hidden = false;
  byId('token').select();
}

function connect() {
  return run('', async (signal) => {
    const answer = await patiently(() => ask('/v1/model', { signal }), signal);
    model = await answer.json();
    byId('token-form').hidden = true;
    byId('model').textContent = `${model.classes.length} ${model.ordered ? 'grades' : 'classes'}, model ${model.model.id}`;
    if (model.ordered) byId('choice-hint').textContent = 'or drop or paste it here; two for a left and a right eye: JPEG or PNG';
    byId('card').hidden = !model.card;
    byId('card-text').replaceChildren(...markdown(model.card));
    say('');
    if (photos.length) grade();
  }, connect);
}

// -- photographs

function problemOf(file) {
  if (!/^image\/(jpeg|png)$/.test(file.type)) return `${file.name} is neither JPEG nor PNG.`;
  const limit = model?.limits.max_bytes ?? Infinity;
  if (file.size <= limit) return '';
  return `${file.name} has ${(file.size / 1e6).toFixed(1)} MB; this server takes ${(limit / 1e6).toFixed(1)} MB.`;
}

function choose(files) {
  const given = [...files];
  if (!given.length) return;
  const wanted = model?.ordered === false ? 1 : 2;
  const kept = isAdding ? [photos[0].file] : [];
  isAdding = false;
  const chosen = [...kept, ...given];
  const problem = given.map(problemOf).find(Boolean);
  if (problem || chosen.length > wanted) {
    say(problem || (wanted === 2 ? 'Choose one photograph, or a left and a right eye.' : 'Choose one photograph.'), true);
    return;
  }
  photos.forEach((photo) => { URL.revokeObjectURL(photo.url); URL.revokeObjectURL(photo.heat); });
  photos = chosen.map((file) => ({ file, url: URL.createObjectURL(file), heat: '' }));
  grade();
}

const eyeOf = (position) => (photos.length === 1 ? '' : ['Left eye', 'Right eye'][position]);

function showPhotos() {
  document.body.classList.toggle('chosen', photos.length > 0);
  byId('photos').replaceChildren(...photos.map(({ file, url, heat }, position) => {
    const eye = eyeOf(position);
    const views = element('div', { className: 'views' }, element('img', { src: url, alt: eye || 'The photograph' }));
    if (heat) views.append(element('img', { src: heat, alt: 'Where the network looked' }));
    return element('figure', {}, views, element('figcaption', { textContent: [eye, file.name].filter(Boolean).join(': ') }));
  }));
  byId('choice-title').textContent = photos.length ? 'Choose another photograph' : 'Choose a photograph';
  byId('swap').hidden = photos.length !== 2;
  byId('add').hidden = photos.length !== 1 || !model?.ordered;
  byId('heat-note').hidden = !photos.some((photo) => photo.heat);
}

// -- grades

function grade() {
  showPhotos();
  byId('details').replaceChildren();
  byId('explain').hidden = true;
  if (!model) return connect();
  return run('Waiting for the answer…', async (signal) => {
    const answer = await patiently(() => {
      say('Waiting for the answer…');
      return ask(...requestFor(photos.map((photo) => photo.file), signal));
    }, signal);
    show(await answer.json());
  }, grade);
}

function requestFor([first, second], signal) {
  if (!second) return ['/v1/predict', { method: 'POST', body: first, headers: { 'Content-Type': first.type }, signal }];
  const form = new FormData();
  form.append('left', first);
  form.append('right', second);
  return ['/v1/predict/pair', { method: 'POST', body: form, signal }];
}

function show(record) {
  const eyes = photos.length === 2 ? [record.left, record.right] : [record];
  result = photos.length === 2 ? patientSentence(record) : imageSentence(record);
  say(result);
  byId('details').replaceChildren(...(record.left ? decisionsOf(record) : []), ...eyes.flatMap((eye, position) => [
    ...(eyeOf(position) ? [element('h2', { textContent: eyeOf(position) }), element('p', { textContent: imageSentence(eye) })] : []),
    ...detailsOf(eye),
  ]));
  byId('explain').hidden = !model.can_explain || record.outcome !== 'graded';
}

const nameOf = (record) => (record.grade === undefined ? record.class : `grade ${record.grade} (${record.class})`);

function imageSentence(record) {
  if (record.outcome !== 'graded') return 'This photograph cannot be graded.';
  const share = record.probabilities.find((one) => one.class === record.class).probability;
  return sentence(`${nameOf(record)}, with a probability of ${percent(share)}`);
}

function patientSentence(record) {
  if (record.outcome !== 'graded') return 'Neither eye can be graded.';
  const from = record.from === 'both' ? 'the worse of both eyes' : `from the ${record.from} eye alone`;
  return sentence(`${nameOf(record)}, ${from}`);
}

function detailsOf(record) {
  const nodes = [];
  const { quality } = record;
  if (quality && quality.verdict !== 'good') {
    const reasons = quality.reasons.map((reason) => reason.replaceAll('-', ' ')).join(', ');
    const advice = quality.verdict === 'poor' ? 'The quality of the photograph is poor' : 'Take another photograph';
    nodes.push(element('p', { className: 'poor', textContent: `${advice}: ${reasons}.` }));
  } else if (quality) nodes.push(element('p', { textContent: 'The quality of the photograph is good.' }));
  if (record.outcome !== 'graded') return nodes;
  nodes.push(...decisionsOf(record));
  const rows = record.probabilities.map((one) => {
    const bar = element('span', { className: 'bar' });
    bar.style.width = `${100 * one.probability}%`;
    const track = element('span', { className: 'track', ariaHidden: 'true' }, bar);
    return element('tr', { className: one.class === record.class ? 'chosen-class' : '' },
      element('th', { scope: 'row', textContent: one.class, title: one.class }),
      element('td', {}, track), element('td', { textContent: percent(one.probability) }));
  });
  const caption = element('caption', { textContent: 'Probability of each class' });
  nodes.push(element('table', { className: 'bars' }, caption, element('tbody', {}, ...rows)));
  const likeliest = record.probabilities.reduce((a, b) => (b.probability > a.probability ? b : a));
  if (likeliest.class !== record.class) {
    nodes.push(element('p', { className: 'quiet', textContent: `The cut points of this model decide for ${record.class}, although ${likeliest.class} is the most probable.` }));
  }
  return nodes;
}

function decisionsOf({ decision }) {
  return (decision?.operating_points ?? []).map((point) => {
    const side = point.is_positive ? 'at or above' : 'below';
    const limit = `the threshold ${point.threshold.toFixed(3)} for ${point.name.replaceAll('-', ' ')}`;
    const verdict = `${point.is_positive ? 'Positive' : 'Negative'} (${decision.positive.join(' or ')})`;
    return element('p', { textContent: `${verdict}: the score ${decision.score.toFixed(3)} is ${side} ${limit}.` });
  });
}

function explain() {
  return run('Drawing where the network looked…', async (signal) => {
    for (const photo of photos) {
      const [, options] = requestFor([photo.file], signal);
      const answer = await patiently(() => ask('/v1/explain', options), signal);
      URL.revokeObjectURL(photo.heat);
      photo.heat = URL.createObjectURL(await answer.blob());
    }
    showPhotos();
    byId('explain').hidden = true;
    say(result);
  }, explain);
}

// -- the model card: headings, paragraphs, lists and tables of Markdown, without blocks of code

function* markdown(text) {
  for (const block of text.replaceAll(/```[^]*?```/g, '').split(/\n{2,}/)) {
    const lines = block.trim().split('\n');
    if (!lines[0]) continue;
    if (lines[0].startsWith('#')) yield element('h2', {}, ...inline(lines.shift().replace(/^#+ /, '')));
    if (!lines.length) continue;
    if (lines[0].startsWith('|')) yield table(lines);
    else if (lines[0].startsWith('- ')) yield element('ul', {}, ...lines.map((line) => element('li', {}, ...inline(line.slice(2)))));
    else yield element('p', {}, ...inline(lines.join(' ')));
  }
}

function table(lines) {
  const rows = lines.filter((line) => !/^[|\s:-]+$/.test(line)).map((line, number) => {
    const cells = line.replace(/^\||\|$/g, '').split('|').map((cell) => inline(cell.trim()));
    return element('tr', {}, ...cells.map((cell) => element(number ? 'td' : 'th', {}, ...cell)));
  });
  return element('table', {}, element('tbody', {}, ...rows));
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith('`')) return element('code', { textContent: part.slice(1, -1) });
    return part.startsWith('**') ? element('strong', { textContent: part.slice(2, -2) }) : part;
  });
}

// -- events

const drop = byId('drop');
byId('files').addEventListener('change', (event) => { choose(event.target.files); event.target.value = ''; });
byId('files').addEventListener('cancel', () => { isAdding = false; });
byId('add').addEventListener('click', () => { isAdding = true; byId('files').click(); });
byId('swap').addEventListener('click', () => { photos.reverse(); grade(); });
byId('cancel').addEventListener('click', () => work?.abort());
byId('explain').addEventListener('click', explain);
byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token = byId('token').value.trim();
  connect();
});
document.addEventListener('paste', (event) => choose(event.clipboardData.files));
document.addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over'); });
document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) drop.classList.remove('over'); });
document.addEventListener('drop', (event) => {
  event.preventDefault();
  drop.classList.remove('over');
  choose(event.dataTransfer.files);
});
connect();
