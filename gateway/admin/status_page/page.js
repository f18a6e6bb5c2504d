
"use strict";
// What a client chose (streams, applications, software, proxies) reaches this page as JSON and goes into it
// as text only: nothing here makes markup out of a string, and the page's policy would not let it.

const POINTS = 300;      // kept of each figure: five minutes of one a second
const KEPT = 300;        // sessions whose points are kept, the ones seen last
const SHOWN = 100;       // rows of the list
const RETRY_MS = 10000;  // after a refusal; a lost connection the browser itself takes up again
const CAUSES = {
  none: "no delay", unknown: "not measured", network: "client's network", proxy: "proxy",
  polling: "client or hidden proxy", gateway: "gateway", server: "media server", paused: "stream paused",
};
const LATENCIES = {
  downstream_wait: "Downstream wait: from the arrival of upstream data to its answer",
  upstream_delay: "Upstream delay: from the arrival of a body to its write upstream",
  poll_gap: "Poll gap: from an answer to the next command",
  ping_client: "RTMP ping, answered by the client",
  ping_upstream: "RTMP ping, answered by the server",
  media_late: "Lateness of media by its timestamps",
};
const STREAMING = {
  streamed: "yes", not_playing: "no: no play under way", client: "no: the client reads whole answers",
  proxy: "no: a proxy is on the way", connections: "no: changing or shared connections",
  buffered: "no: something on the way buffers answers", off: "no: turned off",
};
const REASONS = {
  client_closed: "the client closed it", client_lost: "the client's connection was lost",
  client_silent: "no more requests from the client", client_stalled: "the client stopped reading",
  abandoned: "it was never used", bad_handshake: "the RTMPE handshake was malformed or not completed",
  sequence_gap: "a command of the client is missing",
  window_full: "too many commands came before a missing one",
  upstream_closed: "the media server closed it", upstream_lost: "the media server's connection was lost",
  upstream_stalled: "the media server stopped reading", upstream_unavailable: "no media server accepted it",
  resources_exhausted: "the gateway had no file descriptor or local port left",
  client_vanished: "the client's network vanished", upstream_vanished: "the media server's network vanished",
  replaced: "the publisher's newer session replaced it",
  drained: "the gateway ended", ended_by_operator: "the operator ended it", fault: "a fault of the gateway",
  denied: "access control refused it", worker_lost: "its worker process failed",
};
const REFUSALS = {
  capacity_reached: "no capacity", draining: "draining", opening_failed: "a fault of the gateway",
  upstream_full: "the media servers were full", upstream_unavailable: "no media server accepted it",
  resources_exhausted: "the gateway had no file descriptor or local port left",
};
// Of each mirror.
const SHOWN_STREAMS = 50;
// On a phone these take a card's whole width.
const ACROSS = new Set(["Last minutes", "Cause", "Stream", "Client", "Upstream", "Round trip", "Reason", "Last failure"]);
const byId = (id) => document.getElementById(id);
const seen = new Map();
const rates = [];
let source = null, retry = 0, draining = false, historyTimer = 0, previous = null, shown = null;

// Text

// The bounds are where the rounded number would have a digit more.
const spoken = (s) => s < 0.00005 ? "0 ms" : s < 0.00995 ? (s * 1000).toFixed(1) + " ms"
  : s < 0.9995 ? (s * 1000).toFixed(0) + " ms" : s.toFixed(1) + " s";
const bytes = (n) => {
  for (const unit of ["B", "kB", "MB", "GB"]) { if (n < 1000) return n.toFixed(n < 10 && unit !== "B" ? 1 : 0) + " " + unit; n /= 1000; }
  return n.toFixed(1) + " TB";
};
const rate = (perS) => perS === null ? "…" : perS * 8 < 999500 ? (perS * 8 / 1e3).toFixed(0) + " kbit/s"
  : (perS * 8 / 1e6).toFixed(perS * 8 < 9.95e6 ? 1 : 0) + " Mbit/s";
const age = (s) => s < 120 ? s.toFixed(0) + " s" : s < 3600 ? (s / 60).toFixed(0) + " min"
  : s < 172800 ? (s / 3600).toFixed(1) + " h" : (s / 86400).toFixed(1) + " d";
