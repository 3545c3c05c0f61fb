// Walks the portal as a parent would, in Debian's Chromium: front page, log in, statement, paying in through the window, a
// refused card, the question before paying twice, blocking the card and seeing a till refuse it; then English, without
// JavaScript, and what strangers are answered. Run by tests/e2e/portal.rs, which sets the variables below.
// With PICTURES=<folder> it keeps screenshots there.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { CARD, MAIL, PASSWORD, PORTAL, accessible, arrived, browser, page, payWith as fillWindow, picture, saldo, sell, step, walk } from "./steps.mjs";

async function logIn() {
  await page.goto(`${PORTAL}/log-paa`);
  await page.getByLabel("E-mail").fill(MAIL);
  await page.getByLabel(/Adgangskode|Password/).fill(PASSWORD);
  await page.getByRole("button", { name: /Log ?in/ }).click();
  await page.getByRole("heading", { level: 1 }).waitFor();
}

async function payWith(number) {
  await fillWindow(number);
  await page.getByRole("heading", { name: "Kvittering" }).waitFor();
}

async function fillPayIn(kroner, consent = true) {
  await page.getByRole("navigation", { name: "Menu" }).getByRole("link", { name: "Indbetal" }).click();
  await page.getByLabel(/Beløb der ønskes/).fill(kroner);
  if (consent) await page.getByLabel(/Jeg har læst/).check();
  await page.getByRole("button", { name: "Næste" }).click();
}

