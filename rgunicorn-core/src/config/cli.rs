//! The command line: clap's arguments made from the table of settings, with argparse's manners.
//!
//! Long flags may be cut short while they are unambiguous, the last of several flags counts, and flags and the
//! application may come in any order.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};

use super::error::{ConfigError, Origin};
use super::generate;
use super::kind::Takes;
use super::nearest;
use super::settings::SETTINGS;
use super::sources::Entry;
use super::table::{Setting, Status};
use super::value::Value;

/// The program's name in messages.
const PROGRAM: &str = "rgunicorn";
const USAGE: &str = "rgunicorn [OPTIONS] [APP_MODULE]";
/// Below the help.
const AFTER: &str = "Each option in full, and settings without one: docs/settings.md, or the manual page \
    (rgunicorn --generate man). What would be set, and from where: --print-config.";
/// The positional arguments; no setting is called so.
const POSITIONAL: &str = "APP_MODULE";

/// Arguments that were understood.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Settings, in the order of the table, and positional arguments.
    Arguments { entries: Vec<Entry>, positional: Vec<String> },
    /// `--help` or `--version`: what to print.
    Show(String),
}

/// Reads arguments, without the program's name; `variable` is the environment variable that they are from, if not from
/// the command line.
///
/// # Errors
/// [`ConfigError::Usage`] for anything that is no known flag with as many values as it takes.
pub(super) fn parse(args: &[OsString], variable: Option<&'static str>) -> Result<Parsed, ConfigError> {
    let usage = |message: String| {
        ConfigError::Usage(match variable {
            Some(variable) => format!("{variable}: {message}"),
            None => message,
        })
    };
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Parsed::Show(error.to_string())),
        Err(error) => return Err(usage(explain(&error))),
    };
    if let Some(kind) = texts(&matches, "generate").map_err(usage)?.pop() {
        return generate::generate(&kind, command(), PROGRAM).map(Parsed::Show).map_err(usage);
    }
    if matches.get_flag("version") {
        return Ok(Parsed::Show(format!("{PROGRAM} (version {})\n", crate::VERSION)));
    }

    let mut entries = Vec::new();
    for setting in flagged() {
        if let Some(value) = value_of(setting, &matches) {
            let flag = setting.flag();
            let origin = match variable {
                Some(variable) => Origin::Variable { variable, flag },
                None => Origin::CommandLine { flag },
            };
            entries.push(Entry { setting, value, origin });
        }
    }
    let positional = texts(&matches, POSITIONAL).map_err(usage)?;
    Ok(Parsed::Arguments { entries, positional })
}

/// What a program prints to standard error before it exits with the error's
/// [status](ConfigError::exit_status): for arguments, the usage as well.
pub fn report(error: &ConfigError) -> String {
    match error.exit_status() {
        2 => format!("usage: {USAGE}\n{PROGRAM}: error: {error}\n"),
        _ => format!("\nError: {error}\n"),
    }
}

/// The settings that have flags.
fn flagged() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| !setting.flags.is_empty())
}

fn command() -> Command {
    let positional = Arg::new(POSITIONAL)
        .num_args(0..)
        .action(ArgAction::Append)
        .value_parser(ValueParser::os_string())
        .help("The application, as module:attribute or module:factory()");
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).help("Shows this help");
    let version =
        Arg::new("version").short('v').long("version").action(ArgAction::SetTrue).help("Shows the version");
    let generate = Arg::new("generate")
        .long("generate")
        .value_name("KIND")
        .value_parser(ValueParser::os_string())
        .help("Prints the manual page (man), or completions for bash, zsh, fish or elvish");
    Command::new(PROGRAM)
        .no_binary_name(true)
        .override_usage(USAGE)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true)
        .arg(positional)
        .args([help, version, generate])
        .after_help(AFTER)
        .args(flagged().map(argument))
}

fn argument(setting: &'static Setting) -> Arg {
    let mut argument = Arg::new(setting.name)
        .help_heading(setting.section)
        .help(help(setting))
        .long_help(describe(setting))
        .hide_short_help(setting.status == Status::Planned)
        .value_hint(hint(setting));
    for flag in setting.flags {
        argument = match (flag.strip_prefix("--"), argument.get_long()) {
            (Some(long), None) => argument.long(long),
            (Some(long), Some(_)) => argument.visible_alias(long),
            (None, _) => argument.short(flag.chars().nth(1)),
        };
    }
    let value = |argument: Arg, action| {
        // A negative number is a value: its setting says what is wrong with it.
        argument
            .action(action)
            .value_name(setting.metavar())
            .value_parser(ValueParser::os_string())
            .allow_negative_numbers(true)
    };
    match setting.takes {
        Takes::Nothing(_) => argument.action(ArgAction::SetTrue),
        Takes::Value => value(argument, ArgAction::Set),
        Takes::OptionalValue(alone) => {
            value(argument, ArgAction::Set).num_args(0..=1).default_missing_value(alone)
        }
        Takes::Values => value(argument, ArgAction::Append),
    }
}

