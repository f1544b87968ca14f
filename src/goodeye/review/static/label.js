// Label: one picture large, or four; five classes on keys 1 to 5. An edit: before and after, three scores on keys 0 to 5.

import { Desk, Watch, glow, idOf, onKey, picture, showBrief, status, words } from "./desk.js";

const SCALES = {
  following: "What was asked for is done",
  preserving: "All else stayed as it was",
  quality: "A clean, good picture",
};
const HIGHEST = 5;
const stage = document.getElementById("stage");
const choices = [...document.querySelectorAll("#choices button")];
const scales = document.getElementById("scales");
const tool = (name) => document.querySelector(`[data-do="${name}"]`);
const watch = new Watch();
let four = localStorage.getItem("goodeye-four") === "1";
let active = 0; // which of the four
let drawn = ""; // what is on the stage
let given = []; // scores of the edit on the stage, in the order of its axes

const desk = new Desk("label", four ? 8 : 5, draw);

function shown() {
  const edit = desk.asks.findIndex((ask) => ask.scale.length); // is shown alone
  const most = four ? 4 : 1;
  return desk.asks.slice(0, edit < 0 ? most : Math.max(1, Math.min(most, edit)));
}

/** The axes on which the picture on the stage is scored; none where it gets a label. */
function scale() {
  return shown()[active]?.scale || [];
}

function draw() {
  const asks = shown();
  active = Math.min(active, Math.max(0, asks.length - 1));
  showBrief(asks[active]);
  if (scale().length) document.getElementById("product").parentElement.hidden = true; // it stands on the stage
  status(desk);
  choices.forEach((button) => (button.disabled = !asks.length));
  tool("undo").disabled = !desk.answered.length;
  tool("grid").setAttribute("aria-pressed", String(four));
  const key = `${four} ${active} ${asks.map(idOf).join(" ")}`;
  if (key === drawn && asks.length) return;
  if (key.slice(key.indexOf(" ")) !== drawn.slice(drawn.indexOf(" "))) watch.start();
  drawn = key;
  given = [];
  drawScales();
  stage.classList.toggle("four", asks.length > 1);
  stage.classList.toggle("before", scale().length > 0);
  if (scale().length) stage.replaceChildren(...beforeAndAfter(asks[0]));
  else if (asks.length) stage.replaceChildren(...asks.map(frame));
  else stage.replaceChildren(words(desk.empty ? "That was everything for now. Thank you." : "Fetching pictures …"));
}

function frame(ask, place) {
  const box = document.createElement("button");
  box.type = "button";
  box.className = "frame";
  box.tabIndex = four ? 0 : -1;
  box.setAttribute("aria-current", String(place === active));
  box.append(picture(ask.images[0], `A picture of ${ask.title}`));
  box.addEventListener("click", () => {
    active = place;
    draw();
  });
  return box;
}

function beforeAndAfter(ask) {
  const both = [[ask.images[0], "After"]];
  if (ask.product) both.unshift([ask.product, "Before"]);
  return both.map(([sha, word]) => {
    const box = document.createElement("div");
    box.className = "frame";
    box.append(picture(sha, `${word}: ${ask.title}`), words(word, "when"));
    return box;
  });
}

function drawScales() {
  document.getElementById("choices").hidden = scale().length > 0;
  scales.hidden = !scale().length;
  const next = scale().findIndex((_axis, place) => given[place] === undefined);
  scales.replaceChildren(
    ...scale().map((axis, place) => {
      const row = document.createElement("div");
      row.className = "scale";
      row.dataset.axis = axis;
      row.setAttribute("role", "group");
      row.setAttribute("aria-label", axis);
      row.setAttribute("aria-current", String(place === next));
      row.append(words(SCALES[axis] || axis, "asks"));
      for (let score = 0; score <= HIGHEST; score += 1) row.append(scoreButton(place, score));
      return row;
    }),
  );
}

function scoreButton(place, score) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = score;
  button.setAttribute("aria-pressed", String(given[place] === score));
  button.addEventListener("click", () => rate(place, score));
  return button;
}

/** Takes a score for one axis; when all are there, they are sent. */
function rate(place, score) {
  given[place] = score;
  if (scale().every((_axis, one) => given[one] !== undefined)) answer("answered", given.join(" "));
  else drawScales();
}

function answer(outcome, said = "", note = "") {
  const ask = shown()[active];
  if (!ask) return;
  desk.answer(ask, outcome, said, watch.seconds, note);
  watch.start();
}

function press(button) {
  glow(button);
  answer("answered", button.dataset.answer);
}

const actions = {
  undo: () => {
    if (desk.undo()) active = 0;
    draw();
  },
  skip: () => answer("skipped"),
  flag: () => answer("flagged"),
  grid: () => {
    four = !four;
    desk.size = four ? 8 : 5;
    localStorage.setItem("goodeye-four", four ? "1" : "0");
    desk.fill();
    draw();
  },
};

choices.forEach((button) => button.addEventListener("click", () => press(button)));
for (const [name, act] of Object.entries(actions)) tool(name).addEventListener("click", act);

const keys = { z: "undo", s: "skip", f: "flag", g: "grid" };
const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 2, ArrowUp: -2 };
onKey((key) => {
  const number = Number(key);
  if (scale().length && /^[0-9]$/.test(key)) {
    if (number <= HIGHEST) rate(scale().findIndex((_axis, place) => given[place] === undefined), number);
  } else if (scale().length && key === "Backspace") {
    given.length = Math.max(0, given.length - 1);
    drawScales();
  } else if (number >= 1 && number <= choices.length) press(choices[number - 1]);
  else if (keys[key.toLowerCase()]) {
    glow(tool(keys[key.toLowerCase()]));
    actions[keys[key.toLowerCase()]]();
  } else if (four && key in moves) {
    const next = active + moves[key];
    if (next >= 0 && next < shown().length) active = next;
    draw();
  } else return false;
  return true;
});

desk.start();
