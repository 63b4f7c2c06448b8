// The window in which a person drops files: the check, the form of the model's options, and the upload.
import { h, byId, request, notify, count, fileNames, seconds, dollars, bytes, sentence } from "./dom.js";
import { stateLabel } from "./list.js";

// How many loops send parts of the files at the same time. A browser opens at most six connections to one server, and the page
// needs some of them for other requests.
const loops = 2;

export class Drop {
  constructor() {
    this.dialog = byId("drop");
    this.dialog.addEventListener("cancel", (e) => { if (this.uploading) e.preventDefault(); });
    addEventListener("keydown", (e) => { if (this.uploading && e.key === "Escape") e.preventDefault(); }); // a second Escape would close the window even though its event "cancel" is prevented
    this.dialog.addEventListener("close", () => this.end());
    addEventListener("beforeunload", (e) => { if (this.uploading) e.preventDefault(); });
    addEventListener("pagehide", () => this.end());
    this.picker = h("input", { type: "file", multiple: true, hidden: true, id: "pick-files", onchange: () => this.add([...this.picker.files].map((file) => ({ path: file.name, file }))) });
    this.folderPicker = h("input", { type: "file", hidden: true, id: "pick-folder", onchange: () => this.add([...this.folderPicker.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }))) });
    this.folderPicker.webkitdirectory = true;
    document.body.append(this.picker, this.folderPicker);
    // The command ends a drop after two minutes without a request.
    setInterval(() => { if (this.id) request("drop/keep?id=" + this.id, { body: {} }).catch(() => {}); }, 60 * 1000);
  }

  listen() {
    byId("open-drop").addEventListener("click", () => this.open());
    let depth = 0;
    const hasFiles = (e) => e.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (e) => { if (hasFiles(e)) { e.preventDefault(); depth++; byId("target").hidden = false; } });
    addEventListener("dragleave", () => { if (depth && --depth === 0) byId("target").hidden = true; });
    addEventListener("dragover", (e) => { if (hasFiles(e)) e.preventDefault(); });
    addEventListener("drop", async (e) => {
      depth = 0;
      byId("target").hidden = true;
      if (!hasFiles(e)) return;
      e.preventDefault();
      if (this.uploading) return notify("Wait until the upload has ended.", true);
      const entries = [...e.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      const files = [], unread = [];
      for (const entry of entries) await walk(entry, "", files, unread);
      await this.add(files);
      if (unread.length) notify("The browser could not read " + unread.slice(0, 3).join(", ") + (unread.length > 3 ? " and " + (unread.length - 3) + " more" : "") + ". Check that you may read what you dropped, then drop it again.", true);
    });
  }

  async open() {
    this.files = [];
    this.models ??= await request("models").catch((err) => { notify(err.message, true); });
    if (!this.models) return;
    this.draw();
    if (!this.dialog.open) this.dialog.showModal();
  }

  // add adds files, each as {path, file}, and checks the whole drop. It leaves out hidden files, Thumbs.db and desktop.ini.
  async add(files) {
    files = files.filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")) && !/(^|\/)(Thumbs\.db|desktop\.ini)$/i.test(path));
    if (!files.length) return notify("There are no files to upload: the folder is empty, or its files are hidden.", true);
    if (!this.dialog.open) await this.open();
    const known = new Map(this.files.map((f) => [f.path, f]));
    for (const f of files) known.set(f.path, f);
    this.files = [...known.values()];
    this.picker.value = this.folderPicker.value = "";
    this.check();
  }

  draw() {
    this.folder = h("input", { type: "text", id: "drop-folder", placeholder: "such as ads/spring", value: byId("folder").value.replace(/\/$/, ""), onchange: () => this.check() });
    this.model = h("select", { id: "drop-model", onchange: () => { this.drawOptions(); this.check(); } },
      h("option", { value: "" }, "from the folder’s preset.json, or the default"),
      this.models.filter((m) => m.media.includes("audio")).map((m) => h("option", { value: m.id }, m.id)));
    this.options = h("div", { class: "grid" });
    this.found = h("div", { id: "found", role: "status" });
    this.start = h("button", { type: "button", class: "primary", id: "drop-start", disabled: true, onclick: () => this.upload() }, "Upload");
    this.dialog.replaceChildren(
      h("h2", { id: "drop-title" }, "Drop files"),
      h("p", { class: "dim" }, "A voice and a video, or a voice and an image, are one job if they have the same name. A folder whose name ends in .job, with a job.json in it, is also one job. Nothing is uploaded before you press Upload."),
      h("div", { class: "buttons", id: "pickers" },
        h("button", { type: "button", onclick: () => this.picker.click() }, "Choose files"),
        h("button", { type: "button", onclick: () => this.folderPicker.click() }, "Choose a folder")),
      h("div", { class: "grid" },
        h("label", { class: "field" }, "Folder below inbox/", this.folder),
        h("label", { class: "field" }, "Model of the pairs", this.model)),
      this.options, this.found,
      h("div", { class: "buttons" }, h("button", { type: "button", id: "drop-close", onclick: () => this.dialog.close() }, "Close"), this.start));
    this.drawOptions();
  }

  // drawOptions makes the form of the chosen model's options. Only options that the person sets are sent.
  drawOptions() {
    this.set = {};
    const form = this.models.find((m) => m.id === this.model.value);
    this.options.replaceChildren(...(form ? form.options.map((option) => this.field(form, option)) : []));
  }

  field(form, { name, required, allowed, default: defaultJSON }) {
    const schema = form.schema.properties[name], id = "option-" + name;
    const byDefault = defaultJSON === "" ? undefined : JSON.parse(defaultJSON);
    const hint = byDefault === undefined ? "default" : "default: " + byDefault;
    const put = (value) => {
      if (value === undefined || value === "") delete this.set[name];
      else this.set[name] = String(value);
      this.start.disabled = true; // until the new options are checked
      this.turn = undefined; // ends a check of the old options
      clearTimeout(this.later);
      this.later = setTimeout(() => this.check(), 400);
    };
    let input, more = "";
    const number = ["integer", "number", "float"].includes(schema.type);
    if (schema.enum) {
      input = h("select", { id, onchange: (e) => put(e.target.value === "" ? undefined : schema.enum[+e.target.value]) },
        h("option", { value: "" }, hint), schema.enum.map((v, n) => h("option", { value: String(n) }, String(v))));
    } else if (schema.type === "boolean") {
      input = h("input", { type: "checkbox", id, checked: byDefault === true, onchange: (e) => put(e.target.checked) });
    } else if (number && schema.minimum !== undefined && schema.maximum !== undefined && schema.maximum - schema.minimum <= 1000) {
      const step = schema.type === "integer" ? 1 : (schema.maximum - schema.minimum) / 100;
      more = h("output", {}, hint);
      input = h("input", { type: "range", id, min: schema.minimum, max: schema.maximum, step, value: byDefault ?? schema.minimum,
        oninput: (e) => { more.textContent = e.target.value; }, onchange: (e) => put(+e.target.value) });
    } else if (number) { // JavaScript would round a large number, so it stays a text
      input = h("input", { type: "number", id, step: schema.type === "integer" ? 1 : "any", placeholder: hint,
        onchange: ({ target: { value } }) => put(value !== "" && Math.abs(value) <= Number.MAX_SAFE_INTEGER ? +value : value) });
      if (schema.minimum !== undefined) input.min = schema.minimum;
      if (schema.maximum !== undefined) input.max = schema.maximum;
    } else {
      input = h("textarea", { id, rows: 2, placeholder: byDefault ?? "", onchange: (e) => put(e.target.value) });
    }
    return h("div", { class: "field" }, h("label", { for: id }, name, required ? " (required)" : ""), input, more, h("small", {}, allowed));
  }

  // check asks the command which jobs the files start. Meanwhile, the command asks for parts of the files.
  async check() {
    if (!this.files.length || this.uploading || !this.dialog.open) return;
    this.start.disabled = true;
    await this.end();
    if (!this.dialog.open) return;
    const turn = this.turn = {};
    this.found.replaceChildren(h("p", {}, "Checking " + count(this.files.length, "file") + "…"));
    try {
      const { id } = await request("drop/open", { body: {
        folder: this.folder.value, model: this.model.value, options: this.set,
        files: this.files.map(({ path, file }) => ({ path, size: file.size })),
      } });
      if (turn !== this.turn) return void request("drop/close?id=" + id, { body: { reason: "" } }).catch(() => {});
      this.id = id;
      const result = await this.serve(id, turn);
      if (turn === this.turn && result) this.show(result);
    } catch (err) {
      if (turn === this.turn) this.found.replaceChildren(h("p", { class: "bad" }, err.message));
    }
  }

  // serve sends the parts that the command asks for, and returns the result of the check or the upload. A turn is one check and
  // the upload after it. If the given turn has ended, serve returns nothing.
  async serve(id, turn, progress = () => {}) {
    let end;
    const loop = async () => {
      while (!end && turn === this.turn) {
        const next = await request("drop/next?id=" + id, { body: {} });
        progress(next);
        if (next.end) { end ??= next; return; }
        if (!next.ask) continue;
        const { number, file, offset, length } = next.ask;
        const source = this.files[file];
        let part;
        try {
          part = await source.file.slice(offset, offset + length).arrayBuffer();
        } catch {
          throw new Error(source.path + " cannot be read any longer; the file may have changed. Drop it again.");
        }
        await request("drop/part?" + new URLSearchParams({ id, number }), { part });
      }
    };
    try {
      await Promise.all(Array.from({ length: loops }, loop));
    } catch (err) {
      if (!end) {
        request("drop/close?id=" + id, { body: { reason: err.message } }).catch(() => {});
        throw err;
      }
    }
    if (end?.error) throw new Error(end.error);
    return end;
  }

  show(result) {
    this.again = h("input", { type: "checkbox", id: "drop-again" });
    const jobs = result.jobs ?? [];
    const ready = jobs.filter((job) => job.state === "ready");
    const length = ready.reduce((sum, job) => sum + (job.expectedSeconds ?? 0), 0);
    this.found.replaceChildren(
      h("p", {}, h("b", {}, count(ready.length, "job")), [length ? seconds(length) + " of output" : "", priceOf(ready), count(result.files, "file") + ", " + bytes(result.bytes)].filter(Boolean).map((text) => ", " + text)),
      result.present?.length ? h("p", { class: "warnings" }, "Already in the bucket: ", fileNames(result.present), ". A file that has changed is uploaded, which starts a new take with a new charge. An unchanged file is skipped. If a file of a bundle has changed, job.json is uploaded too. ",
        h("label", { class: "check" }, this.again, " upload unchanged files too, for new takes")) : "",
      result.left?.length ? h("p", {}, "Not uploaded, because they would start no job: ", fileNames(result.left), ".") : "",
      result.denied ? h("p", { class: "bad", id: "drop-denied" }, "You may not drop files here: your credentials lack the permission " + result.denied + ".") : "",
      h("ul", { class: "found" }, jobs.filter((job) => job.state !== "used").map((job) => this.item(job))));
    this.start.textContent = ready.length ? `Upload and start ${count(ready.length, "job")}` : "Upload";
    this.start.disabled = !!result.denied || !result.files || !jobs.some((job) => ["ready", "waiting", "accepted"].includes(job.state));
    if (result.denied) this.start.setAttribute("aria-describedby", "drop-denied");
  }

  item(job) {
    const about = [job.model, job.expectedSeconds ? "output " + seconds(job.expectedSeconds) : "", job.estimateUsd !== undefined ? "≈ " + dollars(job.estimateUsd) : ""].filter(Boolean).join(" · ");
    return h("li", {},
      stateLabel(job.state), " ", h("b", {}, h("bdi", {}, job.name)), about ? h("span", { class: "dim" }, " " + about) : "",
      job.media?.length ? h("div", { class: "dim" }, job.media.map((m, i) => [i ? " + " : "", h("bdi", {}, m.file), m.seconds ? " (" + (m.exact ? "" : "about ") + seconds(m.seconds) + (m.width ? ", " + m.width + "×" + m.height : "") + ")" : ""])) : "",
      job.problems?.length || job.warnings?.length ? h("ul", {},
        (job.problems ?? []).map((p) => h("li", { class: "bad" }, p.reason + ". " + p.remedy)),
        (job.warnings ?? []).map((w) => h("li", { class: "doubt" }, w))) : "");
  }

  async upload() {
    const { id, turn } = this;
    this.uploading = true;
    this.start.disabled = true;
    const inputs = this.dialog.querySelectorAll("#pickers button, .field :is(input, select, textarea)");
    for (const el of inputs) el.disabled = true;
    const bar = h("progress", { max: 1, value: 0, "aria-label": "upload" }), text = h("p", { "aria-live": "off" });
    const close = byId("drop-close");
    close.textContent = "Stop";
    const began = Date.now();
    this.found.prepend(bar, text);
    try {
      await request("drop/start?id=" + id, { body: { again: this.again.checked } });
      const result = await this.serve(id, turn, ({ sent, total }) => {
        bar.max = Math.max(total, 1);
        bar.value = sent;
        const speed = sent / Math.max((Date.now() - began) / 1000, 0.1);
        text.textContent = `${bytes(sent)} of ${bytes(total)}` + (sent && sent < total ? `, ${bytes(speed)} a second, ${Math.ceil((total - sent) / speed)} s left` : "");
      });
      if (!result) return; // stopped
      this.uploading = false;
      this.id = "";
      this.dialog.close();
      notify(describe(result));
    } catch (err) {
      text.replaceWith(h("p", { class: "bad" }, sentence(err.message) + " If you drop the same files again, nothing that was uploaded is sent again."));
    } finally {
      this.uploading = false;
      close.textContent = "Close";
      for (const el of inputs) el.disabled = false;
    }
  }

  // end ends the drop that is under way.
  async end() {
    const id = this.id;
    if (this.uploading) notify("The upload was stopped. A job whose files were already uploaded starts nevertheless.");
    clearTimeout(this.later); // the check of a changed option
    this.turn = undefined;
    this.id = "";
    this.uploading = false;
    if (id) await request("drop/close?id=" + id, { body: { reason: "the page ended the drop" }, keepalive: true }).catch(() => {});
  }
}

