// The quick guide, section by section, as a parent walks it: sign-up with the code from the mail, a forgotten password, a second child, paying
// in, automatic top-up, pay-out, transfer, statement, details, a lost card, a new card, support. In Danish or, with LANGUAGE=en, in
// English; with JAVASCRIPT=off without any script; with WIDTH=360 on a phone. Every kind of page that comes by is looked at with axe. Mails
// are read from the maildir.

import assert from "node:assert/strict";
import { readPdf } from "./pdf.mjs";
import {
  CARD, JAVASCRIPT, PORTAL, accessible, arrived, atTheTill, browser, linkIn, mailTo, main, page, payWith, picture, saldo, sell, soon, step, walk,
} from "./steps.mjs";

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

async function fillLogIn(address, password, tab = page) {
  await tab.getByLabel("E-mail").fill(address);
  await tab.getByLabel(say("Adgangskode", "Password")).fill(password);
  await tab.getByRole("button", { name: say("Login", "Log in") }).click();
}

async function logIn(password) {
  await page.goto(`${PORTAL}/log-paa`);
  await fillLogIn(mail, password);
}

async function fillPayIn(amount, receipt, consent = true) {
  await page.getByLabel(say("Beløb der ønskes", "Amount to pay in")).fill(amount);
  await page.getByLabel(say("E-mail til kvittering", "E-mail for the receipt")).fill(receipt);
  if (consent) await page.getByLabel(say("Jeg har læst", "I have read")).check();
  await button("Næste", "Next").click();
}