/// A line or two: what it is for, in one sentence.
fn help(setting: &Setting) -> String {
    let text = setting.help.trim();
    let end = [". ", "; ", ": "].iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    let sentence = text.get(..end).unwrap_or(text).trim_end_matches('.');
    if setting.takes == Takes::Nothing(false) {
        return format!("Turns this off: {sentence}");
    }
    match setting.default() {
        Value::None | Value::Bool(_) => sentence.to_string(),
        Value::Text(text) if text.is_empty() || text.len() > 30 => sentence.to_string(),
        Value::List(items) if items.is_empty() => sentence.to_string(),
        default => format!("{sentence} [{default}]"),
    }
}

/// What a shell may complete its value by.
fn hint(setting: &Setting) -> ValueHint {
    match setting.expects {
        "a directory" => ValueHint::DirPath,
        expects if expects.contains("path") || expects.contains("file") => ValueHint::FilePath,
        _ if setting.name == "paste" || setting.name == "config" => ValueHint::FilePath,
        _ => ValueHint::Unknown,
    }
}

/// All that there is to say.
fn describe(setting: &Setting) -> String {
    let status = match setting.status {
        Status::Implemented => "",
        Status::Planned => " Not supported yet.",
        Status::Accepted(_) => " Without effect.",
    };
    format!("{}{status} [default: {}]", setting.help.trim(), setting.default())
}

fn value_of(setting: &Setting, matches: &ArgMatches) -> Option<Value> {
    match setting.takes {
        Takes::Nothing(means) => matches.get_flag(setting.name).then_some(Value::Bool(means)),
        Takes::Values => {
            let values: Vec<Value> = given(matches, setting.name).map(Value::path).collect();
            (!values.is_empty()).then_some(Value::List(values))
        }
        Takes::Value | Takes::OptionalValue(_) => given(matches, setting.name).last().map(Value::path),
    }
}

fn texts(matches: &ArgMatches, name: &str) -> Result<Vec<String>, String> {
    let text = |value: &OsString| match value.to_str() {
        Some(text) => Ok(text.to_string()),
        None => Err(format!("argument {value:?} is not UTF-8")),
    };
    given(matches, name).map(text).collect()
}

fn given<'m>(matches: &'m ArgMatches, name: &str) -> impl Iterator<Item = &'m OsString> {
    matches.get_many::<OsString>(name).into_iter().flatten()
}