// With its date when that was not within half a day.
const moment = (at, now) => new Date(at * 1000)[now - at < 43200 ? "toLocaleTimeString" : "toLocaleString"]();
const share = (part, all) => all ? (100 * part / all).toFixed(0) + " %" : "–";
const quiet = (s) => s === null || s < 15 ? "–" : age(s);
const streamOf = (one) => [one.application, one.stream].filter(Boolean).join("/") || "–";

// Elements

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function drawn(name, attributes, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}
function cause(name, text) { return element("span", text, "cause " + (name in CAUSES ? name : "unknown")); }
function pairs(list, entries) {
  list.replaceChildren(...entries.map(([name, value]) => {
    const both = element("div");
    both.append(element("dt", name), element("dd", value));
    return both;
  }));
}
function row(cells) {
  const made = element("tr");
  made.setAttribute("role", "row");
  for (const [label, content] of cells) {
    const cell = element("td");
    cell.setAttribute("role", "cell");
    cell.dataset.label = label;
    if (label === "Stream") cell.classList.add("long");
    if (ACROSS.has(label)) cell.classList.add("across");
    cell.append(content);
    made.append(cell);
  }
  return made;
}

// Points over time

function remember(one, now) {
  const known = seen.get(one.alias) || { points: [], up: null, down: null };
  seen.delete(one.alias);
  seen.set(one.alias, known);
  if (seen.size > KEPT) seen.delete(seen.keys().next().value);
  const last = known.points.at(-1);
  if (last && now > last.now) {
    known.up = Math.max(0, one.bytes_up - last.up) / (now - last.now);
    known.down = Math.max(0, one.bytes_down - last.down) / (now - last.now);
  }
  const delay = one.diagnosis ? one.diagnosis.delay_s : one.delay_s;
  known.points.push({ now, delay, up: one.bytes_up, down: one.bytes_down, latencies: one.latencies });
  if (known.points.length > POINTS) known.points.shift();
  return known;
}
function line(points, width, height, left, right, top) {
  // The last one is at the right edge, however few there are.
  const last = points.at(-1)[0], span = Math.max(last - points[0][0], 30);
  return points.map(([now, value]) =>
    (width - right - (last - now) / span * (width - left - right)).toFixed(1) + "," +
    (height - Math.min(value / top, 1) * height).toFixed(1)).join(" ");
}
function sparkline(points) {
  const values = points.map((each) => [each.now, each.delay]);
  const top = Math.max(0.1, ...values.map(([, value]) => value));
  const text = "delay between " + spoken(Math.min(...values.map(([, value]) => value))) + " and " +
    spoken(Math.max(...values.map(([, value]) => value)));
  return drawn("svg", { width: 110, height: 26, viewBox: "0 -1 110 26", role: "img", "aria-label": text, class: "p95" },
    drawn("polyline", { points: line(values, 110, 24, 0, 0, top) }));
}
function scaleTop(value) {
  for (const step of [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30]) if (value <= step) return step;
  return 60;
}
function plot(name, points) {
  const measured = points.filter((each) => each.latencies[name]);
  if (!measured.length) return null;
  const width = 360, height = 110, left = 60;
  const top = scaleTop(Math.max(...measured.map((each) => each.latencies[name].max_s)));
  const image = drawn("svg", { viewBox: `0 -8 ${width} ${height + 26}`, role: "img", "aria-label": LATENCIES[name] + ", over time" });
  for (const part of [0, 0.5, 1]) {
    const y = height - part * height;
    image.append(drawn("line", { x1: left, x2: width, y1: y, y2: y, class: "axis" }),
      drawn("text", { x: left - 4, y: y + 3, "text-anchor": "end" }, spoken(part * top)));
  }
  for (const statistic of ["max", "p95", "p50"]) {
    const values = measured.map((each) => [each.now, each.latencies[name][statistic + "_s"]]);
    image.append(drawn("polyline", { points: line(values, width, height, left, 0, top), class: statistic }));
  }
  const span = Math.max(measured.at(-1).now - measured[0].now, 30);
  image.append(drawn("text", { x: left, y: height + 14 }, age(span) + " ago"),
    drawn("text", { x: width, y: height + 14, "text-anchor": "end" }, "now"));
  const figure = element("figure");
  figure.append(element("figcaption", LATENCIES[name]), image);
  return figure;
}

