
"use strict";
// Tests every public port of the gateway from this browser. All requests go to the host of this page, and
// what is received is shown as text only: nothing here makes markup out of a string.

const PONG = "rtmpt-gateway port test\n";
const REACH_MS = 8000;    // a browser's own timeout is a minute or more
const ANSWER_MS = 8000;   // of any other request, beyond its own time
const PINGS = 7;          // the first one has the connect, and is not counted
const HOLDS_S = [1, 5, 15];
const PIECES = 6, PIECE_MS = 300;
const UPLOAD_BYTES = 200000;
const PROBES = 5;         // RTMP pings in the tunnel
const BLOCK = 1536;       // of the RTMP handshake
const STEPS = {
  reach: "Reachable", latency: "Round trip", upload: "Upload", pieces: "Streaming", hold: "Long polls", tunnel: "Tunnel",
};
const SIGNS = { good: "✓", fair: "!", bad: "✗", none: "–", busy: "…" };
const WORDS = { good: "works", fair: "works with limits", bad: "does not work", none: "not tested", busy: "testing" };

const byId = (id) => document.getElementById(id);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const seconds = (ms) => (ms / 1000).toFixed(1) + " s";
const spoken = (ms) => ms < 9.95 ? ms.toFixed(1) + " ms" : ms < 9999.5 ? ms.toFixed(0) + " ms" : seconds(ms);
const median = (list) => list.slice().sort((a, b) => a - b)[Math.floor(list.length / 2)];
let ways = [], begun = null;

// Requests

class Failed extends Error {
  // after: ms. kind: "late", "lost", "status" or "other"
  constructor(kind, after, status) { super(kind); this.kind = kind; this.after = after; this.status = status; }
}
async function ask(way, path, limit, body, read) {
  const began = performance.now();
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), limit);
  try {
    const options = { cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer", signal: stop.signal };
    if (body !== undefined) {
      options.method = "POST";
      options.body = body.data;
      options.headers = { "Content-Type": body.type };
    }
    const answer = await fetch(way.origin + "/port-test" + path, options);
    if (answer.status !== 200) throw new Failed("status", performance.now() - began, answer.status);
    return await read(answer, began);
  } catch (error) {
    if (error instanceof Failed) throw error;
    throw new Failed(stop.signal.aborted ? "late" : "lost", performance.now() - began);
  } finally {
    clearTimeout(timer);
  }
}
function pong(way, path, limit) {
  return ask(way, path, limit, undefined, async (answer, began) => {
    if (await answer.text() !== PONG) throw new Failed("other", performance.now() - began);
    return performance.now() - began;
  });
}
const cause = (error) => error.kind === "late" ? `no answer in ${seconds(error.after)}`
  : error.kind === "status" ? (error.status === 429 ? "too many tests; wait a minute" : `answered with ${error.status} after ${seconds(error.after)}`)
  : error.kind === "other" ? "another server answered" : error.kind === "lost" ? `connection lost after ${seconds(error.after)}` : "an error of this page";

// Steps: each sets way.steps[name] = {state, value}, and may add sentences to way.notes

