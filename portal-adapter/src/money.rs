//! Amounts, dates and months as the pages show them, in Danish and English.

use frokost_engine::time::Month;
use frokost_engine::{Amount, Timestamp};

use crate::words::Language;

/// `1.234,50 kr.` or `1,234.50 kr.`
pub(crate) fn amount(amount: Amount, language: Language) -> String {
    match language {
        Language::Danish => amount.to_string(),
        Language::English => format!("{} kr.", amount.grouped(',', '.')),
    }
}

/// What was typed: kroner as the language writes them, with or without groups and `kr.`.
pub(crate) fn read(text: &str, language: Language) -> Option<Amount> {
    let text = text.trim();
    match language {
        Language::Danish => text.parse().ok(),
        Language::English => {
            let bare = text.strip_suffix("kr.").or_else(|| text.strip_suffix("kr")).unwrap_or(text).trim_end();
            let (whole, fraction) = bare.split_once('.').map_or((bare, None), |(whole, rest)| (whole, Some(rest)));
            // A comma parts thousands and nothing else: who writes 20,50 must not pay 2,050.
            if !whole.split(',').skip(1).all(|group| group.len() == 3) {
                return None;
            }
            let danish = whole.replace(',', ".") + &fraction.map_or_else(String::new, |rest| format!(",{rest}"));
            danish.parse().ok()
        }
    }
}

/// `1234,50` or `1234.50`: as it is typed into a field.
pub(crate) fn plain(amount: Amount, language: Language) -> String {
    let text: String = self::amount(amount, language);
    let group = match language {
        Language::Danish => '.',
        Language::English => ',',
    };
    text.trim_end_matches(" kr.").chars().filter(|c| *c != group).collect()
}

/// `23-11-2026 11.32`, on Copenhagen's clocks.
pub(crate) fn moment(at: Timestamp, language: Language) -> String {
    let local = at.local();
    let between = match language {
        Language::Danish => '.',
        Language::English => ':',
    };
    format!(
        "{:02}-{:02}-{:04} {:02}{between}{:02}",
        local.day(),
        local.month(),
        local.year(),
        local.hour(),
        local.minute()
    )
}

/// `11.32`
pub(crate) fn clock_time(at: Timestamp, language: Language) -> String {
    moment(at, language).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// `2023 Juli`, as the quick guide writes it.
pub(crate) fn month(month: Month, language: Language) -> String {
    let names = match language {
        Language::Danish => [
            "Januar",
            "Februar",
            "Marts",
            "April",
            "Maj",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "December",
        ],
        Language::English => [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ],
    };
    let name = usize::try_from(month.month - 1).ok().and_then(|n| names.get(n)).copied().unwrap_or_default();
    format!("{} {name}", month.year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_show_what_the_guide_shows() {
        let kroner = Amount::from_ore(123_450);
        assert_eq!(amount(kroner, Language::Danish), "1.234,50 kr.");
        assert_eq!(amount(kroner, Language::English), "1,234.50 kr.");
        for (text, language) in [
            ("1.234,50", Language::Danish),
            ("1234,50 kr.", Language::Danish),
            ("1,234.50", Language::English),
            (" 1234.50 kr.", Language::English),
        ] {
            assert_eq!(read(text, language), Some(kroner), "{text}");
        }
        for text in ["", "abc", "1.2.3", "12..5", "20,50", "1,23", "1,2345", "0,500", ",500", "1,234,5", "1234,567"] {
            assert_eq!(read(text, Language::English), None, "{text}");
        }
        for text in ["0.500", "1.2345", "1234.567"] {
            assert_eq!(read(text, Language::Danish), None, "{text}");
        }
        assert_eq!(read("20.50", Language::English), Some(Amount::from_ore(2_050)));
        assert_eq!(read("1,234,567", Language::English), Some(Amount::from_kroner(1_234_567)));
        assert_eq!(plain(kroner, Language::Danish), "1234,50");
        assert_eq!(plain(kroner, Language::English), "1234.50");
        assert_eq!(amount(Amount::from_ore(-5), Language::Danish), "-0,05 kr.");
        // 2026-11-23T10:32Z is 11.32 in Copenhagen; half a year earlier it would be 12.32.
        let at = Timestamp(1_795_429_920_000);
        assert_eq!(moment(at, Language::Danish), "23-11-2026 11.32");
        assert_eq!(clock_time(at, Language::English), "11:32");
        assert_eq!(month(Month::from_number(202_307).unwrap(), Language::Danish), "2023 Juli");
    }
}