// The last ten minutes, from before the page was opened

const SERIES = [
  ["95th percentile", spoken, [["downstream_wait_p95_s", "p95", "downstream wait"], ["poll_gap_p95_s", "p50", "poll gap"]]],
  ["Bit rate", rate, [["bytes_down_per_s", "p95", "down"], ["bytes_up_per_s", "p50", "up"]]],
  ["TCP", spoken, [["round_trip_s", "p95", "round trip to the client"]]],
];
function rateTop(value) {
  const bits = Math.max(value * 8, 10000), step = 10 ** Math.floor(Math.log10(bits));
  return [1, 2, 5, 10].map((each) => each * step).find((each) => each >= bits) / 8;
}
function drawHistory(found) {
  const points = found.samples.map((each, index) =>
    ({ ...each, now: -found.age_s - (found.samples.length - 1 - index) * found.every_s }));
  byId("history-title").hidden = byId("history").hidden = points.length < 2;
  if (points.length < 2) return;
  byId("history").replaceChildren(...SERIES.map(([title, words, lines]) => {
    const most = Math.max(...lines.flatMap(([name]) => points.map((each) => each[name])));
    const top = words === rate ? rateTop(most) : scaleTop(most);
    return chart(title, words, top, -points[0].now,
      lines.map(([name, kind, label]) => [points.map((each) => [each.now, each[name]]), kind, label]));
  }));
}
function chart(title, words, top, span, lines) {
  const width = 360, height = 110, left = 84;
  const text = `${title}: ${lines.map(([, , label]) => label).join(", ")}`;
  const image = drawn("svg", { viewBox: `0 -8 ${width} ${height + 26}`, role: "img", "aria-label": text });
  for (const part of [0, 0.5, 1]) {
    const y = height - part * height;
    image.append(drawn("line", { x1: left, x2: width, y1: y, y2: y, class: "axis" }),
      drawn("text", { x: left - 4, y: y + 3, "text-anchor": "end" }, words(part * top)));
  }
  for (const [points, kind] of lines) image.append(drawn("polyline", { points: line(points, width, height, left, 0, top), class: kind }));
  image.append(drawn("text", { x: left, y: height + 14 }, age(span) + " ago"),
    drawn("text", { x: width, y: height + 14, "text-anchor": "end" }, "now"));
  const figure = element("figure"), caption = element("figcaption", title + ":", "key");
  caption.append(...lines.map(([, kind, label]) => element("span", label, kind)));
  figure.append(caption, image);
  return figure;
}
async function fetchHistory() {
  clearTimeout(historyTimer);
  const alias = chosen();
  if (!alias || document.hidden) return;
  try {
    const answer = await fetch(new URL("/sessions/" + encodeURIComponent(alias) + "/history", location.origin));
    if (answer.ok && alias === chosen()) drawHistory(await answer.json());
  } catch { /* The event stream says when the gateway does not answer. */ }
  historyTimer = setTimeout(fetchHistory, 10000);
}

// The gateway