// priceOf returns a text that says what jobs cost, or "" if there are no jobs.
function priceOf(jobs) {
  const priced = jobs.filter((job) => job.estimateUsd !== undefined);
  const cost = priced.reduce((sum, job) => sum + job.estimateUsd, 0);
  if (!jobs.length) return "";
  if (!priced.length) return "price not known";
  if (priced.length < jobs.length) return `about ${dollars(cost)} for ${priced.length} of the jobs; the price of the others is not known`;
  return "about " + dollars(cost) + " by RunComfy’s base price, not a quote";
}

// describe returns a text that says which jobs an upload starts, and why the others do not start.
function describe({ names = [], idle = {}, jobs = [], sent }) {
  const texts = [], most = 5, list = (of) => (of.length > most ? of.length + " jobs" : of.join(", "));
  if (names.length) texts.push(list(names) + (names.length === 1 ? " is uploaded; the job starts soon." : " are uploaded; the jobs start soon."));
  else texts.push(sent ? "The files are uploaded, but nothing was started." : "Nothing was started.");
  for (const [why, of] of Object.entries(idle)) texts.push(list(of) + (of.length === 1 ? " starts" : " start") + " nothing, because " + why + ".");
  if (!names.length) texts.push(...jobs.filter((job) => job.state === "waiting").slice(0, most).map((job) => job.name + ": " + (job.problems ?? []).map((p) => p.reason + ". " + p.remedy).join(" ")));
  return texts.join(" ");
}

// walk appends a dropped file, or each file in a dropped folder, to the list files. It appends the paths that the browser
// cannot read to the list unread.
async function walk(entry, folder, files, unread) {
  const path = folder + entry.name;
  const fail = () => { unread.push(path); };
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => { fail(); resolve(); }));
    if (file) files.push({ path, file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const entries = await new Promise((resolve) => reader.readEntries(resolve, () => { fail(); resolve([]); }));
    if (!entries.length) return;
    for (const child of entries) await walk(child, path + "/", files, unread);
  }
}
