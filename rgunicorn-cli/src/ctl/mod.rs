//! `rgunicorn ctl`: talks to a running server over its control socket (`docs/ctl.md`).

mod client;
mod show;
mod top;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rgunicorn_core::control;
use serde_json::Value;

use client::{Client, CtlError};

const HELP: &str = "\
Controls a running server over its control socket.

Usage: rgunicorn ctl [OPTIONS] COMMAND

Commands:
  status               how the server is
  workers              its workers, and what they do
  top                  a live table of them; q ends it
  stack [PID]          Python tracebacks of all workers, or of one
  reload               reads the settings again and starts new workers; waits for the result
  scale N              changes the number of workers
  shutdown [quick]     stops the server: once requests are answered, or now
  loglevel LEVEL       changes the level of the error log: debug, info, warning, error or critical
  config               every setting as it is

Options:
  -s, --socket PATH    the control socket [default: $XDG_RUNTIME_DIR/rgunicorn.ctl or ~/.rgunicorn/rgunicorn.ctl]
      --json           prints the answer as it comes
  -h, --help           prints this
";

/// How long a reload may take to show a result.
const RELOAD: Duration = Duration::from_secs(120);

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    socket: Option<PathBuf>,
    json: bool,
    command: String,
    arguments: Vec<String>,
}

/// Runs `rgunicorn ctl` with the arguments behind that; answers the exit status.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let asked = match parse(arguments) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            print(HELP);
            return 0;
        }
        Err(problem) => {
            eprintln!("Error: {problem}\n\nrgunicorn ctl --help lists the commands.");
            return 2;
        }
    };
    match execute(&asked) {
        Ok(text) => {
            print(&text);
            0
        }
        Err(error) => {
            eprintln!("Error: {error}");
            1
        }
    }
}

fn print(text: &str) {
    // Whoever closed standard output doesn't want to read it.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// None for help.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Asked>, String> {
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    let (mut socket, mut json, mut words) = (None, false, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.split_once('=').unwrap_or((&argument, "")) {
            ("-h" | "--help", _) => return Ok(None),
            ("--json", "") => json = true,
            ("--socket", path) if !path.is_empty() => socket = Some(PathBuf::from(path)),
            ("-s" | "--socket", "") => {
                socket = Some(PathBuf::from(arguments.next().ok_or("--socket takes a path")?));
            }
            (flag, _) if flag.starts_with('-') => return Err(format!("there is no option {flag}")),
            _ => words.push(argument),
        }
    }
    if words.is_empty() {
        return Err("which command?".to_owned());
    }
    let command = words.remove(0);
    if command == "help" {
        return Ok(None);
    }
    let most = match command.as_str() {
        "status" | "workers" | "top" | "reload" | "config" => 0,
        "stack" | "shutdown" | "scale" | "loglevel" => 1,
        other => return Err(format!("there is no command {other:?}")),
    };
    if words.len() > most {
        return Err(format!("{command} takes no more than {most} arguments"));
    }
    if words.is_empty() && matches!(command.as_str(), "scale" | "loglevel") {
        return Err(format!("{command} takes an argument"));
    }
    Ok(Some(Asked { socket, json, command, arguments: words }))
}

fn execute(asked: &Asked) -> Result<String, CtlError> {
    let socket = asked.socket.clone().or_else(control::default_socket).ok_or(CtlError::NoSocket)?;
    let mut client = Client::connect(&socket)?;
    if asked.command == "top" {
        return top::run(&mut client).map(|()| String::new());
    }
    let arguments: Vec<&str> = asked.arguments.iter().map(String::as_str).collect();
    let mut answer = client.ask(&asked.command, &arguments)?;
    if asked.command == "reload" {
        answer = outcome_of_reload(&mut client, &answer)?;
    }
    Ok(if asked.json { format!("{answer}\n") } else { show::text(&asked.command, &answer) })
}

/// Waits for the generation that a reload has begun.
fn outcome_of_reload(client: &mut Client, begun: &Value) -> Result<Value, CtlError> {
    let wanted = begun["generation"].as_u64().unwrap_or(0);
    let start = Instant::now();
    while start.elapsed() < RELOAD {
        let status = client.ask("status", &[])?;
        if status["generation"].as_u64().unwrap_or(0) >= wanted {
            return Ok(begun.clone());
        }
        if status["reloading"].is_null() {
            let why = status["reloads"]["last_failure"].as_str().unwrap_or("the log says why").to_owned();
            return Err(CtlError::Refused(format!("the reload failed, the old workers go on: {why}")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(CtlError::Refused("the new workers are still starting; the log will say how that ends".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> Result<Option<Asked>, String> {
        parse(words.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
    }

    #[test]
    fn commands_and_options_are_told_apart() {
        let asked = of("--socket /run/a --json scale 4").unwrap().unwrap();
        assert_eq!((asked.socket, asked.json), (Some("/run/a".into()), true));
        assert_eq!((asked.command.as_str(), asked.arguments), ("scale", vec!["4".to_owned()]));
        assert_eq!(of("status -s /run/b").unwrap().unwrap().socket, Some("/run/b".into()));
        assert_eq!(of("top --help"), Ok(None));
    }

    #[test]
    fn mistakes_are_said() {
        for (words, problem) in [
            ("", "which command?"),
            ("restart", "no command \"restart\""),
            ("--sock x status", "no option --sock"),
            ("scale", "takes an argument"),
            ("status now", "no more than 0"),
            ("-s", "takes a path"),
        ] {
            let error = of(words).unwrap_err();
            assert!(error.contains(problem), "{words:?}: {error}");
        }
    }
}
