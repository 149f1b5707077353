//! Runs test scripts in Prometheus's own format: `promqltest FILE...`. Prints for each file how many evaluations passed and
//! what became of those that did not; exits 1 if there is one, 2 where a file cannot be read.

use std::process::ExitCode;

use highwater_promql::script::{options, run};

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).filter(|a| a != "--").collect();
    if files.is_empty() || files.iter().any(|f| f == "-h" || f == "--help") {
        eprintln!("usage: promqltest FILE...");
        return ExitCode::from(2);
    }
    let (mut passed, mut failed, mut unreadable) = (0, 0, false);
    for file in &files {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{file}: {error}");
                unreadable = true;
                continue;
            }
        };
        let report = run(&text, &options());
        println!("{file}: {} passed, {} failed", report.passed, report.failures.len());
        for failure in &report.failures {
            println!("  {file}:{}: {}", failure.line, failure.query);
            println!("    {}", failure.message);
        }
        passed += report.passed;
        failed += report.failures.len();
    }
    if files.len() > 1 {
        println!("{} files: {passed} passed, {failed} failed", files.len());
    }
    match (unreadable, failed) {
        (true, _) => ExitCode::from(2),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    }
}