async function reach(way) {
  try {
    const first = await pong(way, "/ping", REACH_MS);
    set(way, "reach", "good", "yes, " + spoken(first));
    return true;
  } catch (error) {
    set(way, "reach", "bad", error.kind === "late" ? "no answer" : error.kind === "status" ? "answer " + error.status : error.kind === "other" ? "other server" : "no");
    note(way, error.kind === "late" ? `No answer in ${seconds(REACH_MS)}: a firewall drops the packets, or the server is down.`
      : error.kind === "status" ? (error.status === 429 ? "The server limits the number of tests. Wait a minute, and test again." : `Something answers with the status ${error.status} instead of the gateway: probably a proxy.`)
      : error.kind === "other" ? "Something else answers in the gateway's place: a proxy, or the login page of a network."
      : way.scheme === "https" && way.origin !== location.origin
        ? "Refused: a firewall rejects this port, or its certificate is not valid for this name. Open the address to see which."
        : "Refused: a firewall or proxy rejects this port.");
    if (error.kind === "lost" && way.origin !== location.origin) way.link = true;
    return false;
  }
}
async function latency(way) {
  const times = [];
  try {
    for (let n = 0; n < PINGS; n++) times.push(await pong(way, "/ping", ANSWER_MS));
  } catch (error) {
    return failed(way, "latency", error, "Short requests fail now and then");
  }
  way.ms = median(times.slice(1));
  set(way, "latency", "good", spoken(way.ms));
}
async function upload(way) {
  const data = new Uint8Array(UPLOAD_BYTES);
  let x = 12345;
  for (let n = 0; n < data.length; n++) { x = (Math.imul(x, 1103515245) + 12345) >>> 0; data[n] = x >>> 24; }
  try {
    const got = await ask(way, "/upload", ANSWER_MS, { data, type: "application/x-fcs" }, (answer) => answer.json());
    if (got.bytes === data.length && got.crc32 === crc32(data)) return set(way, "upload", "good", "whole");
    set(way, "upload", "bad", "damaged");
    note(way, `Uploads are changed on the way: of ${data.length} bytes, ${got.bytes} arrived. Publishing fails.`);
  } catch (error) {
    failed(way, "upload", error, "An upload of 200 kB fails, so publishing may fail");
  }
}
async function pieces(way) {
  try {
    const times = await ask(way, "/pieces", PIECES * PIECE_MS + ANSWER_MS, undefined, readPieces);
    if (!times) return set(way, "pieces", "none", "not measured");
    const spread = times[times.length - 1] - times[0];
    if (spread >= PIECE_MS * (PIECES - 1) / 2) return set(way, "pieces", "good", "at once");
    way.buffered = true;
    set(way, "pieces", "fair", "buffered");
    note(way, `Something on the way holds answers back until they are complete: all ${PIECES} pieces of one came together after ${seconds(times[0])}. Live streams are delayed here.`);
  } catch (error) {
    failed(way, "pieces", error, "An answer that is sent in pieces does not arrive");
  }
}
async function readPieces(answer, began) {
  if (!answer.body || !answer.body.getReader) { await answer.text(); return null; }
  const reader = answer.body.getReader();
  const times = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (value.length) times.push(performance.now() - began);
  }
  return times;
}
async function hold(way) {
  const held = await Promise.all(HOLDS_S.map((s) => holdFor(way, s)));
  const cut = held.find((one) => one.error);
  const good = HOLDS_S.filter((s, n) => !held[n].error);
  if (!cut) return set(way, "hold", "good", `${good[good.length - 1]} s`);
  const after = seconds(Math.min(...held.filter((one) => one.error).map((one) => one.error.after)));
  way.cut = after;
  set(way, "hold", good.length ? "fair" : "bad", `cut after ${after}`);
  note(way, good.length ? `Something on the way ends requests that wait (${cause(cut.error)}). Requests of ${good[good.length - 1]} s survive, which tunnels need.`
    : `Something on the way ends requests that wait (${cause(cut.error)}). Tunnels are unreliable here.`);
}
async function holdFor(way, s) {
  try {
    const after = await pong(way, "/hold/" + s, s * 1000 + ANSWER_MS);
    return after < s * 900 ? { error: new Failed("other", after) } : {};
  } catch (error) { return { error }; }
}
function failed(way, step, error, what) {
  set(way, step, "bad", error.kind === "status" ? "answer " + error.status : error.kind === "late" ? "no answer" : "fails");
  note(way, `${what}: ${cause(error)}.`);
}

// The tunnel: RTMPT with the handshake of RTMP and its pings, to the gateway's loopback

