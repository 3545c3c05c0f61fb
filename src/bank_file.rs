//! The bank's files: pay-outs as an ISO 20022 credit transfer (pain.001.001.03), and the bank's answer to it (pain.002.001.03). Text in,
//! text out; nothing here knows records or the engine.

use anyhow::{Context, bail, ensure};
use frokost_engine::Amount;
use quick_xml::Reader;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

/// Who pays.
pub(crate) struct Debtor<'a> {
    pub(crate) name: &'a str,
    pub(crate) iban: &'a str,
}

/// One pay-out in a file.
pub(crate) struct Transfer {
    /// Comes back in the bank's answer.
    pub(crate) id: String,
    pub(crate) amount: Amount,
    pub(crate) name: String,
    pub(crate) iban: String,
    pub(crate) message: String,
}

type Xml = Writer<Vec<u8>>;

fn leaf(xml: &mut Xml, name: &str, text: &str) -> std::io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(text)).map(drop)
}

fn inside(xml: &mut Xml, name: &str, write: impl FnOnce(&mut Xml) -> std::io::Result<()>) -> std::io::Result<()> {
    xml.create_element(name).write_inner_content(write).map(drop)
}

/// `1234.50`, as the standard writes amounts.
fn decimal(amount: Amount) -> String {
    format!("{}.{:02}", amount.ore() / 100, amount.ore() % 100)
}

/// The file for the bank. `made` is a local time like `2026-11-24T12:00:00`.
pub(crate) fn credit_transfer(
    id: &str,
    made: &str,
    debtor: &Debtor<'_>,
    transfers: &[Transfer],
) -> anyhow::Result<Vec<u8>> {
    let sum = transfers.iter().try_fold(Amount::ZERO, |sum, transfer| sum.checked_add(transfer.amount));
    let sum = decimal(sum.context("the pay-outs do not add up in 64 bits")?);
    let count = transfers.len().to_string();
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 1);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let document =
        xml.create_element("Document").with_attribute(("xmlns", "urn:iso:std:iso:20022:tech:xsd:pain.001.001.03"));
    document.write_inner_content(|xml| {
        inside(xml, "CstmrCdtTrfInitn", |xml| {
            inside(xml, "GrpHdr", |xml| {
                leaf(xml, "MsgId", id)?;
                leaf(xml, "CreDtTm", made)?;
                leaf(xml, "NbOfTxs", &count)?;
                leaf(xml, "CtrlSum", &sum)?;
                inside(xml, "InitgPty", |xml| leaf(xml, "Nm", debtor.name))
            })?;
            inside(xml, "PmtInf", |xml| {
                leaf(xml, "PmtInfId", id)?;
                leaf(xml, "PmtMtd", "TRF")?;
                leaf(xml, "NbOfTxs", &count)?;
                leaf(xml, "CtrlSum", &sum)?;
                leaf(xml, "ReqdExctnDt", made.get(..10).unwrap_or(made))?;
                inside(xml, "Dbtr", |xml| leaf(xml, "Nm", debtor.name))?;
                inside(xml, "DbtrAcct", |xml| inside(xml, "Id", |xml| leaf(xml, "IBAN", debtor.iban)))?;
                inside(xml, "DbtrAgt", |xml| {
                    inside(xml, "FinInstnId", |xml| inside(xml, "Othr", |xml| leaf(xml, "Id", "NOTPROVIDED")))
                })?;
                transfers.iter().try_for_each(|transfer| one(xml, transfer))
            })
        })
    })?;
    let mut bytes = xml.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

fn one(xml: &mut Xml, transfer: &Transfer) -> std::io::Result<()> {
    inside(xml, "CdtTrfTxInf", |xml| {
        inside(xml, "PmtId", |xml| {
            leaf(xml, "InstrId", &transfer.id)?;
            leaf(xml, "EndToEndId", &transfer.id)
        })?;
        inside(xml, "Amt", |xml| {
            let amount = xml.create_element("InstdAmt").with_attribute(("Ccy", "DKK"));
            amount.write_text_content(BytesText::new(&decimal(transfer.amount))).map(drop)
        })?;
        inside(xml, "Cdtr", |xml| leaf(xml, "Nm", &transfer.name))?;
        inside(xml, "CdtrAcct", |xml| inside(xml, "Id", |xml| leaf(xml, "IBAN", &transfer.iban)))?;
        if transfer.message.is_empty() {
            return Ok(());
        }
        inside(xml, "RmtInf", |xml| leaf(xml, "Ustrd", &transfer.message))
    })
}