function showTotals(all, now, uptime) {
  const span = previous && now > previous.now ? now - previous.now : 0;
  const perS = (way) => span ? Math.max(0, (all.bytes[way] || 0) - (previous.bytes[way] || 0)) / span : null;
  pairs(byId("totals"), [
    ["Sessions now", `${all.sessions} of ${all.sessions_limit}`],
    ["Connections now", `${all.connections} of ${all.connections_limit}`],
    ["Down", rate(perS("down"))], ["Up", rate(perS("up"))],
    ["Sessions opened", String(all.opened)], ["Sessions ended", String(all.ended)],
    ["Opens refused", String(all.refused)],
    ["Streamed answers", String(all.streamed_answers)],
    ["Event loop busy", share(all.busy_share, 1)], ["Uptime", age(uptime)],
    ["Buffers", share(all.buffers_bytes, all.buffers_limit_bytes)], ["Memory", bytes(all.memory_bytes)],
  ]);
  showCounts(byId("ends"), "ended", REASONS, all.by_reason);
  showCounts(byId("refusals"), "refused", REFUSALS, all.by_cause);
  byId("version").textContent = all.version;
  if (span) drawRates(now, perS("down"), perS("up"));
  previous = { now, bytes: all.bytes };
}
function drawRates(now, down, up) {
  rates.push({ now, down, up });
  if (rates.length > POINTS) rates.shift();
  if (rates.length < 2) return;
  const top = rateTop(Math.max(...rates.flatMap((each) => [each.down, each.up])));
  byId("rates").replaceChildren(chart("Bit rate of all sessions", rate, top, Math.max(now - rates[0].now, 30),
    [[rates.map((each) => [each.now, each.down]), "p95", "down"], [rates.map((each) => [each.now, each.up]), "p50", "up"]]));
}
function showCounts(list, title, words, counts) {
  const entries = Object.entries(counts).filter(([, count]) => count).sort((a, b) => b[1] - a[1]);
  const items = entries.map(([name, count]) => element("li", `${words[name] || name}: ${count}`));
  list.replaceChildren(element("li", title, "title"), ...(items.length ? items : [element("li", "none")]));
}
function showCauses(list, entries) {
  const items = entries.map(([name, value]) => {
    const item = element("li");
    item.append(cause(name, `${CAUSES[name] || name}: ${value}`));
    return item;
  });
  list.replaceChildren(...(items.length ? items : [element("li", "no sessions")]));
}
function showState(event) {
  draining = event.draining;
  const up = event.upstreams.some((server) => server.up && !server.named_only);
  setState(draining ? "draining: no new sessions" : up ? "ready" : "no upstream is up", !draining && up);
  byId("drain").hidden = false;
  byId("drain").textContent = draining ? "Accept sessions" : "Drain";
}
function setState(text, good) {
  const state = byId("state");
  document.body.classList.remove("stale");
  // A reader's voice says what changes here.
  if (state.textContent !== text) state.textContent = text;
  state.className = good ? "good" : "bad";
}
function serverState(server) {
  if (server.state === "set_down") return element("span", "down, as the operator asked", "down");
  if (server.drained) return element("span", "drained: no new sessions", "down");
  if (server.silent_s) return element("span", `silent for ${spoken(server.silent_s)}; sessions wait`, "down");
  if (server.up) return element("span", server.state === "slow_start" ? "up; slow start" : "up", "up");
  // Nobody knows better before the next client.
  return element("span", server.due ? "down; due to be tried again" : "down; tried last", "down");
}
function mirrorState(one) {
  const next = one.state === "waiting" ? `, next try in ${age(one.next_try_s)}` : "";
  return element("span", `${one.state} for ${age(one.state_s)}${next}`, one.state === "waiting" ? "down" : "up");
}
function mirrorRows(mirror) {
  const streams = mirror.streams.slice(0, SHOWN_STREAMS);
  if (!streams.length) return [row([
    ["Mirror", mirror.name], ["Stream", "–"], ["State", "no stream"], ["Queue", "–"],
    ["Left out", String(mirror.left_out_messages)], ["Failures", String(mirror.failures)], ["Last failure", "–"],
  ])];
  return streams.map((one) => row([
    ["Mirror", mirror.name], ["Stream", one.stream], ["State", mirrorState(one)], ["Queue", bytes(one.queued_bytes)],
    ["Left out", `${one.left_out_messages} messages`], ["Failures", String(one.failures)],
    ["Last failure", one.last_error || "–"],
  ]));
}
function sessionRow(one, known) {
  const link = element("a", one.alias);
  link.href = "#" + encodeURIComponent(one.alias);
  const stream = [streamOf(one), one.action].filter(Boolean).join(" · ");
  return row([
    ["Session", link], ["Delay", spoken(one.delay_s)], ["Last minutes", sparkline(known.points)],
    ["Cause", cause(one.cause, CAUSES[one.cause] || one.cause)], ["Stream", stream],
    ["Client", `${one.address} · ${one.protocol}`], ["Upstream", one.upstream],
    ["Round trip", one.tcp ? spoken(one.tcp.round_trip_s) : "–"],
    ["Down", rate(known.down)], ["Up", rate(known.up)], ["Age", age(one.duration_s)],
  ]);
}
function showGateway(event) {
  const now = performance.now() / 1000;
  // By the gateway's clock alone: the browser's may be wrong.
  showTotals(event.totals, now, Math.max(0, event.now - event.totals.started_at));
  showState(event);
  showCauses(byId("causes"), Object.entries(event.causes).sort((a, b) => b[1] - a[1]));
  byId("upstreams").replaceChildren(...event.upstreams.map((server) => row([
    ["Server", server.name], ["State", serverState(server)],
    ["Sessions", server.waiting ? `${server.sessions}; ${server.waiting} wait for a place` : String(server.sessions)],
    ["Connections so far", String(server.connections)], ["Failures", String(server.failures)],
    ["Connect, median", server.connections ? spoken(server.connect_p50_s) : "–"],
    ["Connect, 95 %", server.connections ? spoken(server.connect_p95_s) : "–"],
  ])));
  byId("mirrors-section").hidden = !event.mirrors.length;
  byId("mirrors").replaceChildren(...event.mirrors.flatMap(mirrorRows));
  const focused = document.activeElement && document.activeElement.closest("#sessions a");
  byId("sessions").replaceChildren(...event.sessions.map((one) => sessionRow(one, remember(one, now))));
  if (focused) for (const link of byId("sessions").querySelectorAll("a")) if (link.hash === focused.hash) link.focus();
  byId("ended").replaceChildren(...event.ended.map((one) => row([
    ["Session", one.alias], ["Ended", moment(one.ended_at, event.now)],
    ["Reason", REASONS[one.reason] || one.reason], ["Stream", [streamOf(one), one.action].filter(Boolean).join(" · ")],
    ["Client", `${one.address} · ${one.protocol}`], ["Duration", age(one.duration_s)],
    ["Down", bytes(one.bytes_down)], ["Up", bytes(one.bytes_up)],
  ])));
  byId("no-ended").hidden = event.ended.length > 0;
  byId("matching").textContent = event.matching > event.sessions.length
    ? `${event.sessions.length} of ${event.matching}` : String(event.matching);
  byId("none").hidden = event.sessions.length > 0;
  byId("none").textContent = event.totals.sessions ? "No session matches." : "There are no sessions now.";
}

