// What every page needs: theme, dialogs, copying, keys, relative times, busy buttons. Everything is delegated from the
// document, so that what htmx swaps in works without further ado.
{
  const on = (type, selector, act, options) =>
    document.addEventListener(
      type,
      (event) => {
        const element = event.target instanceof Element && event.target.closest(selector);
        if (element) act(element, event);
      },
      options,
    );

  // ── Theme ──────────────────────────────────────────────────────────────────────────────────────────────────────────
  const root = document.documentElement;

  const markTheme = () => {
    for (const button of document.querySelectorAll("[data-theme-switch] button")) {
      button.setAttribute("aria-pressed", String(button.value === root.dataset.theme));
    }
  };
  markTheme();
  on("click", "[data-theme-switch] button", (button) => {
    root.dataset.theme = button.value;
    // A cookie, not storage: the server writes the right theme into the page.
    document.cookie = `theme=${button.value}; path=/; max-age=31536000; samesite=lax`;
    document.dispatchEvent(new CustomEvent("skstack:theme"));
    markTheme();
  });

  // ── Tabs: a row that is wider than the window begins where the open one can be seen ────────────────────────────────
  for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
    const row = tab.closest(".tabs");
    row.scrollLeft += tab.getBoundingClientRect().right - row.getBoundingClientRect().right + 24;
  }

  // ── Dialogs: popovers without script, modal with it ────────────────────────────────────────────────────────────────
  on("click", "button[popovertarget]", (button, event) => {
    const dialog = document.getElementById(button.getAttribute("popovertarget"));
    if (!(dialog instanceof HTMLDialogElement)) return;
    event.preventDefault();
    if (button.getAttribute("popovertargetaction") === "hide") dialog.close();
    else if (!dialog.open) dialog.showModal();
  });
  on("click", "dialog [data-close]", (button, event) => {
    event.preventDefault();
    button.closest("dialog").close();
  });
  // A question that was fetched: what came is shown, and gone when it is answered.
  document.addEventListener("htmx:after:swap", (event) => {
    const dialog = event.detail.ctx?.target;
    if (dialog instanceof HTMLDialogElement && dialog.childElementCount && !dialog.open) dialog.showModal();
  });

  // Browsers without anchor positioning put a popover into the middle of the window.
  if (!CSS.supports("position-area: bottom")) {
    document.addEventListener(
      "toggle",
      (event) => {
        const menu = event.target;
        if (event.newState !== "open" || !menu.matches(".menu-here")) return;
        const anchor = document.querySelector(`[popovertarget="${CSS.escape(menu.id)}"]`).getBoundingClientRect();
        menu.style.inset = "auto";
        menu.style.top = `${anchor.bottom + 4}px`;
        menu.style.maxHeight = `${Math.max(220, innerHeight - anchor.bottom - 12)}px`;
        menu.style.left = `${Math.max(8, Math.min(anchor.right, innerWidth - 8) - menu.offsetWidth)}px`;
      },
      true,
    );
  }

  // ── Notices ────────────────────────────────────────────────────────────────────────────────────────────────────────
  on("click", "[data-dismiss]", (button) => button.closest("[data-notice]").remove());

  // ── Copy ───────────────────────────────────────────────────────────────────────────────────────────────────────────
  const copy = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // Plain HTTP on an inner network: browsers offer no clipboard there, only this.
    const area = Object.assign(document.createElement("textarea"), { value: text, readOnly: true });
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  on("click", "[data-copy]", async (button) => {
    const source = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
    await copy(source ? (source.value ?? source.innerText) : button.dataset.copy);
    const label = button.getAttribute("aria-label");
    if (label === button.dataset.done) return;
    button.classList.add("is-done");
    button.setAttribute("aria-label", button.dataset.done);
    setTimeout(() => {
      button.classList.remove("is-done");
      button.setAttribute("aria-label", label);
    }, 1500);
  });

  // ── Passwords and secrets ──────────────────────────────────────────────────────────────────────────────────────────
  on("click", "[data-reveal]", (button) => {
    const input = document.getElementById(button.dataset.reveal);
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
    button.classList.toggle("is-done", shown);
  });
  // Never let a browser remember a shown secret as ordinary text.
  document.addEventListener(
    "submit",
    (event) => {
      for (const button of event.target.querySelectorAll("[data-reveal].is-done")) {
        document.getElementById(button.dataset.reveal).type = "password";
      }
    },
    true,
  );

  // ── `/` goes to the search field ───────────────────────────────────────────────────────────────────────────────────
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest("input, textarea, select, [contenteditable], dialog[open]")) return;
    const search = [...document.querySelectorAll("input[type=search]")].find((field) => field.checkVisibility());
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  });

  // ── One press, one request ─────────────────────────────────────────────────────────────────────────────────────────
  const setBusy = (form, busy, submitter) => {
    form.toggleAttribute("data-busy", busy);
    form.setAttribute("aria-busy", String(busy));
    const buttons = busy ? [submitter ?? form.querySelector("[type=submit], button:not([type])")] : form.querySelectorAll(".is-busy");
    for (const button of buttons) button?.classList.toggle("is-busy", busy);
  };
  const isUnsafe = (form) => form.method === "post" || form.matches("[hx-post], [hx-put], [hx-patch], [hx-delete]");
  document.addEventListener(
    "submit",
    (event) => {
      if (!event.target.hasAttribute("data-busy")) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    true,
  );
  document.addEventListener("submit", (event) => {
    const form = event.target;
    // `data-not-busy`: the answer is a download, the page stays.
    if (form.matches("[data-not-busy]") || !isUnsafe(form)) return;
    if (event.defaultPrevented && !form.matches("[data-htmx-powered]")) return;
    setBusy(form, true, event.submitter);
  });
  document.addEventListener("htmx:finally:request", (event) => {
    const { ctx } = event.detail;
    if (ctx.request.form && !ctx.keepIndicators) setBusy(ctx.request.form, false);
  });
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll("form[data-busy]")) setBusy(form, false);
    refreshTimes();
  });

  // ── Relative times: the server's words, kept fresh ─────────────────────────────────────────────────────────────────
  const units = [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const relative = new Intl.RelativeTimeFormat(root.lang, { numeric: "always" });

  const refreshTimes = () => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const seconds = (Date.parse(time.dateTime) - Date.now()) / 1000;
      // 0.85 of a unit counts as one, as on the server.
      const [unit, length] = units.find(([, each]) => Math.abs(seconds) / each >= 0.85) ?? units.at(-1);
      const text = relative.format(Math.round(seconds / length), unit);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(() => document.hidden || refreshTimes(), 15000);
  document.addEventListener("visibilitychange", () => document.hidden || refreshTimes());

  // ── Columns ────────────────────────────────────────────────────────────────────────────────────────────────────────
  // What is ticked is seen at once; its form saves it, so that the next page comes that way from the server.
  on("change", "[data-columns-of] input", (box) => {
    const list = box.closest("[data-columns-of]").dataset.columnsOf;
    for (const cell of document.querySelectorAll(`[data-columns="${CSS.escape(list)}"] [data-col="${CSS.escape(box.value)}"]`)) {
      cell.classList.toggle("col-off", !box.checked);
    }
  });
}
