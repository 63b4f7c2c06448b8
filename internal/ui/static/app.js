// The page of `lipdrop ui`: the list of jobs, one job, and drops.
import { h, byId, request, isOurs, notify } from "./dom.js";
import { List } from "./list.js";
import { Job } from "./job.js";
import { Drop } from "./drop.js";

const page = await request("page").catch((err) => { notify(err.message, true); throw err; });
document.title = "lipdrop: " + page.stack;
byId("stack").append(h("span", { class: "where" }, page.stack), " ", h("span", { class: "dim" }, page.bucket + (page.region ? ", " + page.region : "")));
const list = new List((key) => { location.hash = "#job=" + encodeURIComponent(key); });
const job = new Job();
const drop = new Drop();

function route() {
  const params = new URLSearchParams(location.hash.slice(1));
  const key = params.get("job");
  if (key) {
    job.open(key, params.get("take") ?? "");
    list.select(key);
  } else {
    const left = job.key, hadFocus = byId("job").contains(document.activeElement);
    job.close();
    list.select("");
    if (left && hadFocus) list.focus(left);
  }
}
window.addEventListener("hashchange", route);

// showConnection writes the text only if it is new, because screen readers read every text that is written.
function showConnection(text, bad) {
  const live = byId("live");
  if (live.textContent !== text) live.textContent = text;
  live.className = bad ? "bad" : "";
}

// A hidden page closes its stream of events: a browser opens at most six connections to one server, for all its pages together.
let events;
function listen() {
  events?.close();
  if (document.hidden) return;
  events = new EventSource("api/events");
  events.addEventListener("jobs", (e) => {
    const change = JSON.parse(e.data);
    if (!isOurs(change.proof)) {
      events.close();
      return showConnection("another program responds at this address, not lipdrop ui", true);
    }
    const recovered = !change.trouble && byId("live").className === "bad";
    showConnection(change.trouble ?? "live", change.trouble);
    list.apply(change);
    // The open job is read again if its row has changed. Until its first read succeeds, it is read again after an outage too, but not
    // because a new stream sends the whole list (reset).
    const changed = change.rows?.some((row) => row.key === job.key);
    if (job.job ? changed : recovered || changed && !change.reset) job.refresh();
  });
  events.addEventListener("error", () => {
    showConnection("not connected; if lipdrop ui has ended, run it again", true);
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  });
}
document.addEventListener("visibilitychange", listen);
listen();
route();

const denied = [...new Set(Object.values(page.lacks).filter(Boolean))];
byId("rights").textContent = "You are " + page.who + ". " + (denied.length ? "You may see the jobs, but you lack these permissions: " + denied.join("; ") + "." : "You may do everything on this page.");
if (denied.length) byId("stack").append(" ", h("span", { class: "state warn", id: "readonly", title: byId("rights").textContent }, "some permissions are missing"));

byId("open-help").addEventListener("click", () => byId("help").showModal());
byId("skip").addEventListener("click", (e) => { e.preventDefault(); byId("jobs-list").focus(); });

// Before its presigned URLs end, or as soon as they have ended, a player with new URLs replaces a paused one.
setInterval(() => {
  const disconnected = !document.hidden && events?.readyState !== EventSource.OPEN; // a hidden page has no stream
  const expiring = Date.now() - job.urlsReadAt > job.urlSeconds * 1000;
  if (!job.isOpen || disconnected || !expiring || job.player?.playing) return;
  job.shown = ""; // makes refresh replace the player
  job.refresh();
}, 60 * 1000);

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
  const at = e.target, tag = at.tagName;
  const typing = tag === "TEXTAREA" || tag === "SELECT" || (tag === "INPUT" && !["range", "radio", "checkbox"].includes(at.type));
  if (e.key === "Escape") {
    if (typing) at.blur();
    else location.hash = "";
    return;
  }
  if (typing) return;
  const onRange = tag === "INPUT" && at.type === "range" && at !== job.player?.scrubber;
  const onButton = ["BUTTON", "A", "SUMMARY"].includes(tag) || (tag === "INPUT" && at.type !== "range");
  const keys = {
    j: () => list.move(1), k: () => list.move(-1), "?": () => byId("help").showModal(), "/": () => byId("search").focus(),
    a: () => job.decide("approved"), r: () => job.decide("rejected"),
  };
  if (job.player?.tracks.length) {
    if (!onButton) keys[" "] = () => e.repeat || job.player.toggle();
    if (!onRange && at.type !== "radio") Object.assign(keys, { ArrowLeft: () => job.player.step(-1), ArrowRight: () => job.player.step(1) });
  }
  const act = keys[e.key];
  if (act) { e.preventDefault(); act(); }
});

drop.listen();
