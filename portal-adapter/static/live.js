// Keeps an open page up to date: when the server says that something has changed, the page is fetched again and its live part
// put in the place of the old one. Without this script the page is as good after a reload.
(() => {
  const place = document.getElementById("live");
  const from = place?.dataset.live;
  if (!from || !("EventSource" in window)) return;
  const stops = () => [...place.querySelectorAll("a, button, [tabindex]")];
  const events = new EventSource(from);
  events.onmessage = async () => {
    const answer = await fetch(location.href, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return events.close();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (!fresh) return;
    // Whoever goes by keyboard stays where they were; whoever listens hears the balance.
    const stop = stops().indexOf(document.activeElement);
    place.replaceChildren(...fresh.childNodes);
    if (stop >= 0) stops()[stop]?.focus({ preventScroll: true });
    const balance = document.getElementById("saldo");
    const now = `${balance.previousElementSibling.textContent} ${balance.textContent}`;
    const heard = document.getElementById("heard");
    if (heard.textContent !== now) heard.textContent = now;
  };
})();