class Tunnel {
  // A request to another port with this type would need a second one for permission each time, because each has
  // another address; the upload shows whether the type passes there.
  constructor(way) {
    this.way = way;
    this.type = way.origin === location.origin ? "application/x-fcs" : "text/plain";
    this.id = ""; this.number = 0; this.received = new Uint8Array(0);
  }
  post(path, data) {
    return ask(this.way, path, ANSWER_MS, { data, type: this.type }, async (answer) => new Uint8Array(await answer.arrayBuffer()));
  }
  async open() {
    const body = String.fromCharCode(...await this.post("/open/1", new Uint8Array(1)));
    if (!/^[A-Za-z0-9_-]{8,63}\n$/.test(body)) throw new Failed("other", 0);
    this.id = body.slice(0, -1);
  }
  async exchange(data) {
    const answer = await this.post(`/${data ? "send" : "idle"}/${this.id}/${this.number}`, data || new Uint8Array(1));
    this.number++;
    const joined = new Uint8Array(this.received.length + answer.length - 1);
    joined.set(this.received);
    joined.set(answer.subarray(1), this.received.length);
    this.received = joined;
    return answer.length - 1;
  }
  async until(condition) {
    const began = performance.now();
    while (!condition()) {
      if (performance.now() - began > ANSWER_MS) throw new Failed("late", performance.now() - began);
      await this.exchange(null);
    }
  }
  async shake() {
    const hello = new Uint8Array(1 + BLOCK);
    for (let n = 9; n < hello.length; n++) hello[n] = Math.floor(Math.random() * 256);
    hello[0] = 3;
    await this.exchange(hello);
    await this.until(() => this.received.length >= 1 + 2 * BLOCK);
    const same = this.received[0] === 3 && hello.slice(1).every((byte, n) => byte === this.received[1 + BLOCK + n]);
    if (!same) throw new Failed("changed", 0);
    const answer = this.received.slice(1, 1 + BLOCK);
    this.received = this.received.slice(1 + 2 * BLOCK);
    await this.exchange(answer);
  }
  async ping(number) {
    const began = performance.now();
    // A user control message (type 4) on chunk stream 2, event 6 and a time; the answer has event 7 and the time.
    await this.exchange(new Uint8Array([2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0, 0, number]));
    const end = [0, 7, 0, 0, 0, number];
    await this.until(() => end.every((byte, n) => this.received[this.received.length - 6 + n] === byte));
    return performance.now() - began;
  }
}
async function tunnel(way) {
  const made = new Tunnel(way);
  try {
    await made.open();
    await made.shake();
    const times = [];
    for (let n = 1; n <= PROBES; n++) times.push(await made.ping(n));
    // Two idles without data, which the gateway holds for a moment.
    for (let n = 0; n < 2; n++) await made.exchange(null);
    way.tunnelMs = median(times);
    set(way, "tunnel", "good", spoken(way.tunnelMs));
  } catch (error) {
    set(way, "tunnel", "bad", "fails");
    note(way, error.kind === "changed" ? "Data in the tunnel is changed on the way." : `A tunnel does not work here: ${cause(error)}.`);
  } finally {
    // Also after a failure, so that nothing is left in the gateway.
    if (made.id) await made.post(`/close/${made.id}/${made.number}`, new Uint8Array(1)).catch(() => {});
  }
}
function crc32(data) {
  let crc = -1;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return (crc ^ -1) >>> 0;
}

// The course