/** What is answered to an address, and can be read. */
async function answers(status, path) {
  assert.equal((await page.goto(`${PORTAL}${path}`)).status(), status, path);
  await accessible();
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
    for (const [status, path, name] of [[200, "/betingelser", "terms"], [200, "/support", "support"], [200, "/log-paa", "log-in"],
      [200, "/glemt", "forgotten"], [404, "/nowhere"], [410, "/aktiver/nowhere"]]) {
      await answers(status, path);
      if (name) await picture(name);
    }
  });

  await step("K. support: somebody who cannot log in is heard, too", async () => {
    await page.goto(`${PORTAL}/support`);
    await page.getByLabel("E-mail").fill(`uden-${mail}`);
    await page.getByLabel(say("Emne", "Subject")).fill("Kan ikke logge på");
    await page.getByLabel(say("Besked", "Message")).fill("Der kommer ingen mail.");
    await button("Send", "Send").click();
    await page.getByRole("status").waitFor();
    await accessible();
    const letter = await mailTo("support@", /Kan ikke logge på/);
    assert.match(letter.text, /Der kommer ingen mail\./);
    assert.match(letter.text, new RegExp(`uden-${mail}`));
    assert.doesNotMatch(letter.text, /Konto \d|saldo/, "an account of nobody goes along");
    await page.goto(`${PORTAL}/opret`);
  });

  await step("A. mistakes are named at their fields, and what was typed is kept", async () => {
    await field("Elevens navn", "The pupil's name").fill("Anna Holm");
    await field("CPR-nummer", "CPR number").fill("3102105555");
    await field("E-mail", "E-mail").fill("mor@example");
    await field("Kortnummer", "Card number").fill("123");
    await button("Opret", "Sign up").click();
    await arrived();
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
    await field("E-mail", "E-mail").fill(`other-${mail}`);
    await field("Kortnummer", "Card number").fill(CARD.toLowerCase());
    await button("Opret", "Sign up").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /do not match, the card is unknown/ : /passer ikke sammen, kortet er ukendt/);
    await accessible();
    await field("CPR-nummer", "CPR number").fill(CPR);
    await field("E-mail", "E-mail").fill(mail);
    await button("Opret", "Sign up").click();
    await page.getByRole("heading", { name: say("Aktivering", "Activation") }).waitFor();
    assert.equal(await page.getByRole("status").count(), 0, "nothing was sent again");
    await accessible();
    await picture("activation");
  });

  await step("A. another code is sent; the activation is taken up from the mail; old and wrong codes and weak passwords are refused", async () => {
    const codeIn = (letter) => letter.text.match(/^\s+(\d{6})\s*$/m)[1];
    const subject = english ? /activation code/ : /aktiveringskode/;
    const old = codeIn(await mailTo(mail, subject));
    await button("Send koden igen", "Send the code again").click();
    assert.match(await page.getByRole("status").innerText(), english ? /A new code was sent/ : /sendt en ny kode/);
    const letter = await mailTo(mail, subject);
    const code = codeIn(letter);
    await page.goto("about:blank");
    await page.goto(linkIn(letter));
    await accessible();
    const code_field = field("Aktiveringskode", "Activation code");
    const passwords = async (password) => {
      await page.getByLabel(say("Ny adgangskode", "New password")).fill(password);
      await page.getByLabel(say("Gentag adgangskode", "Repeat the password")).fill(password);
    };
    await code_field.fill(code);
    await passwords("password12");
    await button("Aktiver", "Activate").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /too easy to guess/ : /for let at gætte/);
    for (const wrong of [old, code === "000000" ? "000001" : "000000"]) {
      await code_field.fill(wrong);
      await passwords(first);
      await button("Aktiver", "Activate").click();
      assert.match(await page.getByRole("alert").innerText(), english ? /does not fit/ : /passer ikke/);
    }
    await accessible();
    await code_field.fill(code);
    await passwords(first);
    await button("Aktiver", "Activate").click();
    assert.match(await page.getByRole("status").innerText(), english ? /Account made/ : /Konto oprettet/);
    assert.match(await main(), new RegExp(`${CPR.slice(0, 6)}-XXXX`));
    await accessible();
    await picture("account-made");
    await page.goto(linkIn(letter));
    assert.match(await page.getByRole("alert").innerText(), english ? /has expired/ : /er udløbet/);
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
    const repeated = page.getByLabel(say("Gentag adgangskode", "Repeat the password"));
    await repeated.fill(first);
    await button("Gem adgangskode", "Save password").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /not the same/ : /ikke ens/);
    await accessible();
    await page.getByLabel(say("Ny adgangskode", "New password")).fill(second);
    await repeated.fill(second);
    await accessible();
    await button("Gem adgangskode", "Save password").click();
    assert.match(await page.getByRole("status").innerText(), english ? /password is saved/ : /Adgangskoden er gemt/);
    await accessible();
    await mailTo(mail, english ? /was changed/ : /er skiftet/);
    await page.goto(linkIn(letter));
    assert.match(await page.getByRole("alert").innerText(), english ? /has been used/ : /brugt eller udløbet/);
    await accessible();
    await page.goto(`${PORTAL}/konto/${MONEY}`);
    assert.equal(new URL(page.url()).pathname, "/log-paa", "the session outlived its password");
    await logIn(first);
    await page.getByRole("alert").waitFor();
    await accessible();
    await logIn(second);
    await page.getByRole("heading", { name: /Anna Holm/ }).waitFor();
  });

  await step("what there is nothing of yet, and what is not there, is said", async () => {
    await answers(200, `/konto/${MONEY}/betalinger`);
    assert.match(await main(), english ? /no payments yet/ : /ingen betalinger endnu/);
    await answers(200, `/konto/${MONEY}/kontoudtog?maaned=202001`);
    assert.match(await main(), english ? /no postings in this month/ : /ingen posteringer i denne måned/);
    await answers(200, `/konto/${MONEY}/overfoer`);
    assert.match(await main(), english ? /one account only/ : /kun én konto/);
    await answers(400, "/konto/x");
    await answers(404, "/konto/3");
    await answers(404, "/ordre/999");
    await page.goto(`${PORTAL}/konto/${MONEY}`);
  });

  await step("C. another child is added with CPR and card number, approved, told to who has it, and taken back", async () => {
    await link("Tilknytninger", "Relations").click();
    await accessible();
    await field("CPR-nummer", "CPR number").fill(CPR);
    await field("Kortnummer", "Card number").fill(CARD_THREE);
    await button("Tilføj", "Add").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /do not match/ : /passer ikke sammen/);
    await accessible();
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
    await accessible();
    assert.equal(await saldo(), showsKroner("100,00"));
    // Whoever was told takes it back with one click.
    await page.goto(linkIn(told));
    await accessible();
    await picture("revocation");
    await button("Slet tilknytning", "Delete relation").click();
    await page.getByRole("status").waitFor();
    await accessible();
    await page.goto(linkIn(told));
    assert.match(await page.getByRole("alert").innerText(), english ? /has been used/ : /brugt eller udløbet/);
    await answers(404, "/konto/3");
    await page.goto(`${PORTAL}/konto/${MONEY}/tilknytninger`);
    assert.equal(await page.getByText(say("Godkendt tilladelse", "Permission approved")).count(), 0);
  });

  await step("C. a relation is deleted by the parent: the account is gone for them, its money is where it was", async () => {
    const approved = page.getByText(say("Godkendt tilladelse", "Permission approved"));
    const add = async () => {
      await page.goto(`${PORTAL}/konto/${MONEY}/tilknytninger`);
      await field("CPR-nummer", "CPR number").fill(CPR_TWO);
      await field("Kortnummer", "Card number").fill(CARD_TWO);
      await button("Tilføj", "Add").click();
      await button("Godkend tilladelse", "Approve permission").click();
      await approved.waitFor();
    };
    await add();
    await accessible();
    await page.locator("summary").click();
    await accessible();
    await picture("switcher");
    await page.getByRole("link", { name: "Pupil 2" }).click();
    assert.equal(await saldo(), showsKroner("100,00"));
    await link("Tilknytninger", "Relations").click();
    await button("Slet tilknytning", "Delete relation").click();
    await page.getByRole("heading", { name: say("Tilknytninger", "Relations"), exact: true }).waitFor();
    assert.equal(await approved.count(), 0);
    assert.equal(await page.getByRole("link", { name: "Pupil 2" }).count(), 0, "it can be switched to");
    for (const path of ["", "/kontoudtog", "/overfoer"]) assert.equal((await page.goto(`${PORTAL}/konto/2${path}`)).status(), 404, path);
    await add();
    await page.goto(`${PORTAL}/konto/2`);
    assert.equal(await saldo(), showsKroner("100,00"));
  });

  await step("D. paying in, with a code from the bank, and the receipt by mail", async () => {
    await page.goto(`${PORTAL}/konto/${MONEY}`);
    await menu("Indbetal", "Pay in").click();
    await accessible();
    await picture("pay-in", { fullPage: true });
    const into = page.getByRole("group", { name: say("Konto for indbetaling", "Account to pay into") });
    const chosen = () => into.getByRole("radio", { checked: true }).inputValue();
    assert.equal(await chosen(), MONEY);
    await into.getByRole("radio").and(page.locator("[value='2']")).check();
    await fillPayIn("199", "mor@example", false);
    await arrived();
    assert.equal(await page.getByRole("alert").count(), 3);
    assert.equal(await chosen(), "2", "what was chosen is lost");
    await into.getByRole("radio").and(page.locator(`[value='${MONEY}']`)).check();
    await accessible();
    await fillPayIn("300", `kvittering-${mail}`);
    await accessible();
    await payWith("4000 0025 0000 3155");
    const code = page.getByLabel("Kode fra banken");
    const confirm = page.getByRole("button", { name: "Bekræft betaling" });
    await code.waitFor();
    await accessible();
    await picture("payment-window-code");
    await code.fill("1111");
    await confirm.click();
    await page.getByRole("alert").waitFor();
    await accessible();
    await code.fill("1234");
    await confirm.click();
    await page.getByRole("heading", { name: "Kvittering" }).waitFor();
    await accessible();
    await back();
    assert.match(await page.getByRole("status").innerText(), english ? /on the card now/ : /på kortet nu/);
    assert.equal(await saldo(), showsKroner("400,00"));
    await accessible();
    const receipt = await mailTo(`kvittering-${mail}`, english ? /Receipt/ : /Kvittering/);
    assert.match(receipt.text, new RegExp(kroner("300,00").replace(".", "\\.")));
  });

  await step("D. the same amount again is asked about; an order that waits and one that was refused say so, and cost nothing", async () => {
    await menu("Indbetal", "Pay in").click();
    await fillPayIn("300", mail);
    assert.match(await page.getByRole("alert").innerText(), english ? /paid in 300\.00 kr\. at \d\d.\d\d/ : /indbetalte 300,00 kr\. kl\. \d\d\.\d\d/);
    await accessible();
    await picture("pay-in-again");
    await button("Ja, indbetal igen", "Yes, pay in again").click();
    await payWith("4111 1111 1111 1112");
    assert.match(await page.getByRole("alert").innerText(), /Kortnummeret er ikke rigtigt/);
    await accessible();
    const open = page.url();
    await page.goto(`${PORTAL}/konto/${MONEY}/betalinger`);
    const rows = page.locator("tbody tr");
    assert.match(await rows.first().innerText(), english ? /Waiting for payment/ : /Venter på betaling/);
    await rows.first().getByRole("link").click();
    assert.match(await page.getByRole("status").innerText(), english ? /waiting for the payment window/ : /venter på svar fra betalingsvinduet/);
    await accessible();
    await page.goto(open);
    await payWith("4000 0000 0000 0002");
    await page.getByRole("heading", { name: "Kvittering" }).waitFor();
    await accessible();
    await back();
    assert.match(await page.getByRole("status").innerText(), english ? /bank refused/ : /afvist af banken/);
    assert.equal(await saldo(), showsKroner("400,00"));
    await accessible();
    await picture("payment-refused");
    await menu("Indbetal", "Pay in").click();
    await link("Mine betalinger", "My payments").click();
    await arrived();
    const states = await rows.allInnerTexts();
    assert.match(states[0], english ? /Not carried out/ : /Ikke gennemført/);
    assert.match(states[1], english ? /On the card/ : /På kortet/);
    await accessible();
    await picture("payments");
  });

  await step("E. automatic top-up is set up through the window and fills the account after a sale", async () => {
    await page.goto(`${PORTAL}/konto/${MONEY}/auto-optank`);
    await accessible();
    await page.getByLabel(say("Beløb der ønskes", "Amount to pay in")).fill("250");
    await button("Næste", "Next").click();
    await page.getByRole("alert").waitFor();
    await accessible();
    await page.getByLabel(say("Jeg har læst", "I have read")).check();
    await button("Næste", "Next").click();
    await accessible();
    await payWith("4111 1111 1111 1111");
    await back();
    await page.goto(`${PORTAL}/konto/${MONEY}/auto-optank`);
    await page.getByText(say("Automatisk optankning er slået til", "Automatic top-up is on")).waitFor();
    await accessible();
    await picture("auto-top-up");
    await menu("Konti", "Accounts").click();
    assert.equal(await saldo(), showsKroner("650,00"));
    assert.match(sell(610), /Ny saldo 40,00 kr\./);
    await soon("the automatic top-up on the open page", async () => {
      if (JAVASCRIPT === "off") await page.reload();
      return await saldo() === showsKroner("290,00");
    });
    await button("Spær kort", "Block card").click();
    await button("Aktiver kort", "Activate card").waitFor();
    await page.goto(`${PORTAL}/konto/${MONEY}/auto-optank`);
    assert.match(await page.getByRole("alert").innerText(), english ? /nothing is topped up/ : /optankes ikke/);
    await accessible();
    await menu("Konti", "Accounts").click();
    await button("Aktiver kort", "Activate card").click();
    await button("Spær kort", "Block card").waitFor();
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
    await accessible();
    const hidden = (name) => page.locator(`main form input[name=${name}]`).inputValue();
    const form = { token: await hidden("token"), form: await hidden("form"), to: MONEY, amount: "50" };
    const answers = await Promise.all([1, 2, 3].map(() =>
      page.request.post(`${PORTAL}/konto/2/overfoer`, { form, headers: { "sec-fetch-site": "same-origin" }, maxRedirects: 0 })));
    assert.deepEqual(answers.map((answer) => answer.status()), [303, 303, 303]);
    await page.goto(`${PORTAL}/konto/2/overfoer`);
    assert.equal(await saldo(), showsKroner("50,00"));
    await page.getByLabel(say("Beløb i kroner", "Amount in kroner")).fill("10");
    await button("Overfør", "Transfer").click();
    assert.match(await page.getByRole("status").innerText(), english ? /is transferred/ : /er overført/);
    assert.equal(await saldo(), showsKroner("40,00"));
    await accessible();
    await picture("transfer");
    await page.getByLabel(say("Beløb i kroner", "Amount in kroner")).fill("10");
    await button("Overfør", "Transfer").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /transferred 10\.00 kr\. at/ : /overførte 10,00 kr\. kl\./);
    await accessible();
    await link("Nej, gå tilbage", "No, go back").click();
    assert.equal(await saldo(), showsKroner("40,00"));
    await page.goto(`${PORTAL}/konto/${MONEY}`);
    assert.equal(await saldo(), showsKroner("80,00"));
  });

  await step("F. a pay-out needs the password, leaves the balance at once and is told by mail", async () => {
    await link("Udbetal", "Pay out").click();
    await accessible();
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
    await arrived();
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
    if (JAVASCRIPT !== "off") assert.equal(await page.locator("#heard").innerText(), `${say("Saldo", "Balance")} ${showsKroner("45,00")}`);
    assert.equal(await saldo(), showsKroner("45,00"));
    await picture("statement");
  });

  await step("G. on paper the statement is the table, without what is there to be clicked", async () => {
    const seen = (what) => page.locator(what).filter({ visible: true }).count();
    const clicked = ["header", "footer", "nav", "button", ".button", ".skip", "main a"];
    for (const what of ["header", "footer", "nav", "main a"]) assert.notEqual(await seen(what), 0, `${what} is not on the screen`);
    const rows = await seen("tbody tr");
    await page.emulateMedia({ media: "print" });
    for (const what of clicked) assert.equal(await seen(what), 0, `${what} is printed`);
    assert.equal(await seen("tbody tr"), rows);
    assert.ok(rows > 5 && await seen("h1") === 1 && await seen("#saldo") === 1);
    await picture("statement-print", { fullPage: true });
    await page.emulateMedia({ media: null });
    assert.notEqual(await seen("header"), 0);
  });

  await step("H. details, the daily cap and the picture are saved; the cap holds at the next sale", async () => {
    await menu("Brugerinfo", "User info").click();
    await accessible();
    await page.getByLabel(say("Tlf.", "Telephone")).fill("12 34 56 78");
    await page.getByLabel(say("Maks forbrug", "Spending limit")).fill("abc");
    await button("Gem", "Save").first().click();
    await page.getByRole("alert").waitFor();
    assert.equal(await page.getByLabel(say("Tlf.", "Telephone")).inputValue(), "12 34 56 78");
    await accessible();
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
    await accessible();
    await page.locator("#file").setInputFiles("node_modules/playwright-core/lib/server/chromium/appIcon.png");
    await button("Gem billede", "Save picture").click();
    await page.getByRole("status").waitFor();
    assert.deepEqual([...atTheTill().subarray(0, 3)], [0xff, 0xd8, 0xff], "the till shows whose card it is");
    const image = await page.request.get(`${PORTAL}/konto/${MONEY}/billede`);
    assert.equal(image.headers()["content-type"], "image/jpeg");
    await accessible();
    await picture("details", { fullPage: true });
  });

  await step("H. the picture is taken away, and every other session ended", async () => {
    await button("Slet billede", "Delete picture").click();
    await page.getByRole("status").waitFor();
    assert.equal(await page.locator("main img").count(), 0);
    await button("Log ud alle andre steder", "Log out everywhere else").click();
    await page.getByRole("status").waitFor();
    await accessible();
  });

  await step("H. the card is blocked and activated with the same button", async () => {
    await button("Spær kort", "Block card").click();
    await button("Aktiver kort", "Activate card").waitFor();
    await accessible();
    assert.match(sell(1), /Kortet er spærret/);
    await menu("Konti", "Accounts").click();
    await page.getByRole("heading", { name: say("Konto –", "Account –") }).waitFor();
    assert.equal(await page.locator("#status").innerText(), say("Spærret", "Blocked"));
    await accessible();
    await menu("Brugerinfo", "User info").click();
    await page.getByRole("heading", { name: say("Brugeroplysninger –", "User details –") }).waitFor();
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
    await accessible();
    await number.fill(CARD_NEW.toLowerCase());
    await button("Gem", "Save").first().click();
    await page.getByRole("status").waitFor();
    await accessible();
    await picture("new-card", { fullPage: true });
    assert.match(sell(1), /Ukendt eller udgået kort/);
    assert.match(sell(1, CARD_NEW), /Ny saldo 42,00 kr\./);
  });

  await step("H. another mail address counts once it is confirmed", async () => {
    const change = async (address, password) => {
      await page.getByLabel(say("Ny e-mail", "New e-mail")).fill(address);
      await page.locator("#mail_password").fill(password);
      await button("Skift e-mail", "Change e-mail").click();
    };
    await change(`ny-${mail}`, first);
    assert.match(await page.getByRole("alert").innerText(), english ? /password is wrong/ : /Adgangskoden er forkert/);
    await accessible();
    await change(`ny-${mail}`, second);
    await page.getByRole("status").waitFor();
    await mailTo(mail, english ? /being changed/ : /ved at blive skiftet/);
    const letter = await mailTo(`ny-${mail}`, english ? /Confirm/ : /Bekræft/);
    await page.goto(linkIn(letter));
    await accessible();
    await button("Gem", "Save").click();
    await page.getByRole("status").waitFor();
    await accessible();
    await page.goto(linkIn(letter));
    assert.match(await page.getByRole("alert").innerText(), english ? /has been used/ : /brugt eller udløbet/);
    await accessible();
    await logIn(second);
    await page.getByRole("alert").waitFor();
    await fillLogIn(`ny-${mail}`, second);
    await page.getByRole("heading", { name: /Anna Holm/ }).waitFor();
  });

  await step("B. a form that is sent after the log out, or after another log in, is not lost, and nothing is done before it is said", async () => {
    const other = await browser.newPage();
    await other.goto(`${PORTAL}/konto/${MONEY}`);
    await other.getByRole("button", { name: say("Log ud", "Log out") }).click();
    await other.getByRole("link", { name: say("Log på med E-mail", "Log in with e-mail") }).waitFor();
    await button("Spær kort", "Block card").click();
    assert.match(await page.getByRole("alert").innerText(), english ? /have been logged out/ : /blevet logget ud/);
    await accessible();
    await fillLogIn(`ny-${mail}`, second);
    await page.getByRole("heading", { name: say("Spær kort", "Block card") }).waitFor();
    await accessible();
    await button("Send nu", "Send now").click();
    await button("Aktiver kort", "Activate card").click();
    await button("Spær kort", "Block card").waitFor();
    await other.goto(`${PORTAL}/log-paa`);
    await fillLogIn(`ny-${mail}`, second, other);
    await other.getByRole("heading", { name: /Anna Holm/ }).waitFor();
    await other.close();
    // A log out that is not this session's.
    await button("Log ud", "Log out").click();
    assert.equal(await page.locator("h1").innerText(), "Formularen var for gammel");
    await accessible();
    await page.goto(`${PORTAL}/konto/${MONEY}`);
    assert.equal(await saldo(), showsKroner("42,00"));
  });

  await step("K. support: what it needs to know of the account goes along", async () => {
    await menu("Support", "Support").click();
    await accessible();
    await button("Send", "Send").click();
    await arrived();
    assert.equal(await page.getByRole("alert").count(), 2);
    await accessible();
    await page.getByLabel(say("Emne", "Subject")).fill("Kortet virker ikke");
    await page.getByLabel(say("Besked", "Message")).fill("Hvad gør jeg?");
    await button("Send", "Send").click();
    await page.getByRole("status").waitFor();
    await accessible();
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
