// Runs before the first paint, so that the wrong theme is never seen.
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
}