/// What clap found, in words like those of our other errors.
fn explain(error: &clap::Error) -> String {
    let typed = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(typed)) => typed.as_str(),
        _ => "",
    };
    // Clap shows a flag as `--workers <INT>`, and an unknown one as typed.
    let typed = typed.split([' ', '=']).next().unwrap_or_default();
    let known = || flagged().flat_map(|setting| setting.flags.iter().copied()).chain(["--help", "--version"]);
    let flag =
        flagged().find(|setting| setting.flags.contains(&typed)).map_or(typed.to_string(), Setting::flag);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let matching: Vec<&str> =
                known().filter(|flag| typed.starts_with("--") && flag.starts_with(typed)).collect();
            if !matching.is_empty() {
                return format!("argument {typed} is ambiguous: it could be {}", matching.join(", "));
            }
            match nearest::nearest(typed, known()) {
                Some(flag) if typed.len() > 2 => {
                    format!("there is no argument {typed}; did you mean {flag}?")
                }
                _ => format!("there is no argument {typed}; --help lists them all"),
            }
        }
        ErrorKind::TooManyValues => format!("argument {flag} takes no value"),
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => {
            format!("argument {flag} needs a value")
        }
        _ => error.to_string().trim().trim_start_matches("error: ").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Shown = Vec<(String, String)>;

    fn read(line: &str) -> Result<(Shown, Vec<String>), String> {
        let args: Vec<OsString> = shlex::split(line).unwrap().into_iter().map(OsString::from).collect();
        match parse(&args, None).map_err(|error| error.to_string())? {
            Parsed::Arguments { entries, positional } => {
                let shown = entries.into_iter().map(|e| (e.setting.name.to_string(), e.value.to_string()));
                Ok((shown.collect(), positional))
            }
            Parsed::Show(text) => Err(text),
        }
    }

    fn settings(line: &str) -> Shown {
        read(line).unwrap().0
    }

    fn one(name: &str, value: &str) -> Shown {
        vec![(name.into(), value.into())]
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_take_argparses_forms() {
        for line in ["-w2", "-w 2", "--workers 2", "--workers=2", "-w 1 -w 2"] {
            assert_eq!(settings(line), one("workers", "2"), "{line}");
        }
        assert_eq!(settings("--graceful 5"), one("graceful_timeout", "5"), "a prefix");
        assert_eq!(settings("--reload"), one("reload", "True"), "exact, though it is a prefix of others");
        assert_eq!(settings("--reload --reload"), one("reload", "True"));
        assert_eq!(settings("--log-file -"), one("errorlog", "-"), "the other name of a flag");
        assert_eq!(settings("--no-sendfile"), one("sendfile", "False"));
        assert_eq!(settings("--limit-request-field_size 1"), one("limit_request_field_size", "1"));
        assert_eq!(settings("-w -1"), one("workers", "-1"), "negative numbers are values");
    }

    #[test]
    fn repeated_flags_make_lists() {
        assert_eq!(settings("-b :1 --bind=:2 -b:3"), one("bind", "[':1', ':2', ':3']"));
        assert_eq!(settings("-e A=1 --env B=2"), one("raw_env", "['A=1', 'B=2']"));
    }

    #[test]
    fn the_proxy_protocol_flag_may_stand_alone() {
        assert_eq!(settings("--proxy-protocol"), one("proxy_protocol", "auto"));
        assert_eq!(settings("--proxy-protocol --reload").len(), 2);
        assert_eq!(settings("--proxy-protocol v1"), one("proxy_protocol", "v1"));
    }

    #[test]
    fn the_application_may_stand_anywhere() {
        for line in
            ["run:app -w 2 -D", "-w 2 run:app -D", "-D -w 2 run:app", "-Dw2 run:app", "-D -w 2 -- run:app"]
        {
            let (entries, positional) = read(line).unwrap();
            assert_eq!((entries.len(), positional), (2, vec!["run:app".to_string()]), "{line}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, message) in [
            ("--wokers 2", "there is no argument --wokers; did you mean --workers?"),
            ("--wokers=2", "there is no argument --wokers; did you mean --workers?"),
            ("--frobnicate", "there is no argument --frobnicate; --help lists them all"),
            ("-z", "there is no argument -z; --help lists them all"),
            ("--proxy 1", "argument --proxy is ambiguous: it could be --proxy-protocol, --proxy-allow-from"),
            ("--workers", "argument -w/--workers needs a value"),
            ("-w", "argument -w/--workers needs a value"),
            ("--daemon=1", "argument -D/--daemon takes no value"),
        ] {
            assert_eq!(read(line).unwrap_err(), message, "{line}");
        }
    }

    #[test]
    fn usage_errors_say_which_variable_they_are_from() {
        let error = parse(&["--frobnicate".into()], Some("GUNICORN_CMD_ARGS")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "GUNICORN_CMD_ARGS: there is no argument --frobnicate; --help lists them all"
        );
        assert_eq!(error.exit_status(), 2);
        assert!(
            report(&error)
                .starts_with("usage: rgunicorn [OPTIONS] [APP_MODULE]\nrgunicorn: error: GUNICORN_CMD")
        );
    }

    #[test]
    fn help_has_every_flag_under_its_section_with_its_default() {
        let help = read("--help").unwrap_err();
        for setting in flagged() {
            let shown = setting.status != Status::Planned;
            // Whole: some are the beginnings of others.
            let has =
                |flag: &str| [" ", "\n", ",", "]"].iter().any(|end| help.contains(&format!("{flag}{end}")));
            for flag in setting.flags {
                assert_eq!(has(flag), shown, "{flag} in {help}");
            }
            if shown {
                assert!(help.contains(&format!("{}:\n", setting.section)), "{}", setting.section);
            }
        }
        assert!(help.contains("[['127.0.0.1:8000']]"), "{help}");
        assert!(help.lines().count() < 400, "{}", help.lines().count());
        for (kind, part) in [
            ("man", ".TH rgunicorn 1"),
            ("man", "\\-\\-workers\\-max"),
            ("man", "there are never fewer than `workers`"),
            ("bash", "--graceful-timeout"),
            ("zsh", "#compdef rgunicorn"),
            ("fish", "complete -c rgunicorn"),
        ] {
            let text = read(&format!("--generate {kind}")).unwrap_err();
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let error = read("--generate tcsh").unwrap_err();
        assert_eq!(error, "argument --generate: \"tcsh\" is none of man, bash, zsh, fish or elvish");
        assert_eq!(read("-v").unwrap_err(), format!("rgunicorn (version {})\n", crate::VERSION));
    }
}
