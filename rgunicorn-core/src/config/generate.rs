//! What is made from the command line's definition: the manual page, and completions for shells (`--generate`).

use clap::Command;
use clap_complete::Shell;

/// What there is to ask for.
const KINDS: &str = "man, bash, zsh, fish or elvish";

/// The text of this kind.
///
/// # Errors
/// A sentence, for another kind.
pub(super) fn generate(kind: &str, mut command: Command, program: &str) -> Result<String, String> {
    let shell = match kind {
        "man" => return manual(command),
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        "elvish" => Shell::Elvish,
        other => return Err(format!("argument --generate: {other:?} is none of {KINDS}")),
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, program, &mut text);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn manual(command: Command) -> Result<String, String> {
    let command = command
        .version(crate::VERSION)
        .about("a pre-fork HTTP server for Python web applications")
        .long_about(
            "rgunicorn serves a WSGI or ASGI application with worker processes that a main process minds. Its options, \
             signals and configuration files are gunicorn's. Each option that has a long name is also a setting of the \
             configuration file, gunicorn.conf.py or rgunicorn.toml, with underscores for dashes where not said otherwise.",
        );
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|error| format!("the manual page can't be made: {error}"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
