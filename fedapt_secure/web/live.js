// Keeps <main> as it would be after loading the page again. Everything works without it: reload the page.
"use strict";
(function () {
  const main = document.querySelector("main[data-live]");
  if (!main || !window.EventSource) return;
  const state = document.getElementById("connection");
  const source = new EventSource(main.dataset.live);
  source.addEventListener("page", function (event) {
    // A form that somebody is filling in stays; so does what is open.
    const typed = main.querySelector("input:focus, select:focus, textarea:focus");
    const filled = Array.from(main.querySelectorAll("form input[type=text]")).some(function (one) { return one.value; });
    if (typed || filled) return;
    const open = Array.from(main.querySelectorAll("details[open][id]")).map(function (one) { return one.id; });
    main.innerHTML = event.data;
    for (const id of open) { const one = document.getElementById(id); if (one) one.open = true; }
  });
  source.addEventListener("open", function () { state.textContent = "as it is now"; });
  source.addEventListener("error", function () { state.textContent = "as it was before the connection was lost"; });
})();
