//! Answers of a server, for people.

use std::fmt::Write;

use serde_json::Value;

/// What comes of a command, as text.
pub(super) fn text(command: &str, answer: &Value) -> String {
    match command {
        "status" => status(answer),
        "workers" => workers(answer),
        "stack" => stack(answer),
        "config" => config(answer),
        "reload" => format!("generation {} serves\n", answer["generation"]),
        "scale" => format!("{} workers, {} before\n", answer["to"], answer["from"]),
        "shutdown" => format!("the server (pid {}) is stopping\n", answer["pid"]),
        "loglevel" => {
            format!("the error log has level {} until the next reload\n", plain(&answer["loglevel"]))
        }
        _ => format!("{answer}\n"),
    }
}

fn status(answer: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let (workers, requests, reloads) = (&answer["workers"], &answer["requests"], &answer["reloads"]);
    line(
        "server",
        format!(
            "rgunicorn {} (pid {}), {}",
            plain(&answer["version"]),
            answer["pid"],
            plain(&answer["state"])
        ),
    );
    line("up", span(number(&answer["uptime"])));
    line("listens at", list(&answer["listeners"]));
    line(
        "workers",
        format!(
            "{} of class {}: {} idle, {} busy, {} booting, {} stopping, {} stuck",
            workers["target"],
            plain(&answer["class"]),
            workers["idle"],
            workers["busy"],
            workers["booting"],
            workers["stopping"],
            workers["stuck"]
        ),
    );
    let capacity = &answer["capacity"];
    line("capacity", format!("{} of {} in use", capacity["busy"], capacity["total"]));
    line(
        "requests",
        format!(
            "{} answered, {} in flight, {} slow",
            requests["total"], requests["in_flight"], requests["slow"]
        ),
    );
    line("connections", plain(&answer["connections"]));
    for queue in answer["queues"].as_array().into_iter().flatten() {
        line("queue", format!("{} of {} at {}", queue["waiting"], queue["room"], plain(&queue["listener"])));
    }
    let mut generation = answer["generation"].to_string();
    if !answer["reloading"].is_null() {
        let _ = write!(generation, ", {} is starting", answer["reloading"]);
    }
    line("generation", generation);
    line("reloads", format!("{} went well, {} failed", reloads["ok"], reloads["failed"]));
    if let Some(why) = reloads["last_failure"].as_str() {
        line("", format!("the last one: {why}"));
    }
    line("time-outs", plain(&answer["timeouts"]));
    text
}

fn workers(answer: &Value) -> String {
    let mut text = format!(
        "{:>8} {:>4} {:<9} {:>9} {:>9} {:>6} {:>9} {:>9}  {}\n",
        "PID", "GEN", "STATE", "UP", "REQUESTS", "CONNS", "BUSY", "MEMORY", "RUNS"
    );
    for worker in answer["workers"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "{:>8} {:>4} {:<9} {:>9} {:>9} {:>6} {:>9} {:>9}  {}",
            worker["pid"].to_string(),
            worker["generation"].to_string(),
            plain(&worker["state"]),
            span(number(&worker["uptime"])),
            worker["requests"].to_string(),
            worker["connections"].to_string(),
            format!("{}/{}", worker["busy"], worker["capacity"]),
            memory(&worker["memory"]),
            oldest(worker)
        );
    }
    text
}

/// The request that has run for the longest.
pub(super) fn oldest(worker: &Value) -> String {
    let running = worker["running"].as_array().map(Vec::as_slice).unwrap_or_default();
    let inside: Vec<_> = running.iter().filter(|request| request["in_application"] == true).collect();
    match inside.first() {
        None => "-".to_owned(),
        Some(request) => {
            let more = if inside.len() > 1 { format!(" (+{})", inside.len() - 1) } else { String::new() };
            let (method, path) = (plain(&request["method"]), plain(&request["path"]));
            format!("{method} {path} {}{more}", span(number(&request["seconds"])))
        }
    }
}

fn stack(answer: &Value) -> String {
    let mut text = String::new();
    for worker in answer["workers"].as_array().into_iter().flatten() {
        let traceback = worker["traceback"].as_str().filter(|text| !text.is_empty());
        let _ =
            writeln!(text, "--- worker {}\n{}\n", worker["pid"], traceback.unwrap_or("(it says nothing)"));
    }
    text
}

fn config(answer: &Value) -> String {
    let mut text = String::new();
    let settings: Vec<_> = answer.as_object().into_iter().flatten().collect();
    let width = settings.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in settings {
        let _ = writeln!(text, "{name:<width$} = {value}");
    }
    text
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// A value without the quotes of a string.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value) -> String {
    value.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>().join(", ")
}

/// A time in the unit that fits.
pub(super) fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0 => format!("{:.0}ms", seconds * 1000.0),
        1..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86400, whole % 86400 / 3600),
    }
}

pub(super) fn memory(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}M", bytes / 1048576.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        for (seconds, text) in [
            (0.0, "0ms"),
            (0.25, "250ms"),
            (2.25, "2.2s"),
            (61.0, "1m01s"),
            (7320.0, "2h02m"),
            (90000.0, "1d01h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