function makeWay(text) {
  const [scheme, port] = text.split(":");
  const usual = { http: "80", https: "443" }[scheme];
  const origin = `${scheme}://${location.hostname}${port === usual ? "" : ":" + port}`;
  const blocked = location.protocol === "https:" && scheme === "http" && !isSecureContextHost();
  const steps = {};
  for (const name of Object.keys(STEPS)) steps[name] = { state: blocked ? "none" : "busy", value: "" };
  const way = { name: text, scheme, port, origin, steps, notes: [], blocked, link: blocked };
  if (blocked) note(way, "A page that was loaded by HTTPS may not use HTTP. Open this address to test it:");
  return way;
}
// Browsers permit HTTP to the own machine from pages of HTTPS.
function isSecureContextHost() { return /^(localhost|127\..*|\[::1\])$/.test(location.hostname); }
function set(way, step, state, value) { way.steps[step] = { state, value }; draw(); }
function note(way, sentence) { way.notes.push(sentence); draw(); }
function stateOf(way) {
  if (way.blocked) return "none";
  const states = Object.values(way.steps).map((step) => step.state);
  if (way.steps.reach.state === "bad" || way.steps.tunnel.state === "bad") return "bad";
  if (states.includes("busy")) return "busy";
  return states.includes("bad") || states.includes("fair") ? "fair" : "good";
}
async function testWay(way) {
  if (!await reach(way)) {
    for (const name of Object.keys(STEPS)) if (name !== "reach") way.steps[name] = { state: "none", value: "" };
    draw();
    return;
  }
  await latency(way);
  // The long polls wait beside the rest.
  await Promise.all([hold(way), (async () => { await tunnel(way); await upload(way); await pieces(way); })()]);
}
async function test() {
  begun = new Date();
  byId("again").disabled = true;
  byId("report").hidden = true;
  byId("progress").hidden = false;
  // Those that this page may not test are the last.
  ways = document.body.dataset.ways.split(" ").filter(Boolean).map(makeWay).sort((a, b) => a.blocked - b.blocked);
  draw();
  await Promise.all(ways.filter((way) => !way.blocked).map((way) => testWay(way).catch(() => {
    set(way, "tunnel", "bad", "fails");
    note(way, "The test failed for an error of this page.");
  })));
  byId("again").disabled = false;
  byId("text").value = report();
  byId("report").hidden = false;
  byId("progress").hidden = true;
  document.body.dataset.done = "true";
  draw();
}

