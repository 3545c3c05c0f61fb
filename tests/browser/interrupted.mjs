// What a parent meets when a session ends in the middle of a form, and with two tabs: what was typed is kept, nothing is paid twice, nothing
// is lost. Run by tests/e2e/portal.rs.

import assert from "node:assert/strict";
import { MAIL, PASSWORD, PORTAL, accessible, browser, mailTo, main, page, payWith, picture, saldo, sell, step, walk } from "./steps.mjs";

/** Log ins with one address are bounded; halfway the other parent goes on. */
let mail = MAIL;

async function fillLogIn(tab, password = PASSWORD) {
  await tab.getByLabel("E-mail").fill(mail);
  await tab.getByLabel("Adgangskode").fill(password);
  await tab.getByRole("button", { name: "Login" }).click();
}

async function logIn(tab) {
  await tab.goto(`${PORTAL}/log-paa`);
  await fillLogIn(tab);
  await tab.getByRole("heading", { level: 1, name: /Konto/ }).waitFor();
}

const other = await browser.newPage();

/** The session ends, and with it whatever the first tab is in the middle of. */
async function logOutInTheOtherTab() {
  await other.goto(`${PORTAL}/konto/1`);
  await other.getByRole("button", { name: "Log ud" }).click();
  await other.getByRole("link", { name: "Log på med E-mail" }).waitFor();
}

async function payOut(amount, password = PASSWORD) {
  await page.getByLabel("Kontohavers navn").fill("Mor Jensen");
  await page.getByLabel("Registreringsnummer").fill("1234");
  await page.getByLabel("Kontonummer").fill("0012345678");
  await page.getByLabel("Beløb i kroner").fill(amount);
  await page.getByLabel("Din adgangskode").fill(password);
  await page.getByRole("button", { name: "Næste" }).click();
}

