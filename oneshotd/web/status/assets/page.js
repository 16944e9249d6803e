"use strict";
// Keeps the page up to date: fetches its changing part every few seconds and changes only the nodes that
// differ, in place, so that focus, scroll position and selected text stay. Sends no requests while the
// page is hidden. The answer is parsed as inert HTML; scripts in it would not run.
(() => {
  const EVERY = 3000; // ms between two requests
  const TIMEOUT = 8000; // ms for an answer
  const live = document.getElementById("live");
  const link = document.getElementById("link");
  let etag = live.dataset.etag;
  let ahead = Date.now() - Number(live.dataset.now); // ms by which this clock leads the daemon's
  let answered = Date.now();
  let away = false;
  let paused = false;
  let timer = 0;
  let asking = null;

  // Rows are matched by key: a row keeps its element if others are inserted above it.
  const nameOf = (node) => (node.nodeType === 1 ? node.dataset.key || node.id : "");
  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && nameOf(a) === nameOf(b);

  function selected(node) {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && selection.containsNode(node, true);
  }

  function adapt(old, now) {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== now.nodeValue && !selected(old)) old.nodeValue = now.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      const opened = name === "open" && old.nodeName === "DETAILS"; // by the reader
      if (!now.hasAttribute(name) && !opened) old.removeAttribute(name);
    }
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const keyed = new Map();
    for (const child of old.children) if (nameOf(child)) keyed.set(nameOf(child), child);
    let place = old.firstChild;
    for (const child of [...now.childNodes]) {
      let match = nameOf(child) ? keyed.get(nameOf(child)) : null;
      // Remove nodes that are not in the new page, so that the next one can take their place.
      while (!match && place && nameOf(place) && nameOf(child) !== nameOf(place) && !wanted(now, place)) {
        const gone = place;
        place = place.nextSibling;
        gone.remove();
      }
      if (!match && place && alike(place, child)) match = place;
      if (!match || !alike(match, child)) {
        old.insertBefore(document.importNode(child, true), place);
      } else {
        if (match === place) place = place.nextSibling;
        else old.insertBefore(match, place);
        adapt(match, child);
      }
    }
    while (place) {
      const gone = place;
      place = place.nextSibling;
      gone.remove();
    }
  }

  function wanted(parent, node) {
    for (const child of parent.children) if (nameOf(child) === nameOf(node)) return true;
    return false;
  }

  function short(seconds) {
    const units = [[86400, "d"], [3600, "h"], [60, "min"]];
    for (const [size, unit] of units) {
      if (seconds >= 2 * size || (unit === "min" && seconds >= 90)) return `${Math.round(seconds / size)} ${unit}`;
    }
    return `${Math.max(0, Math.round(seconds))} s`;
  }

  // Ages stop while the daemon does not answer: newer data may be missing.
  function age() {
    if (away || paused) return;
    const now = Date.now() - ahead;
    for (const time of live.querySelectorAll("time.ago")) {
      const text = `${short((now - Date.parse(time.dateTime)) / 1000)} ago`;
      if (time.textContent !== text && !selected(time)) time.firstChild.nodeValue = text;
    }
  }

  function say(text) {
    if (link.textContent !== text) link.textContent = text;
  }

  function clock(ms) {
    return `${new Date(ms - ahead).toISOString().slice(11, 19)} UTC`;
  }

  async function update() {
    if (asking) return;
    clearTimeout(timer);
    asking = new AbortController();
    const tooLong = setTimeout(() => asking.abort(), TIMEOUT);
    let trouble = "The daemon does not answer";
    try {
      // With a user in the page's address (http://ann:word@host/), fetch refuses relative addresses.
      const answer = await fetch(new URL("live", location.origin + location.pathname), {
        headers: { Accept: "text/html", "If-None-Match": etag },
        cache: "no-store",
        signal: asking.signal,
      });
      if (answer.status === 200) {
        const part = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
        if (!part) throw new Error("not the page");
        ahead = Date.now() - Number(part.dataset.now);
        etag = part.dataset.etag;
        if (!paused) adapt(live, part);
      } else if (answer.status === 401 || answer.status === 403) {
        finish(tooLong);
        refuse();
        return;
      } else if (answer.status !== 304) {
        trouble = `The daemon answers with an error (${answer.status})`;
        throw new Error(trouble);
      }
      answered = Date.now();
      if (away) {
        away = false;
        document.body.classList.remove("away");
        say("The daemon answers again.");
      } else if (!paused) {
        say("Updates itself");
      }
    } catch {
      if (!document.hidden && !away && !paused) {
        away = true;
        document.body.classList.add("away");
        say(`${trouble}. The data is from ${clock(answered)}.`);
      }
    }
    finish(tooLong);
    next();
  }

  function finish(tooLong) {
    clearTimeout(tooLong);
    asking = null;
  }

  // Asks no more: the browser would ask for the password every few seconds.
  function refuse() {
    away = true;
    document.body.classList.add("away");
    say(`The daemon refuses this login. The data is from ${clock(answered)}. Reload the page to log in.`);
  }

  function next() {
    clearTimeout(timer);
    if (!document.hidden && !paused) timer = setTimeout(update, EVERY);
  }

  function button(text, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", () => act(made));
    return made;
  }

  const pause = button("Pause", (self) => {
    paused = !paused;
    self.textContent = paused ? "Resume" : "Pause";
    if (paused) {
      clearTimeout(timer);
      if (!away) say(`Paused at ${clock(Date.now())}`);
    } else {
      etag = "";
      update();
    }
  });
  link.after(pause);

  async function copy(text, block) {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return true;
    }
    getSelection().selectAllChildren(block); // no clipboard API without HTTPS
    return document.execCommand("copy");
  }

  for (const block of document.querySelectorAll("#how pre")) {
    const title = document.getElementById(block.getAttribute("aria-labelledby"));
    const made = button("Copy", async (self) => {
      let done = false;
      try {
        done = await copy(block.textContent, block);
      } catch {
        // the text stays selected
      }
      self.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => (self.textContent = "Copy"), 2500);
    });
    made.setAttribute("aria-describedby", title.id);
    made.className = "copy";
    block.before(made);
  }

  // The box in which an admin tries what a hook makes of a payload.
  function trial(box) {
    const field = (name, label, made, rows) => {
      made.name = name;
      const around = document.createElement("label");
      around.textContent = label;
      if (rows) made.rows = rows;
      made.spellcheck = false;
      around.append(made);
      box.append(around);
      return made;
    };
    const hook = field("hook", "Hook", document.createElement("select"));
    hook.append(...box.dataset.hooks.split(" ").map((name) => new Option(name)));
    const lines = "Headers, one in a line (X-GitHub-Event: push)";
    const headers = field("headers", lines, document.createElement("textarea"), 2);
    const payload = field("payload", "Payload", document.createElement("textarea"), 8);
    const result = document.createElement("pre");
    const run = button("Try", async () => {
      run.disabled = true;
      result.textContent = await tried(hook.value, headers.value, payload.value);
      run.disabled = false;
    });
    result.setAttribute("role", "status");
    box.append(run, result);
  }

  async function tried(hook, lines, payload) {
    try {
      const headers = new Headers({ Accept: "text/plain", "Content-Type": "application/json" });
      for (const line of lines.split("\n").filter((text) => text.trim())) {
        const [name, ...value] = line.split(":");
        headers.set(name.trim(), value.join(":").trim());
      }
      const where = new URL(`api/v1/try-hook/${encodeURIComponent(hook)}`, location.origin + location.pathname);
      const answer = await fetch(where, { method: "POST", headers, body: payload });
      return await answer.text();
    } catch (error) {
      return String(error);
    }
  }

  const box = document.getElementById("try");
  if (box) trial(box);

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : paused || update()));
  setInterval(() => document.hidden || age(), 1000);
  say("Updates itself");
  next();
})();
