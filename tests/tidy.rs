//! Holds the lines that are easily crossed by accident: which crate may use which, where sled and the clock may appear, that a
//! file says what it owns and stays one room, that what the documents point at is there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests stop where they are wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Crate, and which of ours it may use. Arrows point at what is imported; see docs/ARCHITECTURE.md.
const ARROWS: [(&str, &[&str]); 6] = [
    ("engine", &[]),
    ("persistence", &["frokost-engine"]),
    ("net", &["frokost-engine"]),
    ("portal-adapter", &["frokost-engine", "frokost-net", "frokost-persistence"]),
    ("loadtest", &["frokost-engine", "frokost-net"]),
    ("", &["frokost-engine", "frokost-loadtest", "frokost-net", "frokost-persistence", "frokost-portal"]),
];

/// A library, and the only crates that may depend on it (not counting tests).
const HOMES: [(&str, &[&str]); 6] = [
    ("sled", &["persistence"]),
    ("quinn", &["net"]),
    ("ractor", &["engine"]),
    ("axum", &["portal-adapter", ""]),
    ("rkyv", &["persistence", "net"]),
    ("argon2", &["portal-adapter"]),
];

fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(Path::new(ROOT).join(folder).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect()
}

fn files(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                walk(&path, ending, found);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(ROOT), ending, &mut found);
    assert!(found.len() > 3, "only {} files end in {ending}: this looks in the wrong place", found.len());
    found
}

#[test]
fn the_arrows_between_crates_point_one_way() {
    for (folder, allowed) in ARROWS {
        let ours: Vec<String> = dependencies(folder).into_iter().filter(|name| name.starts_with("frokost-")).collect();
        for name in &ours {
            assert!(allowed.contains(&name.as_str()), "{folder} may not use {name}");
        }
    }
}

#[test]
fn each_library_stays_in_its_home() {
    for (library, homes) in HOMES {
        for (folder, _) in ARROWS {
            let uses = dependencies(folder).contains(library);
            assert!(!uses || homes.contains(&folder), "'{folder}' may not use {library}; it lives in {homes:?}");
            assert!(uses || !homes.contains(&folder), "'{folder}' does not use {library} any more");
        }
    }
}

#[test]
fn the_engine_looks_at_no_clock_file_or_variable() {
    for path in files(".rs").iter().filter(|path| path.starts_with(Path::new(ROOT).join("engine/src"))) {
        let text = fs::read_to_string(path).unwrap();
        for banned in ["std::fs", "std::env", "SystemTime", "Instant::now", "std::net", "println!"] {
            assert!(!text.contains(banned), "{} uses {banned}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_is_one_room() {
    for path in files(".rs") {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not begin with what it owns", path.display());
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines: which noun does it own?", path.display());
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["mod", "util", "utils", "helper", "helpers", "common", "misc", "manager"].contains(&name.as_str()),
            "{}",
            path.display()
        );
    }
}

#[test]
fn money_is_never_a_float() {
    // The load tester and its display measure time and rates; nobody else has a use for fractions.
    let allowed = [
        "loadtest/",
        "src/commands/live.rs",
        "src/commands/live_screen.rs",
        "src/commands/load.rs",
        "src/commands/demo.rs",
        "src/cli.rs",
        "src/monitoring.rs",
        "benches/",
        // Where a word stands on a printed page.
        "portal-adapter/src/pdf.rs",
        "tests/",
    ];
    for path in files(".rs") {
        let name = path.strip_prefix(ROOT).unwrap().to_string_lossy().into_owned();
        if allowed.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("f64") && !text.contains("f32"), "{name} has a float in it");
    }
}

/// Whoever watches reads of every figure what it means, of those that come up in trouble only, too.
#[test]
fn every_metric_is_explained() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/monitoring.md")).unwrap();
    let described = fs::read_to_string(Path::new(ROOT).join("src/monitoring.rs")).unwrap();
    let mut found = BTreeSet::new();
    for path in files(".rs").into_iter().filter(|path| !path.starts_with(Path::new(ROOT).join("tests"))) {
        let text = fs::read_to_string(&path).unwrap();
        for kind in ["counter!(\"", "gauge!(\"", "histogram!(\""] {
            found.extend(text.split(kind).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    assert!(found.len() > 15, "{found:?}");
    for name in found {
        assert!(page.contains(&format!("`{name}`")), "docs/monitoring.md does not explain {name}");
        assert!(
            described.contains(&format!("(\"{name}\",")) || described.contains(&format!("\"{name}\",\n")),
            "src/monitoring.rs does not describe {name}"
        );
    }
}

/// A picture that nobody sees grows old without being noticed, and one that is there twice is not what it is called.
#[test]
fn every_picture_is_shown_somewhere_and_is_like_no_other() {
    let documents: Vec<(PathBuf, String)> = files(".md")
        .into_iter()
        .map(|path| (path.parent().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    let shown: BTreeSet<PathBuf> = documents
        .iter()
        .flat_map(|(folder, text)| {
            let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            links.filter_map(|link| folder.join(link).canonicalize().ok())
        })
        .collect();
    let mut seen: BTreeMap<Vec<u8>, PathBuf> = BTreeMap::new();
    for path in
        files(".png").into_iter().chain(files(".svg")).filter(|path| path.starts_with(Path::new(ROOT).join("docs")))
    {
        assert!(shown.contains(&path.canonicalize().unwrap()), "no document shows {}", path.display());
        if let Some(other) = seen.insert(fs::read(&path).unwrap(), path.clone()) {
            panic!("{} is the same picture as {}", path.display(), other.display());
        }
    }
}

#[test]
fn what_the_documents_point_at_is_there() {
    for path in files(".md") {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") || link.starts_with('#') {
                continue;
            }
            let target = path.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{} points at {link}, which is not there", path.display());
        }
        for word in text.split('`').skip(1).step_by(2).filter(|w| w.ends_with(".rs") && w.contains('/')) {
            assert!(Path::new(ROOT).join(word).exists(), "{} names {word}, which is not there", path.display());
        }
    }
}

#[test]
fn every_verb_is_in_the_readme() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    for verb in [
        "demo", "serve", "import", "account", "card", "parent", "payouts", "till", "load", "verify", "inspect",
        "books", "backup", "restore",
    ] {
        assert!(readme.contains(&format!("`{verb}`")) || readme.contains(&format!("frokost {verb}")), "{verb}");
    }
}
