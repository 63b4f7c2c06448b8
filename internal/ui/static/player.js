// A player shows the input and the output of a take under one play button and one scrubber.
import { h, seconds } from "./dom.js";

// How far a file may be from the position of the player while the player plays, in seconds.
const drift = 0.08;

// clamp limits a time to the positions in a file: from 0 to 1 ms before its end.
const clamp = (time, duration) => Math.min(Math.max(time, 0), Math.max(duration - 0.001, 0));

export class Player {
  // media are the files of a take, as the command describes them: see medium in job.go.
  constructor(media) {
    this.tracks = []; // the videos and sounds that can be played
    this.frame = 1 / 25; // seconds; see measureFrames
    this.stage = h("div", { class: "stage" });
    this.sounds = h("fieldset", { class: "sounds" }, h("legend", {}, "Sound"));
    for (const medium of media) this.add(medium);
    this.el = h("div", { class: "player", role: "group", "aria-label": "Player" }, this.stage, this.controls());
    this.chooseSound();
    this.updateControls();
  }

  add(medium) {
    if (medium.kind === "other") return;
    if (!medium.show) { this.figure(medium, this.reasonFor(medium)); return; }
    if (medium.kind === "image") {
      const img = h("img", { src: medium.show, alt: medium.label + ": " + medium.name });
      const figure = this.figure(medium, img);
      img.addEventListener("error", () => this.unplayable(medium, figure, img));
      return;
    }
    const el = h(medium.kind, { src: medium.show, preload: "auto", playsInline: true, muted: true, controls: false, "aria-label": medium.label + ": " + medium.name });
    const track = { medium, el };
    const figure = this.figure(medium, el);
    el.addEventListener("error", () => this.unplayable(medium, figure, el));
    el.addEventListener("loadedmetadata", () => this.chooseMaster());
    el.addEventListener("durationchange", () => this.chooseMaster());
    el.addEventListener("ended", () => { if (track === this.master) this.pause(); });
    if (medium.kind === "video" && el.requestVideoFrameCallback) this.measureFrames(el);
    this.tracks.push(track);
    if (medium.kind === "audio" || medium.sound !== false) {
      const radio = h("input", { type: "radio", name: "sound", onchange: () => this.hear(track) });
      track.radio = radio;
      this.sounds.append(h("label", {}, radio, " ", medium.label));
    }
  }

  figure(medium, el) {
    const figure = h("figure", { class: medium.role + " " + medium.kind },
      medium.kind === "audio" ? h("div", { class: "sound-card", "aria-hidden": "true" }, "♪") : "", el,
      h("figcaption", {}, h("b", {}, medium.label), " ", h("bdi", {}, medium.name)));
    this.stage.append(figure);
    return figure;
  }

  // reasonFor returns why a file cannot be shown and, if the file exists, a link to download it.
  reasonFor(medium) {
    const reason = medium.show ? "This browser cannot load or show " + medium.name + (medium.codecs?.length ? " (" + medium.codecs.join(", ") + ")" : "") + "." : medium.whyNoUrl;
    return h("p", { class: "unplayable" }, reason, " ", medium.download ? h("a", { href: medium.download, rel: "noreferrer" }, "Download it") : "");
  }

  // unplayable replaces a file with the reason why the browser cannot show the file.
  unplayable(medium, figure, el) {
    if (!el.parentNode) return;
    this.tracks.find((track) => track.el === el)?.radio?.parentNode.remove();
    this.tracks = this.tracks.filter((track) => track.el !== el);
    figure.prepend(this.reasonFor(medium));
    el.remove();
    this.chooseMaster();
    this.chooseSound();
    this.updateControls();
  }

  controls() {
    this.button = h("button", { type: "button", class: "primary play", onclick: () => this.toggle() }, "Play");
    this.back = h("button", { type: "button", "aria-label": "One frame back", title: "One frame back (←)", onclick: () => this.step(-1) }, "◂");
    this.next = h("button", { type: "button", "aria-label": "One frame forward", title: "One frame forward (→)", onclick: () => this.step(1) }, "▸");
    this.scrubber = h("input", { type: "range", class: "scrubber", min: 0, max: 1, step: 0.001, value: 0, "aria-label": "Position", oninput: () => this.seek(+this.scrubber.value) });
    this.time = h("span", { class: "number" }, "0.00 s");
    this.wiping = h("input", { type: "checkbox", onchange: () => this.wipe() });
    this.edge = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Edge of the wipe", hidden: true, oninput: () => this.wipe() });
    this.wipeLabel = h("label", { class: "check" }, this.wiping, " wipe");
    return h("div", { class: "controls" },
      h("div", { class: "line" }, this.button, this.back, this.next, this.scrubber, this.time),
      h("div", { class: "line" }, this.sounds, this.wipeLabel, this.edge));
  }