await walk(async () => {
  await step("a session that ends in the middle of a pay-out: what was typed is kept, also through a wrong password", async () => {
    await logIn(page);
    await page.goto(`${PORTAL}/konto/1/udbetal`);
    await logOutInTheOtherTab();
    await payOut("30");
    assert.match(await page.getByRole("alert").innerText(), /blevet logget ud.*Der er ikke sket noget/);
    await accessible();
    for (const secret of [PASSWORD, "0012345678"]) assert.ok(!(await page.content()).includes(secret), `${secret} is carried along`);
    await fillLogIn(page, "forkert adgangskode");
    await page.getByRole("alert").waitFor();
    await fillLogIn(page);
    await page.getByRole("heading", { name: "Udbetal" }).waitFor();
    const shown = await main();
    for (const typed of ["Mor Jensen", "30"]) assert.ok(shown.includes(typed), `${typed} is lost: ${shown}`);
    await accessible();
    await picture("resume");
    await page.getByRole("button", { name: "Send nu" }).click();
    // Password and bank account are asked for again, and the rest stands there.
    await page.getByRole("alert").first().waitFor();
    assert.equal(await page.getByLabel("Beløb i kroner").inputValue(), "30");
    await page.getByLabel("Registreringsnummer").fill("1234");
    await page.getByLabel("Kontonummer").fill("0012345678");
    await page.getByLabel("Din adgangskode").fill(PASSWORD);
    await page.getByRole("button", { name: "Næste" }).click();
    await page.getByRole("cell", { name: "Anmodet" }).waitFor();
    assert.equal(await saldo(), "70,00 kr.");
    await page.reload();
    assert.equal(await page.getByRole("cell", { name: "Anmodet" }).count(), 1, "paid out twice");
    assert.equal(await saldo(), "70,00 kr.");
  });

  await step("the same transfer, sent again after the log in it was interrupted by, is made once", async () => {
    await page.goto(`${PORTAL}/konto/1/overfoer`);
    const key = await page.locator("main input[name=form]").inputValue();
    await logOutInTheOtherTab();
    await page.getByLabel("Beløb i kroner").fill("20");
    await page.getByRole("button", { name: "Overfør" }).click();
    await fillLogIn(page);
    assert.equal(await page.locator("main input[name=form]").inputValue(), key, "it would count as another");
    await page.getByRole("button", { name: "Send nu" }).click();
    await page.getByRole("status").waitFor();
    assert.equal(await saldo(), "50,00 kr.");
    await page.reload();
    assert.equal(await saldo(), "50,00 kr.", "moved twice");
    // Whoever else manages the account is told.
    const letter = await mailTo("far@example.dk", /overført penge/);
    assert.match(letter.text, /20,00 kr\.[\s\S]*mor@example\.dk/);
  });

  await step("a card can be blocked although the session has ended", async () => {
    await page.goto(`${PORTAL}/konto/1`);
    await logOutInTheOtherTab();
    await page.getByRole("button", { name: "Spær kort" }).click();
    await fillLogIn(page);
    await page.getByRole("heading", { name: "Spær kort" }).waitFor();
    assert.match(sell(1), /Ny saldo 49,00 kr\./, "blocked before anybody has said so");
    await page.getByRole("button", { name: "Send nu" }).click();
    await page.getByRole("button", { name: "Aktiver kort" }).waitFor();
    assert.match(sell(1), /Kortet er spærret/);
    await page.getByRole("button", { name: "Aktiver kort" }).click();
    await page.getByRole("button", { name: "Spær kort" }).waitFor();
  });

  await step("a log in in the other tab makes this tab's forms old: they are shown and sent, not lost", async () => {
    await page.goto(`${PORTAL}/konto/1/overfoer`);
    await logOutInTheOtherTab();
    await logIn(other);
    await page.getByLabel("Beløb i kroner").fill("9");
    await page.getByRole("button", { name: "Overfør" }).click();
    assert.match(await main(), /Send nu[^]*Nej, lad være/);
    assert.match(await other.locator("#saldo").innerText(), /49,00/, "done before anybody has said so");
    await page.getByRole("button", { name: "Send nu" }).click();
    await page.getByRole("status").waitFor();
    assert.equal(await saldo(), "40,00 kr.");
  });

  await step("a page that needs a log in is shown after it", async () => {
    mail = "far@example.dk";
    await logOutInTheOtherTab();
    await page.goto(`${PORTAL}/konto/2/kontoudtog`);
    await fillLogIn(page);
    await page.waitForURL(`${PORTAL}/konto/2/kontoudtog`);
    await logOutInTheOtherTab();
    await page.goto(`${PORTAL}/log-paa?til=/konto/3`);
    await fillLogIn(page);
    await page.waitForURL(`${PORTAL}/konto/1`);
    await logOutInTheOtherTab();
    await page.goto(`${PORTAL}/log-paa?til=//evil.example`);
    await fillLogIn(page);
    await page.waitForURL(`${PORTAL}/konto/1`);
  });

  await step("one payment window in two tabs takes the money once; the second tab is asked before the same amount is paid again", async () => {
    const fill = async (tab) => {
      await tab.goto(`${PORTAL}/konto/2/indbetal`);
      await tab.getByLabel(/Beløb der ønskes/).fill("300");
      await tab.getByLabel(/Jeg har læst/).check();
    };
    await fill(page);
    await fill(other);
    await page.getByRole("button", { name: "Næste" }).click();
    await page.getByRole("heading", { name: "Gennemfør betaling" }).waitFor();
    const third = await browser.newPage();
    await third.goto(page.url());
    await third.getByRole("heading", { name: "Gennemfør betaling" }).waitFor();
    await payWith("4111 1111 1111 1111");
    await page.getByRole("heading", { name: "Kvittering" }).waitFor();
    await third.getByLabel("Kortholder").fill("Mor Jensen");
    await third.getByLabel("Kortnummer").fill("4111 1111 1111 1111");
    await third.getByLabel("Udløbsdato").fill("12/39");
    await third.getByLabel("Kontrolcifre").fill("123");
    await third.getByRole("button", { name: "Gennemfør betaling" }).click();
    await third.getByRole("heading", { name: "Kvittering" }).waitFor();
    await third.close();
    // The parent was logged out while the window was open, and comes back from it.
    await logOutInTheOtherTab();
    await page.getByRole("link", { name: "Tilbage til butikken" }).click();
    await fillLogIn(page);
    assert.match(await page.getByRole("status").innerText(), /Pengene er på kortet nu/);
    assert.equal(await saldo(), "429,00 kr.");
    await fill(other);
    await other.getByRole("button", { name: "Næste" }).click();
    assert.match(await other.getByRole("alert").innerText(), /Du indbetalte 300,00 kr\./);
    await page.goto(`${PORTAL}/konto/2`);
    assert.equal(await saldo(), "429,00 kr.");
  });
});
