// The list of jobs. The page contains only the visible rows and a few rows around them.
import { h, byId, clickEnded, isPlausible, seconds, dollars, age } from "./dom.js";

// How each state of a status, a record or a check is shown: its label, its kind (which sets the colour), and whether a job in the state needs a person.
export const states = {
  waiting: ["waiting", "open", false], submitting: ["submitting", "run", false], submitted: ["submitted", "run", false],
  in_queue: ["in queue", "run", false], in_progress: ["running", "run", false], archiving: ["archiving", "run", false],
  succeeded: ["succeeded", "good", false], failed: ["failed", "bad", true], cancelled: ["cancelled", "off", false],
  unknown: ["unknown", "bad", true], rejected: ["rejected", "bad", true], held: ["held", "warn", true],
  withdrawn: ["withdrawn", "off", false], used: ["used", "off", false], accepted: ["accepted", "good", false], ready: ["ready", "good", false],
};

export const stateOf = (state) => Object.hasOwn(states, state) ? states[state] : [state || "unreadable", "bad", true];

// inOrder returns the keys of counts, which are states: first those of the table above, in its order, then the others.
const inOrder = (counts) => [...new Set([...Object.keys(states), ...counts.keys()])].filter((state) => counts.has(state));

export function stateLabel(state) {
  const [word, kind] = stateOf(state);
  return h("span", { class: "state " + kind }, word);
}

export const reviewLabel = (decision) => decision ? h("span", { class: "state " + (decision === "approved" ? "good" : "bad") }, decision) : "";

const succeededOrRuns = (row) => row.state === "succeeded" || stateOf(row.state)[1] === "run";

const costOf = (row) => row.costUsd ?? (succeededOrRuns(row) ? row.estimateUsd : undefined);

const hasEnded = (row) => !["open", "run"].includes(stateOf(row.state)[1]) && row.state !== "held";

export const folderOf = (name) => name.slice(0, name.lastIndexOf("/") + 1);

export class List {
  // open(key) is called when the person opens a row.
  constructor(open) {
    this.open = open;
    this.rows = new Map(); // by key
    this.shown = [];
    this.current = "";
    this.viewport = byId("jobs-list");
    this.viewport.addEventListener("scroll", () => this.paint(), { passive: true });
    this.viewport.addEventListener("keydown", (e) => this.keydown(e));
    new ResizeObserver(() => this.paint()).observe(this.viewport);
    for (const id of ["search", "state", "folder", "to-review"]) byId(id).addEventListener("input", () => { this.viewport.scrollTop = 0; this.filter(); });
    byId("filters").addEventListener("submit", (e) => e.preventDefault());
    setInterval(() => clickEnded().then(() => this.paint()), 15000); // updates the ages
  }

  // apply applies an event of the command: rows that are new or have changed, and the keys of rows that are gone. The first event
  // of a connection is a reset: the old rows stay until all rows are known, so that the list does not jump.
  apply({ reset, rows = [], gone = [], reading }) {
    if (reset) this.old = new Set(this.rows.keys());
    for (const row of rows) {
      this.old.delete(row.key);
      row.time = Date.parse(row.started || row.updatedAt) || 0;
      row.lower = row.name.toLowerCase();
      for (const member of ["expectedSeconds", "estimateUsd", "costUsd"]) if (!isPlausible(row[member])) delete row[member];
      row.state ||= "unreadable"; // "" is the filter's value for all states
      this.rows.set(row.key, row);
    }
    for (const key of reading ? gone : [...gone, ...this.old]) this.rows.delete(key);
    this.reading = reading;
    if (!this.planned) {
      this.planned = requestAnimationFrame(async () => { await clickEnded(); this.planned = 0; this.filter(); });
    }
  }

  filter() {
    const search = byId("search").value.trim().toLowerCase(), state = byId("state").value;
    const folder = byId("folder").value, toReview = byId("to-review").checked;
    const matching = [], counts = new Map(), folders = new Set();
    for (const row of this.rows.values()) {
      for (let f = folderOf(row.name); f && !folders.has(f); f = folderOf(f.slice(0, -1))) folders.add(f);
      if (folder && !row.name.startsWith(folder)) continue;
      if (search && !row.lower.includes(search)) continue;
      if (toReview && !(row.state === "succeeded" && !row.review)) continue;
      matching.push(row);
      counts.set(row.state, (counts.get(row.state) ?? 0) + 1);
    }
    if (folder) folders.add(folder); // even if its last job is gone
    this.shown = state ? matching.filter((row) => row.state === state) : matching;
    this.shown.sort((a, b) => b.time - a.time || (a.name < b.name ? -1 : 1));
    this.fillSelects(counts, folders);
    this.summarize(matching, folder);
    byId("none").hidden = this.shown.length > 0;
    byId("none").textContent = this.reading ? "Reading the jobs…" : this.rows.size ? "No job matches." : "There are no jobs yet. Drop a video and a voice onto this page.";
    byId("table").setAttribute("aria-rowcount", this.shown.length + 1);
    this.paint();
  }

  fillSelects(counts, folders) {
    const fill = (select, options) => {
      const text = JSON.stringify(options);
      if (select.dataset.options === text) return;
      select.dataset.options = text;
      const value = select.value;
      select.replaceChildren(...options.map(([v, label]) => h("option", { value: v }, label)));
      select.value = value;
    };
    const chosen = byId("state").value;
    if (chosen && !counts.has(chosen)) counts.set(chosen, 0);
    fill(byId("state"), [["", "all"], ...inOrder(counts).map((s) => [s, stateOf(s)[0] + " (" + counts.get(s) + ")"])]);
    if (!this.reading) fill(byId("folder"), [["", "all"], ...[...folders].sort().map((f) => [f, f])]);
  }