  // updateControls shows only the controls that apply to the files.
  updateControls() {
    const pictures = this.stage.querySelectorAll("video, img");
    this.wipeLabel.hidden = !(this.stage.querySelector(".input video, .input img") && this.stage.querySelector(".output video, .output img"));
    if (this.wipeLabel.hidden && this.wiping.checked) { this.wiping.checked = false; this.wipe(); }
    this.el.querySelector(".controls").hidden = !this.tracks.length;
    this.sounds.hidden = !this.tracks.some((t) => t.radio);
    this.stage.classList.toggle("single", pictures.length < 2);
  }

  // chooseMaster makes the longest file the master: its position is the position of the player.
  chooseMaster() {
    const known = this.tracks.filter(({ el }) => Number.isFinite(el.duration) && el.duration > 0);
    this.master = known.reduce((best, track) => (!best || track.el.duration > best.el.duration ? track : best), undefined);
    this.scrubber.max = this.duration;
    this.showPosition();
  }

  get duration() { return this.master?.el.duration || 1; }

  get position() { return this.master?.el.currentTime ?? 0; }

  chooseSound() {
    const audible = this.tracks.filter((t) => t.radio);
    const best = audible.find((t) => t.medium.role === "output") ?? audible[0];
    if (best && !audible.some((t) => t.radio.checked)) this.hear(best);
  }

  hear(track) {
    for (const t of this.tracks) t.el.muted = t !== track;
    track.radio.checked = true;
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  async play() {
    if (!this.master) return;
    if (this.position >= this.duration - 0.01) this.seek(0);
    this.playing = true;
    this.button.textContent = "Pause";
    const starts = this.tracks.filter(({ el }) => this.position < el.duration - 0.01).map(({ el }) => el.play());
    for (const result of await Promise.allSettled(starts)) {
      if (result.status === "rejected" && result.reason?.name === "NotAllowedError") this.pause();
    }
    this.follow();
  }

  pause() {
    this.playing = false;
    this.button.textContent = "Play";
    for (const { el } of this.tracks) el.pause();
    this.align(0.001);
    this.showPosition();
  }

  // follow keeps the files at the same position while they play.
  follow() {
    if (!this.playing) return;
    if (!this.el.isConnected) { this.pause(); return; }
    this.align(drift);
    this.showPosition();
    requestAnimationFrame(() => this.follow());
  }

  align(most) {
    for (const { el } of this.tracks) {
      if (el === this.master?.el || !Number.isFinite(el.duration)) continue;
      const want = clamp(this.position, el.duration);
      if (Math.abs(el.currentTime - want) > most && !el.seeking) el.currentTime = want;
    }
  }

  seek(time) {
    const to = clamp(time, this.duration);
    for (const { el } of this.tracks) {
      el.currentTime = clamp(to, el.duration || to);
      if (this.playing && el.paused && to < el.duration - 0.01) el.play().catch(() => {}); // a seek alone does not restart a file that has ended
    }
    this.showPosition(to);
  }

  // step seeks to the middle of a frame: rounding cannot lead to the frame beside it.
  step(frames) {
    if (this.playing) this.pause();
    this.seek((Math.floor(this.position / this.frame + 0.01) + frames + 0.5) * this.frame);
  }

  // measureFrames sets frame to the shortest time between two frames of the videos that play.
  measureFrames(el) {
    let last = 0;
    const next = (_, { mediaTime }) => {
      const took = mediaTime - last;
      if (this.playing && took > 1 / 130 && took < 1 / 10) this.frame = this.measured = Math.min(took, this.measured ?? took);
      last = mediaTime;
      if (el.isConnected) el.requestVideoFrameCallback(next);
    };
    el.requestVideoFrameCallback(next);
  }

  showPosition(position = this.position) {
    this.scrubber.value = position;
    this.time.textContent = position.toFixed(2) + " / " + this.duration.toFixed(2) + " s";
    this.scrubber.setAttribute("aria-valuetext", seconds(position) || "0 s");
  }

  // wipe lays the output over the input. The output covers only what is to the right of the edge.
  wipe() {
    const on = this.wiping.checked;
    this.edge.hidden = !on;
    this.stage.classList.toggle("wipe", on);
    const output = this.stage.querySelector(".output video, .output img");
    if (output) output.style.clipPath = on ? `inset(0 0 0 ${this.edge.value}%)` : "";
  }

  // close stops the files and their downloads.
  close() {
    this.playing = false;
    for (const { el } of this.tracks) { el.pause(); el.removeAttribute("src"); el.load(); }
    this.tracks = [];
  }
}
