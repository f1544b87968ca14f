// What Label and Compare share: the desk of asks, and answers that get through even if the server is away for a while.

const token = document.querySelector('meta[name="form-token"]').content;
const ledger = document.querySelector('meta[name="ledger"]').content;
const person = document.querySelector(".who span").textContent;
const UNSENT = `goodeye-unsent ${ledger} ${person} `; // who signs in here next, or to another ledger, does not send them

/** Posts JSON. Throws {status} where the server refuses, and a TypeError where it cannot be reached. */
export async function call(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-form-token": token },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw { status: response.status };
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
    this.unsent = this.remembered();
    this.sending = false;
    this.undoing = 0;
  }

  get pending() {
    return this.unsent.length + this.undoing;
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
      this.asks.forEach(preload);
      if (settled === this.changes) this.today = found.today; // else something was answered or undone meanwhile
      this.empty = found.asks.length === 0 && this.unsent.length === 0;
      this.problem = "";
    } catch (error) {
      this.fail(error);
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
    this.remember();
    this.changed();
    this.send();
  }

  /** Sends what is unsent, oldest first, until all of it is confirmed. An answer that arrives twice is stored once. */
  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.unsent.length) {
      try {
        await call("/api/answers", this.unsent[0]);
        this.problem = "";
      } catch (error) {
        this.fail(error);
        const lasting = [400, 404, 413, 422].includes(error.status); // the answer itself was refused: again would not help
        if (!lasting) {
          this.changed();
          await new Promise((resolve) => setTimeout(resolve, 1500));
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

  async undo() {
    const last = this.answered.pop();
    if (!last) return null;
    this.changes += 1;
    this.undoing += 1;
    if (last.outcome === "answered") this.today = Math.max(0, this.today - 1);
    while (this.unsent.some((one) => one.ask === last.id)) await new Promise((resolve) => setTimeout(resolve, 30));
    try {
      const { ask } = await call("/api/undo", { ledger, ask: last.id }).finally(() => (this.undoing -= 1));
      this.asks = [ask, ...this.asks.filter((one) => one.id !== ask.id)];
      this.empty = false;
      this.changed();
      return ask;
    } catch (error) {
      this.fail(error);
      this.changed();
      return null;
    }
  }

  fail(error) {
    if (error.status === 401 || error.status === 403) this.problem = "Please sign in again: load this page anew.";
    else if (error.status === 409) this.problem = "Another ledger is served here now. Your votes wait for theirs.";
    else if (error.status === 429) this.problem = "A moment, please …";
    else if (error.status >= 500) this.problem = "The server cannot reach its ledger. Your votes wait here.";
    else if (error.status) this.problem = "The server did not take that.";
    else this.problem = "The server cannot be reached. Your votes wait here.";
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
  sync.textContent = desk.problem || (desk.pending > 1 ? `${desk.pending} being stored` : "");
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
