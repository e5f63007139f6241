//! The control socket: its commands, as JSON in lines (see `docs/ctl.md`).

use serde_json::{Value, json};

use super::super::Master;
use crate::VERSION;
use crate::config::{self, LogLevel, SETTINGS};
use crate::log::{self, printable};
use crate::metrics::WorkerView;
use crate::scoreboard::{BOUNDS, Cause, SLOTS, WorkerState};
use crate::sys::signals::Signal;
use crate::worker::Stop;

/// What comes of a command.
pub(super) enum Outcome {
    Done(Value),
    Refused(String),
    /// The tracebacks of these workers are awaited.
    Awaits(Vec<i32>),
}

/// The line that answers a command.
pub(super) fn line(outcome: Result<Value, String>) -> Vec<u8> {
    let answer = match outcome {
        Ok(data) => json!({"ok": true, "data": data}),
        Err(error) => json!({"ok": false, "error": error}),
    };
    format!("{answer}\n").into_bytes()
}

const COMMANDS: &str = "status, workers, stack, reload, scale, shutdown, loglevel, config";

impl Master {
    /// Does what a line of the control socket says.
    pub(super) fn command(&mut self, line: &[u8]) -> Outcome {
        let question: Value = match serde_json::from_slice(line) {
            Ok(question) => question,
            Err(error) => return Outcome::Refused(format!("This is no JSON: {error}")),
        };
        let command = question.get("command").and_then(Value::as_str).unwrap_or_default();
        let arguments = question.get("args").and_then(Value::as_array).cloned().unwrap_or_default();
        let argument = arguments.first();
        if !matches!(command, "status" | "workers" | "config") {
            let said = format!("{command}{}", shown(&arguments));
            tracing::info!("Control: {}", printable::line(&said));
        }
        let done = match command {
            "status" => Ok(self.status()),
            "workers" => Ok(self.describe_workers()),
            "config" => Ok(self.settings()),
            "stack" => match self.stacks(argument) {
                Ok(pids) => return Outcome::Awaits(pids),
                Err(error) => Err(error),
            },
            "reload" => self.reload_by_command(),
            "scale" => self.scale(argument),
            "shutdown" => self.shut_down(argument),
            "loglevel" => self.set_log_level(argument),
            "" => Err("There is no \"command\" in it.".to_owned()),
            other => Err(format!("{other:?} is no command; there are {COMMANDS}.")),
        };
        match done {
            Ok(data) => Outcome::Done(data),
            Err(error) => Outcome::Refused(error),
        }
    }

    fn status(&self) -> Value {
        let snapshot = self.snapshot();
        let count = |state| snapshot.workers.iter().filter(|worker| worker.view.state == state).count();
        let sum =
            |number: fn(&WorkerView) -> u64| snapshot.workers.iter().map(number).fold(0, u64::saturating_add);
        let (arbiter, totals) = (&snapshot.arbiter, &snapshot.totals);
        let (busy, capacity) = snapshot.capacity();
        let causes = Cause::ALL
            .iter()
            .zip(arbiter.ended)
            .map(|(cause, count)| (cause.name().to_owned(), count.into()));
        json!({
            "version": VERSION,
            "pid": arbiter.pid,
            "name": self.current.config.proc_name(),
            "state": if self.ending.is_some() { "stopping" } else if arbiter.running { "running" } else { "draining" },
            "uptime": seconds(snapshot.at.saturating_sub(arbiter.started)),
            "generation": self.current.number,
            "reloading": self.next.as_ref().map(|next| next.number),
            "reloads": {"ok": arbiter.reloads, "failed": arbiter.failed_reloads, "last_failure": self.desk.reload_failure},
            "class": self.current.class.name(),
            "listeners": self.current.listeners.iter().map(|listener| listener.to_string()).collect::<Vec<_>>(),
            "queues": snapshot.queues.iter().map(|queue| {
                json!({"listener": queue.address, "waiting": queue.waiting, "room": queue.room})
            }).collect::<Vec<_>>(),
            "workers": {
                "target": self.current.target,
                "booting": count(WorkerState::Booting),
                "idle": count(WorkerState::Idle),
                "busy": count(WorkerState::Busy),
                "stopping": count(WorkerState::Stopping),
                "stuck": snapshot.workers.iter().filter(|worker| worker.stuck).count(),
                "started": arbiter.spawned,
                "ended": serde_json::Map::from_iter(causes),
            },
            "requests": {
                "total": totals.requests(),
                "by_status": totals.answers,
                "in_flight": sum(|worker| worker.view.in_flight),
                "slow": arbiter.slow_requests,
            },
            "connections": sum(|worker| worker.view.connections),
            "capacity": {"busy": busy, "total": capacity},
            "timeouts": arbiter.timeouts,
            "memory": snapshot.arbiter_usage.map(|usage| usage.resident),
        })
    }

    fn describe_workers(&self) -> Value {
        let snapshot = self.snapshot();
        let workers = snapshot.workers.iter().map(|worker| self.describe(worker, snapshot.at));
        json!({"bounds_us": BOUNDS, "workers": workers.collect::<Vec<_>>()})
    }