/// The IBAN of a Danish account: `DK`, two check digits (ISO 7064, modulus 97), registration number, account number.
pub(crate) fn danish_iban(reg: &str, account: &str) -> anyhow::Result<String> {
    let digits = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    ensure!(digits(reg, 4) && digits(account, 10), "'{reg} {account}' is no Danish account");
    let number = format!("{reg:0>4}{account:0>10}");
    // D is 13, K is 20, and the check digits stand at the end as zeros.
    let rest = format!("{number}132000").bytes().fold(0u64, |rest, byte| (rest * 10 + u64::from(byte - b'0')) % 97);
    Ok(format!("DK{:02}{number}", 98 - rest))
}

/// Is it an IBAN with right check digits?
pub(crate) fn is_iban(text: &str) -> bool {
    let (Some(head), Some(tail)) = (text.get(..4), text.get(4..)) else { return false };
    let rest = format!("{tail}{head}").bytes().try_fold(0u64, |rest, byte| match byte {
        b'0'..=b'9' => Some((rest * 10 + u64::from(byte - b'0')) % 97),
        b'A'..=b'Z' => Some((rest * 100 + u64::from(byte - b'A') + 10) % 97),
        _ => None,
    });
    (15..=34).contains(&text.len()) && rest == Some(1)
}

/// What the bank says of one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has paid.
    Done,
    /// It will not, and why, in its own code.
    Refused(String),
    /// It has not decided yet.
    Waiting,
}

fn verdict(status: &str, reason: &str) -> anyhow::Result<Verdict> {
    Ok(match status {
        "ACSC" | "ACCC" => Verdict::Done,
        "RJCT" => Verdict::Refused(if reason.is_empty() { "RJCT".to_owned() } else { reason.to_owned() }),
        "ACTC" | "ACCP" | "ACSP" | "ACWC" | "PDNG" | "RCVD" | "PART" => Verdict::Waiting,
        other => bail!("the bank's answer has a status that is not known: '{other}'"),
    })
}

/// What the bank says: of the whole file, if it says so, and of each transfer by its id.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The file it answers.
    pub(crate) batch: String,
    /// Of everything that is not named.
    pub(crate) whole: Option<Verdict>,
    pub(crate) transfers: Vec<(String, Verdict)>,
}

