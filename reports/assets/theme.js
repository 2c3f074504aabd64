"use strict";
{
  let stored = null;
  try { stored = localStorage.getItem("traceanalyzer-theme"); } catch { /* storage is closed to files in some browsers */ }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = stored ?? (dark ? "dark" : "light");
}
