//! `rgunicorn ctl top`: a table of the workers, drawn anew every second.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::Value;

use super::client::{Client, CtlError};
use super::show::{memory, number, oldest, plain, span};

/// From one drawing to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// What a worker had counted when it was last drawn.
struct Before {
    at: Instant,
    requests: u64,
    processor: f64,
    durations: Vec<u64>,
}

/// Draws until `q` is pressed, or the server is gone. Without a terminal it draws once, after a pause to compare with.
pub(super) fn run(client: &mut Client) -> Result<(), CtlError> {
    let live = io::stdout().is_terminal() && io::stdin().is_terminal();
    let keys = if live { Some(Keys::take()?) } else { None };
    let mut before = HashMap::new();
    if !live {
        table(&client.ask("workers", &[])?, &mut before);
        std::thread::sleep(PAUSE);
    }
    loop {
        let (status, workers) = (client.ask("status", &[])?, client.ask("workers", &[])?);
        let text = format!("{}{}", summary(&status), table(&workers, &mut before));
        let mut out = io::stdout().lock();
        let Some(keys) = &keys else {
            out.write_all(text.as_bytes())?;
            return Ok(());
        };
        // Home; each line wipes what was behind it, and the last what was below.
        let text = text.replace('\n', "\x1b[K\r\n");
        write!(out, "\x1b[H{text}\x1b[J")?;
        out.flush()?;
        if keys.quit_within(PAUSE)? {
            return Ok(());
        }
    }
}

fn summary(status: &Value) -> String {
    let (workers, requests, capacity) = (&status["workers"], &status["requests"], &status["capacity"]);
    format!(
        "rgunicorn {} ({}), pid {}, up {}, class {}, generation {}\n\
         workers {}/{}  capacity {}/{}  connections {}  requests {}  in flight {}  time-outs {}\n\n",
        plain(&status["version"]),
        plain(&status["state"]),
        status["pid"],
        span(number(&status["uptime"])),
        plain(&status["class"]),
        status["generation"],
        number(&workers["idle"]) + number(&workers["busy"]),
        workers["target"],
        capacity["busy"],
        capacity["total"],
        status["connections"],
        requests["total"],
        requests["in_flight"],
        status["timeouts"],
    )
}

fn table(answer: &Value, before: &mut HashMap<u64, Before>) -> String {
    let now = Instant::now();
    let bounds: Vec<f64> = answer["bounds_us"].as_array().into_iter().flatten().map(number).collect();
    let mut text = format!(
        "{:>8} {:<9} {:>8} {:>8} {:>8} {:>6} {:>9} {:>6} {:>8}  {}\n",
        "PID", "STATE", "REQ/S", "P50", "P99", "CONNS", "BUSY", "CPU", "MEMORY", "RUNS"
    );
    for worker in answer["workers"].as_array().into_iter().flatten() {
        let pid = worker["pid"].as_u64().unwrap_or(0);
        let durations: Vec<u64> = worker["slot_durations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|count| count.as_u64().unwrap_or(0))
            .collect();
        let (requests, processor) =
            (worker["requests"].as_u64().unwrap_or(0), number(&worker["cpu_seconds"]));
        let (mut rate, mut share, mut recent) = ("-".to_owned(), "-".to_owned(), durations.clone());
        if let Some(old) = before.get(&pid) {
            let seconds = now.duration_since(old.at).as_secs_f64().max(0.001);
            rate = format!("{:.0}", requests.saturating_sub(old.requests) as f64 / seconds);
            share = format!("{:.0}%", (processor - old.processor) / seconds * 100.0);
            recent
                .iter_mut()
                .zip(&old.durations)
                .for_each(|(count, old)| *count = count.saturating_sub(*old));
        }
        let quantile = |share| quantile(&bounds, &recent, share).map_or("-".to_owned(), micros);
        let _ = writeln!(
            text,
            "{pid:>8} {:<9} {rate:>8} {:>8} {:>8} {:>6} {:>9} {share:>6} {:>8}  {}",
            plain(&worker["state"]),
            quantile(0.5),
            quantile(0.99),
            plain(&worker["connections"]),
            format!("{}/{}", worker["busy"], worker["capacity"]),
            memory(&worker["memory"]),
            oldest(worker),
        );
        before.insert(pid, Before { at: now, requests, processor, durations });
    }
    text
}

fn micros(microseconds: f64) -> String {
    if microseconds < 10_000.0 { format!("{:.1}ms", microseconds / 1e3) } else { span(microseconds / 1e6) }
}

/// An estimate, within the bucket that it falls into.
fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let rank = share * all as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (index, count) in counts.iter().enumerate() {
        let upper = bounds.get(index).copied().unwrap_or(lower);
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            return Some(lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        (below, lower) = (below + count, upper);
    }
    None
}

/// The terminal while it gives us single keys; as it was once this is dropped.
struct Keys {
    before: Termios,
}

impl Keys {
    fn take() -> Result<Keys, CtlError> {
        let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
        let mut raw = before.clone();
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).map_err(io::Error::from)?;
        // A screen of our own, without a cursor, where what is too long for a line is cut off.
        print!("\x1b[?1049h\x1b[?25l\x1b[?7l");
        Ok(Keys { before })
    }

    /// Waits; whether `q` was pressed meanwhile.
    fn quit_within(&self, pause: Duration) -> Result<bool, CtlError> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let stdin = io::stdin();
            let mut watched = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut watched, left) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            let mut key = [0; 16];
            let count = nix::unistd::read(&stdin, &mut key).map_err(io::Error::from)?;
            if count == 0 || key.iter().take(count).any(|key| matches!(key, b'q' | b'Q' | 3 | 4)) {
                return Ok(true);
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        print!("\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_fall_within_their_buckets() {
        let bounds = [100.0, 200.0, 400.0];
        assert_eq!(quantile(&bounds, &[0, 10, 0, 0], 0.5), Some(150.0));
        assert_eq!(quantile(&bounds, &[99, 0, 0, 1], 0.995), Some(400.0));
        assert_eq!(quantile(&bounds, &[0, 0, 0, 0], 0.5), None);
    }
}
