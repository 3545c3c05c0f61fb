//! The load tester as an operator uses it: a report that adds up, thresholds that decide the exit code, an audit that reads
//! the journal.

use crate::installation::*;

#[test]
fn a_run_is_reported_audited_and_held_to_its_thresholds() {
    let home = Installation::new();
    home.import(50, 5_000);
    let _server = home.serve();
    let args = ["load", "--tills", "4", "--rate", "300", "--seconds", "2", "--warm-up", "1", "--zipf", "1", "--json"];
    let ran = home.run(&[&args[..], &["--expect", "p50<10s"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["tills"], 4);
    assert_eq!(report["model"], "open");
    let refused: u64 = report["refused"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let answered = report["approved"].as_u64().unwrap() + refused;
    assert!((540..=660).contains(&answered), "300 a second for two seconds, and {answered} were answered");
    let latency = &report["latency_us"];
    let order: Vec<f64> = ["p50", "p90", "p99", "p99.9", "max"].iter().map(|p| latency[p].as_f64().unwrap()).collect();
    assert!(order.is_sorted() && order[0] > 0.0, "{order:?}");
    assert_eq!(report["audit"]["found"], report["audit"]["approved"]);
    assert_eq!(report["audit"]["ledgers_sum_ore"], 0);
    assert!(report["audit"]["approved"].as_u64() >= report["approved"].as_u64(), "the warm-up is audited, too");
    assert_eq!(report["expectations"]["p50<10s"], true);

    let missed = home.run(&[
        "load",
        "--tills",
        "2",
        "--in-flight",
        "2",
        "--seconds",
        "1",
        "--warm-up",
        "0",
        "--expect",
        "p50<1us",
    ]);
    assert_eq!(missed.code, 3, "{missed:?}");
    assert!(missed.out.contains("p50<1us: NOT HELD"), "{}", missed.out);
    assert!(missed.err.contains("sales/s"), "no progress was shown: {}", missed.err);
}
