// Formulas. The site generator marks them with the class "arithmatex"; KaTeX draws them here, from this site's own files.
(() => {
  const draw = () => {
    for (const place of document.querySelectorAll(".arithmatex:not([data-drawn])")) {
      const text = place.textContent.trim()
      const displayMode = text.startsWith("\\[")
      const formula = text.replace(/^\\[[(]/, "").replace(/\\[\])]$/, "")
      place.dataset.drawn = ""
      if (place.tagName === "DIV") place.tabIndex = 0 // a long formula scrolls, from the keyboard too
      katex.render(formula, place, { displayMode, throwOnError: false, trust: false, maxExpand: 200, maxSize: 40 })
    }
  }
  // Material gives its search dialog a role and no name.
  const name = () => document.querySelector(".md-search[role=dialog]")?.setAttribute("aria-label", "Search")
  // A link to a folded piece of evidence opens it.
  const unfold = () => {
    const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)))
    place && place.closest("details")?.setAttribute("open", "")
  }
  // Material replaces the page's content on instant navigation and says so here; elsewhere the page is loaded once.
  if (typeof document$ !== "undefined") document$.subscribe(draw)
  else if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", draw)
  else draw()
  addEventListener("hashchange", unfold)
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => { unfold(); name() })
  else { unfold(); name() }
})()
