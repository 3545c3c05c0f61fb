//! Wrong settings, missing files, taken ports, silly flags: each gives one clear line that names the thing, an exit code, and
//! leaves everything as it was.

use std::os::unix::fs::PermissionsExt;

use crate::installation::*;

#[test]
fn every_mistake_gets_one_line_that_names_it() {
    let home = Installation::new();
    home.import(2, 50);
    let till = home.enrol("canteen-1");
    let till = lossy(&till);
    home.write("unknown.toml", "[portal]\nlissen = \"127.0.0.1:1\"\n");
    home.write("broken.toml", "[portal\n");
    home.write("short.toml", "[portal]\ncard_length = 3\n");
    let https = "[portal]\npublic_url = \"https://frokost.example.dk\"\n";
    home.write("https.toml", https);
    home.write("sandbox.toml", &format!("{https}behind_proxy = true\n"));
    home.write("clear.toml", "[portal]\npublic_url = \"http://frokost.example.dk\"\n");
    home.write("smtp.toml", "[mail]\nsmtp = \"smtp://u:secret@mail.example.dk\"\n");
    home.write("not-a-bundle.pem", "hello\n");
    home.write("no-columns.csv", "a,b\n1,2\n");
    home.write("password", "short\n");
    std::fs::create_dir(home.path("somebodys")).unwrap();
    home.write("somebodys/letter.txt", "dear diary");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();

    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["serve", "--config", "nowhere.toml"], 1, &["nowhere.toml"]),
        (&["serve", "--config", "unknown.toml"], 1, &["lissen"]),
        (&["serve", "--config", "broken.toml"], 1, &["broken.toml"]),
        (&["serve", "--config", "short.toml"], 1, &["card_length", "4 to 16"]),
        (&["serve", "--config", "https.toml"], 1, &["portal.behind_proxy"]),
        (&["serve", "--config", "sandbox.toml"], 1, &["payment.sandbox = true"]),
        (&["serve", "--config", "clear.toml"], 1, &["in clear", "https://"]),
        (&["serve", "--config", "smtp.toml"], 1, &["mail.smtp", "smtps://"]),
        (&["serve", "--portal", &busy], 1, &["cannot listen for browsers", &busy]),
        (&["serve", "--tills", "nonsense"], 2, &["nonsense"]),
        (&["serve", "--data", "/dev/null/data"], 1, &["/dev/null/data"]),
        (&["demo", "--rate", "0"], 2, &["--rate"]),
        (&["import", "nowhere.csv"], 1, &["nowhere.csv"]),
        (&["import", "no-columns.csv"], 1, &["no-columns.csv", "name or navn"]),
        (&["import", "pupils.csv", "--school", "2"], 1, &["school 2 is new", "--school-name"]),
        (&["import", "pupils.csv", "--school-name", "Another"], 1, &["Sct. Ib"]),
        (&["till", "add", "Canteen 2"], 1, &["Canteen 2", "lower-case"]),
        (&["till", "add", "canteen-1", "--out", "x.pem"], 1, &["canteen-1", "another name"]),
        (&["till", "add", "canteen-3", "--out", "canteen-1.pem"], 1, &["canteen-1.pem"]),
        (&["till"], 2, &["--bundle"]),
        (&["till", "--bundle", "nowhere.pem"], 1, &["nowhere.pem"]),
        (&["till", "--bundle", "not-a-bundle.pem"], 1, &["not-a-bundle.pem", "no frokost bundle"]),
        (&["till", "--bundle", till, "--card", "123", "--amount", "1"], 2, &["4 to 16 characters"]),
        (&["till", "--bundle", till, "--card", "12345678901234", "--amount", "1,234.5"], 2, &["25,50"]),
        (&["account", "show", "4711"], 1, &["4711", "no such account"]),
        (&["account", "show", "what?"], 1, &["what?"]),
        (&["account", "limit", "1", "-5"], 2, &["-5"]),
        (&["account", "statement", "1", "--month", "202613"], 1, &["202613"]),
        (&["card", "issue", "1", &card(2)], 1, &["another account"]),
        (&["card", "issue", "1", "1234567890"], 1, &["10 characters, not 14"]),
        (&["parent", "add", "mor.dk", "--name", "Mor", "--accounts", "1"], 1, &["mor.dk"]),
        (&["parent", "add", "m@x.dk", "--name", "Mor", "--accounts", "99"], 1, &["99"]),
        (
            &["parent", "add", "m@x.dk", "--name", "M", "--accounts", "1", "--password-file", "password"],
            1,
            &["10 characters"],
        ),
        (&["load", "--expect", "p99>1ms"], 2, &["p99>1ms"]),
        (&["load", "--data", "empty"], 1, &["empty"]),
        (&["account", "--data", "somebodys", "show", "1"], 1, &["there is no installation in somebodys"]),
        (&["serve", "--data", "somebodys"], 1, &["somebodys", "letter.txt", "an empty folder"]),
        (&["demo", "--data", "data", "--once"], 1, &["data", "the demo did not make"]),
        (&["till", "add", "portal"], 1, &["portal", "kept"]),
        (&["till", "add", "canteen-9", "--out", "nofolder/x.pem"], 1, &["nofolder"]),
        (&["serve", "--portal", "0.0.0.0:0"], 1, &["portal.public_url"]),
        (&["verify", "--data", "nowhere"], 1, &["nowhere"]),
        (&["inspect", "--from", "x"], 2, &["--from"]),
        (&["sevre"], 2, &["sevre"]),
    ];
    for (args, code, parts) in cases {
        let ran = home.run(args);
        assert_eq!(ran.code, *code, "frokost {}: {ran:?}", args.join(" "));
        for part in *parts {
            assert!(ran.err.contains(part), "frokost {}: '{part}' is not in: {}", args.join(" "), ran.err);
        }
        if *code == 1 {
            assert_eq!(ran.err.lines().count(), 1, "frokost {}: not one line: {}", args.join(" "), ran.err);
        }
    }
    assert!(home.must(&["verify"]).ends_with("everything holds\n"), "a mistake has left something behind");
    assert_eq!(std::fs::read_dir(home.path("somebodys")).unwrap().count(), 1, "somebody's folder was touched");
}

