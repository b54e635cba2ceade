// Runs before the first paint, so that neither the wrong theme nor a hidden column is ever seen.
{
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const applyTheme = () => {
    const wanted = root.dataset.theme;
    root.dataset.bsTheme = wanted === "auto" ? (dark.matches ? "dark" : "light") : wanted;
  };

  root.classList.add("js");
  applyTheme();
  dark.addEventListener("change", applyTheme);
  document.addEventListener("skstack:theme", applyTheme);

  // Columns that the reader hid or showed: rules in a sheet of our own hold for every row that arrives later, too.
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);

  const applyColumns = () => {
    const rules = [];
    for (const [key, stored] of Object.entries(localStorage)) {
      if (!key.startsWith("columns:")) continue;
      for (const [column, shown] of Object.entries(JSON.parse(stored))) {
        const cell = `[data-columns="${CSS.escape(key.slice(8))}"] [data-col="${CSS.escape(column)}"]`;
        if (!shown) rules.push(`${cell} { display: none }`);
        else rules.push(`${cell}.col-off { display: table-cell }`, `@media (max-width: 639px) { ${cell}.col-off { display: block } }`);
      }
    }
    sheet.replaceSync(rules.join("\n"));
  };

  try {
    applyColumns();
  } catch {
    // Storage is switched off or holds rubbish: every column stays as the page wants it.
  }
  document.addEventListener("skstack:columns", applyColumns);
}
