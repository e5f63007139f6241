//! What a worker's Python code is doing, as it says itself when it is asked: its tracebacks.
//!
//! The worker writes them to a file in memory that it shares with the arbiter. It is asked twice, if need be: first by a
//! signal that Python handles, between two instructions of its main thread, where coroutines and tasks can be looked at
//! as well; and if that doesn't come to it, because the thread is in C code, by one that needs nobody's help.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::log::printable;
use crate::sys::files;
use crate::sys::fork::Pid;
use crate::sys::signals::{self, Report};

/// What ends a report that Python has written.
const END: u8 = 4;
/// How long Python's signal handler is waited for, in milliseconds.
const PATIENCE: u64 = 300;
/// How long the other one is waited for, in milliseconds.
const FORCED: u64 = 100;
/// How often a report is looked for, in milliseconds.
const LOOK: u64 = 10;
/// How much of a report is read, in bytes.
const MOST: usize = 4 << 20;

/// Who wants a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum For {
    /// The error log.
    Log,
    /// Somebody at the desk.
    Visitor(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Quiet,
    Asked { at: u64, forced: bool },
}

/// The reports of one worker.
#[derive(Debug)]
pub(super) struct Reports {
    file: Option<File>,
    stage: Stage,
    wanted: Vec<For>,
    /// Whether the log has had one: what is left of a worker that was aborted then is nothing new.
    logged: bool,
}

impl Reports {
    /// For a worker that is about to be forked. Without the file, which the log says, there will be no reports.
    pub(super) fn new() -> Reports {
        let file = files::scratch("rgunicorn-report")
            .inspect_err(|error| tracing::warn!("A worker will have no tracebacks to show: {error}"));
        Reports { file: file.ok(), stage: Stage::Quiet, wanted: Vec::new(), logged: false }
    }

    /// The file, in the worker.
    pub(super) fn into_file(self) -> Option<File> {
        self.file
    }

    /// Asks the worker for one.
    pub(super) fn ask(&mut self, pid: Pid, now: u64, wanted: For) {
        self.wanted.push(wanted);
        if self.stage == Stage::Quiet {
            self.clear();
            signals::ask_for_report(pid, Report::Polite);
            self.stage = Stage::Asked { at: now, forced: false };
        }
    }

    /// When to look for it.
    pub(super) fn due(&self, now: u64) -> Option<u64> {
        (self.stage != Stage::Quiet).then_some(now + LOOK)
    }

    /// Looks for it. Once it is there, or won't come: what there is, and for whom.
    pub(super) fn look(&mut self, pid: Pid, now: u64) -> Option<(String, Vec<For>)> {
        let Stage::Asked { at, forced } = self.stage else { return None };
        let text = self.read();
        let complete = text.last() == Some(&END);
        let late = now >= at + if forced { FORCED } else { PATIENCE };
        if !complete && !forced && late {
            self.clear();
            signals::ask_for_report(pid, Report::Forced);
            self.stage = Stage::Asked { at: now, forced: true };
            return None;
        }
        if !complete && !late {
            return None;
        }
        self.stage = Stage::Quiet;
        self.clear();
        let wanted = std::mem::take(&mut self.wanted);
        self.logged |= wanted.contains(&For::Log);
        Some((shown(&text), wanted))
    }

    /// What a worker that has ended has left, if that is news; and who still waits for something.
    pub(super) fn leave(&mut self) -> (Option<String>, Vec<For>) {
        let text = shown(&self.read());
        let news = !text.is_empty() && !self.logged;
        (news.then_some(text), std::mem::take(&mut self.wanted))
    }

    fn read(&self) -> Vec<u8> {
        let Some(file) = &self.file else { return Vec::new() };
        let length = file.metadata().map_or(0, |metadata| metadata.len() as usize);
        let mut bytes = vec![0; length.min(MOST)];
        let read = file.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    fn clear(&self) {
        if let Some(file) = &self.file {
            // What can't be cleared is shown once more.
            let _ = file.set_len(0);
        }
    }
}

fn shown(text: &[u8]) -> String {
    let text = text.strip_suffix(&[END]).unwrap_or(text);
    printable::lines(String::from_utf8_lossy(text).trim_end()).into_owned()
}