// One session

function showSession(one) {
  if (!one && shown && shown.alias === chosen()) {
    // It was forgotten with the last scrape; what is on the page is all that there was.
    byId("end").hidden = true;
    if (!shown.reason) byId("verdict").textContent = "It has ended.";
    return;
  }
  shown = one;
  byId("details").hidden = !one;
  byId("notes").replaceChildren();
  if (!one) { byId("verdict").textContent = "The session is unknown."; return; }
  const known = one.reason ? seen.get(one.alias) || remember(one, performance.now() / 1000)
    : remember(one, performance.now() / 1000);
  const [verdict, ...notes] = one.diagnosis.notes;
  byId("alias").textContent = `${one.alias} · ${streamOf(one)}`;
  byId("verdict").textContent = one.reason ? `It has ended: ${REASONS[one.reason] || one.reason}.` : verdict;
  byId("notes").replaceChildren(...(one.reason ? [verdict, ...notes] : notes).map((note) => element("li", note)));
  showCauses(byId("parts"), Object.entries(one.diagnosis.parts).sort((a, b) => b[1] - a[1]).map(([name, s]) => [name, spoken(s)]));
  byId("plots").replaceChildren(...Object.keys(LATENCIES).map((name) => plot(name, known.points)).filter(Boolean));
  byId("latencies").replaceChildren(...Object.entries(one.latencies).map(([name, found]) => row([
    ["Latency", (LATENCIES[name] || name).split(":")[0]], ["Last", spoken(found.last_s)], ["Median", spoken(found.p50_s)],
    ["95 %", spoken(found.p95_s)], ["Maximum", spoken(found.max_s)], ["Values", String(found.count)],
  ])));
  showFacts(one, known);
  byId("end").hidden = Boolean(one.reason);
}
function showFacts(one, known) {
  pairs(byId("facts"), [
    ["State", one.state.replaceAll("_", " ")], ["Action", one.action || "–"], ["Age", age(one.duration_s)],
    ["Protocol", one.protocol], ["Listener", one.listener], ["Client address", one.address],
    ["Client", one.client || "–"], ["Proxies", one.proxies.join(", ") || "none seen"], ["Upstream", one.upstream],
    ["Upstream connect", spoken(one.upstream_connect_s)],
    ["Round trip", one.tcp ? `${spoken(one.tcp.round_trip_s)} ± ${spoken(one.tcp.variation_s)}` : "–"],
    ["Retransmits", one.tcp ? String(one.tcp.retransmits) : "–"],
    ["Media drift", one.media_drift_s === null ? "–" : spoken(Math.abs(one.media_drift_s)) + (one.media_drift_s < 0 ? " early" : " late")],
    ["Down", `${bytes(one.bytes_down)}, ${rate(known.down)}`], ["Up", `${bytes(one.bytes_up)}, ${rate(known.up)}`],
    ["Buffered", bytes(one.buffered_bytes)], ["Connections so far", String(one.connections)],
    ["Sends", String(one.sends)], ["Idles", String(one.idles)], ["Repeats", String(one.repeats)],
    ["Reorders", String(one.reorders)], ["Held answers", String(one.held_answers)],
    ["Streams answers", STREAMING[one.streaming] || "–"],
    ["Streamed answers", one.streamed_answers ? `${one.streamed_answers}, ${bytes(one.streamed_bytes / one.streamed_answers)} in ${spoken(one.streamed_s / one.streamed_answers)} each` : "0"],
    ...(one.action === "play" ? [] : [["No media up for", quiet(one.quiet_up_s)]]),
    ...(one.action === "publish" ? [] : [["No media down for", quiet(one.quiet_down_s)]]),
    ["Empty answers", String(one.empty_answers)], ["Filled answers", String(one.filled_answers)],
  ]);
}

