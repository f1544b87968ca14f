// What Label and Compare share: the desk of asks, and answers that get through even if the server is away for a while.

const token = document.querySelector('meta[name="form-token"]').content;
const ledger = document.querySelector('meta[name="ledger"]').content;
const person = document.querySelector(".who span").textContent;
const UNSENT = `goodeye-unsent ${ledger} ${person} `; // who signs in here next, or to another ledger, does not send them

/** Posts JSON. Throws {status, said} where the server refuses, and a TypeError where it cannot be reached. */
export async function call(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-form-token": token },
    body: JSON.stringify(body),
  });
  if (!response.ok) {
    const { detail } = await response.json().catch(() => ({}));
    throw { status: response.status, said: typeof detail === "string" ? detail : "" };
  }
  return response.json();
}

/** Loads a picture ahead, so that it is there when its turn comes. */
const loaded = new Map();
export function preload(ask) {
  for (const sha of ask.images) {
    if (loaded.has(sha)) continue;
    const image = new Image();
    image.src = `/image/${sha}`;
    loaded.set(sha, image);
    if (loaded.size > 60) loaded.delete(loaded.keys().next().value);
  }
}

/** An answer as the server takes it. */
function answerOf({ ask, outcome, answer, note, seconds }) {
  return { ledger, ask, outcome, answer, note, seconds };
}

/** The number by which a page knows an ask: its first one, whatever the server calls it since it was taken back. */
export function idOf(ask) {
  return ask.was ?? ask.id;
}

/** The time between two tries. */
function pause() {
  return new Promise((resolve) => setTimeout(resolve, 1500));
}

/** A desk: what to answer next, what was answered, and what the server has not confirmed yet. */
export class Desk {
  constructor(kind, size, changed) {
    this.kind = kind;
    this.size = size;
    this.changed = changed; // called when there is something to draw
    this.asks = []; // open, the first is next
    this.answered = []; // of this page, the latest last
    this.today = 0;
    this.changes = 0; // answers and undos so far
    this.empty = false;
    this.problem = "";
    this.note = ""; // of what was just done
    this.unsent = this.remembered(); // answers, and words of answers that were taken back, oldest first
    this.sending = false;
  }

  get pending() {
    return this.unsent.length;
  }

  async fill() {
    if (this.filling) return;
    this.filling = true;
    const settled = this.pending === 0 ? this.changes : -1;
    try {
      const found = await call("/api/desk", { kind: this.kind, count: Math.min(8, this.size + this.unsent.length) });
      const gone = new Set([...this.answered.map((ask) => ask.id), ...this.unsent.map((one) => one.ask)]);
      const here = new Set(this.asks.map((ask) => ask.id));
      for (const ask of found.asks) {
        if (!gone.has(ask.id) && !here.has(ask.id)) this.asks.push(ask);
      }
      if (settled === this.changes) {
        const newest = Math.max(0, ...found.asks.map((ask) => ask.id)); // the oldest come first: one before it that is
        const lie = new Set(found.asks.map((ask) => ask.id)); // not there was taken from the desk, as what is flagged
        this.asks = this.asks.filter((ask, place) => !place || lie.has(ask.id) || ask.id > newest);
      }
      this.asks.forEach(preload);
      if (settled === this.changes) this.today = found.today; // else something was answered or undone meanwhile
      this.empty = found.asks.length === 0 && this.unsent.length === 0;
      if (!this.unsent.length) this.problem = "";
    } catch (error) {
      this.fail(error);
      const retry = error.status !== 401 && error.status !== 403; // these it takes the person for
      if (retry) pause().then(() => this.fill());
    } finally {
      this.filling = false;
      this.changed();
    }
  }

  answer(ask, outcome, answer, seconds, note = "") {
    this.changes += 1;
    this.asks = this.asks.filter((one) => one.id !== ask.id);
    this.answered.push({ ...ask, outcome, answer });
    if (outcome === "answered") this.today += 1;
    this.unsent.push({ ledger, ask: ask.id, outcome, answer, note, seconds });
    this.note = "";
    this.remember();
    this.changed();
    this.send();
  }

