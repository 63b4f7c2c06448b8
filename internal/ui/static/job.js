// The view of one job.
import { h, byId, request, notify, confirmed, clickEnded, count, seconds, dollars, bytes, link, sentence } from "./dom.js";
import { reviewLabel, stateLabel, stateOf } from "./list.js";
import { Player } from "./player.js";

// The steps of a take, in order: the name of a step, and the member of take.times that says when the step begins.
const steps = [["submit", "claimed"], ["wait", "submitted"], ["queue", "queued"], ["run", "running"], ["archive", "archiving"]];

const hasEnded = (take) => ["succeeded", "failed", "cancelled", "unknown"].includes(take.state);

export class Job {
  constructor() {
    this.section = byId("job");
    setInterval(() => { // the step that is under way takes longer each second
      if (this.isOpen && this.job?.take && !hasEnded(this.job.take)) this.section.querySelector(".steps")?.replaceWith(this.bar(this.job.take));
    }, 1000);
  }

  get isOpen() { return !this.section.hidden; }

  // open shows a job, or one of its takes. If the page already shows that job or take, open only reads it again.
  async open(key, take = "") {
    const same = this.isOpen && this.key === key && this.wanted === take;
    const title = key.replace(/^\//, ""); // the key of an answer file begins with a slash
    this.key = key;
    this.wanted = take;
    if (!same) {
      this.close(true);
      this.section.append(this.head(title), h("p", { class: "dim" }, "Reading the job…"));
    }
    this.section.hidden = false;
    document.body.classList.add("with-job");
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    try {
      const job = await request("job?" + new URLSearchParams({ key, take }), { signal: asking.signal });
      await clickEnded();
      if (asking.signal.aborted) return; // a later open or close has aborted this request
      this.show(job);
    } catch (err) {
      if (asking.signal.aborted) return;
      if (this.job) return notify(err.message, true); // the page keeps the job, and the note that the person is typing
      this.section.replaceChildren(this.head(title), h("p", { class: "bad" }, err.message));
    }
    if (!same) this.section.focus({ preventScroll: true });
  }

  // close removes the job from the page. If keep is true, the empty section stays visible for another job.
  close(keep = false) {
    this.asking?.abort();
    this.player?.close();
    this.player = undefined;
    this.job = undefined;
    this.section.replaceChildren();
    if (keep) return;
    this.section.hidden = true;
    this.key = "";
    document.body.classList.remove("with-job");
  }

  head(title) {
    return h("div", { class: "job-head" },
      h("h2", { id: "job-title" }, h("bdi", {}, title)),
      h("button", { type: "button", id: "close-job", "aria-label": "Close the job", title: "Close (Esc)", onclick: () => { location.hash = ""; } }, "✕"));
  }

  show(job) {
    const before = this.job;
    this.job = job;
    const take = job.take ?? {};
    const media = job.media ?? [];
    // If the files are the same, the player stays, so that a new status does not stop it.
    const shown = JSON.stringify(media.map((m) => [m.key, m.versionId, m.kind]));
    if (!this.player || this.shown !== shown) {
      this.player?.close();
      this.player = new Player(media);
      this.shown = shown;
      this.urlsReadAt = Date.now();
      this.urlSeconds = job.urlSeconds;
    }
    const note = this.section.querySelector("#note");
    const typed = note && before?.name === job.name && before?.take?.take === take.take ? note.value : undefined;
    const focused = this.section.contains(document.activeElement) ? document.activeElement : undefined;
    this.section.replaceChildren(
      this.head(job.name),
      this.state(job, take),
      job.takes?.length > 1 ? this.takes(job, take) : "",
      media.some((m) => m.kind !== "other") ? this.player.el : "",
      job.take ? this.review(job, take, typed) : "",
      this.actions(job, take),
      this.facts(job, take, media));
    if (focused) (focused.isConnected ? focused : byId(focused.id))?.focus({ preventScroll: true });
  }

  state(job, take) {
    const st = job.take ? take : job.status;
    const [, kind] = stateOf(st.state);
    const queue = st.queuePosition !== undefined && st.state === "in_queue" ? ` (${count(st.queuePosition, "job")} ahead)` : "";
    const warnings = st.warnings ?? [];
    return h("div", { class: "status " + kind },
      h("p", {}, stateLabel(st.state), queue, st.code ? h("code", {}, st.code) : "", st.model ? h("span", { class: "dim" }, st.model) : ""),
      st.state ? "" : h("p", {}, "The status cannot be read."),
      st.reason ? h("p", {}, sentence(st.reason)) : "",
      st.remedy ? h("p", {}, h("b", {}, "What to do: "), st.remedy) : "",
      job.newer ? h("p", {}, h("b", {}, "A newer drop of this name: "), stateLabel(job.status.state), job.status.reason ? " " + sentence(job.status.reason) + " " + (job.status.remedy ?? "") : "") : "",
      job.unreadable ? h("p", { class: "bad" }, sentence(job.unreadable)) : "",
      st.jobs?.length ? h("p", {}, "Jobs: ", st.jobs.map((name, i) => [i ? ", " : "", h("a", { href: "#job=" + encodeURIComponent(name) }, h("bdi", {}, name))])) : "",
      warnings.length ? h("ul", { class: "warnings" }, warnings.map((w) => h("li", {}, w))) : "");
  }

  takes(job, take) {
    return h("nav", { class: "takes", "aria-label": "Takes" },
      job.takes.map((t) => h("a", {
        href: "#" + new URLSearchParams({ job: job.key, take: t.take }), class: t.take === take.take ? "current" : "",
        "aria-current": t.take === take.take ? "true" : undefined, title: t.take,
      }, stampOf(t.take), " ", stateLabel(t.state), reviewLabel(t.review))));
  }

  review(job, take, typed) {
    if (take.state !== "succeeded") return "";
    const reviewed = take.review, missing = job.lacks.review;
    return h("form", { class: "review", "aria-label": "Review", onsubmit: (e) => e.preventDefault() },
      reviewed?.decision ? h("p", {}, reviewLabel(reviewed.decision),
        " by ", h("bdi", {}, reviewed.by), " on ", time(reviewed.at), reviewed.note ? [": ", h("q", {}, reviewed.note)] : "") : h("p", {}, "Not reviewed yet."),
      h("label", {}, "Note ", h("input", { type: "text", id: "note", maxLength: 1000, value: typed ?? reviewed?.note ?? "", disabled: !!missing })),
      this.button("approve", "Approve", missing, () => this.decide("approved")),
      this.button("reject", "Reject", missing, () => this.decide("rejected")));
  }

  // button returns a button. If a permission is missing, the button is disabled and names the permission.
  button(id, text, missing, onclick) {
    if (!missing) return h("button", { type: "button", id, onclick }, text);
    return h("span", { class: "denied" }, h("button", { type: "button", id, disabled: true, "aria-describedby": id + "-why" }, text),
      h("small", { id: id + "-why" }, "needs " + missing));
  }

  async decide(decision) {
    const { job } = this, take = job?.take;
    if (!take || take.state !== "succeeded" || job.lacks.review || this.deciding === job.name + take.take) return;
    this.deciding = job.name + take.take;
    try {
      await request("review", { body: { name: job.name, take: take.take, decision, note: byId("note").value, etag: take.review?.etag ?? "" } });
      notify(job.name + " is " + decision);
    } catch (err) {
      notify(err.message, true);
    }
    await this.refresh();
    if (this.deciding === job.name + take.take) this.deciding = "";
  }

  async refresh() { if (this.isOpen && this.key) await this.open(this.key, this.wanted); }

  actions(job, take) {
    const lacks = job.lacks, newest = !job.newer && job.takes?.[0]?.take === take.take;
    const buttons = [];
    if (["submitted", "in_queue", "in_progress", "archiving"].includes(take.state)) buttons.push(this.button("cancel", "Cancel", lacks.cancel, () => this.act("cancel", ["Cancel ", h("bdi", {}, job.name), "?"], "Every take of this name that is not running yet is cancelled at RunComfy. A running take is paid for, so its output is archived.", "Cancel the job")));
    if (take.state === "failed") buttons.push(this.button("redrive", "Redrive", lacks.redrive, () => this.act("redrive", ["Redrive ", h("bdi", {}, job.name), "?"], "The take continues where it failed. Nothing is submitted again. Fix the cause first.", "Redrive")));
    if (job.take) buttons.push(this.button("again", "Drop again", lacks.drop, () => this.act("again", ["Drop ", h("bdi", {}, job.name), " again?"], "This is a new take and a new charge." + (newest && take.costUsd ? " The last take cost " + dollars(take.costUsd) + "." : ""), "Drop again")));
    const outputs = (job.media ?? []).filter((m) => m.role === "output" && m.download);
    for (const m of outputs) buttons.push(h("a", { class: "button", href: m.download, rel: "noreferrer" }, outputs.length > 1 ? "Download " + m.name : "Download"));
    const commands = job.commands ?? {};
    return h("div", { class: "actions" }, h("div", { class: "buttons" }, buttons),
      h("details", { open: this.section.querySelector("details")?.open }, h("summary", { id: "commands" }, "The commands that do the same"),
        h("ul", { class: "commands" }, Object.entries(commands).map(([what, command]) => h("li", {}, h("code", {}, command), " ",
          h("button", { type: "button", "aria-label": "Copy the command: " + what, onclick: () => this.copy(command) }, "Copy"))))));
  }

  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      notify("Copied: " + text);
    } catch {
      notify("The browser does not allow copying. Select the command instead.", true);
    }
  }

  async act(what, title, text, action) {
    const { job } = this;
    if (!await confirmed(title, text, action)) return;
    try {
      notify(action + ": " + job.name + " …");
      const { message } = await request(what, { body: { name: job.name, take: job.take?.take ?? "", dropped: job.take?.dropped } });
      notify(message);
    } catch (err) {
      notify(err.message, true);
    }
    this.refresh();
  }

  facts(job, take, media) {
    const rows = [];
    const row = (name, ...value) => { if (value.some((v) => v !== "" && v !== undefined)) rows.push(h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value))); };
    const outputs = media.filter((m) => m.role === "output");
    row("Expected length", take.expectedSeconds ? seconds(take.expectedSeconds) + (take.expectedWithinSeconds ? " ± " + seconds(take.expectedWithinSeconds) : "") : "");
    for (const m of outputs) {
      row("Measured length", [m.name, measures(m)].filter(Boolean).join(" · "));
      if (m.verdict) row("Verdict", h("span", { class: m.verdict.state === "ok" ? "" : "doubt" }, m.verdict.state),
        m.verdict.doubts?.length ? h("ul", {}, m.verdict.doubts.map((d) => h("li", {}, h("code", {}, d.code), " ", d.reason))) : "");
    }
    row("Estimate", take.estimateUsd !== undefined ? "≈ " + dollars(take.estimateUsd) : "");
    row("Cost", take.costUsd !== undefined ? dollars(take.costUsd) : take.state ? "not known" : "");
    for (const m of media.filter((m) => m.role === "input")) {
      row(m.property ? "Input " + m.property : "Input", m.url ? link(m.url, m.url) : h("bdi", {}, m.key ?? m.name), " ",
        h("span", { class: "dim" }, measures(m)), m.whyNoUrl && !m.url ? " " + m.whyNoUrl : "");
    }
    for (const [name, value] of Object.entries(take.options ?? {})) row(name, value);
    const links = take.links ?? job.status.links ?? {};
    row("Links", links.execution ? link(links.execution, "Execution in the AWS console") : "", links.execution && links.runcomfy ? " · " : "", links.runcomfy ? link(links.runcomfy, "RunComfy’s page of the model") : "");
    row("Outputs", links.outputs ? h("code", {}, links.outputs) : "");
    row("Request id", take.requestId ? h("code", {}, take.requestId) : "");
    row("Take", take.take ? h("code", {}, take.take) : "");
    row("Updated", Date.parse(job.status.updatedAt) > 0 ? time(job.status.updatedAt) : ""); // an unknown time has the year 1
    return h("div", { class: "facts" }, this.bar(take), h("table", { "aria-label": "Facts" }, h("tbody", {}, rows)));
  }

  // bar shows how long each step of the take took.
  bar(take) {
    const times = take.times ?? {};
    const began = steps.filter(([, at]) => times[at]).map(([name, at]) => [name, Date.parse(times[at])]);
    if (!began.length) return "";
    const end = times.ended ? Date.parse(times.ended) : hasEnded(take) ? began.at(-1)[1] : Date.now();
    const parts = began.map(([name, from], i) => {
      const took = Math.max(0, (began[i + 1]?.[1] ?? end) - from) / 1000;
      const text = name + " " + took.toFixed(0) + " s";
      const part = h("span", { class: "step " + name, title: text }, text);
      part.style.flexGrow = String(Math.max(took, 0.5));
      return part;
    });
    return h("div", { class: "steps", role: "img", "aria-label": "Steps: " + parts.map((part) => part.title).join(", ") }, parts);
  }
}

// measures returns the length, the width and height, the codecs and the bytes of a file, as far as they are known.
const measures = (m) => [seconds(m.durationSeconds), m.width ? m.width + "×" + m.height : "", (m.codecs ?? []).join(", "), m.bytes ? bytes(m.bytes) : ""].filter(Boolean).join(" · ");

const time = (text) => h("time", { dateTime: text }, new Date(text).toLocaleString());

// stampOf returns the time at the beginning of a take's id, in the format of the browser's language.
function stampOf(take) {
  const m = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/.exec(take);
  return m ? new Date(Date.UTC(+m[1], m[2] - 1, +m[3], +m[4], +m[5], +m[6])).toLocaleString() : take;
}