    fn describe(&self, worker: &WorkerView, now: u64) -> Value {
        let view = &worker.view;
        let since = |moment: u64| seconds(now.saturating_sub(moment));
        let counters = self.scoreboard.slot(worker.slot).counters();
        let running: Vec<Value> = self
            .scoreboard
            .running(worker.slot)
            .iter()
            .map(|request| {
                json!({
                    "method": request.method,
                    "path": request.target,
                    "client": request.client,
                    "seconds": since(request.since),
                    "in_application": request.inside,
                })
            })
            .collect();
        json!({
            "pid": view.pid,
            "slot": worker.slot.index(),
            "age": view.age,
            "generation": view.generation,
            "state": if worker.stuck { "stuck" } else { view.state.name() },
            "booted": view.booted,
            "boot_seconds": seconds(view.boot_time),
            "uptime": since(view.started),
            "heartbeat": since(view.heartbeat),
            "requests": view.requests,
            "connections": view.connections,
            "in_flight": view.in_flight,
            "busy": view.busy,
            "capacity": view.capacity,
            "memory": worker.usage.map(|usage| usage.resident),
            "cpu_seconds": worker.usage.map(|usage| usage.processor),
            "running": running,
            // Of the slot since the server began, as all counters.
            "slot_requests": counters.requests(),
            "slot_durations": counters.duration.counts,
        })
    }

    fn settings(&self) -> Value {
        let config = &self.current.config;
        SETTINGS.iter().map(|setting| (setting.name.to_owned(), as_json(&setting.get(config)))).collect()
    }

    fn reload_by_command(&mut self) -> Result<Value, String> {
        self.must_not_be_leaving()?;
        let failures = self.scoreboard.arbiter().failed_reloads;
        let generation = self.begin_reload();
        if self.scoreboard.arbiter().failed_reloads > failures {
            return Err(self.desk.reload_failure.clone().unwrap_or_default());
        }
        Ok(json!({"generation": generation}))
    }

    fn scale(&mut self, argument: Option<&Value>) -> Result<Value, String> {
        self.must_not_be_leaving()?;
        let wanted = argument.and_then(|argument| {
            argument
                .as_u64()
                .or_else(|| argument.as_str()?.parse().ok())
                .and_then(|number| usize::try_from(number).ok())
        });
        let wanted = wanted.filter(|number| (1..=SLOTS / 2).contains(number));
        let wanted =
            wanted.ok_or_else(|| format!("scale takes a number of workers, from 1 to {}.", SLOTS / 2))?;
        let before = self.current.target;
        self.resize(|_| wanted);
        Ok(json!({"from": before, "to": wanted}))
    }

    fn shut_down(&mut self, argument: Option<&Value>) -> Result<Value, String> {
        let how = match argument.and_then(Value::as_str) {
            None | Some("graceful") => Stop::Graceful,
            Some("quick") => Stop::Quick,
            Some(other) => {
                return Err(format!("{other:?} is no way to shut down; there are graceful and quick."));
            }
        };
        self.end(how, 0, None);
        Ok(json!({"pid": std::process::id()}))
    }

    fn set_log_level(&mut self, argument: Option<&Value>) -> Result<Value, String> {
        let name = argument.and_then(Value::as_str).unwrap_or_default();
        let level = LogLevel::ALL.into_iter().find(|level| level.name() == name);
        let level = level.ok_or("loglevel takes one of debug, info, warning, error or critical.")?;
        log::set_level(level);
        self.scoreboard.set_log_level(Some(level));
        self.workers.send(Signal::SIGUSR2);
        Ok(json!({"loglevel": name}))
    }

    /// Asks workers for their tracebacks; all of them unless one is named.
    fn stacks(&mut self, argument: Option<&Value>) -> Result<Vec<i32>, String> {
        let all = self.workers.pids();
        match argument {
            None => Ok(all),
            Some(argument) => {
                let pid = argument.as_i64().or_else(|| argument.as_str()?.parse().ok());
                let pid = pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| all.contains(pid));
                pid.map(|pid| vec![pid]).ok_or_else(|| format!("{argument} is no worker; there are {all:?}."))
            }
        }
    }

    fn must_not_be_leaving(&self) -> Result<(), String> {
        if self.ending.is_some() { Err("The server is stopping.".to_owned()) } else { Ok(()) }
    }
}

/// The answer of `stack`, once all are there.
pub(super) fn tracebacks(there: &[(i32, String)]) -> Vec<u8> {
    let workers = there.iter().map(|(pid, text)| json!({"pid": pid, "traceback": text}));
    line(Ok(json!({ "workers": workers.collect::<Vec<_>>() })))
}

fn shown(arguments: &[Value]) -> String {
    arguments.iter().map(|argument| format!(" {argument}")).collect()
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn as_json(value: &config::Value) -> Value {
    match value {
        config::Value::None => Value::Null,
        config::Value::Bool(value) => (*value).into(),
        config::Value::Int(value) => (*value).into(),
        config::Value::Float(value) => (*value).into(),
        config::Value::Text(text)
        | config::Value::Callable(text)
        | config::Value::Class(text)
        | config::Value::Other(text) => text.as_str().into(),
        config::Value::Raw(text) => text.to_string_lossy().into(),
        config::Value::List(items) => items.iter().map(as_json).collect(),
        config::Value::Map(items) => {
            items.iter().map(|(name, value)| (name.clone(), as_json(value))).collect()
        }
    }
}
