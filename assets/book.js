// Mends of the theme for readers who use a keyboard or a screen reader.
"use strict";

function mend() {
  // A button's name must hold the words that are seen on it, which here are its own text.
  document.querySelectorAll(".search-button-field[aria-label]").forEach((button) => button.removeAttribute("aria-label"));

  // The arrow that opens a chapter's pages in the sidebar has no text.
  document.querySelectorAll(".bd-sidebar-primary details > summary").forEach((arrow) => {
    const chapter = arrow.closest("li").querySelector("a").textContent.trim();
    arrow.setAttribute("aria-label", `Pages of ${chapter}`);
  });

  // The entries of a bibliography have a role that no list may hold, and that is no longer in use.
  document.querySelectorAll(".citation-list, [role=doc-biblioentry]").forEach((entry) => entry.removeAttribute("role"));

  // The title of the book stands in the sidebar, outside all landmarks.
  const sidebar = document.querySelector(".bd-sidebar-primary");
  sidebar?.setAttribute("role", "complementary");
  sidebar?.setAttribute("aria-label", "The book");
}

// What scrolls must be reachable with the keyboard.
function reachScrolling() {
  const wide = "pre, mjx-container[display], .pst-scrollable-table-container, .cell_output .text_html";
  document.querySelectorAll(wide).forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  });
}

window.addEventListener("DOMContentLoaded", mend);
window.addEventListener("load", () => {
  // MathJax is there only on pages with formulas, and its formulas are wide only once they are drawn.
  Promise.resolve(window.MathJax?.startup?.promise).then(reachScrolling);
  window.addEventListener("resize", reachScrolling);
});
