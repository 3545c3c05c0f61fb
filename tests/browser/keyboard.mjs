// A parent who has no mouse: from the front page to a receipt, and a card blocked and opened again, with Tab, Enter, Space and letters alone.
// Wherever the focus is, it can be seen.

import assert from "node:assert/strict";
import { MAIL, PASSWORD, PORTAL, main, page, saldo, step, walk } from "./steps.mjs";

/** What has the focus: what it is called, and whether one can see that it has it. */
const focused = () => page.evaluate(`(() => {
  const at = document.activeElement;
  const style = getComputedStyle(at);
  return {
    name: (at.labels?.[0]?.innerText || at.getAttribute("aria-label") || at.innerText || at.value || "").trim(),
    seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
  };
})()`);

/** Presses Tab until what is called so has the focus. */
async function tabTo(name) {
  for (let presses = 0; presses < 60; presses++) {
    await page.keyboard.press("Tab");
    const at = await focused();
    if (at.name) assert.ok(at.seen, `the focus on "${at.name}" at ${page.url()} cannot be seen`);
    if (name.test(at.name)) return;
  }
  throw new Error(`nothing called ${name} is reached by Tab at ${page.url()}`);
}

async function press(name, key = "Enter") {
  await tabTo(name);
  await page.keyboard.press(key);
}

async function type(name, text) {
  await tabTo(name);
  await page.keyboard.type(text);
}

await walk(async () => {
  await step("the first Tab leads past the menu", async () => {
    await page.goto(PORTAL);
    await page.keyboard.press("Tab");
    assert.match((await focused()).name, /Gå til indholdet/);
    await page.keyboard.press("Enter");
  });

  await step("log in", async () => {
    await press(/Log på med E-mail/);
    await page.getByLabel("E-mail").waitFor();
    await type(/E-mail/, MAIL);
    await type(/Adgangskode/, PASSWORD);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: /Konto –/ }).waitFor();
  });

  await step("pay in, through the provider's window, up to the receipt", async () => {
    await press(/^Indbetal$/);
    await page.getByRole("heading", { name: /Indbetal/ }).first().waitFor();
    await type(/Beløb/, "300");
    await press(/Jeg har læst og accepteret/, "Space");
    await press(/^Næste$/);
    await page.getByLabel("Kortholder").waitFor();
    await type(/Kortholder/, "Mor Jensen");
    await type(/Kortnummer/, "4111111111111111");
    await type(/Udløbsdato/, "12/39");
    await type(/Kontrolcifre/, "123");
    await page.keyboard.press("Enter");
    await page.getByText("Betalingen er gennemført.").waitFor();
    await press(/Tilbage til butikken/);
    await page.getByText("Pengene er på kortet nu").waitFor();
    assert.equal(await saldo(), "400,00 kr.");
  });

  await step("block the card and open it again", async () => {
    await press(/^Konti$/);
    await page.getByRole("button", { name: "Spær kort" }).waitFor();
    await press(/Spær kort/, "Space");
    await page.getByRole("button", { name: "Aktiver kort" }).waitFor();
    assert.match(await main(), /Spærret/);
    await press(/Aktiver kort/);
    await page.getByRole("button", { name: "Spær kort" }).waitFor();
  });

  await step("switch to the other account, and leave", async () => {
    await press(/Pupil 1/);
    await press(/Pupil 2/);
    await page.getByRole("heading", { name: /Konto – Pupil 2/ }).waitFor();
    await press(/Log ud/);
    await page.getByRole("link", { name: "Opret" }).waitFor();
  });
});
