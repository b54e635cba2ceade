// Searchable selects. Tom Select is fetched only by pages that have one; until then, and without it, the select is a plain one.
{
  const { script, style } = document.currentScript.dataset;
  const WANTED = "select[data-search-select]:not(.tomselected)";
  let fetched;
  let lostFocus = "";

  const fetchTomSelect = () =>
    (fetched ??= Promise.all([
      new Promise((resolve, reject) => {
        const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: style, onload: resolve, onerror: reject });
        // Before ours, which adapts it.
        document.querySelector("link[rel=stylesheet]").after(sheet);
      }),
      new Promise((resolve, reject) => {
        document.head.append(Object.assign(document.createElement("script"), { src: script, onload: resolve, onerror: reject }));
      }),
    ]));

  const make = (select) => {
    const wrong = select.getAttribute("aria-invalid") === "true";
    const hadFocus = select.id !== "" && select.id === lostFocus;
    const wantsFocus = hadFocus || document.activeElement === select || (select.form ?? document).querySelector("[autofocus]") === select;
    const made = new TomSelect(select, {
      plugins: select.multiple || !select.required ? { remove_button: { title: select.dataset.remove } } : {},
      placeholder: select.dataset.placeholder,
      hidePlaceholder: true,
      maxOptions: 200,
      maxItems: select.multiple ? null : 1,
      allowEmptyOption: false,
      closeAfterSelect: !select.multiple,
      // At once: whoever types and presses Enter means what is shown.
      refreshThrottle: 0,
      render: {
        no_results: () => Object.assign(document.createElement("div"), { className: "no-results", textContent: select.dataset.none }),
      },
    });
    // Its label now names the field that Tom Select made.
    select.setAttribute("aria-hidden", "true");
    if (wrong) made.control_input.setAttribute("aria-invalid", "true");
    const described = select.getAttribute("aria-describedby");
    if (described) made.control_input.setAttribute("aria-describedby", described);
    if (hadFocus) lostFocus = "";
    if (wantsFocus) {
      // The field, not its list over what is wrong.
      made.settings.openOnFocus = false;
      made.control_input.focus();
      made.settings.openOnFocus = true;
    }
  };

  const makeAll = async () => {
    if (!document.querySelector(WANTED)) return;
    try {
      await fetchTomSelect();
    } catch {
      return;
    }
    for (const select of document.querySelectorAll(WANTED)) make(select);
  };

  makeAll();
  document.addEventListener("htmx:after:swap", makeAll);
  // It listens on the document: what is about to go must let go first.
  document.addEventListener("htmx:before:swap", (event) => {
    for (const { target, swapSpec } of event.detail.tasks) {
      if (!(target instanceof Element) || !/^(inner|outer|delete|textContent)/.test(swapSpec.style)) continue;
      for (const select of target.querySelectorAll("select.tomselected")) {
        // Whoever went on to a field that is loaded anew is still there when it has come.
        if (select.tomselect.control.contains(document.activeElement)) lostFocus = select.id;
        select.tomselect.destroy();
      }
    }
  });
}
