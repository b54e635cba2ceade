// What becomes of htmx requests that do not end well. The rule: an error always shows, and nothing is ever swapped for a blank.
{
  const toasts = document.getElementById("toasts");
  const sessionEnded = document.getElementById("session-ended");
  const placeOf = (ctx) => ctx.sourceElement.closest("[data-loading]");
  const isPage = (text) => /^\s*<!doctype html/i.test(text);

  // What is said already is not said again: a page that polls would fill the window.
  const keepOne = () => {
    const said = new Set();
    for (const notice of [...toasts.children].reverse()) {
      const text = notice.textContent.replace(/\s+/g, " ").trim();
      if (said.has(text)) notice.remove();
      said.add(text);
    }
  };

  const toast = (text, connection) => {
    const notice = document.getElementById("toast-template").content.firstElementChild.cloneNode(true);
    notice.querySelector("p").textContent = text;
    notice.toggleAttribute("data-connection", Boolean(connection));
    toasts.append(notice);
    keepOne();
  };

  // Where something was to load by itself, the error stands in its place, with a way to try again.
  const sayInPlace = (place, text) => {
    const notice = document.getElementById("retry-template").content.firstElementChild.cloneNode(true);
    notice.querySelector("p").textContent = text;
    place.replaceChildren(notice);
  };

  const say = (ctx, text, connection) => {
    const place = placeOf(ctx);
    if (place?.isConnected) sayInPlace(place, text);
    else toast(text, connection);
  };

  // What somebody typed and did not send must outlive the end of their session: then they sign in beside this page.
  let typed = false;
  const noteTyping = (event) => {
    if (event.target.form?.method === "post") typed = true;
  };
  document.addEventListener("input", noteTyping);
  document.addEventListener("change", noteTyping);

  const promptSignIn = () => {
    const here = location.pathname + location.search + location.hash;
    const link = sessionEnded.querySelector("[data-sign-in]");
    const address = new URL(link.href);
    if (typed) address.searchParams.delete("next");
    else address.searchParams.set("next", here);
    link.href = address.href;
    link.target = typed ? "_blank" : "";
    sessionEnded.querySelector("[data-to-come-back]").hidden = typed;
    sessionEnded.querySelector("[data-to-stay]").hidden = !typed;
    if (!sessionEnded.open) sessionEnded.showModal();
    link.focus();
  };

  // Back from the other tab.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && sessionEnded.querySelector("[data-sign-in]").target) sessionEnded.close();
  });

  document.addEventListener("htmx:config:request", (event) => {
    const { ctx } = event.detail;
    // A filter that is not set has no place in the address.
    if (ctx.sourceElement.matches("form[data-filters]")) {
      for (const [name, value] of [...ctx.request.body]) if (value === "") ctx.request.body.delete(name);
    }
  });

  // The answer is here, nothing is swapped yet.
  document.addEventListener("htmx:after:request", (event) => {
    const { ctx } = event.detail;
    const { status, raw } = ctx.response;
    for (const notice of toasts.querySelectorAll("[data-connection]")) notice.remove();
    const steered = ctx.hx.redirect || ctx.hx.location || ctx.hx.refresh;

    if (status === 401) {
      event.preventDefault();
      promptSignIn();
    } else if (status >= 400 && ctx.hx.retarget) {
      ctx.select = null;
      if (placeOf(ctx)) {
        ctx.hx = {};
        ctx.swap = "innerHTML";
      }
    } else if (status >= 400 && status !== 409 && status !== 422 && !steered) {
      event.preventDefault();
      say(ctx, toasts.dataset.failed.replace("{status}", status));
    } else if (isPage(ctx.text) && !steered && (raw.redirected || !ctx.select) && !ctx.sourceElement.matches("body")) {
      // The server led on to a page: open it as one.
      event.preventDefault();
      ctx.keepIndicators = true;
      if (raw.redirected || ctx.request.method === "GET") location.assign(raw.url);
      else say(ctx, toasts.dataset.failed.replace("{status}", status));
    }
  });

  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx, tasks } = event.detail;
    const main = tasks.find((task) => task.type === "main");
    // What refreshes itself waits while somebody answers a question in it; it asks again by itself.
    if (ctx.sourceEvent?.type === "every" && main?.target?.querySelector("dialog[open], :popover-open")) {
      event.preventDefault();
      return;
    }
    if (!main || !ctx.select || main.fragment.childElementCount) return;
    event.preventDefault();
    say(ctx, toasts.dataset.failed.replace("{status}", ctx.response?.status ?? ""));
  });

  document.addEventListener("htmx:after:swap", keepOne);

  // No answer at all, or one that could not be used.
  document.addEventListener("htmx:error", (event) => {
    const { ctx, error } = event.detail;
    if (!ctx) return;
    if (ctx.request.signal.aborted) say(ctx, toasts.dataset.timeout, true);
    else if (ctx.response) say(ctx, toasts.dataset.failed.replace("{status}", ctx.response.status));
    else if (error instanceof TypeError) say(ctx, toasts.dataset.offline, true);
    else say(ctx, toasts.dataset.failed.replace("{status}", error?.name ?? ""));
  });

  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element && event.target.closest("[data-retry]");
    const place = button && button.closest("[data-loading], [hx-trigger*='retry']");
    if (!place) return;
    button.disabled = true;
    place.dispatchEvent(new CustomEvent("retry"));
  });
}
