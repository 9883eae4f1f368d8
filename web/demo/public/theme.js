// Runs before the page is painted: the remembered theme, so that it does not flash.
try {
  const theme = localStorage.getItem("fireside.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is off: the system's theme it is.
}
