// A parent who has no mouse: from the front page to a receipt, a card blocked and opened again, and every other form, with Tab, Enter, Space
// and letters alone. Wherever the focus is, it can be seen.

import assert from "node:assert/strict";
import { CARD, MAIL, PASSWORD, PORTAL, arrived, main, page, saldo, step, walk } from "./steps.mjs";

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

/** Presses Enter on a link or a button and waits for the page it leads to. */
async function follow(name) {
  await tabTo(name);
  await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
}

/** Goes to a form by links, fills it in, sends it with its button, and reads what is answered. */
async function send({ by, fields, ticks = [], button, role, answer, at = /./ }) {
  for (const link of by) await follow(link);
  for (const [field, text] of fields) await type(field, text);
  for (const tick of ticks) await press(tick, "Space");
  await follow(button);
  await arrived();
  assert.match((await page.locator("main").getByRole(role).allInnerTexts()).join(" "), answer);
  assert.match(page.url(), at);
}

const bankAccount = [[/Kontohavers navn/, "Mor Jensen"], [/Registreringsnummer/, "1234"], [/Kontonummer/, "0012345678"]];
/** Forms of everybody, from the front page. */
const OUTSIDE = {
  "sign up": {
    by: [/^Opret$/],
    fields: [[/Elevens navn/, "Anna Holm"], [/Adresse/, "Testvej 1"], [/CPR-nummer/, "0101105555"], [/Postnummer/, "5000"], [/^By/, "Odense"],
      [/E-mail/, "ny@example.dk"], [/Kortnummer/, CARD]],
    button: /^Opret$/, role: "alert", answer: /passer ikke sammen/,
  },
  "a forgotten password": {
    by: [/Log på med E-mail/, /Glemt adgangskode/], fields: [[/E-mail/, "nobody@example.dk"]],
    button: /^Nulstil$/, role: "status", answer: /en mail på vej/,
  },
};
/** Forms of a parent, from the account's page. */
const INSIDE = {
  "a relation": {
    by: [/^Tilknytninger$/], fields: [[/CPR-nummer/, "0101105555"], [/Kortnummer/, CARD]],
    button: /^Tilføj$/, role: "alert", answer: /passer ikke sammen/,
  },
  "automatic top-up, up to the window": {
    by: [/^Indbetal$/, /^Auto-optank$/], fields: [[/Beløb/, "250"]], ticks: [/Jeg har læst og accepteret/],
    button: /^Næste$/, role: "heading", answer: /Gennemfør betaling/,
  },
  "a pay-out with a wrong password": {
    by: [/^Udbetal$/], fields: [...bankAccount, [/Beløb/, "30"], [/Din adgangskode/, "forkert adgangskode"]],
    button: /^Næste$/, role: "alert", answer: /Adgangskoden er forkert/,
  },
  "a transfer": {
    by: [/^Overfør$/], fields: [[/Beløb/, "25"]], button: /^Overfør$/, role: "status", answer: /Beløbet er overført/,
  },
  "user details": {
    by: [/^Brugerinfo$/], fields: [[/Tlf\./, "12345678"]], button: /^Gem$/, role: "status", answer: /Gemt/,
  },
  "a new mail address": {
    by: [/^Brugerinfo$/], fields: [[/Ny e-mail/, "ny@example.dk"], [/Din adgangskode/, PASSWORD]],
    button: /^Skift e-mail$/, role: "status", answer: /./,
  },
  "a card number that can be none": {
    by: [/^Brugerinfo$/], fields: [[/Kortnummer/, "12"]], button: /^Gem$/, role: "alert", answer: /Ugyldigt Kortnummer/,
  },
  "a new password": {
    // The first of that name is the one for a new mail address.
    by: [/^Brugerinfo$/], fields: [[/Din adgangskode/, ""], [/Din adgangskode/, PASSWORD], [/Ny adgangskode/, "en helt anden sang"],
      [/Gentag adgangskode/, "en helt anden sang"]],
    button: /^Gem adgangskode$/, role: "status", answer: /Gemt/,
  },
  "a month of the statement": {
    by: [/^Kontoudtog$/], fields: [], button: /^\d{4} [A-Z]/, role: "heading", answer: /\d{4} [A-Z]/, at: /maaned=\d{6}$/,
  },
  "support": {
    by: [/^Support$/], fields: [[/Emne/, "Kortet virker ikke"], [/Besked/, "Hvad gør jeg?"]],
    button: /^Send$/, role: "status", answer: /Din besked er sendt/,
  },
};

await walk(async () => {
  await step("the first Tab leads past the menu", async () => {
    await page.goto(PORTAL);
    await page.keyboard.press("Tab");
    assert.match((await focused()).name, /Gå til indholdet/);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    assert.match((await focused()).name, /^Opret$/);
  });

  for (const [name, form] of Object.entries(OUTSIDE)) {
    await step(name, async () => {
      await page.goto(PORTAL);
      await send(form);
    });
  }

  await step("log in", async () => {
    await page.goto(PORTAL);
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

  for (const [name, form] of Object.entries(INSIDE)) {
    await step(name, async () => {
      await page.goto(`${PORTAL}/konto/1`);
      await send(form);
    });
  }

  await step("a picture", async () => {
    await page.goto(`${PORTAL}/konto/1/bruger`);
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), press(/^Billede/, "Enter")]);
    await chooser.setFiles("node_modules/playwright-core/lib/server/chromium/appIcon.png");
    await follow(/^Gem billede$/);
    await page.getByRole("img", { name: /Pupil 1/ }).waitFor();
  });

  await step("what was typed is where it was meant to be", async () => {
    await page.goto(`${PORTAL}/konto/1/bruger`);
    assert.equal(await page.getByLabel("Tlf.").inputValue(), "12345678");
    await page.goto(`${PORTAL}/konto/2`);
    assert.equal(await saldo(), "125,00 kr.");
    await page.goto(`${PORTAL}/konto/1`);
    assert.equal(await saldo(), "375,00 kr.");
  });

  await step("switch to the other account, and leave", async () => {
    await press(/Pupil 1/);
    await press(/Pupil 2/);
    await page.getByRole("heading", { name: /Konto – Pupil 2/ }).waitFor();
    await press(/Log ud/);
    await page.getByRole("link", { name: "Opret" }).waitFor();
  });
});