#[test]
fn an_unknown_variable_of_ours_is_refused_like_an_unknown_key() {
    let home = Installation::new();
    let ran: Ran = home.command(&["serve"]).env("FROKOST_TILS__LISTEN", "127.0.0.1:1").output().unwrap().into();
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("tils"), "{}", ran.err);
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default() {
    let home = Installation::new();
    home.write("frokost.toml", "[tills]\nlisten = \"127.0.0.2:0\"\n");
    let tills = |args: &[&str], environment: Option<&str>| {
        let mut command = home.command(args);
        match environment {
            Some(address) => command.env("FROKOST_TILLS__LISTEN", address),
            None => command.env_remove("FROKOST_TILLS__LISTEN"),
        };
        let server = Server::start(command);
        let address = server.tills.ip().to_string();
        assert_eq!(server.stop(), 0);
        address
    };
    let file = ["serve", "--config", "frokost.toml"];
    assert_eq!(tills(&file, None), "127.0.0.2");
    assert_eq!(tills(&file, Some("127.0.0.3:0")), "127.0.0.3");
    let flag = ["serve", "--config", "frokost.toml", "--tills", "127.0.0.4:0"];
    assert_eq!(tills(&flag, Some("127.0.0.3:0")), "127.0.0.4");
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let home = Installation::new();
    home.import(1, 1);
    let _server = home.serve();
    let second = home.run(&["serve"]);
    assert_eq!(second.code, 1);
    assert!(second.err.contains("in use by another process"), "{}", second.err);
    let verify = home.run(&["verify"]);
    assert_eq!(verify.code, 1);
    assert!(verify.err.contains("in use by another process"), "{}", verify.err);
}

#[test]
fn every_verb_has_help_and_a_version() {
    let home = Installation::new();
    for verb in ["demo", "serve", "import", "account", "card", "parent", "till", "load", "verify", "inspect"] {
        let help = home.must(&[verb, "--help"]);
        assert!(help.contains("Usage: frokost"), "{help}");
        assert!(home.must(&[verb, "--version"]).contains(env!("CARGO_PKG_VERSION")));
    }
    assert!(home.must(&["--help"]).contains("Exit codes"));
}

#[test]
fn the_data_folder_is_its_owners_alone() {
    let home = Installation::new();
    home.import(1, 1);
    let mode = |name: &str| std::fs::metadata(home.data().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for secret in ["pki/ca.key", "pki/operator.pem", "keys/records.key"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    let key = home.data().join("keys/records.key");
    std::fs::rename(&key, home.path("kept-apart.key")).unwrap();
    for verb in [&["verify"][..], &["serve"], &["import", "pupils.csv"]] {
        let ran = home.run(verb);
        assert_eq!(ran.code, 1, "{verb:?}: {ran:?}");
        assert!(ran.err.contains("records.key is missing"), "{}", ran.err);
        assert!(!key.exists(), "another key was made in its place");
    }
    std::fs::rename(home.path("kept-apart.key"), &key).unwrap();
    std::fs::set_permissions(home.data().join("keys/records.key"), PermissionsExt::from_mode(0o644)).unwrap();
    let ran = home.run(&["serve"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("chmod 600"), "{}", ran.err);
}
