// The submit form: a field whose choices a script gives, and that now has another value, tells those that depend on it.
// What people change says so itself; what an answer of the server changes does not, so that it is said here.
{
  const known = new WeakMap();

  const valueOf = (slot) => {
    if (slot.querySelector("[data-loading]")) return null;
    return JSON.stringify(new FormData(slot.closest("form")).getAll(slot.dataset.slot));
  };
  const look = () => {
    for (const slot of document.querySelectorAll("[data-slot]")) {
      const value = valueOf(slot);
      const isNews = known.has(slot) && known.get(slot) !== value;
      known.set(slot, value);
      if (isNews && value !== null) slot.dispatchEvent(new Event("change", { bubbles: true }));
    }
  };

  look();
  document.addEventListener("htmx:after:swap", look);
  document.addEventListener("change", (event) => {
    const slot = event.target instanceof Element && event.target.closest("[data-slot]");
    if (slot) known.set(slot, valueOf(slot));
  });
}
