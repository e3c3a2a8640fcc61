// Live updates, endless logs and keyboard operation. Every page also works without this script.
"use strict";
(() => {
  const root = document.documentElement;
  const body = document.body;
  const byId = (id) => document.getElementById(id);
  const status = byId("live");
  const stored = (key, value) => {
    try {
      if (value === undefined) return localStorage.getItem(key);
      localStorage.setItem(key, value);
    } catch { /* storage may be switched off */ }
    return value ?? null;
  };

  // Theme: the system's, or the user's choice.
  const themes = ["auto", "light", "dark"];
  const setTheme = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    const button = byId("theme");
    if (button) button.textContent = `Theme: ${theme}`;
  };
  let theme = themes.includes(stored("mnesis-theme")) ? stored("mnesis-theme") : "auto";
  setTheme(theme);
  byId("theme")?.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    stored("mnesis-theme", theme);
    setTheme(theme);
  });

  const load = async (url) => {
    const response = await fetch(url, { headers: { "X-Requested-With": "fetch" }, credentials: "same-origin" });
    if (!response.ok) throw new Error(`${response.status} for ${url}`);
    return new DOMParser().parseFromString(await response.text(), "text/html");
  };

  // Times: shown in the reader's own zone.
  const localTimes = (scope) => {
    for (const time of scope.querySelectorAll("time[datetime]:not([data-local])")) {
      const date = new Date(time.dateTime);
      time.dataset.local = "1";
      if (!Number.isNaN(date.getTime())) time.title = date.toLocaleString();
    }
  };
  localTimes(document);

  // Details that load their content when they are opened first.
  const openLazy = async (details) => {
    if (!details.open || !details.dataset.src || details.dataset.loaded) return;
    details.dataset.loaded = "1";
    const target = details.querySelector("[data-target]");
    try {
      const page = await load(details.dataset.src);
      target.replaceChildren(...(page.querySelector("[data-fragment]") ?? page.body).childNodes);
      localTimes(target);
    } catch (error) {
      delete details.dataset.loaded;
      target.textContent = `Could not be loaded: ${error.message}`;
    }
  };
  document.addEventListener("toggle", (event) => openLazy(event.target), true);

  // The log: chunks are added where the reader scrolls to, and taken away where they are far off.
  const log = byId("log");
  const MAX_CHUNKS = 6;
  const chunks = () => [...log.querySelectorAll(":scope > .chunk")];
  const firstSeq = () => Number(chunks()[0]?.dataset.first ?? 1);
  const lastSeq = () => Number(chunks().at(-1)?.dataset.last ?? 0);
  const chunkUrl = (query) => `${log.dataset.chunks}?${query}`;
  // Browsers may move the page themselves (scroll anchoring) or not: what stays is the place of an element.
  const keepInPlace = (element, change) => {
    const before = element.getBoundingClientRect().top;
    change();
    root.scrollBy({ top: element.getBoundingClientRect().top - before, behavior: "instant" });
  };
  const loadChunk = async (direction) => {
    const query = direction < 0 ? `before=${firstSeq()}` : `after=${lastSeq()}`;
    if (direction < 0 && firstSeq() <= 1) return false;
    try {
      const page = await load(chunkUrl(query));
      const chunk = page.querySelector(".chunk");
      if (!chunk || !chunk.children.length) return false;
      log.dataset.end = chunk.dataset.end ?? log.dataset.end;
      if (direction < 0) {
        keepInPlace(chunks()[0], () => log.prepend(chunk));
        while (chunks().length > MAX_CHUNKS) chunks().at(-1).remove();
      } else {
        log.append(chunk);
        while (chunks().length > MAX_CHUNKS) {
          keepInPlace(chunks()[1], () => chunks()[0].remove());
        }
      }
      localTimes(chunk);
      showNew();
      return true;
    } catch (error) {
      status.textContent = error.message;
      return false;
    }
  };
  // One after the other. A request that came during another must not be lost: its sentinel is not reported again.
  let lastLoad = Promise.resolve();
  const addChunk = (direction) => (lastLoad = lastLoad.then(() => loadChunk(direction)));
  const newButton = byId("new-messages");
  const showNew = () => {
    if (!newButton) return;
    const count = Number(log.dataset.end) - lastSeq();
    newButton.hidden = !(Number(log.dataset.unseen ?? 0) > 0 && count > 0);
    newButton.textContent = `${count} newer ${count === 1 ? "message" : "messages"}: go to the end`;
    const position = byId("position");
    if (position) position.max = log.dataset.end;
  };
  const isAtEnd = () => root.scrollHeight - root.scrollTop - root.clientHeight < 160 && lastSeq() >= Number(log.dataset.end);
  if (log) {
    for (const link of document.querySelectorAll(".without-script")) link.hidden = true;
    if ("IntersectionObserver" in window) {
      const observer = new IntersectionObserver((entries) => {
        for (const entry of entries) {
          if (!entry.isIntersecting) continue;
          const direction = entry.target.id === "older" ? -1 : 1;
          addChunk(direction).then((added) => {
            if (!added) return;
            // Observe again: a short chunk may leave the sentinel in view.
            observer.unobserve(entry.target);
            observer.observe(entry.target);
          });
        }
      }, { rootMargin: "600px" });
      for (const id of ["older", "newer"]) if (byId(id)) observer.observe(byId(id));
    }
    newButton?.addEventListener("click", () => location.assign(newButton.dataset.href));
    if (!location.hash && log.dataset.target) {
      byId(`m-${log.dataset.target}`)?.scrollIntoView({ block: "center", behavior: "instant" });
    } else if (!location.hash && chunks().length) {
      root.scrollTo({ top: root.scrollHeight, behavior: "instant" });
    }
  }
  const followLog = async (messages) => {
    const wasAtEnd = isAtEnd();
    log.dataset.end = Math.max(Number(log.dataset.end), ...messages.map((each) => each.seq));
    if (!wasAtEnd && lastSeq() >= Number(log.dataset.end)) return;
    const isNear = root.scrollHeight - root.scrollTop - root.clientHeight < 160;
    if (isNear) {
      while (lastSeq() < Number(log.dataset.end) && await addChunk(1)) { /* until the end */ }
      root.scrollTo({ top: root.scrollHeight, behavior: "instant" });
    } else {
      log.dataset.unseen = Number(log.dataset.unseen ?? 0) + messages.length;
      showNew();
    }
    byId("announce").textContent = `${messages.length} new ${messages.length === 1 ? "message" : "messages"}`;
  };

  // Regions of other pages: fetched again and replaced where they differ; what is open stays open, focus stays.
  const regions = () => [...document.querySelectorAll("[data-live]")];
  const refresh = async () => {
    const page = await load(location.href);
    for (const region of regions()) {
      const fresh = page.getElementById(region.id);
      if (!fresh || fresh.isEqualNode(region)) continue;
      const open = new Map([...region.querySelectorAll("details[data-key]")].map((each) => [each.dataset.key, each]));
      const focus = region.contains(document.activeElement) ? focusKey(document.activeElement) : null;
      for (const details of fresh.querySelectorAll("details[data-key]")) {
        const old = open.get(details.dataset.key);
        if (!old) continue;
        if (old.dataset.loaded) details.replaceWith(old); else details.open = old.open;
      }
      region.replaceChildren(...fresh.childNodes);
      localTimes(region);
      if (focus) [...region.querySelectorAll("a, button, summary, [tabindex]")].find((each) => focusKey(each) === focus)?.focus();
    }
    root.dataset.refreshed = Number(root.dataset.refreshed ?? 0) + 1;
  };
  const focusKey = (element) => element.id || element.getAttribute("href") || element.textContent;
  let refreshTimer = 0;
  const refreshSoon = () => {
    if (!regions().length || refreshTimer) return;
    refreshTimer = setTimeout(() => {
      refreshTimer = 0;
      refresh().catch((error) => { status.textContent = error.message; });
    }, 300);
  };

  // Events: one stream per visible tab, continued from the last event after an interruption.
  let source = null;
  let cursor = body.dataset.cursor;
  const isMine = (change) => {
    if (body.dataset.scope === "all") return true;
    if (body.dataset.scope === "runs") return Boolean(change.run_id);
    return change.session === body.dataset.session;
  };
  const receive = (event) => {
    cursor = event.lastEventId || cursor;
    const changes = JSON.parse(event.data).filter(isMine);
    if (!changes.length) return;
    const messages = changes.filter((change) => change.event === "message.created");
    if (log && messages.length) followLog(messages);
    refreshSoon();
  };
  const connect = () => {
    if (source || document.hidden || !body.dataset.events) return;
    source = new EventSource(`${body.dataset.events}?since=${encodeURIComponent(cursor)}`);
    source.onopen = () => { status.textContent = "Live"; status.dataset.state = "on"; };
    source.onmessage = receive;
    source.onerror = () => { status.textContent = "Not connected"; status.dataset.state = "off"; };
  };
  const disconnect = () => {
    source?.close();
    source = null;
  };
  // Browsers allow six connections to a server: tabs that nobody sees give theirs back.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  connect();

  // Keyboard. Single keys can be switched off, because speech input types them by accident (WCAG 2.1.4).
  const dialog = byId("help");
  const keysOn = byId("keys-on");
  if (keysOn) {
    keysOn.checked = stored("mnesis-keys") !== "off";
    keysOn.addEventListener("change", () => stored("mnesis-keys", keysOn.checked ? "on" : "off"));
  }
  byId("help-open")?.addEventListener("click", () => dialog.showModal());
  const move = (step) => {
    const items = [...document.querySelectorAll("[data-item]")].filter((each) => each.getClientRects().length);
    if (!items.length) return;
    const current = document.activeElement?.closest("[data-item]");
    let index = items.indexOf(current);
    if (index < 0) {
      index = items.findIndex((each) => each.getBoundingClientRect().bottom > 0);
      if (step < 0) index = Math.max(index, 0);
    } else {
      index = Math.min(Math.max(index + step, 0), items.length - 1);
    }
    const target = items[Math.max(index, 0)];
    const focusable = target.matches("a, button, summary") ? target : target.querySelector("a, button, summary") ?? target;
    focusable.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest", behavior: "instant" });
  };
  let prefix = "";
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input:not([type=checkbox]):not([type=range]), select, textarea");
    if (event.ctrlKey || event.metaKey || event.altKey || dialog?.open) return;
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (stored("mnesis-keys") === "off") return;
    if (prefix === "g") {
      prefix = "";
      const link = document.querySelector(`a[data-go="${CSS.escape(event.key)}"]`);
      if (link) {
        event.preventDefault();
        location.assign(link.href);
      }
      return;
    }
    const actions = {
      "/": () => byId("search").focus(),
      "?": () => dialog.showModal(),
      j: () => move(1),
      k: () => move(-1),
      g: () => { prefix = "g"; setTimeout(() => { prefix = ""; }, 1500); },
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  });
  const position = byId("position");
  position?.addEventListener("input", () => { byId("position-value").textContent = `#${position.value}`; });
  position?.addEventListener("change", () => position.form.requestSubmit());
  root.dataset.ready = "1";
})();
