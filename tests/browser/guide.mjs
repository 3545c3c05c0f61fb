// The quick guide, section by section, as a parent walks it: sign-up with the code from the mail, a forgotten password, a second child, paying
// in, automatic top-up, pay-out, transfer, statement, details, a lost card, a new card, support. In Danish or, with LANGUAGE=en, in
// English; with JAVASCRIPT=off without any script. Mails are read from the maildir.

import assert from "node:assert/strict";
import { readPdf } from "./pdf.mjs";
import { CARD, atTheTill, MAILDIR, PASSWORD, PORTAL, JAVASCRIPT, accessible, linkIn, mailTo, main, page, payWith, picture, saldo, sell, soon, step, walk } from "./steps.mjs";

const { CPR, CARD_TWO, CPR_TWO, CARD_THREE, CPR_THREE, CARD_NEW, MONEY } = process.env;
const english = process.env.LANGUAGE === "en";
const say = (danish, inEnglish) => (english ? inEnglish : danish);
const button = (danish, inEnglish) => page.getByRole("button", { name: say(danish, inEnglish) });
const link = (danish, inEnglish) => page.getByRole("link", { name: say(danish, inEnglish), exact: true });
const menu = (danish, inEnglish) => page.getByRole("navigation", { name: "Menu" }).getByRole("link", { name: say(danish, inEnglish), exact: true });
const field = (danish, inEnglish) => page.getByLabel(say(danish, inEnglish), { exact: false });
const kroner = (text) => english ? text.replace(/[.,]/g, (c) => (c === "." ? "," : ".")) : text;
const showsKroner = (text) => `${kroner(text)} kr.`;
const mail = `mor-${english ? "en" : "da"}-${JAVASCRIPT ?? "on"}@example.dk`;
const first = "grøn cykel under broen";
const second = "syv sild i en spand";

async function back() {
  await page.getByRole("link", { name: "Tilbage til butikken" }).click();
}

async function logIn(password) {
  await page.goto(`${PORTAL}/log-paa`);
  await page.getByLabel("E-mail").fill(mail);
  await page.getByLabel(say("Adgangskode", "Password")).fill(password);
  await button("Login", "Log in").click();
}

