// The log pane: follows the end, loads what one scrolls to, drops what is far away, finds lines, survives a lost
// connection. New output comes by htmx (templates/runs/_poller.html); everything here is delegated from the document,
// because the submit page gets its pane later.
{
  const MOST_LINES = 5000;
  const CHUNK_LINES = 500;
  const NEAR_END = 32;

  let log = null; // The pane in the page, and what belongs to it.
  let scroller = null;
  let following = true;
  let upwards = false;
  let lastTop = 0;
  let place = null;
  let attempts = 0;
  let retryTimer = 0;
  let endAnnounced = false;
  const begun = new WeakMap();

  const on = (type, selector, act) =>
    document.addEventListener(type, (event) => {
      const element = event.target instanceof Element && event.target.closest(selector);
      if (element && log?.contains(element)) act(element, event);
    });

  // ── Opening ──────────────────────────────────────────────────────────────────────────────────────────────────────
  const open = () => {
    const found = document.querySelector("[data-log]");
    if (found === log) return;
    log = found;
    if (!log) return;
    scroller = log.querySelector("[data-log-scroll]");
    observer?.disconnect();
    observer = new IntersectionObserver(nearGap, { root: scroller, rootMargin: "400px 0px" });
    endAnnounced = Boolean(log.querySelector("[data-run-ended]"));
    for (const name of ["wrap", "times"]) setMode(name, recall(name));
    size(scroller);
    watchGaps();
    tick();
    if (location.hash.includes("step-")) jump(decodeURIComponent(location.hash.slice(1)));
    else toEnd();
  };

  const recall = (name) => {
    try {
      return localStorage.getItem(`log-${name}`) === "on";
    } catch {
      return false;
    }
  };
  const setMode = (name, isOn) => {
    log.classList.toggle(`log-with-${name}`, isOn);
    log.querySelector(`[data-log-${name}]`)?.setAttribute("aria-pressed", String(isOn));
  };
  for (const name of ["wrap", "times"]) {
    on("click", `[data-log-${name}]`, (button) => {
      const isOn = button.getAttribute("aria-pressed") !== "true";
      inPlace(() => setMode(name, isOn));
      try {
        localStorage.setItem(`log-${name}`, isOn ? "on" : "off");
      } catch {
        // Then it holds for this page only.
      }
    });
  }

  // ── Following the end ────────────────────────────────────────────────────────────────────────────────────────────
  const isAtEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END;
  const newOutput = () => log.querySelector("[data-log-new]");
  const toEnd = () => {
    following = true;
    newOutput().hidden = true;
    scroller.scrollTop = scroller.scrollHeight;
    lastTop = scroller.scrollTop;
  };

  document.addEventListener(
    "scroll",
    (event) => {
      if (event.target !== scroller || scroller.scrollTop === lastTop) return;
      upwards = scroller.scrollTop < lastTop;
      lastTop = scroller.scrollTop;
      following = isAtEnd();
      if (following) newOutput().hidden = true;
    },
    { capture: true, passive: true },
  );
  on("click", "[data-log-new]", toEnd);

  // What one is reading stays where it is while lines come and go above it.
  const inPlace = (act) => {
    if (following) {
      act();
      toEnd();
      return;
    }
    const box = scroller.getBoundingClientRect();
    let anchor = null;
    for (const share of [0.3, 0.5, 0.7, 0.9, 0.1]) {
      anchor = document.elementFromPoint(box.left + 24, box.top + box.height * share)?.closest(".l, .gap, summary");
      if (anchor && scroller.contains(anchor)) break;
    }
    const before = anchor?.getBoundingClientRect().top;
    act();
    if (anchor?.isConnected) scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    lastTop = scroller.scrollTop;
  };

  // ── Gaps ─────────────────────────────────────────────────────────────────────────────────────────────────────────
  let observer = null;
  const nearGap = (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !target.dataset.failed) load(target, upwards ? target.dataset.last : target.dataset.first);
    }
  };
  const watchGaps = () => {
    for (const gap of scroller.querySelectorAll(".gap:not([data-watched])")) {
      gap.dataset.watched = "";
      observer.observe(gap);
    }
  };

  const load = async (gap, at) => {
    if (gap.hasAttribute("aria-busy")) return;
    gap.setAttribute("aria-busy", "true");
    const step = gap.closest("[data-step]").dataset.step;
    const address = new URL(gap.closest("[data-run]").dataset.lines, location);
    const { first, last } = gap.dataset;
    for (const [name, value] of Object.entries({ step, from: first, to: last, at })) address.searchParams.set(name, value);
    try {
      const response = await fetch(address, { headers: { "HX-Request": "true" } });
      if (response.status === 401) return location.reload();
      if (!response.ok) throw new Error(response.status);
      const loaded = document.createElement("template");
      loaded.innerHTML = await response.text();
      if (!gap.isConnected) return;
      size(loaded.content);
      inPlace(() => gap.replaceWith(loaded.content));
      trim();
      watchGaps();
    } catch {
      gap.removeAttribute("aria-busy");
      gap.dataset.failed = "true";
      gap.querySelector(".gap-words").textContent = log.dataset.gapFailed;
    }
  };
  on("click", ".gap a[data-edge]", (link, event) => {
    event.preventDefault();
    const gap = link.closest(".gap");
    load(gap, gap.dataset[link.dataset.edge]);
  });

  // The style sheet reserves the height of chunks that are out of sight.
  const size = (within) => {
    for (const chunk of within.querySelectorAll(".chunk:not([data-sized])")) {
      chunk.style.setProperty("--lines", chunk.childElementCount);
      chunk.dataset.sized = "";
    }
  };

  const makeGap = (chunk, first, last) => {
    const gap = document.getElementById("log-gap").content.firstElementChild.cloneNode(true);
    const { step } = chunk.closest("[data-step]").dataset;
    const { page } = chunk.closest("[data-run]").dataset;
    Object.assign(gap.dataset, { first, last });
    gap.querySelector(".gap-words").textContent = gap.dataset.words
      .replace("{count}", last - first + 1).replace("{first}", first).replace("{last}", last);
    for (const link of gap.querySelectorAll("[data-edge]")) {
      const line = gap.dataset[link.dataset.edge];
      link.href = `${page}?step=${step}&line=${line}#step-${step}-L${line}`;
    }
    return gap;
  };

  const drop = (chunk) => {
    let first = Number(chunk.dataset.first);
    let last = Number(chunk.dataset.last);
    const before = chunk.previousElementSibling;
    const after = chunk.nextElementSibling;
    if (before?.matches(".gap")) {
      first = Number(before.dataset.first);
      before.remove();
    }
    if (after?.matches(".gap")) {
      last = Number(after.dataset.last);
      after.remove();
    }
    chunk.replaceWith(makeGap(chunk, first, last));
  };

  // The page never holds more than so many lines: those farthest from what one sees go, and come back on scrolling there.
  const trim = () => {
    let count = scroller.getElementsByClassName("l").length;
    if (count <= MOST_LINES) return;
    inPlace(() => {
      const chunks = [...scroller.getElementsByClassName("chunk")];
      const box = scroller.getBoundingClientRect();
      while (count > MOST_LINES && chunks.length > 1) {
        const above = following ? 1 : box.top - chunks[0].getBoundingClientRect().bottom;
        const below = following ? 0 : chunks.at(-1).getBoundingClientRect().top - box.bottom;
        const chunk = above >= below ? chunks.shift() : chunks.pop();
        count -= chunk.childElementCount;
        drop(chunk);
      }
    });
  };

  // Live output comes in small pieces; joined, they are fewer to look at.
  const join = () => {
    for (const opened of scroller.getElementsByClassName("open")) {
      let last = opened.previousElementSibling;
      for (;;) {
        const before = last?.previousElementSibling;
        if (!last?.matches(".chunk") || !before?.matches(".chunk")) break;
        if (before.childElementCount + last.childElementCount > CHUNK_LINES) break;
        before.append(...last.children);
        before.dataset.last = last.dataset.last;
        delete before.dataset.sized;
        last.remove();
        last = before;
      }
    }
  };

  // ── New output ───────────────────────────────────────────────────────────────────────────────────────────────────
  const isPoller = (event) => event.detail?.ctx?.sourceElement?.matches?.("[data-poller]");

  document.addEventListener("htmx:after:swap", (event) => {
    open();
    if (!log) return;
    // Another part of the page that was refreshed says nothing about the next attempt of this one.
    if (isPoller(event)) connected();
    join();
    size(scroller);
    const grown = scroller.scrollHeight;
    if (following) toEnd();
    else if (!isAtEnd() && grown !== Number(scroller.dataset.height)) newOutput().hidden = false;
    trim();
    scroller.dataset.height = scroller.scrollHeight;
    watchGaps();
    tick();
    if (!endAnnounced && log.querySelector("[data-run-ended]")) {
      endAnnounced = true;
      document.body.dispatchEvent(new CustomEvent("run-ended"));
    }
  });

  // ── A lost connection ────────────────────────────────────────────────────────────────────────────────────────────
  const connectionNote = () => log.querySelector("[data-log-connection]");
  const connected = () => {
    attempts = 0;
    clearTimeout(retryTimer);
    connectionNote().hidden = true;
  };
  const poll = () => {
    clearTimeout(retryTimer);
    connectionNote().textContent = log.dataset.trying;
    document.querySelector("[data-poller]")?.dispatchEvent(new CustomEvent("poll"));
  };
  const tryAgainLater = () => {
    const seconds = Math.min(15, 2 ** attempts++);
    connectionNote().textContent = log.dataset.lost.replace("{seconds}", seconds);
    connectionNote().hidden = false;
    clearTimeout(retryTimer);
    retryTimer = setTimeout(poll, seconds * 1000);
  };
  // Before requests.js, which would say it in a message of its own at every attempt.
  document.addEventListener(
    "htmx:error",
    (event) => {
      if (!isPoller(event) || !log) return;
      event.stopImmediatePropagation();
      tryAgainLater();
    },
    true,
  );
  document.addEventListener(
    "htmx:after:request",
    (event) => {
      if (!isPoller(event) || !log) return;
      const { status } = event.detail.ctx.response;
      if (status < 500 && status !== 429) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      tryAgainLater();
    },
    true,
  );
  addEventListener("online", () => log && !connectionNote().hidden && poll());

  // ── Going to a line ──────────────────────────────────────────────────────────────────────────────────────────────
  const jump = async (id) => {
    const [, name, line] = /^(.*?)(?:-L(\d+))?$/.exec(id);
    const step = document.getElementById(name) ?? document.getElementById(`pre-${name}`);
    if (!step || !log?.contains(step)) return;
    following = false;
    step.open = true;
    if (!line) return step.scrollIntoView();
    const target = () => document.getElementById(`${step.id}-L${line}`);
    if (!target()) {
      const gap = [...step.querySelectorAll(".gap")].find((g) => Number(g.dataset.first) <= line && line <= Number(g.dataset.last));
      if (!gap) return;
      gap.scrollIntoView({ block: "center" });
      gap.removeAttribute("aria-busy");
      await load(gap, line);
    }
    for (const marked of scroller.querySelectorAll(".is-marked")) marked.classList.remove("is-marked");
    target()?.classList.add("is-marked");
    target()?.scrollIntoView({ block: "center" });
    lastTop = scroller.scrollTop;
    following = false;
  };
  addEventListener("hashchange", () => log && jump(decodeURIComponent(location.hash.slice(1))));
  on("click", ".l > a", (link, event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.replaceState(null, "", link.hash);
    jump(link.hash.slice(1));
  });

  // ── Search ───────────────────────────────────────────────────────────────────────────────────────────────────────
  const matches = () => [...log.querySelectorAll("[data-log-line]")];
  const goTo = (index) => {
    const all = matches();
    if (!all.length) return;
    const position = (index + all.length) % all.length;
    for (const link of all) link.removeAttribute("aria-current");
    place = all[position];
    place.setAttribute("aria-current", "true");
    place.scrollIntoView({ block: "nearest" });
    log.querySelector("[data-log-place]").textContent = log.dataset.place.replace("{number}", position + 1).replace("{count}", all.length);
    jump(place.dataset.logLine);
  };
  const current = () => matches().indexOf(place);
  const closeSearch = () => {
    log.querySelector("#log-found").replaceChildren();
    log.querySelector(".log-search input[type=search]").value = "";
    scroller.focus();
  };
  on("click", "[data-log-line]", (link, event) => {
    event.preventDefault();
    goTo(matches().indexOf(link));
  });
  on("click", "[data-log-next]", () => goTo(current() + 1));
  on("click", "[data-log-previous]", () => goTo(current() < 0 ? -1 : current() - 1));
  on("click", "[data-log-close]", closeSearch);
  on("keydown", ".log-search input", (input, event) => {
    if (event.key === "Escape") closeSearch();
    if (event.key !== "Enter" || !matches().length) return;
    event.preventDefault();
    goTo(event.shiftKey ? (current() < 0 ? -1 : current() - 1) : current() + 1);
  });

  // ── Copy: the lines that are in the page, without their numbers ──────────────────────────────────────────────────
  document.addEventListener(
    "click",
    (event) => {
      const button = event.target instanceof Element && event.target.closest("[data-log-copy]");
      if (!button) return;
      const lines = [...scroller.querySelectorAll("details[open] .l > span")];
      button.dataset.copy = lines.map((line) => `${line.textContent}\n`).join("");
      setTimeout(() => (button.dataset.copy = ""), 5000);
    },
    true,
  );

  // ── Clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────
  const two = (number) => String(number).padStart(2, "0");
  const clock = (seconds) => {
    const whole = Math.floor(seconds);
    const minutes = Math.floor(whole / 60);
    return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
  };
  const tick = () => {
    if (!log) return;
    for (const element of log.querySelectorAll("[data-elapsed]")) {
      if (!begun.has(element)) begun.set(element, performance.now() - Number(element.dataset.elapsed) * 1000);
      const seconds = (performance.now() - begun.get(element)) / 1000;
      element.textContent = clock(seconds);
      const bar = element.parentElement.querySelector("[data-progress]");
      if (bar) bar.value = Math.min(bar.max, seconds);
    }
  };
  setInterval(tick, 1000);

  open();
}