// The picture

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
function drawn(name, fields, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(fields)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function picture(way, state) {
  const title = `${way.name}: ${WORDS[state]}${way.ms ? ", round trip " + spoken(way.ms) : ""}`;
  const svg = drawn("svg", { viewBox: "0 0 320 64", role: "img", "aria-label": title });
  const colour = state === "busy" ? "none" : state;
  svg.append(
    drawn("rect", { x: 1, y: 18, width: 74, height: 30, rx: 6 }), drawn("text", { x: 12, y: 38 }, "Browser"),
    drawn("rect", { x: 235, y: 18, width: 84, height: 30, rx: 6 }), drawn("text", { x: 246, y: 38 }, "Gateway"),
  );
  const broken = state === "bad" || state === "none" || state === "busy";
  svg.append(drawn("path", { d: "M78 33H232", class: `link ${colour}${broken ? " cut" : ""}` }));
  svg.append(drawn("circle", { cx: 155, cy: 33, r: 11, class: `mark ${colour}` }));
  const marks = { good: "M149 33l4 4 8-8", bad: "M150 28l10 10m0-10l-10 10", fair: "M155 27v7m0 4v.5", none: "M150 33h10", busy: "M150 33h10" };
  svg.append(drawn("path", { d: marks[state], class: `mark ${colour}` }));
  if (way.ms !== undefined) svg.append(drawn("text", { x: 155, y: 14, class: "figure" }, spoken(way.ms)));
  const under = way.buffered ? "answers are buffered" : way.cut ? `waits are cut after ${way.cut}` : "";
  if (under) svg.append(drawn("text", { x: 155, y: 61, class: "figure" }, under));
  return svg;
}
function card(way) {
  const state = stateOf(way);
  const made = element("section", undefined, "way " + (state === "busy" ? "none" : state));
  made.dataset.way = way.name;
  const heading = element("h2");
  heading.append(element("span", `${way.scheme.toUpperCase()} on port ${way.port}`), element("span", WORDS[state], state === "busy" ? "none" : state));
  made.append(heading, picture(way, state));
  if (!way.blocked && way.steps.reach.state !== "bad") {
    const list = element("ul", undefined, "steps");
    for (const [name, step] of Object.entries(way.steps)) {
      const item = element("li");
      item.dataset.step = name;
      const className = step.state === "busy" ? "none" : step.state;
      const sign = element("span", SIGNS[step.state], "sign " + className);
      sign.setAttribute("aria-hidden", "true");
      item.append(sign, element("span", STEPS[name]), element("span", step.value || WORDS[step.state], "value " + className));
      list.append(item);
    }
    made.append(list);
  }
  const notes = element("ul", undefined, "notes");
  for (const sentence of way.notes) notes.append(element("li", sentence));
  if (way.link) {
    const item = element("li"), link = element("a", way.origin + "/port-test");
    link.href = way.origin + "/port-test";
    item.append(link);
    notes.append(item);
  }
  if (notes.children.length) made.append(notes);
  return made;
}
function best() {
  const rank = { good: 0, fair: 1 };
  return ways.filter((way) => stateOf(way) in rank)
    .sort((a, b) => rank[stateOf(a)] - rank[stateOf(b)] || a.tunnelMs - b.tunnelMs)[0];
}
function summary() {
  const tested = ways.filter((way) => !way.blocked);
  if (tested.some((way) => stateOf(way) === "busy")) return "Testing. This takes about 20 seconds.";
  const working = tested.filter((way) => stateOf(way) !== "bad");
  if (!tested.length) return "No port can be tested from this page.";
  if (!working.length) return "No port works from here.";
  const first = best();
  const count = working.length === tested.length ? (tested.length === 1 ? "The port works" : `All ${tested.length} ports work`) : `${working.length} of ${tested.length} ports ${working.length === 1 ? "works" : "work"}`;
  const limits = stateOf(first) === "fair" ? ", with limits" : "";
  return `${count}. ${tested.length > 1 ? `Best: ${first.scheme.toUpperCase()} on port ${first.port}${limits}.` : limits ? "It has limits." : ""}`.trim();
}
let isDrawing = false;
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  // Once for all changes of this moment.
  Promise.resolve().then(() => {
    isDrawing = false;
    const focused = document.activeElement && document.activeElement.href;
    byId("ways").replaceChildren(...ways.map(card));
    if (focused) for (const link of byId("ways").querySelectorAll("a")) if (link.href === focused) link.focus();
    const text = summary();
    if (byId("summary").textContent !== text) byId("summary").textContent = text;
    const steps = ways.filter((way) => !way.blocked).flatMap((way) => Object.values(way.steps));
    byId("bar").value = steps.length ? 100 * steps.filter((step) => step.state !== "busy").length / steps.length : 0;
  });
}

// The text

function report() {
  const lines = [
    "Port test of an RTMPT gateway",
    `Page:    ${location.origin}${location.pathname}`,
    `Time:    ${begun.toISOString()}`,
    `Browser: ${navigator.userAgent}`,
    "", summary(), "",
  ];
  for (const way of ways) {
    const state = stateOf(way);
    lines.push(`${way.name}: ${WORDS[state]}`);
    if (!way.blocked) {
      const found = Object.entries(way.steps).filter(([, step]) => step.state !== "none");
      lines.push("  " + found.map(([name, step]) => `${STEPS[name].toLowerCase()}: ${step.value}`).join("; "));
    }
    for (const sentence of way.notes) lines.push("  " + sentence + (sentence.endsWith(":") ? ` ${way.origin}/port-test` : ""));
  }
  return lines.join("\n") + "\n";
}
async function copy() {
  const text = byId("text");
  let isCopied = false;
  try {
    // Only pages of HTTPS have a clipboard.
    if (navigator.clipboard) { await navigator.clipboard.writeText(text.value); isCopied = true; }
  } catch (error) { /* The older way may be permitted. */ }
  if (!isCopied) {
    text.select();
    isCopied = document.execCommand("copy");
  }
  byId("copied").textContent = isCopied ? "Copied." : "Select the text, and copy it.";
}
byId("host").textContent = location.hostname;
document.title = "Port test · " + location.hostname;
byId("again").addEventListener("click", () => { delete document.body.dataset.done; test(); });
byId("copy").addEventListener("click", copy);
test();