await walk(async () => {
  await step("A. the front page offers to sign up and to log in", async () => {
    await page.goto(PORTAL);
    if (english) await page.getByRole("link", { name: "English" }).click();
    await link("Log på med E-mail", "Log in with e-mail").waitFor();
    await accessible();
    await picture("front");
    await link("Opret", "Sign up").click();
    await accessible();
    await picture("sign-up", { fullPage: true });
  });

  await step("pages for everybody, and the one that is not there, can be read by everybody", async () => {
    for (const path of ["/betingelser", "/support", "/log-paa", "/glemt", "/nowhere"]) {
      await page.goto(`${PORTAL}${path}`);
      await accessible();
    }
    await page.goto(`${PORTAL}/opret`);
  });

  await step("A. mistakes are named at their fields, and what was typed is kept", async () => {
    await field("Elevens navn", "The pupil's name").fill("Anna Holm");
    await field("CPR-nummer", "CPR number").fill("3102105555");
    await field("E-mail", "E-mail").fill("mor@example");
    await field("Kortnummer", "Card number").fill("123");
    await button("Opret", "Sign up").click();
    const alerts = await page.getByRole("alert").allInnerTexts();
    assert.equal(alerts.length, 6, alerts.join("\n"));
    assert.ok(alerts.some((alert) => alert.includes(say("Ugyldigt Kortnummer", "Invalid card number"))), alerts.join("\n"));
    assert.ok(alerts.some((alert) => alert.includes(say("ikke en dato", "no date"))), alerts.join("\n"));
    assert.equal(await field("Elevens navn", "The pupil's name").inputValue(), "Anna Holm");
    await accessible();
    await picture("sign-up-mistakes", { fullPage: true });
  });

  await step("A. a CPR number that does not go with the card has the one answer for everything", async () => {
    await field("Adresse", "Address").fill("Testvej 1");
    await field("CPR-nummer", "CPR number").fill(CPR_TWO);
    await field("Postnummer", "Postal code").fill("5000");
    await field("By", "Town").fill("Odense");
    await field("E-mail", "E-mail").fill(mail);
    await field("Kortnummer", "Card number").fill(CARD.toLowerCase());
    await button("Opret", "Sign up").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /do not match, the card is unknown/ : /passer ikke sammen, kortet er ukendt/);
    await field("CPR-nummer", "CPR number").fill(CPR);
    await button("Opret", "Sign up").click();
    await page.getByRole("heading", { name: say("Aktivering", "Activation") }).waitFor();
    await accessible();
    await picture("activation");
  });

  await step("A. the activation can be taken up again from the mail; a wrong code and a weak password are refused", async () => {
    const letter = await mailTo(mail, english ? /activation code/ : /aktiveringskode/);
    const code = letter.text.match(/^\s+(\d{6})\s*$/m)[1];
    await page.goto("about:blank");
    await page.goto(linkIn(letter));
    const code_field = field("Aktiveringskode", "Activation code");
    const passwords = async (password) => {
      await page.getByLabel(say("Ny adgangskode", "New password")).fill(password);
      await page.getByLabel(say("Gentag adgangskode", "Repeat the password")).fill(password);
    };
    await code_field.fill(code);
    await passwords("password12");
    await button("Aktiver", "Activate").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /too easy to guess/ : /for let at gætte/);
    await code_field.fill(code === "000000" ? "000001" : "000000");
    await passwords(first);
    await button("Aktiver", "Activate").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /does not fit/ : /passer ikke/);
    await accessible();
    await code_field.fill(code);
    await passwords(first);
    await button("Aktiver", "Activate").click();
    assert.match(await page.getByRole("status").innerText(), english ? /Account made/ : /Konto oprettet/);
    assert.match(await main(), new RegExp(`${CPR.slice(0, 6)}-XXXX`));
    await accessible();
  });

  await step("A. a second sign-up with the card, and one with the mail address, get nowhere and learn nothing", async () => {
    await page.goto(`${PORTAL}/opret`);
    const fill = async (cpr, card, address) => {
      for (const [danish, inEnglish, value] of [["Elevens navn", "The pupil's name", "X"], ["Adresse", "Address", "X"], ["CPR-nummer", "CPR number", cpr],
        ["Postnummer", "Postal code", "5000"], ["By", "Town", "X"], ["E-mail", "E-mail", address], ["Kortnummer", "Card number", card]]) {
        await field(danish, inEnglish).fill(value);
      }
      await button("Opret", "Sign up").click();
    };
    await fill(CPR, CARD, `other-${mail}`);
    await page.getByRole("alert").waitFor();
    await fill(CPR_TWO, CARD_TWO, mail);
    await page.getByRole("heading", { name: say("Aktivering", "Activation") }).waitFor();
    const letter = await mailTo(mail, english ? /have an account already/ : /allerede en konto/);
    assert.doesNotMatch(letter.text, /\d{6}\s*$/m);
  });

  await step("K. a forgotten password is chosen anew from the mail, and every session ends", async () => {
    await page.goto(`${PORTAL}/log-paa`);
    await link("Glemt adgangskode", "Forgotten password").click();
    await page.getByLabel("E-mail").fill("nobody@example.dk");
    await button("Nulstil", "Reset").click();
    const unknown = await main();
    await page.goto(`${PORTAL}/glemt`);
    await page.getByLabel("E-mail").fill(mail);
    await button("Nulstil", "Reset").click();
    assert.equal(await main(), unknown, "the answer tells who is known");
    await accessible();
    const letter = await mailTo(mail, english ? /^Reset password$/ : /^Nulstil adgangskode$/);
    await page.goto(linkIn(letter));
    await page.getByLabel(say("Ny adgangskode", "New password")).fill(second);
    await page.getByLabel(say("Gentag adgangskode", "Repeat the password")).fill(second);
    await accessible();
    await button("Gem adgangskode", "Save password").click();
    assert.match(await page.getByRole("status").innerText(), english ? /password is saved/ : /Adgangskoden er gemt/);
    await mailTo(mail, english ? /was changed/ : /er skiftet/);
    await page.goto(linkIn(letter));
    assert.match(await page.getByRole("alert").innerText(), english ? /has been used/ : /brugt eller udløbet/);
    await page.goto(`${PORTAL}/konto/${MONEY}`);
    assert.equal(new URL(page.url()).pathname, "/log-paa", "the session outlived its password");
    await logIn(first);
    await page.getByRole("alert").waitFor();
    await logIn(second);
    await page.getByRole("heading", { name: /Anna Holm/ }).waitFor();
  });

  await step("C. another child is added with CPR and card number, approved, told to who has it, and removed", async () => {
    await link("Tilknytninger", "Relations").click();
    await accessible();
    await field("CPR-nummer", "CPR number").fill(CPR);
    await field("Kortnummer", "Card number").fill(CARD_THREE);
    await button("Tilføj", "Add").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /do not match/ : /passer ikke sammen/);
    await field("CPR-nummer", "CPR number").fill(CPR_THREE);
    await button("Tilføj", "Add").click();
    await button("Godkend tilladelse", "Approve permission").waitFor();
    await accessible();
    await picture("relations", { fullPage: true });
    await button("Godkend tilladelse", "Approve permission").click();
    await page.getByText(say("Godkendt tilladelse", "Permission approved")).waitFor();
    const told = await mailTo("far@example.dk", /kontoen|account/);
    assert.match(told.text, new RegExp(mail));
    // Somebody else has it already: for a day its money stays where it is.
    await page.goto(`${PORTAL}/konto/3/overfoer`);
    await page.locator("#to").selectOption(MONEY);
    await page.getByLabel(say("Beløb i kroner", "Amount in kroner")).fill("1");
    await button("Overfør", "Transfer").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /just been given the account/ : /lige fået adgang/);
    assert.equal(await saldo(), showsKroner("100,00"));
    // Whoever was told takes it back with one click.
    await page.goto(linkIn(told));
    await button("Slet tilknytning", "Delete relation").click();
    await page.getByRole("status").waitFor();
    await page.goto(`${PORTAL}/konto/${MONEY}/tilknytninger`);
    assert.equal(await page.getByText(say("Godkendt tilladelse", "Permission approved")).count(), 0);
    await field("CPR-nummer", "CPR number").fill(CPR_TWO);
    await field("Kortnummer", "Card number").fill(CARD_TWO);
    await button("Tilføj", "Add").click();
    await button("Godkend tilladelse", "Approve permission").click();
    await page.getByText(say("Godkendt tilladelse", "Permission approved")).waitFor();
  });

  await step("D. paying in, with a code from the bank, and the receipt by mail", async () => {
    await menu("Indbetal", "Pay in").click();
    await page.getByLabel(say("Beløb der ønskes", "Amount to pay in")).fill("300");
    await page.getByLabel(say("E-mail til kvittering", "E-mail for the receipt")).fill(`kvittering-${mail}`);
    await page.getByLabel(say("Jeg har læst", "I have read")).check();
    await button("Næste", "Next").click();
    await payWith("4000 0025 0000 3155");
    await page.getByLabel("Kode fra banken").fill("1111");
    await page.getByRole("button", { name: "Bekræft betaling" }).click();
    await page.getByRole("alert").waitFor();
    await page.getByLabel("Kode fra banken").fill("1234");
    await page.getByRole("button", { name: "Bekræft betaling" }).click();
    await back();
    assert.equal(await saldo(), showsKroner("400,00"));
    const receipt = await mailTo(`kvittering-${mail}`, english ? /Receipt/ : /Kvittering/);
    assert.match(receipt.text, new RegExp(kroner("300,00").replace(".", "\\.")));
    await menu("Indbetal", "Pay in").click();
    await link("Mine betalinger", "My payments").click();
    assert.match(await page.locator("tbody tr").first().innerText(), english ? /On the card/ : /På kortet/);
    await accessible();
    await picture("payments");
  });

  await step("E. automatic top-up is set up through the window and fills the account after a sale", async () => {
    await page.goto(`${PORTAL}/konto/${MONEY}/auto-optank`);
    await accessible();
    await page.getByLabel(say("Beløb der ønskes", "Amount to pay in")).fill("250");
    await button("Næste", "Next").click();
    await page.getByRole("alert").waitFor();
    await page.getByLabel(say("Jeg har læst", "I have read")).check();
    await button("Næste", "Next").click();
    await payWith("4111 1111 1111 1111");
    await back();
    await page.goto(`${PORTAL}/konto/${MONEY}/auto-optank`);
    await page.getByText(say("Automatisk optankning er slået til", "Automatic top-up is on")).waitFor();
    await accessible();
    await picture("auto-top-up");
    assert.match(sell(610), /Ny saldo 40,00 kr\./);
    await soon("the automatic top-up", async () => {
      await page.goto(`${PORTAL}/konto/${MONEY}`);
      return await saldo() === showsKroner("290,00");
    });
  });

  await step("E. a card that is blocked later: the parent is told what to do, on the page and by mail", async () => {
    await page.goto(`${PORTAL}/konto/${MONEY}/auto-optank`);
    await button("Annuller Automatisk optankning", "Cancel automatic top-up").click();
    await page.getByLabel(say("Beløb der ønskes", "Amount to pay in")).fill("200");
    await page.getByLabel(say("Jeg har læst", "I have read")).check();
    await button("Næste", "Next").click();
    await payWith("4000 0000 0000 0341");
    await back();
    assert.match(sell(470), /Ny saldo 20,00 kr\./);
    const letter = await mailTo(mail, english ? /top-up failed/ : /optankning mislykkedes/);
    assert.match(letter.text, english ? /payment card is blocked/ : /betalingskortet er spærret/);
    await page.goto(`${PORTAL}/konto/${MONEY}/auto-optank`);
    assert.match(await page.getByRole("alert").innerText(), english ? /payment card is blocked/ : /betalingskortet er spærret/);
    await accessible();
    await button("Annuller Automatisk optankning", "Cancel automatic top-up").click();
    await menu("Konti", "Accounts").click();
    assert.equal(await saldo(), showsKroner("20,00"));
  });

  await step("F. a transfer to the other child, sent three times at once, is made once", async () => {
    await page.goto(`${PORTAL}/konto/2/overfoer`);
    await accessible();
    await page.locator("#to").selectOption(MONEY);
    await page.getByLabel(say("Beløb i kroner", "Amount in kroner")).fill(kroner("9.999,00"));
    await button("Overfør", "Transfer").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /larger than the balance/ : /større end saldoen/);
    const hidden = (name) => page.locator(`main form input[name=${name}]`).inputValue();
    const form = { token: await hidden("token"), form: await hidden("form"), to: MONEY, amount: "60" };
    const answers = await Promise.all([1, 2, 3].map(() =>
      page.request.post(`${PORTAL}/konto/2/overfoer`, { form, headers: { "sec-fetch-site": "same-origin" }, maxRedirects: 0 })));
    assert.deepEqual(answers.map((answer) => answer.status()), [303, 303, 303]);
    await page.goto(`${PORTAL}/konto/2`);
    assert.equal(await saldo(), showsKroner("40,00"));
    await page.goto(`${PORTAL}/konto/${MONEY}`);
    assert.equal(await saldo(), showsKroner("80,00"));
  });

  await step("F. a pay-out needs the password, leaves the balance at once and is told by mail", async () => {
    await link("Udbetal", "Pay out").click();
    const fill = async (amount, password) => {
      await field("Kontohavers navn", "Account holder's name").fill("Mor Jensen");
      await field("Registreringsnummer", "Registration number").fill("1234");
      await field("Kontonummer", "Account number").fill("0012345678");
      await page.getByLabel(say("Beløb i kroner", "Amount in kroner")).fill(amount);
      await page.getByLabel(say("Din adgangskode", "Your password")).fill(password);
      await button("Næste", "Next").click();
    };
    await fill("30", "forkert adgangskode");
    assert.match(await page.getByRole("alert").innerText(), english ? /password is wrong/ : /Adgangskoden er forkert/);
    assert.equal(await field("Kontonummer", "Account number").inputValue(), "0012345678");
    await fill("81", second);
    assert.match(await page.getByRole("alert").innerText(), english ? /larger than the balance/ : /større end saldoen/);
    await accessible();
    await fill("30", second);
    assert.equal(await saldo(), showsKroner("50,00"));
    assert.match(await page.locator("tbody tr").first().innerText(), english ? /Asked for/ : /Anmodet/);
    await accessible();
    await picture("pay-out", { fullPage: true });
    await mailTo(mail, english ? /pay-out was asked for/ : /Anmodning om udbetaling/);
  });

  await step("G. the statement shows it all, as a spreadsheet too, and follows along while it is open", async () => {
    await menu("Kontoudtog", "Statement").click();
    const rows = await page.locator("tbody tr").count();
    await accessible();
    const sheet = await page.request.get(new URL(await page.getByRole("link", { name: /CSV/ }).getAttribute("href"), PORTAL).href);
    const text = await sheet.text();
    assert.ok(text.startsWith("\ufeff"), "a Danish spreadsheet would not see that it is UTF-8");
    assert.equal(text.trim().split("\n").length, rows + 1);
    assert.match(text, /;-610,00;40,00/);
    const answer = await page.request.get(new URL(await page.getByRole("link", { name: /PDF/ }).getAttribute("href"), PORTAL).href);
    assert.equal(answer.headers()["content-type"], "application/pdf");
    const pdf = readPdf(await answer.body());
    assert.match(pdf.info, /Tagged: +yes/);
    assert.match(pdf.info, new RegExp(`Title: +${say("Kontoudtog", "Statement")} – Anna Holm`));
    assert.match(pdf.text, new RegExp(`-${kroner("610,00")} kr\\. +${kroner("40,00")} kr\\.`));
    assert.match(pdf.text, /canteen-1, Sct\. Ib/, "which till and which school");
    assert.match(sell(5), /Ny saldo 45,00 kr\./);
    if (JAVASCRIPT === "off") await page.reload();
    await soon("the sale on the open statement", async () => await page.locator("tbody tr").count() === rows + 1);
    assert.equal(await saldo(), showsKroner("45,00"));
    await picture("statement");
  });

  await step("H. details, the daily cap and the picture are saved; the cap holds at the next sale", async () => {
    await menu("Brugerinfo", "User info").click();
    await accessible();
    await page.getByLabel(say("Tlf.", "Telephone")).fill("12 34 56 78");
    await page.getByLabel(say("Maks forbrug", "Spending limit")).fill("abc");
    await button("Gem", "Save").first().click();
    await page.getByRole("alert").waitFor();
    assert.equal(await page.getByLabel(say("Tlf.", "Telephone")).inputValue(), "12 34 56 78");
    await page.getByLabel(say("Maks forbrug", "Spending limit")).fill("10");
    await button("Gem", "Save").first().click();
    await page.getByRole("status").waitFor();
    assert.match(sell(1), /Maks forbrug i dag er nået/);
    await page.getByLabel(say("Maks forbrug", "Spending limit")).fill("");
    await button("Gem", "Save").first().click();
    await page.getByRole("status").waitFor();
    assert.match(sell(1), /Ny saldo 44,00 kr\./);
    await page.locator("#file").setInputFiles({ name: "x.png", mimeType: "image/png", buffer: Buffer.from("<svg/>") });
    await button("Gem billede", "Save picture").click();
    await page.getByRole("alert").waitFor();
    await page.locator("#file").setInputFiles("node_modules/playwright-core/lib/server/chromium/appIcon.png");
    await button("Gem billede", "Save picture").click();
    await page.getByRole("status").waitFor();
    assert.deepEqual([...atTheTill().subarray(0, 3)], [0xff, 0xd8, 0xff], "the till shows whose card it is");
    const image = await page.request.get(`${PORTAL}/konto/${MONEY}/billede`);
    assert.equal(image.headers()["content-type"], "image/jpeg");
    await accessible();
    await picture("details", { fullPage: true });
  });

  await step("H. the card is blocked and activated with the same button", async () => {
    await button("Spær kort", "Block card").click();
    await button("Aktiver kort", "Activate card").waitFor();
    assert.match(sell(1), /Kortet er spærret/);
    await button("Aktiver kort", "Activate card").click();
    await button("Spær kort", "Block card").waitFor();
    assert.match(sell(1), /Ny saldo 43,00 kr\./);
  });

  await step("J. a new card: the old one is dead at the next scan, the balance comes along", async () => {
    const number = page.getByLabel(say("Kortnummer", "Card number"));
    await number.fill("12");
    await button("Gem", "Save").first().click();
    assert.match(await page.getByRole("alert").innerText(), english ? /Invalid card number/ : /Ugyldigt Kortnummer/);
    await number.fill(CARD_TWO);
    await button("Gem", "Save").first().click();
    assert.match(await page.getByRole("alert").innerText(), english ? /belongs to another account/ : /hører til en anden konto/);
    await number.fill(CARD_NEW.toLowerCase());
    await button("Gem", "Save").first().click();
    await page.getByRole("status").waitFor();
    assert.match(sell(1), /Ukendt eller udgået kort/);
    assert.match(sell(1, CARD_NEW), /Ny saldo 42,00 kr\./);
  });

  await step("H. another mail address counts once it is confirmed", async () => {
    await page.getByLabel(say("Ny e-mail", "New e-mail")).fill(`ny-${mail}`);
    await page.locator("#mail_password").fill(second);
    await button("Skift e-mail", "Change e-mail").click();
    await page.getByRole("status").waitFor();
    await mailTo(mail, english ? /being changed/ : /ved at blive skiftet/);
    const letter = await mailTo(`ny-${mail}`, english ? /Confirm/ : /Bekræft/);
    await page.goto(linkIn(letter));
    await accessible();
    await button("Gem", "Save").click();
    await page.getByRole("status").waitFor();
    await logIn(second);
    await page.getByRole("alert").waitFor();
    await page.getByLabel("E-mail").fill(`ny-${mail}`);
    await page.getByLabel(say("Adgangskode", "Password")).fill(second);
    await button("Login", "Log in").click();
    await page.getByRole("heading", { name: /Anna Holm/ }).waitFor();
  });

  await step("K. support: what it needs to know of the account goes along", async () => {
    await menu("Support", "Support").click();
    await accessible();
    await button("Send", "Send").click();
    assert.equal(await page.getByRole("alert").count(), 2);
    await page.getByLabel(say("Emne", "Subject")).fill("Kortet virker ikke");
    await page.getByLabel(say("Besked", "Message")).fill("Hvad gør jeg?");
    await button("Send", "Send").click();
    await page.getByRole("status").waitFor();
    const letter = await mailTo("support@", /Kortet virker ikke/);
    assert.match(letter.text, /Hvad gør jeg\?[\s\S]*Konto \d+: saldo 42,00 kr\./);
    assert.doesNotMatch(letter.text, new RegExp(CARD_NEW), "the whole card number is in a mail");
  });

  await step("B. logged out, nothing is shown any more", async () => {
    await button("Log ud", "Log out").click();
    await page.goto(`${PORTAL}/konto/${MONEY}/bruger`);
    assert.equal(new URL(page.url()).pathname, "/log-paa");
  });
});