  // summarize shows how many jobs have ended, how many need a person, the sums of length and cost, and how many jobs are in each
  // state. It leaves out answer files (row.file), and names that are used or withdrawn.
  summarize(rows, folder) {
    let ended = 0, needed = 0, length = 0, cost = 0, priced = 0, estimated = false;
    const counts = new Map();
    for (const row of rows) {
      if (row.file || row.state === "used" || row.state === "withdrawn") continue;
      if (hasEnded(row)) ended++;
      if (stateOf(row.state)[2]) needed++;
      if (succeededOrRuns(row)) length += row.expectedSeconds ?? 0;
      const price = costOf(row);
      if (price !== undefined) { cost += price; priced++; }
      if (price !== row.costUsd) estimated = true;
      counts.set(row.state, (counts.get(row.state) ?? 0) + 1);
    }
    const all = [...counts.values()].reduce((a, b) => a + b, 0);
    const chips = inOrder(counts).map((s) =>
      h("button", { type: "button", class: "chip state " + stateOf(s)[1], "aria-pressed": String(byId("state").value === s), onclick: () => this.chooseState(s) },
        stateOf(s)[0], " ", h("b", {}, String(counts.get(s)))));
    byId("summary").replaceChildren(
      h("progress", { max: Math.max(all, 1), value: ended, "aria-label": "jobs that have ended" }),
      h("span", {}, `${folder || "All"}: ${ended} of ${all} ended` + (needed ? `, ${needed} ${needed === 1 ? "needs" : "need"} a person` : "") +
        (length ? `, ${seconds(length)} of output` : "") + (priced ? `, ${estimated ? "≈ " : ""}${dollars(cost)}` + (priced < all ? ` for ${priced} of the jobs` : "") : "") + (this.reading ? ", reading…" : "")),
      h("span", { class: "chips" }, chips));
  }

  chooseState(state) {
    const select = byId("state");
    select.value = select.value === state ? "" : state;
    select.dispatchEvent(new Event("input"));
  }

  get rowHeight() { return parseFloat(getComputedStyle(this.viewport).getPropertyValue("--row")) || 40; }

  paint() {
    const height = this.rowHeight, rows = byId("rows");
    rows.style.height = this.shown.length * height + "px";
    const first = Math.max(0, Math.floor(this.viewport.scrollTop / height) - 6);
    const last = Math.min(this.shown.length, Math.ceil((this.viewport.scrollTop + this.viewport.clientHeight) / height) + 6);
    const focused = document.activeElement?.closest?.(".row")?.dataset.key;
    const visible = [];
    for (let i = first; i < last; i++) {
      const row = this.row(this.shown[i], i);
      row.style.transform = `translateY(${i * height}px)`;
      visible.push(row);
    }
    rows.replaceChildren(...visible);
    if (focused) rows.querySelector(`[data-key="${CSS.escape(focused)}"] a`)?.focus({ preventScroll: true });
  }

  row(row, i) {
    const folder = folderOf(row.name), base = row.name.slice(folder.length), cost = costOf(row);
    const verdict = row.verdict && h("span", { class: row.verdict === "ok" ? "" : "doubt" }, row.verdict);
    const el = h("div", { class: "row" + (row.key === this.current ? " current" : ""), role: "row", "aria-rowindex": String(i + 2) },
      h("span", { role: "cell" }, stateLabel(row.state)),
      h("span", { role: "cell", class: "name" },
        h("a", { href: "#job=" + encodeURIComponent(row.key), title: row.name, "aria-label": row.name, "aria-current": row.key === this.current ? "true" : undefined },
          folder && h("span", { class: "dim" }, folder), h("bdi", {}, base))),
      h("span", { role: "cell", class: "wide dim" }, row.model ?? ""),
      h("span", { role: "cell", class: "wide number" }, seconds(row.expectedSeconds)),
      h("span", { role: "cell" }, reviewLabel(row.review) || verdict || ""),
      h("span", { role: "cell", class: "wide number" }, (cost === row.costUsd ? "" : "≈ ") + dollars(cost)),
      h("span", { role: "cell", class: "number dim" }, age(row.started || row.updatedAt)));
    el.dataset.key = row.key;
    el.addEventListener("click", (e) => { if (!e.target.closest("a")) this.open(row.key); });
    return el;
  }

  // select marks a row and scrolls to it.
  select(key) {
    this.current = key;
    const i = this.shown.findIndex((row) => row.key === key);
    if (i >= 0) {
      const top = i * this.rowHeight, view = this.viewport;
      if (top < view.scrollTop) view.scrollTop = top;
      if (top + this.rowHeight > view.scrollTop + view.clientHeight) view.scrollTop = top + this.rowHeight - view.clientHeight;
    }
    this.paint();
  }

  // focus gives the focus to the row of a job, or to the list if the row is not in the page.
  focus(key) { (byId("rows").querySelector(`[data-key="${CSS.escape(key)}"] a`) ?? this.viewport).focus({ preventScroll: true }); }

  // move opens the row that is n rows below the current one.
  move(n) {
    const i = this.shown.findIndex((row) => row.key === this.current);
    const next = this.shown[i < 0 ? (n > 0 ? 0 : this.shown.length - 1) : i + n];
    if (next) this.open(next.key);
  }

  keydown(e) {
    if (e.target !== this.viewport) return;
    if (e.key === "Enter" && this.current) this.open(this.current);
    else if (e.key === "ArrowDown") this.move(1);
    else if (e.key === "ArrowUp") this.move(-1);
    else return;
    e.preventDefault();
  }
}