// The connection

const chosen = () => decodeURIComponent(location.hash.slice(1));
function target() {
  const alias = chosen();
  // Without a user's name and password, should the page have been called with them.
  const made = new URL("/events", location.origin);
  if (alias) made.searchParams.set("session", alias);
  else {
    for (const [name, value] of new FormData(byId("query"))) if (value) made.searchParams.set(name, value);
    made.searchParams.set("limit", SHOWN);
  }
  return made.href;
}
function connect() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
  if (document.hidden) return;
  const opened = source = new EventSource(target());
  opened.onmessage = (message) => {
    if (source !== opened) return;
    const event = JSON.parse(message.data);
    if ("session" in event) { setState("live", true); showSession(event.session); } else showGateway(event);
  };
  opened.onerror = () => {
    if (source !== opened) return;
    setState("the gateway does not answer; trying again", false);
    // What is shown was true once.
    document.body.classList.add("stale");
    if (opened.readyState === EventSource.CLOSED) retry = setTimeout(connect, RETRY_MS);
  };
}
function route() {
  const alias = chosen();
  byId("gateway").hidden = Boolean(alias);
  byId("session").hidden = !alias;
  byId("drain").hidden = true;
  byId("alias").textContent = alias;
  byId("verdict").textContent = "";
  byId("failure").hidden = true;
  shown = null;
  document.title = (alias ? alias + " · " : "") + "RTMPT gateway · " + location.host;
  if (alias) showWaiting();
  connect();
  fetchHistory();
}
function showWaiting() {
  byId("history-title").hidden = byId("history").hidden = true;
  byId("details").hidden = true;
  byId("notes").replaceChildren();
}
async function change(method, path) {
  const failure = byId("failure");
  failure.hidden = true;
  try {
    const answer = await fetch(new URL(path, location.origin), { method });
    if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
  } catch (error) {
    failure.textContent = `That did not work: ${error.message}`;
    failure.hidden = false;
  }
}
byId("drain").addEventListener("click", () => {
  const words = "New sessions will be refused, and those that live go on. Drain the gateway?";
  if (draining || confirm(words)) change(draining ? "DELETE" : "POST", "/drain");
});
byId("end").addEventListener("click", () => {
  if (confirm(`End session ${chosen()}?`)) change("DELETE", "/sessions/" + encodeURIComponent(chosen()));
});
byId("query").addEventListener("submit", (event) => event.preventDefault());
byId("query").addEventListener("change", connect);
byId("filters").open = matchMedia("(min-width: 60.01rem)").matches;
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", connect);
document.addEventListener("visibilitychange", fetchHistory);
route();