await walk(async () => {
  await step("the front page leads to the log in, a wrong password is refused", async () => {
    await page.goto(PORTAL);
    await accessible();
    await page.getByRole("link", { name: "Log på med E-mail" }).click();
    await accessible();
    await page.getByLabel("E-mail").fill(MAIL);
    await page.getByLabel("Adgangskode").fill("forkert adgangskode");
    await page.getByRole("button", { name: "Login" }).click();
    await page.getByRole("alert").waitFor();
    assert.equal(await page.getByLabel("E-mail").inputValue(), MAIL, "what was typed is kept");
    assert.equal(await page.getByLabel("Adgangskode").inputValue(), "");
  });

  await step("logged in, the account, its masked CPR number and its card are shown", async () => {
    await logIn();
    assert.match(await page.getByRole("heading", { level: 1 }).innerText(), /^Konto – Pupil 1$/);
    const text = await page.locator("main").innerText();
    assert.match(text, /\d{6}-XXXX/);
    assert.doesNotMatch(text, /\d{6}-?[5-9]\d{3}/, "the last four digits of a CPR number are on the page");
    assert.match(text, new RegExp(CARD));
    assert.match(text, /Aktiv/);
    assert.equal(await saldo(), "100,00 kr.");
    await accessible();
  });

  await step("a sale at a till is on the statement", async () => {
    assert.match(sell("25,50"), /Godkendt\. Ny saldo 74,50 kr\./);
    await page.getByRole("navigation", { name: "Menu" }).getByRole("link", { name: "Kontoudtog" }).click();
    await arrived();
    const rows = await page.locator("tbody tr").allInnerTexts();
    assert.equal(rows.length, 2);
    assert.match(rows[0], /Køb, canteen-1, Sct\. Ib\s+-25,50 kr\.\s+74,50 kr\./);
    assert.match(rows[1], /Overført saldo\s+100,00 kr\.\s+100,00 kr\./);
    await accessible();
  });

  await step("paying in: mistakes are named and what was typed is kept", async () => {
    await fillPayIn("199", false);
    await arrived();
    assert.deepEqual(await page.getByRole("alert").allInnerTexts(), [
      "Beløbet er for lille. Det mindste er 200,00 kr.",
      "Sæt kryds ved betalingsbetingelserne for at gå videre."]);
    assert.equal(await page.getByLabel(/Beløb der ønskes/).inputValue(), "199");
    await accessible();
  });

  await step("paying in through the window: the balance rises, also with a second click and a reload", async () => {
    // The same form three times at once, as by a double click and a second tab: one order, one window.
    await page.getByRole("navigation", { name: "Menu" }).getByRole("link", { name: "Indbetal" }).click();
    const hidden = (name) => page.locator(`input[name=${name}]`).last().inputValue();
    const form = { token: await hidden("token"), form: await hidden("form"), amount: "300", consent: "yes", receipt: MAIL };
    const answers = await Promise.all([1, 2, 3].map(() =>
      page.request.post(`${PORTAL}/konto/1/indbetal`, { form, headers: { "sec-fetch-site": "same-origin" }, maxRedirects: 0 })));
    const windows = new Set(answers.map((answer) => answer.headers().location));
    assert.equal(windows.size, 1, [...windows].join(" "));
    await page.goto([...windows][0]);
    await page.getByRole("heading", { name: "Gennemfør betaling" }).waitFor();
    assert.notEqual(new URL(page.url()).origin, new URL(PORTAL).origin, "the window has an address of its own");
    await accessible();
    await picture("payment-window");
    const windowUrl = page.url();
    await payWith("4111 1111 1111 1111");
    await page.goto(windowUrl);
    await page.getByRole("heading", { name: "Kvittering" }).waitFor();
    await page.getByRole("link", { name: "Tilbage til butikken" }).click();
    assert.match(await page.getByRole("status").innerText(), /Pengene er på kortet nu/);
    assert.equal(await saldo(), "374,50 kr.");
    await accessible();
    await picture("receipt");
    await page.reload();
    assert.equal(await saldo(), "374,50 kr.", "a reload pays again");
    await page.goBack();
    await page.goForward();
    assert.equal(await saldo(), "374,50 kr.");
    assert.match(sell("300"), /Ny saldo 74,50 kr\./, "the next scan sees the money");
  });

  await step("the same amount again is asked about, and a refused and an expired card cost nothing", async () => {
    await fillPayIn("300");
    assert.match(await page.getByRole("alert").innerText(), /Du indbetalte 300,00 kr\. kl\. \d\d\.\d\d/);
    await accessible();
    await page.getByRole("button", { name: "Ja, indbetal igen" }).click();
    await payWith("4000 0000 0000 0002");
    await page.getByRole("link", { name: "Tilbage til butikken" }).click();
    assert.match(await page.getByRole("status").innerText(), /afvist af banken/);
    assert.equal(await saldo(), "74,50 kr.");
    await page.getByRole("link", { name: "Prøv igen" }).click();
    await fillPayIn("400");
    await payWith("4000 0000 0000 0069");
    await page.getByRole("link", { name: "Tilbage til butikken" }).click();
    assert.match(await page.getByRole("status").innerText(), /udløbet/);
    await accessible();
    await page.getByRole("link", { name: "Prøv igen" }).click();
    await fillPayIn("400");
    await page.getByRole("button", { name: "Afbryd" }).click();
    await page.getByRole("link", { name: "Tilbage til butikken" }).click();
    assert.match(await page.getByRole("status").innerText(), /afbrød/);
    assert.equal(await saldo(), "74,50 kr.");
  });

  await step("blocking holds at the next sale, activating lifts it", async () => {
    await page.getByRole("navigation", { name: "Menu" }).getByRole("link", { name: "Konti" }).click();
    await page.getByRole("button", { name: "Spær kort" }).click();
    await page.getByRole("button", { name: "Aktiver kort" }).waitFor();
    assert.equal(await page.locator("#status").innerText(), "Spærret");
    await accessible();
    await picture("blocked");
    assert.match(sell("1"), /Kortet er spærret/);
    await page.getByRole("button", { name: "Aktiver kort" }).click();
    await page.getByRole("button", { name: "Spær kort" }).waitFor();
    assert.match(sell("1"), /Ny saldo 73,50 kr\./);
    await page.reload();
    await picture("account");
  });

  await step("the switcher leads to the other child, and to nobody else's", async () => {
    await page.locator("summary").click();
    await accessible();
    await page.getByRole("link", { name: "Pupil 2" }).click();
    assert.match(await page.getByRole("heading", { level: 1 }).innerText(), /Pupil 2/);
    for (const til of ["//evil.example", "/%09/evil.example", "/%5Cevil.example", "https://evil.example"]) {
      const answer = await page.request.get(`${PORTAL}/sprog/da?til=${til}`, { maxRedirects: 0 });
      assert.equal(answer.headers().location, "/", `${til} leads elsewhere`);
    }
    for (const path of ["/konto/3", "/konto/3/kontoudtog", "/konto/3/indbetal", "/ordre/999", "/konto/x", "/nowhere"]) {
      const answer = await page.goto(PORTAL + path);
      assert.ok([400, 404].includes(answer.status()), `${path} is ${answer.status()}`);
      assert.doesNotMatch(await page.locator("body").innerText(), /Pupil 3/);
    }
  });

  await step("a form without its token, or from another site, does nothing", async () => {
    await page.goto(`${PORTAL}/konto/1`);
    const token = await page.locator("input[name=token]").first().inputValue();
    for (const options of [{ form: {} }, { form: { token: "x" } }, { form: { token }, headers: { "sec-fetch-site": "cross-site" } }]) {
      const answer = await page.request.post(`${PORTAL}/konto/1/spaer`, options);
      assert.equal(answer.status(), 403);
    }
    const forged = await page.request.post(`${PORTAL}/betaling/tilbagekald`, { data: "x", headers: { "x-signature": "y" } });
    assert.equal(forged.status(), 403);
    await page.reload();
    assert.equal(await page.locator("#status").innerText(), "Aktiv");
  });

  await step("English is complete, dark and narrow work", async () => {
    await page.getByRole("link", { name: "English" }).click();
    assert.match(await page.getByRole("heading", { level: 1 }).innerText(), /^Account – Pupil 1$/);
    assert.equal(await saldo(), "73.50 kr.");
    for (const path of ["/konto/1", "/konto/1/kontoudtog", "/konto/1/indbetal", "/betingelser"]) {
      await page.goto(PORTAL + path);
      await accessible();
      assert.doesNotMatch(await page.locator("body").innerText(), /[æøåÆØÅ](?!ret)/, `Danish on ${path}`);
    }
    await page.goto(`${PORTAL}/konto/1/kontoudtog`);
    const grounds = [];
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      grounds.push(await page.evaluate("getComputedStyle(document.body).backgroundColor"));
      for (const width of [1000, 360]) {
        await page.setViewportSize({ width, height: 720 });
        await picture(`statement-${colorScheme}-${width}`, { colorScheme });
      }
    }
    assert.notEqual(grounds[0], grounds[1], "dark is as light as light");
    await page.setViewportSize({ width: 1000, height: 720 });
    await page.emulateMedia({ colorScheme: null });
    await page.getByRole("link", { name: "Dansk" }).click();
  });

  await step("everything works without JavaScript", async () => {
    const plain = await browser.browser()?.newContext({ javaScriptEnabled: false })
      ?? await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-background-networking"] })
        .then((other) => other.newContext({ javaScriptEnabled: false }));
    const quiet = await plain.newPage();
    await quiet.goto(`${PORTAL}/log-paa`);
    await quiet.getByLabel("E-mail").fill(MAIL);
    await quiet.getByLabel("Adgangskode").fill(PASSWORD);
    await quiet.getByRole("button", { name: "Login" }).click();
    await quiet.getByRole("link", { name: "Indbetal" }).first().click();
    await quiet.getByLabel(/Beløb der ønskes/).fill("250");
    await quiet.getByLabel(/Jeg har læst/).check();
    await quiet.getByRole("button", { name: "Næste" }).click();
    await quiet.getByRole("heading", { name: "Gennemfør betaling" }).waitFor();
    await plain.close();
  });

  await step("logged out, nothing is shown any more", async () => {
    await page.goto(`${PORTAL}/konto/1`);
    await page.getByRole("button", { name: "Log ud" }).click();
    await page.goto(`${PORTAL}/konto/1`);
    assert.equal(new URL(page.url()).pathname, "/log-paa");
    await page.goBack();
    assert.doesNotMatch(await page.locator("body").innerText(), /Saldo/);
  });

});
