// Functions that build elements and send requests to the command. Texts become text nodes, never markup.

// h returns an element. Properties that begin with "on" are listeners; "class", "role", "for" and names with a dash are
// attributes; the others are properties of the element. Empty children are left out.
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (["class", "role", "for"].includes(name) || name.includes("-")) el.setAttribute(name, value === true ? "" : value);
    else el[name] = value;
  }
  el.append(...children.flat(Infinity).filter((child) => ![undefined, null, false, ""].includes(child)));
  return el;
}

export const byId = (id) => document.getElementById(id);

let proof; // of the first response, which is taken to come from the command: see shell.go

// isOurs reports whether a response or an event with this proof comes from the command.
export const isOurs = (given) => Boolean(given) && given === (proof ??= given);

// request sends a request to the command: a POST if there is a body or a part of a file, otherwise a GET. If the request fails, the
// message of the error is a text for the person, unless signal has aborted the request.
export async function request(path, { body, part, signal, keepalive } = {}) {
  const options = { signal, keepalive };
  if (part) Object.assign(options, { method: "POST", body: part, headers: { "Content-Type": "application/octet-stream" } });
  else if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  let response, text;
  try {
    response = await fetch("api/" + path, options);
    text = await response.text();
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Error("The command does not respond. Run lipdrop ui again, and open the address that it prints.");
  }
  if (!isOurs(response.headers.get("Lipdrop-Proof"))) throw new Error("Another program responds at this address, not lipdrop ui. Run lipdrop ui again, and open the address that it prints.");
  if (!response.ok) throw new Error(text.trim() || "HTTP status " + response.status);
  return text ? JSON.parse(text) : undefined;
}

const notice = byId("notice");
let noticeTimer;

// notify shows a message, and screen readers read it. It puts the message into the open modal window, if there is one, because
// screen readers read nothing outside of that window. A message that ends with "…" stays until the next message.
export function notify(text, bad = false) {
  const parent = document.querySelector("dialog[open]") ?? document.body;
  if (notice.parentNode !== parent) parent.append(notice);
  notice.textContent = text;
  notice.className = bad ? "bad" : "";
  clearTimeout(noticeTimer);
  if (!text.endsWith("…")) noticeTimer = setTimeout(() => notice.replaceChildren(), Math.max(bad ? 20000 : 6000, text.length * 80)); // time to read the text
}

// confirmed asks a question and returns whether the person confirms it.
export function confirmed(title, text, action) {
  const dialog = byId("confirm");
  return new Promise((resolve) => {
    // A listener of the dialog's event "close" could run too late: when the next question has already been asked.
    const end = (yes) => {
      dialog.close();
      resolve(yes);
    };
    dialog.replaceChildren(
      h("h2", { id: "confirm-title" }, title), h("p", {}, text),
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => end(false) }, "Back"),
        h("button", { type: "button", class: "primary", onclick: () => end(true) }, action)));
    dialog.oncancel = () => resolve(false); // Escape
    dialog.showModal();
  });
}

let pressedAt = 0; // when the pointer or the space bar was pressed; 0 after its release
for (const type of ["pointerdown", "keydown"]) addEventListener(type, (e) => { if (type === "pointerdown" || (e.key === " " && !e.repeat)) pressedAt = Date.now(); }, true);
for (const type of ["pointerup", "pointercancel", "keyup"]) addEventListener(type, () => setTimeout(() => { pressedAt = 0; }, 50), true); // after the click

// clickEnded waits until the pointer and the space bar are released, but at most a second after the press. A click is lost if the
// page replaces the clicked element between the press and the release.
export async function clickEnded() { while (Date.now() - pressedAt < 1000) await new Promise(requestAnimationFrame); }

// sentence returns a text with one full stop at the end. The text may begin with a file name, so its first letter stays as it is.
export const sentence = (text) => text.replace(/\.$/, "") + ".";

// count returns a number with its noun.
export const count = (n, noun) => n + " " + noun + (n === 1 ? "" : "s");

// fileNames returns file names, separated by commas, as children for h. A right-to-left name does not reorder the others.
export const fileNames = (names) => names.map((name, i) => [i ? ", " : "", h("bdi", {}, name)]);

// isPlausible reports whether a length or a cost from the bucket can be shown and added to others.
export const isPlausible = (n) => typeof n === "number" && n >= 0 && n < 1e9;

// seconds writes a length as the command does, such as 4.0 s, 12 min 5.5 s or 1 h 0 min 5.5 s. It returns "" if the length is 0 or
// not plausible.
export const seconds = (n) => {
  if (!n || !isPlausible(n)) return "";
  const tenths = Math.round(n * 10);
  if (tenths < 6000) return (tenths / 10).toFixed(1) + " s";
  const hours = Math.floor(tenths / 36000), minutes = Math.floor(tenths / 600) % 60;
  return (hours ? hours + " h " : "") + minutes + " min " + ((tenths % 600) / 10).toFixed(1) + " s";
};

export const dollars = (n) => (!isPlausible(n) ? "" : "$" + n.toFixed(n < 1 ? 3 : 2));

// bytes returns a size with its unit.
export function bytes(n) {
  for (const unit of ["bytes", "KiB", "MiB", "GiB"]) {
    if (n < 1024 || unit === "GiB") return unit === "bytes" ? count(Math.round(n), "byte") : n.toFixed(1) + " " + unit;
    n /= 1024;
  }
}

// age returns how long ago a time was.
export function age(time) {
  let n = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  for (const [unit, limit, next] of [["s", 60, 60], ["min", 60, 60], ["h", 48, 24], ["d", Infinity]]) {
    if (n < limit) return Math.floor(n) + " " + unit;
    n /= next;
  }
}

// link returns a link if the address begins with https://, otherwise the address as text.
export function link(address, text) {
  if (!/^https:\/\//.test(address)) return h("code", {}, address);
  return h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, text);
}