  /** Sends what is unsent, oldest first, until all of it is confirmed. An answer that arrives twice is stored once. */
  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.unsent.length) {
      const first = this.unsent[0];
      first.tried = true; // it may have arrived, even if no confirmation does
      this.remember();
      try {
        if (first.undo) this.reopen(first.ask, (await call("/api/undo", { ledger, ask: first.ask })).ask);
        else await call("/api/answers", answerOf(first));
        this.problem = "";
      } catch (error) {
        this.fail(error);
        const lasting = [400, 404, 413, 422].includes(error.status); // the answer itself was refused: again would not help
        if (!lasting) {
          this.changed();
          await pause();
          continue;
        }
      }
      this.unsent.shift();
      this.remember();
      this.changed();
      if (this.asks.length < this.size) this.fill();
    }
    this.sending = false;
  }

  /** Takes the last answer back at once: one that was never sent is forgotten, else word of it follows the answer. */
  undo() {
    const last = this.answered.pop();
    if (!last) return null;
    const { outcome, answer, ...ask } = last;
    this.changes += 1;
    if (outcome === "answered") this.today = Math.max(0, this.today - 1);
    const place = this.unsent.findIndex((one) => one.ask === ask.id && !one.undo && !one.tried);
    if (place >= 0) this.unsent.splice(place, 1);
    else this.unsent.push({ ledger, ask: ask.id, undo: true });
    this.remember();
    this.asks = [ask, ...this.asks.filter((one) => one.id !== ask.id)];
    this.empty = false;
    this.note = "Taken back.";
    this.changed();
    this.send();
    return ask;
  }

  /** What was taken back is asked anew under another number, which whatever was said of it since must go by. */
  reopen(old, ask) {
    const there = this.asks.findIndex((one) => one.id === old);
    const said = this.answered.find((one) => one.id === old);
    for (const one of this.unsent.slice(1)) if (one.ask === old) one.ask = ask.id;
    if (said) said.id = ask.id;
    this.asks = this.asks.filter((one) => one.id !== ask.id || one.id === old);
    if (there >= 0) this.asks = this.asks.map((one) => (one.id === old ? { ...one, id: ask.id, was: idOf(one) } : one));
    else if (!said && !this.unsent.slice(1).some((one) => one.ask === ask.id)) this.asks.unshift(ask);
  }

  fail(error) {
    if (error.status === 401 || error.status === 403) this.problem = "Please sign in again: load this page anew.";
    else if (error.status === 409) this.problem = "Another ledger is served here now. Your votes wait for theirs.";
    else if (error.status === 429) this.problem = "A moment, please …";
    else if (error.status >= 500 && this.unsent.length) this.problem = "The server cannot reach its ledger. Your votes wait here.";
    else if (error.status >= 500) this.problem = "The server cannot reach its ledger. Trying again …";
    else if (error.status) this.problem = "The server did not take that.";
    else this.problem = this.unsent.length
        ? "The server cannot be reached. Your votes wait here."
        : "The server cannot be reached. Trying again …";
  }

  remembered() {
    try {
      return JSON.parse(localStorage.getItem(UNSENT + this.kind)) || [];
    } catch {
      return [];
    }
  }

  remember() {
    localStorage.setItem(UNSENT + this.kind, JSON.stringify(this.unsent));
  }

  async start() {
    this.send();
    await this.fill();
  }
}

/** Text that a page shows for how things stand. */
export function status(desk) {
  document.getElementById("tally").textContent = `${desk.today} today`;
  document.getElementById("desk").dataset.unsent = desk.pending;
  const sync = document.getElementById("sync");
  sync.textContent = desk.problem || (desk.pending > 1 ? `${desk.pending} being stored` : desk.note);
  sync.classList.toggle("problem", Boolean(desk.problem));
}

/** Title, prompt and product of what is asked. */
export function showBrief(ask) {
  const brief = document.getElementById("brief");
  brief.hidden = !ask;
  if (!ask) return;
  document.getElementById("title").textContent = ask.title;
  document.getElementById("prompt").textContent = ask.prompt === ask.title ? "" : ask.prompt;
  const product = document.getElementById("product");
  product.parentElement.hidden = !ask.product;
  if (ask.product) product.src = `/image/${ask.product}`;
}

export function picture(sha, alt) {
  const image = document.createElement("img");
  image.src = `/image/${sha}`;
  image.alt = alt;
  image.draggable = false;
  return image;
}

export function words(text, kind = "wait") {
  const line = document.createElement("p");
  line.className = kind;
  line.textContent = text;
  return line;
}

/** Keys, unless someone is writing or holds a modifier. */
export function onKey(handle) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest("input, textarea, select, dialog")) return;
    if (handle(event.key)) event.preventDefault();
  });
}

/** A button's short glow, so that a key press is seen. */
export function glow(button) {
  if (!button) return;
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 160);
}

/** Seconds that a picture has been looked at, while the page was visible. */
export class Watch {
  constructor() {
    this.start();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.before += performance.now() - this.since;
      this.since = performance.now();
    });
  }
  start() {
    this.before = 0;
    this.since = performance.now();
  }
  get seconds() {
    return (this.before + (document.hidden ? 0 : performance.now() - this.since)) / 1000;
  }
}
