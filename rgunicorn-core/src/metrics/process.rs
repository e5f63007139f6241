//! Memory and processor time of a process, as `/proc` tells.

use std::sync::OnceLock;

use nix::unistd::{SysconfVar, sysconf};

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Of that, memory that it shares with other processes (the scoreboard, files).
    pub shared: u64,
    /// Processor time in seconds.
    pub processor: f64,
}

impl Usage {
    /// What this process uses; none if there is none.
    pub fn of(pid: u32) -> Option<Usage> {
        let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let statm = read("statm")?;
        let mut pages = statm.split(' ').map(|number| number.trim().parse::<u64>().unwrap_or(0));
        let (resident, shared) = (pages.nth(1)?, pages.next()?);
        let stat = read("stat")?;
        // Behind the name, which may have anything in it, the state is the third field; user time is the 14th.
        let fields = stat.rsplit_once(')')?.1;
        let mut ticks =
            fields.split_ascii_whitespace().skip(11).map(|number| number.parse::<u64>().unwrap_or(0));
        let processor = ticks.next()? + ticks.next()?;
        Some(Usage {
            resident: resident * page_size(),
            shared: shared * page_size(),
            processor: processor as f64 / ticks_a_second(),
        })
    }
}

fn page_size() -> u64 {
    static SIZE: OnceLock<u64> = OnceLock::new();
    *SIZE.get_or_init(|| ask(SysconfVar::PAGE_SIZE).unwrap_or(4096))
}

fn ticks_a_second() -> f64 {
    static TICKS: OnceLock<u64> = OnceLock::new();
    *TICKS.get_or_init(|| ask(SysconfVar::CLK_TCK).unwrap_or(100)) as f64
}

fn ask(what: SysconfVar) -> Option<u64> {
    sysconf(what).ok()?.and_then(|number| u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_and_no_process_nothing() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 100_000 && usage.resident >= usage.shared, "{usage:?}");
        assert_eq!(Usage::of(0), None);
    }
}
