//! A statement as a PDF that can be read aloud: PDF/UA-1, tagged, one table over as many A4 pages as it takes.

use std::num::NonZeroU16;
use std::sync::LazyLock;

use krilla::color::rgb;
use krilla::configure::{Accessibility, ConfigurationBuilder};
use krilla::destination::XyzDestination;
use krilla::geom::{PathBuilder, Point};
use krilla::metadata::Metadata;
use krilla::outline::{Outline, OutlineNode};
use krilla::page::PageSettings;
use krilla::paint::{Fill, Stroke};
use krilla::surface::Surface;
use krilla::tagging::{
    Artifact, ArtifactType, ContentTag, Identifier, SpanTag, TableHeaderScope, Tag, TagGroup, TagTree,
};
use krilla::text::{Font, TextDirection};
use krilla::{Document, SerializeSettings};

use crate::views::Posting;

/// What stands on the sheet. Everything is in the parent's language already.
pub(crate) struct Sheet<'a> {
    pub(crate) language: &'a str,
    pub(crate) title: String,
    /// Account, card and month: what it is called, and what it is.
    pub(crate) facts: Vec<(&'a str, String)>,
    /// Date, text, amount, balance.
    pub(crate) columns: [&'a str; 4],
    pub(crate) rows: Vec<Posting>,
    /// At the bottom of every page, before its number.
    pub(crate) foot: String,
    pub(crate) page: &'a str,
}

// A4, in points.
const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const LEFT: f32 = 50.0;
const RIGHT: f32 = WIDTH - 50.0;
const TOP: f32 = 60.0;
const BOTTOM: f32 = HEIGHT - 70.0;
const TEXT_AT: f32 = LEFT + 100.0;
const TEXT_WIDE: f32 = 225.0;
const AMOUNT_AT: f32 = RIGHT - 85.0;
const SIZE: f32 = 9.0;
const LINE: f32 = 13.0;

struct Face {
    font: Font,
    measure: ttf_parser::Face<'static>,
}

static REGULAR: LazyLock<Option<Face>> = LazyLock::new(|| face(dejavu::sans::regular()));
static BOLD: LazyLock<Option<Face>> = LazyLock::new(|| face(dejavu::sans::bold()));

fn face(bytes: &'static [u8]) -> Option<Face> {
    Some(Face { font: Font::new(bytes.into(), 0)?, measure: ttf_parser::Face::parse(bytes, 0).ok()? })
}

impl Face {
    /// The text with a question mark for what the typeface has no picture of.
    fn drawable(&self, text: &str) -> String {
        let known = |c: char| !c.is_control() && self.measure.glyph_index(c).is_some_and(|glyph| glyph.0 != 0);
        text.chars().map(|c| if known(c) { c } else { '?' }).collect()
    }

    fn width(&self, text: &str, size: f32) -> f32 {
        let units: u32 = text
            .chars()
            .filter_map(|c| self.measure.glyph_index(c))
            .filter_map(|glyph| self.measure.glyph_hor_advance(glyph))
            .map(u32::from)
            .sum();
        // Far below where a float skips whole numbers.
        f32::from(u16::try_from(units.min(65_535)).unwrap_or(u16::MAX)) * size / f32::from(self.measure.units_per_em())
    }

    /// As many lines as it takes to stay within `wide`; a word that is longer than a line is broken.
    fn lines(&self, text: &str, wide: f32) -> Vec<String> {
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let fits = |line: &str| self.width(line, SIZE) <= wide;
            let with = match lines.last() {
                Some(line) if !line.is_empty() => format!("{line} {word}"),
                _ => word.to_owned(),
            };
            if fits(&with) {
                lines.pop();
                lines.push(with);
                continue;
            }
            if lines.last().is_some_and(|line| !line.is_empty()) {
                lines.push(String::new());
            }
            for letter in word.chars() {
                let longer = format!("{}{letter}", lines.last().map_or("", String::as_str));
                if fits(&longer) {
                    lines.pop();
                    lines.push(longer);
                } else {
                    lines.push(letter.to_string());
                }
            }
        }
        lines
    }
}

/// A row with its text broken into lines.
struct Row<'a> {
    posting: &'a Posting,
    lines: Vec<String>,
}

impl Row<'_> {
    fn height(&self) -> f32 {
        self.lines.iter().map(|_| LINE).sum::<f32>() + 4.0
    }
}

