"use strict";
// Reading: definitions beside their terms, and the section one is in.
(() => {
  const meaning = Object.assign(document.createElement("div"), { id: "meaning" });
  meaning.setAttribute("popover", "auto");
  meaning.setAttribute("role", "note");
  document.body.append(meaning);
  document.addEventListener("click", (event) => {
    const mark = event.target.closest?.("a.what");
    const term = mark && document.getElementById(mark.hash.slice(1));
    if (!term || !meaning.showPopover) return;
    event.preventDefault();
    event.stopPropagation();
    const name = Object.assign(document.createElement("b"), { textContent: term.textContent });
    meaning.replaceChildren(name, term.nextElementSibling.textContent);
    meaning.showPopover();
    const at = mark.getBoundingClientRect(), own = meaning.getBoundingClientRect();
    const below = at.bottom + 6 + own.height < innerHeight;
    meaning.style.left = `${Math.max(8, Math.min(at.left, innerWidth - own.width - 8))}px`;
    meaning.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - 6 - own.height)}px`;
  });

  const links = new Map([...document.querySelectorAll("header nav a")].map((link) => [link.hash.slice(1), link]));
  const places = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let waiting = false;
  const mark = () => {
    waiting = false;
    const line = document.querySelector("header").offsetHeight + 40;
    const end = innerHeight + scrollY >= document.documentElement.scrollHeight - 4;
    const current = end ? places.at(-1) : places.findLast((place) => place.getBoundingClientRect().top <= line) ?? places[0];
    for (const [id, link] of links) {
      if (id === current?.id) {
        if (link.hasAttribute("aria-current")) continue;
        link.setAttribute("aria-current", "location");
        const bar = link.parentElement;
        bar.scrollLeft = link.offsetLeft - bar.offsetLeft - bar.clientWidth / 2 + link.offsetWidth / 2;
      } else link.removeAttribute("aria-current");
    }
  };
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(mark); } };
  if (places.length) { addEventListener("scroll", later, { passive: true }); addEventListener("resize", later); mark(); }
})();