/// Reads the bank's answer.
pub(crate) fn status_report(text: &str) -> anyhow::Result<Answer> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().trim_text(true);
    let (mut answer, mut path) = (Answer::default(), Vec::<String>::new());
    let (mut id, mut status, mut reason) = (String::new(), String::new(), String::new());
    let (mut whole, mut whole_reason) = (String::new(), String::new());
    let mut is_report = false;
    loop {
        match reader.read_event().context("it is no XML")? {
            Event::Start(start) => {
                let name = start.local_name().as_ref().to_owned();
                if name == "TxInfAndSts" {
                    (id, status, reason) = Default::default();
                }
                is_report |= name == "CstmrPmtStsRpt";
                path.push(name);
            }
            Event::Text(value) => {
                let value = (*value).to_owned();
                let in_transfer = path.iter().any(|name| name == "TxInfAndSts");
                let in_reason = path.iter().any(|name| name == "StsRsnInf");
                match (path.last().map(String::as_str), in_transfer) {
                    (Some("OrgnlMsgId"), _) => answer.batch = value,
                    (Some("OrgnlEndToEndId"), true) => id = value,
                    (Some("TxSts"), true) => status = value,
                    (Some("Cd" | "Prtry"), true) if in_reason => reason = value,
                    (Some("GrpSts" | "PmtInfSts"), false) => whole = value,
                    (Some("Cd" | "Prtry"), false) if in_reason => whole_reason = value,
                    _ => {}
                }
            }
            Event::End(_) => {
                if path.pop().as_deref() == Some("TxInfAndSts") {
                    ensure!(!id.is_empty(), "the bank's answer names a transfer without its OrgnlEndToEndId");
                    answer.transfers.push((std::mem::take(&mut id), verdict(&status, &reason)?));
                }
            }
            Event::Eof => break,
            Event::Empty(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
    ensure!(is_report && path.is_empty(), "it is not a whole pain.002 status report");
    if !whole.is_empty() {
        answer.whole = Some(verdict(&whole, &whole_reason)?);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn danish_accounts_have_ibans() {
        assert_eq!(danish_iban("0040", "0440116243").unwrap(), "DK5000400440116243");
        assert_eq!(danish_iban("40", "440116243").unwrap(), "DK5000400440116243");
        assert!(is_iban("DK5000400440116243") && is_iban("GB82WEST12345698765432"));
        assert!(!is_iban("DK5100400440116243") && !is_iban("") && !is_iban("DK50 0040 0440 1162 43"));
        assert!(danish_iban("12345", "1").is_err() && danish_iban("1234", "12345678901").is_err());
    }

    #[test]
    fn a_file_names_every_transfer_and_their_sum() {
        let transfer = |n: u32, ore: i64, name: &str| Transfer {
            id: format!("frokost-{n}"),
            amount: Amount::from_ore(ore),
            name: name.to_owned(),
            iban: "DK5000400440116243".to_owned(),
            message: "Frokost & saft".to_owned(),
        };
        let debtor = Debtor { name: "Frokost Demo A/S", iban: "DK5000400440116243" };
        let transfers = [transfer(1, 12_345, "Mor <Jensen>"), transfer(2, 5, "Far")];
        let file = credit_transfer("B1", "2026-11-24T12:00:00", &debtor, &transfers).unwrap();
        let text = String::from_utf8(file).unwrap();
        for part in [
            "<NbOfTxs>2</NbOfTxs>",
            "<CtrlSum>123.50</CtrlSum>",
            "<InstdAmt Ccy=\"DKK\">123.45</InstdAmt>",
            "<InstdAmt Ccy=\"DKK\">0.05</InstdAmt>",
            "<EndToEndId>frokost-2</EndToEndId>",
            "<ReqdExctnDt>2026-11-24</ReqdExctnDt>",
            "Mor &lt;Jensen&gt;",
            "Frokost &amp; saft",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    fn report(inner: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Document xmlns=\"urn:iso:std:iso:20022:tech:xsd:pain.002.001.03\"><CstmrPmtStsRpt>\
             <GrpHdr><MsgId>X</MsgId></GrpHdr><OrgnlGrpInfAndSts><OrgnlMsgId>B1</OrgnlMsgId></OrgnlGrpInfAndSts>{inner}</CstmrPmtStsRpt></Document>"
        )
    }

    #[test]
    fn the_banks_answer_is_read_transfer_by_transfer() {
        let transfer = |id: &str, status: &str, reason: &str| {
            format!(
                "<OrgnlPmtInfAndSts><TxInfAndSts><OrgnlEndToEndId>{id}</OrgnlEndToEndId><TxSts>{status}</TxSts>{reason}</TxInfAndSts></OrgnlPmtInfAndSts>"
            )
        };
        let reason = "<StsRsnInf><Rsn><Cd>AC04</Cd></Rsn></StsRsnInf>";
        let text =
            report(&[transfer("a", "ACSC", ""), transfer("b", "RJCT", reason), transfer("c", "PDNG", "")].concat());
        let answer = status_report(&text).unwrap();
        assert_eq!(answer.batch, "B1");
        assert_eq!(answer.whole, None);
        let expected = [("a", Verdict::Done), ("b", Verdict::Refused("AC04".to_owned())), ("c", Verdict::Waiting)];
        assert_eq!(answer.transfers, expected.map(|(id, verdict)| (id.to_owned(), verdict)));
    }

    #[test]
    fn an_answer_that_is_none_is_refused_in_words() {
        for (text, says) in [
            ("", "not a whole pain.002"),
            ("<Document></Document>", "not a whole pain.002"),
            ("<a><b></a>", "it is no XML"),
            (&report("<TxInfAndSts><TxSts>ACSC</TxSts></TxInfAndSts>"), "without its OrgnlEndToEndId"),
            (&report("<TxInfAndSts><OrgnlEndToEndId>a</OrgnlEndToEndId><TxSts>HUH</TxSts></TxInfAndSts>"), "'HUH'"),
        ] {
            let error = format!("{:#}", status_report(text).unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
