// Formulas. The site generator marks them with the class "arithmatex"; KaTeX draws them here, from this site's own files.
(() => {
  const draw = () => {
    for (const place of document.querySelectorAll(".arithmatex:not([data-drawn])")) {
      const text = place.textContent.trim()
      const displayMode = text.startsWith("\\[")
      const formula = text.replace(/^\\[[(]/, "").replace(/\\[\])]$/, "")
      place.dataset.drawn = ""
      if (place.tagName === "DIV") place.tabIndex = 0 // a long formula scrolls, from the keyboard too
      katex.render(formula, place, { displayMode, throwOnError: false, strict: false, trust: false, maxExpand: 200, maxSize: 40 })
    }
  }
  // Material gives its search dialog a role and no name.
  const name = () => document.querySelector(".md-search[role=dialog]")?.setAttribute("aria-label", "Search")
  // A link to a folded piece of evidence opens it.
  const unfold = () => {
    const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)))
    place && place.closest("details")?.setAttribute("open", "")
  }
  // Paper cannot be unfolded.
  const opened = []
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details:not([open])")) { fold.open = true; opened.push(fold) }
  })
  addEventListener("afterprint", () => { for (const fold of opened.splice(0)) fold.open = false })
  // The list of cards. Without this script all of them are shown, and the form is not.
  const choose = () => {
    const form = document.querySelector("form.mc-filters[hidden]")
    if (!form) return
    const numbers = (place) => (place.dataset.traits || "").split(" ")
    const before = (place, tag) => (!place || place.tagName === tag ? place : before(place.previousElementSibling, tag))
    const lists = [...document.querySelectorAll("ul.mc-cards")].map((list) => {
      const label = list.previousElementSibling?.matches("p.mc-verdict") ? list.previousElementSibling : null
      return {
        list,
        label,
        heading: before(list, "H2"),
        rows: [...list.children].map((row) => ({
          row,
          text: `${label ? label.textContent : ""} ${row.textContent}`.toLowerCase(),
          traits: new Set([...numbers(list), ...numbers(row)]),
        })),
      }
    })
    const said = form.querySelector("output")
    const total = lists.reduce((sum, { rows }) => sum + rows.length, 0)
    const fields = [...form.elements].filter((field) => field.name)
    const show = () => {
      const words = form.elements.Search.value.toLowerCase().split(/\s+/).filter(Boolean)
      const chosen = fields.filter((field) => field.tagName === "SELECT" && field.value).map((field) => field.value)
      let shown = 0
      for (const { heading } of lists) if (heading) heading.hidden = true
      for (const { list, label, heading, rows } of lists) {
        let here = 0
        for (const { row, text, traits } of rows) {
          row.hidden = !(words.every((word) => text.includes(word)) && chosen.every((trait) => traits.has(trait)))
          here += !row.hidden
        }
        list.hidden = here === 0
        if (label) label.hidden = list.hidden
        if (heading && here) heading.hidden = false
        shown += here
      }
      said.textContent = shown === total ? `${total} cards` : `${shown} of ${total} cards`
    }
    // The choice stands in the address, so that it can be sent and comes back with the page.
    const label = (field) => (field.tagName === "SELECT" ? field.selectedOptions[0].text : field.value)
    const keep = () => {
      const state = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.name, label(field)]))
      if (String(state) || location.hash.startsWith("#?")) history.replaceState(null, "", `#?${state}`)
    }
    const restore = () => {
      if (!location.hash.startsWith("#?")) return show()
      const state = new URLSearchParams(location.hash.slice(2))
      for (const field of fields) {
        const value = state.get(field.name) || ""
        const option = [...(field.options || [])].find((one) => value && one.text === value)
        field.value = field.tagName === "SELECT" ? (option ? option.value : "") : value
      }
      show()
    }
    form.addEventListener("input", () => { show(); keep() })
    form.addEventListener("reset", () => setTimeout(() => { show(); keep() }))
    form.addEventListener("submit", (event) => event.preventDefault())
    addEventListener("hashchange", restore)
    form.hidden = false
    restore()
  }
  // Material replaces the page's content on instant navigation and says so here; elsewhere the page is loaded once.
  const start = () => { draw(); choose() }
  if (typeof document$ !== "undefined") document$.subscribe(start)
  else if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start)
  else start()
  addEventListener("hashchange", unfold)
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => { unfold(); name() })
  else { unfold(); name() }
})()