/// Draws the sheet.
///
/// # Errors
/// What the writer found wrong with it; that would be a fault of ours.
pub(crate) fn statement(sheet: &Sheet<'_>) -> Result<Vec<u8>, String> {
    let (Some(regular), Some(bold)) = (&*REGULAR, &*BOLD) else { return Err("the typeface cannot be read".to_owned()) };
    let configuration = ConfigurationBuilder::new()
        .with_accessibility_validator(Accessibility::UA1)
        .finish()
        .map_err(|error| format!("{error:?}"))?;
    let mut document = Document::new_with(SerializeSettings { configuration, ..SerializeSettings::default() });
    let language = sheet.language.to_owned();
    document.set_metadata(
        Metadata::new().title(sheet.title.clone()).language(language.clone()).creator("frokost".to_owned()),
    );
    let head = TOP + 40.0 + LINE * sheet.facts.iter().map(|_| 1.0).sum::<f32>() + LINE;
    let pages = paged(sheet, regular, head);
    let mut tree = TagTree::new().with_lang(Some(language));
    let (mut table, mut body) = (TagGroup::new(Tag::Table), TagGroup::new(Tag::TBody));
    for (number, rows) in pages.iter().enumerate() {
        let settings = PageSettings::from_wh(WIDTH, HEIGHT).ok_or("a page of that size cannot be")?;
        let mut page = document.start_page_with(settings);
        let mut surface = page.surface();
        let mut pen = Pen { surface: &mut surface, regular, bold };
        let mut y = TOP;
        if number == 0 {
            let title = pen.write(bold, LEFT, y, 16.0, &sheet.title);
            let mut heading = TagGroup::new(Tag::Hn(NonZeroU16::MIN, Some(sheet.title.clone())));
            heading.push(title);
            tree.push(heading);
            y += 30.0;
            for (name, value) in &sheet.facts {
                let mut line = TagGroup::new(Tag::P);
                line.push(pen.write(regular, LEFT, y, SIZE, &format!("{name}: {value}")));
                tree.push(line);
                y += LINE;
            }
            y = head;
            table.push(pen.column_heads(sheet, y));
        } else {
            pen.column_heads_again(sheet, y);
        }
        pen.rule(y + 5.0);
        y += LINE + 6.0;
        for row in rows {
            body.push(pen.row(row, y));
            y += row.height();
        }
        pen.foot(&format!("{} – {} {}/{}", sheet.foot, sheet.page, number + 1, pages.len()));
        surface.finish();
        page.finish();
    }
    table.push(body);
    tree.push(table);
    let mut outline = Outline::new();
    outline.push_child(OutlineNode::new(sheet.title.clone(), XyzDestination::new(0, Point::from_xy(LEFT, TOP - 20.0))));
    document.set_outline(outline);
    document.set_tag_tree(tree);
    document.finish().map_err(|error| format!("{error:?}"))
}

/// Which rows stand on which page; there is always one page.
fn paged<'a>(sheet: &'a Sheet<'_>, face: &Face, head: f32) -> Vec<Vec<Row<'a>>> {
    let mut pages = vec![Vec::new()];
    let mut y = head + LINE + 6.0;
    for posting in &sheet.rows {
        let row = Row { posting, lines: face.lines(&face.drawable(&posting.text), TEXT_WIDE) };
        if y + row.height() > BOTTOM {
            pages.push(Vec::new());
            y = TOP + LINE + 6.0;
        }
        y += row.height();
        if let Some(page) = pages.last_mut() {
            page.push(row);
        }
    }
    pages
}

struct Pen<'a, 'b> {
    surface: &'a mut Surface<'b>,
    regular: &'static Face,
    bold: &'static Face,
}

impl Pen<'_, '_> {
    fn draw(&mut self, face: &Face, x: f32, y: f32, size: f32, text: &str) {
        let black = Fill { paint: rgb::Color::new(20, 20, 20).into(), ..Fill::default() };
        self.surface.set_fill(Some(black));
        self.surface.set_stroke(None);
        let text = face.drawable(text);
        self.surface.draw_text(Point::from_xy(x, y), face.font.clone(), size, &text, false, TextDirection::LeftToRight);
    }

    /// Words that are read aloud.
    fn write(&mut self, face: &Face, x: f32, y: f32, size: f32, text: &str) -> Identifier {
        let place = self.surface.start_tagged(ContentTag::Span(SpanTag::empty()));
        self.draw(face, x, y, size, text);
        self.surface.end_tagged();
        place
    }

    fn write_to(&mut self, face: &Face, right: f32, y: f32, text: &str) -> Identifier {
        let left = right - face.width(text, SIZE);
        self.write(face, left, y, SIZE, text)
    }

    fn column_heads(&mut self, sheet: &Sheet<'_>, y: f32) -> TagGroup {
        let bold = self.bold;
        let [date, text, amount, balance] = sheet.columns;
        let written = [
            self.write(bold, LEFT, y, SIZE, date),
            self.write(bold, TEXT_AT, y, SIZE, text),
            self.write_to(bold, AMOUNT_AT, y, amount),
            self.write_to(bold, RIGHT, y, balance),
        ];
        let mut row = TagGroup::new(Tag::TR);
        for place in written {
            let mut cell = TagGroup::new(Tag::TH(TableHeaderScope::Column));
            cell.push(place);
            row.push(cell);
        }
        let mut head = TagGroup::new(Tag::THead);
        head.push(row);
        head
    }

    /// On later pages they are for the eye only: who listens has heard them.
    fn column_heads_again(&mut self, sheet: &Sheet<'_>, y: f32) {
        let bold = self.bold;
        let [date, text, amount, balance] = sheet.columns;
        self.surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(ArtifactType::Header)));
        self.draw(bold, LEFT, y, SIZE, date);
        self.draw(bold, TEXT_AT, y, SIZE, text);
        self.draw(bold, AMOUNT_AT - bold.width(amount, SIZE), y, SIZE, amount);
        self.draw(bold, RIGHT - bold.width(balance, SIZE), y, SIZE, balance);
        self.surface.end_tagged();
    }

    fn row(&mut self, row: &Row<'_>, y: f32) -> TagGroup {
        let regular = self.regular;
        let mut cells = vec![vec![self.write(regular, LEFT, y, SIZE, &row.posting.date)], Vec::new()];
        let mut below = y;
        for (n, line) in row.lines.iter().enumerate() {
            // A space where the line was broken, so that the words stay apart when they are read.
            let line = if n + 1 < row.lines.len() { format!("{line} ") } else { line.clone() };
            let place = self.write(regular, TEXT_AT, below, SIZE, &line);
            if let Some(cell) = cells.last_mut() {
                cell.push(place);
            }
            below += LINE;
        }
        cells.push(vec![self.write_to(regular, AMOUNT_AT, y, &row.posting.amount)]);
        cells.push(vec![self.write_to(regular, RIGHT, y, &row.posting.balance)]);
        let mut group = TagGroup::new(Tag::TR);
        for places in cells {
            let mut cell = TagGroup::new(Tag::TD);
            places.into_iter().for_each(|place| cell.push(place));
            group.push(cell);
        }
        group
    }

    fn rule(&mut self, y: f32) {
        let mut line = PathBuilder::new();
        line.move_to(LEFT, y);
        line.line_to(RIGHT, y);
        let Some(line) = line.finish() else { return };
        self.surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(ArtifactType::Layout)));
        self.surface.set_fill(None);
        let grey = Stroke { paint: rgb::Color::new(120, 120, 120).into(), width: 0.6, ..Stroke::default() };
        self.surface.set_stroke(Some(grey));
        self.surface.draw_path(&line);
        self.surface.end_tagged();
    }

    fn foot(&mut self, text: &str) {
        let regular = self.regular;
        self.surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(ArtifactType::Footer)));
        self.draw(regular, LEFT, HEIGHT - 40.0, 8.0, text);
        self.surface.end_tagged();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(rows: usize, text: &str) -> Sheet<'static> {
        let posting = |n: usize| Posting {
            date: "24-11-2026 11.32".to_owned(),
            text: format!("{text} {n}"),
            amount: "-25,00 kr.".to_owned(),
            negative: true,
            balance: "1.234,50 kr.".to_owned(),
        };
        Sheet {
            language: "da",
            title: "Kontoudtog – Åse Ærøskøbing".to_owned(),
            facts: vec![("Konto", "7".to_owned()), ("Måned", "2026 November".to_owned())],
            columns: ["Dato", "Tekst", "Beløb", "Saldo efter"],
            rows: (0..rows).map(posting).collect(),
            foot: "Skolemad A/S, CVR 12345678".to_owned(),
            page: "Side",
        }
    }

    #[test]
    fn sheets_of_every_length_hold_to_the_standard() {
        for rows in [0, 1, 48, 500] {
            let bytes = statement(&sheet(rows, "Køb, kasse")).unwrap();
            assert!(bytes.starts_with(b"%PDF-1.7"), "{rows} rows");
        }
    }

    #[test]
    fn what_somebody_typed_cannot_break_a_sheet() {
        for text in ["🍕 pizza", "e\u{301}te\u{301} \u{0}\u{7}", "", "\u{202e}baglæns", &"x".repeat(500), "مرحبا"]
        {
            statement(&sheet(3, text)).unwrap();
        }
    }

    #[test]
    fn a_long_text_is_broken_between_words_and_a_long_word_within() {
        let face = REGULAR.as_ref().unwrap();
        let lines =
            face.lines("Køb, kasse 12: rugbrød med leverpostej, agurk, en halv liter mælk og et æble til", TEXT_WIDE);
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|line| face.width(line, SIZE) <= TEXT_WIDE && !line.ends_with(' ')), "{lines:?}");
        assert_eq!(face.lines(&"x".repeat(200), TEXT_WIDE).concat(), "x".repeat(200));
    }
}
